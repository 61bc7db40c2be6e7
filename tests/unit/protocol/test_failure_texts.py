"""Which texts of a DUT report a failure, and which are information.

The published ones come from the sources and logs of all rounds; the place names the round and the
submitter. The others word the same facts as another firmware might.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.protocol.failure_texts import errors_in, errors_in_text, failures_in_text
from labd.protocol.lines import Line

PUBLISHED_FAILURES = {
    "Input db has 640 elemented, expected 25600": "log, v0.5 PengChengLaboratory",
    "Input db has 489 elemented, expected 490": "v0.5 reference",
    "Input db has 489 elements, expected 490": "v1.2 bosch",
    "Input db has %zu elemented, expected 490": "v1.3 Qualcomm, on a libc without %zu",
    "Input db has zu elemented, expected 490": "v1.3 Qualcomm, on newlib-nano",
    "Supplied buffer size 40000 exceeds maximum of 27648": "v0.5 reference",
    "Invoke failed": "v0.5 PengChengLaboratory",
    "Invoke failed.": "v1.0 greenwaves-technologies",
    "Invoke Failed": "v0.7 silicon_labs",
    "Invoke Failedm-warmup-done": "v0.7 silicon_labs, which ends no line",
    "ERROR: Invoke failed": "v1.1 plumerai",
    "AllocateTensors() failed": "v0.7 Andes",
    "ERROR: AllocateTensors() failed": "v1.1 plumerai",
    "Allocate Tensors failed": "v0.7 silicon_labs",
    "Allocation failed": "v0.7 renesas",
    "error: error ack from dsp": "v1.1 syntiant",
    "error: no ack from dsp": "v1.1 syntiant",
    "error: didn't get interrupt": "v0.7 syntiant",
    "error(th_infer): didn't get interrupt": "v1.1 syntiant",
    "error (th_infer 2): didn't get interrupt": "v1.1 syntiant",
    "calculate result error: output size != input size, cannot calculate diff": "v1.2 Qualcomm",
    "output data type is int32, output data dimension: 40 != 10,": "v1.2 Qualcomm",
    "Input count is 2 > 1, not supported": "v1.2 Qualcomm",
    "number of input files not match with input tensor in the model": "v1.2 Qualcomm",
    "fail to load inputs -1": "v1.2 Qualcomm",
    "fail to save outputs 3": "v1.2 Qualcomm",
    "fail to fill i/o tensor buffer": "v1.2 Qualcomm",
    "fail to eai_execute ret = 5": "v1.2 Qualcomm",
    "eAI_execute need more": "v1.2 Qualcomm",
    "e-[Unable to malloc 27648 bytes]": "v0.7 renesas",
    "e-[Buffer not allocated]": "v0.5 hls4ml",
    "Type errorm-results-[141.176]": "log, v0.7 silicon_labs",
    "Error in expected dim_size: 2, 1 x 640": "v1.0 silicon_labs",
    "Model provided is schema version 2 not equal to supported version 3.": "v0.7 renesas",
    "Incorrect Schema version": "v0.7 silicon_labs",
    "Construct of network failed 3 !": "v1.0 greenwaves-technologies",
    "Graph constructor exited with error: 3": "v1.0 greenwaves-technologies",
    "ERROR: [3]: Accelerator HW 4 != SW 5": "v1.0 hls4ml",
    "INFO: Total errors = 3 (out of 10 digits)": "v1.0 hls4ml",
    "INFO: Verification: FAIL": "v1.0 hls4ml",
    "ERROR: DMA_TO_DEVICE failed, status 3": "v0.7 hls4ml-finn",
    "DMA work incorrectly.": "v0.5 PengChengLaboratory",
    "Exception - Load page fault: mepc=0x8000": "v0.5 PengChengLaboratory",
}

OTHER_FAILURES = [
    "e-Input db has 489 elements, expected 490",
    "e-[Input db has 489 elements, expected 490]",
    "infer 1 0%Input db has 100 elemented, expected 490",
    "infer 1 0%e-[no input]",
    "> e-[anything]",
    "[app] e-Wrong input",
    "input size 489, expected 490",
    "expected 490 bytes, got 489",
    "input incomplete: 489 of 490 bytes",
    "only 12 bytes received",
    "input truncated",
    "invalid input",
    "bad tensor shape",
    "tensor arena too small",
    "using old input",
    "input rejected, result is stale",
    "no input loaded",
    "model not loaded",
    "inference skipped",
    "inference not executed",
    "inference unsuccessful",
    "could not run inference",
    "unable to run model",
    "Invoke returned -1",
    "ret = -1 from model execute",
    "output is NaN",
    "dsp did not answer",
    "kTfLiteError",
    "HAL_TIMEOUT_ERROR",
    "DMA timeout!",
    "DMA timed out",
    "Error 5",
    "ERROR: no result",
    "error: 0 bytes received",
    "ERR: -3",
    "errors: 3",
    "m-error-[bad input]",
    "\x1b[31mFailed\x1b[0m",
    "hard fault",
    "HardFault at 0x08001234",
    "exception: 0x3",
    "panic",
    "stack overflow",
    "out of memory",
    'assertion "x == y" failed: file "main.c", line 3',
    "ASSERT: model.c:42",
]

PUBLISHED_INFORMATION = {
    "infer 1 0%Input db has 490 elemented, expected 490": "log, v1.2 Qualcomm",
    "Input db has 27648 elements, expected 27648": "v1.2 bosch",
    "got ack from dsp": "log, v1.2 syntiant",
    "got feature interrupt": "log, v0.5 syntiant",
    "Acts (infer): [   12,  -3, ]": "log, v1.2 syntiant",
    "Softmax:     [ 0,  127, ]": "log, v1.2 syntiant",
    "about to set input_final[]": "log, v1.2 syntiant",
    "th_load_tensor starting at 9113082jhdbg: allocated input, input_final with 27648 bytes": (
        "log, v1.2 syntiant"
    ),
    "jhdbg: in ee_infer[1]. g_buff_pos = 490": "log, v0.7 syntiant",
    "jhdbg: syntiant_ndp120_config_clk_pll returned 0": "log, v1.2 syntiant",
    "MCU Register 0x40009000: 0x0": "log, v1.2 syntiant",
    "bytes 27648": "log, v1.2 bosch",
    "results: 0xFFE1": "log, v1.1 fpgaconvnet",
    "dut: ": "log, v0.7 Andes",
    "infer 10 1m-warmup-start-1": "log, v0.7 Andes",
    "Done inference ...\x1b[32mOK\x1b[0m": "log, v1.1 Skymizer",
    "src_mem_size: 3072m-warmup-start-1": "log, v0.5 hls4ml",
    "12 bytes lost due to alignment. To avoid this loss, please make sure the tensor_arena is "
    "16 bytes aligned.": "log, v0.5 reference",
    "INFO: Total errors = 0 (out of 10 digits)": "v1.0 hls4ml",
    "INFO: Error rate = 12.50 %": "v0.7 hls4ml-finn",
    "INFO: Verification: PASS!": "v1.0 hls4ml",
    "INFO: Accelerator/software speedup (the software is fake so this does not count...): 2.1 X": (
        "v0.7 hls4ml-finn"
    ),
    "Anomaly Score (MSE): 0.131": "v0.5 hls4ml",
    "WDT interrupts! count: 3": "v0.5 PengChengLaboratory",
}

OTHER_INFORMATION = [
    "core-[0] clock 98 MHz",
    "m-profile-[ULPMark]",
    "m-some-vendor-mode-[y]",
    "m-info-[clock 98 MHz]",
    "e-fuse 0x3 read",
    "e-[Input db has 490 elements, expected 490]",
    "input 490 bytes (expected 490)",
    "input ok, 490 of 490 bytes",
    "received 31 of 490 bytes",
    "Received command: db 00bad0deadfa11",
    "expected latency 12 ms, measured 13 ms",
    "0 errors",
    "no error",
    "no dma errors",
    "errors: 0",
    "error_count=0",
    "error code 0x0",
    "error: none",
    "errors=0 retries=2",
    "errors 0, ok",
    "failed: 0",
    "0 failed",
    "error rate 0.01",
    "mean squared error: 0.0131",
    "reconstruction error = 12.3",
    "max error 3",
    "error-free transfer",
    "error correction on",
    "fail-safe clock on",
    "stop on error disabled",
    "timeout: 1000 ms",
    "watchdog timeout set to 8 s",
    "exceptions: 0",
    "dropped samples: 0",
    "no overflow in output",
    "GPIO0 asserted",
    "default handler installed",
    "infer time: 155587 us",
    "progress 10/70",
    "status 0",
    "running with default input scale 0.5",
]


@pytest.mark.parametrize("text", [*PUBLISHED_FAILURES, *OTHER_FAILURES])
def test_a_failure_in_any_wording_is_found(text: str) -> None:
    assert failures_in_text(text)


@pytest.mark.parametrize("text", [*PUBLISHED_INFORMATION, *OTHER_INFORMATION])
def test_information_is_no_failure(text: str) -> None:
    assert not failures_in_text(text)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("e-[Unknown command: foo]", ["Unknown command: foo"]),
        ("db 0%e-[Insufficent number of hex digits]", ["Insufficent number of hex digits"]),
        ("fooe-[Unknown command: foo]", ["Unknown command: foo"]),
        ("e-[cut off", ["cut off"]),
        ("e-[one] e-[two]", ["one", "two"]),
        ("e-Input db has 3 elements, expected 4", ["Input db has 3 elements, expected 4"]),
        ("Input db has 3 elements, expected 4\r", ["Input db has 3 elements, expected 4"]),
        ("ERROR: Invoke failed", ["Invoke failed"]),
    ],
)
def test_an_error_is_quoted_without_its_mark(text: str, errors: list[str]) -> None:
    assert errors_in([Line(text, 0)]) == errors


@given(st.text(alphabet="e-[]%=!:. 0129inputexpcdbfaorl\x1b\n", max_size=300))
def test_any_text_is_judged(text: str) -> None:
    assert set(errors_in_text(text)) <= set(failures_in_text(text))


def test_a_number_of_any_length_is_judged() -> None:
    assert not failures_in_text(f"buffer {'9' * 5000}, expected 4")


@pytest.mark.parametrize("text", ["[wifi] link failed", "Error loading DNN failed: *unknown*"])
def test_wording_alone_counts_in_a_reply_only(text: str) -> None:
    """The second one stands in the boot text of published energy runs (v1.2 syntiant)."""
    assert not errors_in_text(text)
    assert failures_in_text(text)
