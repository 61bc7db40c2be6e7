"""Session folders made up for the tests: the shapes of the public rounds, invented numbers."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KWS_WORDS = [
    "Down",
    "Go",
    "Left",
    "No",
    "Off",
    "On",
    "Right",
    "Stop",
    "Up",
    "Yes",
    "Silence",
    "Unknown",
]
KWS_LABELS = [
    int(digit, 16)
    for digit in """
7268508943b219a9b5665a85745265986755918b2b2337b0328a072234766681931758595110a0808a543ab50739214b2792
aa454776337a1a392013b1667346590498949b231ab2b89842a3b60b33975285612b470697a8a49733956b7572b2235320a5
567983b2802032aba4bba85851b54694369660132419071256353228b440879851954b44a9b9a631a6601b47685205a68351
02503b586970745072ba3065186950b1588b49ba032a5012344b40128b413140468b63993169a1112872b046aa3265224818
97b79711a74195040a862a27069b77748b16913376570591b657824895147395786a209050a6080271549b89580779a70a2a
982b1224130ba5156b75010291089b80aa7097567b712ab12b195906a608b841873609237019770451975025486021253419
b1ab8aa5712a396ba83ba103973155b33030816565731549bb403826735227490993a439954ba7898198709bb208b5b06a17
b6b09a76028380834088552326282a40aa1918171aba084bb2367379a13280712961250a62a54470680b53ba31870694aa05
98b9123063a694528913b7aa023ab99111a8391659a01978a962929418343a20abb94ba64533651033b56735ab0b6b05a183
311810801113ba731682b38b739924113340ab32644b394a50286443005607410a89b12063b88708a5b645b8131ab9701748
""".replace("\n", "")
]
"""Classes of the official set, in the order of its list."""

KWS_FILES = [f"tst_{n:06d}_{KWS_WORDS[label]}_{label}.bin" for n, label in enumerate(KWS_LABELS)]

STOP = "00998.000 session: m-session-stop-id[1]"


def rising(*lengths: int) -> list[tuple[int, int]]:
    """Laps of windows that follow each other; one length stands for five windows."""
    spans = lengths if len(lengths) > 1 else lengths * 5
    return [
        (1_000_000 + 20_000_000 * n, 1_000_000 + 20_000_000 * n + s) for n, s in enumerate(spans)
    ]


def write_performance(
    folder: Path,
    *,
    laps: Sequence[tuple[int, int]] = rising(12_000_000),
    inferences: int = 120,
    prefix: str = "",
) -> Path:
    """A session of the EEMBC runner: log, script and the result text it would print."""
    folder.mkdir(parents=True, exist_ok=True)
    log = [
        "00001.000 session: m-session-start-id[1]",
        "00001.000 parser: m-bmark-run-name[ML Performance 1.0.1]-code[ulp-mlperf]",
        "00001.000 parser: m-bm-cfg-name[ulp-mlperf]-key[runMode]-val[bmark]",
        "00001.000 dut: m-model-[kws01]",
        "00001.000 dut: m-lap-us-500",
    ]
    text: list[str] = []
    rates: list[float] = []
    for index, (start, stop) in enumerate(laps):
        runtime = ((stop - start) % 2**32) / 1e6
        begin = 10 + 100 * index
        log += [
            f'{begin:05d}.000 parser: Command "bload dut "C:\\sets\\kws01\\{KWS_FILES[index]}""',
            f'{begin:05d}.100 parser: Command "dut infer {inferences} 1"',
            f"{begin:05d}.200 dut: m-infer-start-{inferences}",
            f"{begin:05d}.200 dut: m-lap-us-{start}",
            f"{begin + runtime:09.3f} dut: m-lap-us-{stop}",
            f"{begin + runtime:09.3f} dut: m-infer-done",
            f"{begin + runtime:09.3f} dut: m-results-[1.000,0.000]",
        ]
        rates.append(inferences / runtime)
        text += performance_block(2 * index + 2, inferences, runtime)
    median = sorted(rates)[len(rates) // 2]
    text.append(f"00999.000 ulp-mlperf: Median throughput is {median:.3f} inf./sec.")
    write(folder, f"{prefix}log.txt", [*log, STOP])
    write(folder, f"{prefix}results.txt", text)
    write(folder, f"{prefix}script.async", [f"cmd: 'dut infer {inferences} 1'"] * len(laps))
    return folder


def performance_block(number: int, inferences: int, runtime: float) -> list[str]:
    """One window as the EEMBC runner prints it."""
    return [
        f"00999.000 ulp-mlperf: Performance results for window {number}:",
        f"00999.000 ulp-mlperf:   # Inferences : {inferences:>12}",
        f"00999.000 ulp-mlperf:   Runtime      : {runtime:>12.3f} sec.",
        f"00999.000 ulp-mlperf:   Throughput   : {inferences / runtime:>12.3f} inf./sec.",
        "00999.000 ulp-mlperf: Runtime requirements have been met.",
    ]


def write_energy(folder: Path, *, stamps: int = 11, sample_uj: float = 40.0) -> Path:
    """An energy session: five windows of 12 s, 10 inferences, every sample the same."""
    folder.mkdir(parents=True, exist_ok=True)
    times = [0.5] + [t for k in range(5) for t in (2.0 + 20 * k, 14.0 + 20 * k)]
    log = [
        "00001.000 session: m-session-start-id[1]",
        "00001.000 parser: m-bmark-run-name[ML Energy 1.0.1]-code[ulp-ml]",
        "00001.000 io: [dut]: m-model-[ic01]",
        f'{times[0]:09.3f} parser: Command "io dut timestamp"',
    ]
    text: list[str] = []
    for index, (start, stop) in enumerate(zip(times[1::2], times[2::2], strict=True)):
        log += [
            f'{start:09.3f} parser: Command "io dut infer 10 1"',
            f"{start:09.3f} io: [dut]: m-infer-start-10",
            f"{stop:09.3f} io: [dut]: m-infer-done",
            f"{stop:09.3f} io: [dut]: m-results-[0.500,0.500,]",
        ]
        if 2 * index + 2 < stamps:
            energy = sample_uj * 12_000
            text += [
                f"00200.000 ulp-ml: Energy data for window {2 * index + 2} at time 2.00",
                f"00200.000 ulp-ml:   Energy       : {energy:>12.3f} uJ",
                f"00200.000 ulp-ml:   Power        : {energy / 12:>12.3f} uW",
                f"00200.000 ulp-ml:   Energy/Inf.  : {energy / 10:>12.3f} uJ/inf.",
            ]
    text.append(f"00200.000 ulp-ml: Median energy cost is {sample_uj * 1200:.3f} uJ/inf.")
    write(folder, "log.txt", [*log, STOP])
    write(folder, "results.txt", text)
    write(folder, "script.async", ["cmd: 'io dut infer 10 1'"] * 5)
    write_trace(folder / "trace1-energy.bin", [sample_uj] * 96_000)
    (folder / "trace1-timestamps.json").write_text(json.dumps(times[:stamps]))
    return folder


def write_trace(path: Path, samples: Sequence[float], rate: float = 1000.0) -> None:
    """A power monitor's trace in the EEMBC container."""
    path.write_bytes(b"\xf1" + struct.pack(f"<{len(samples) + 1}f", rate, *samples))


def write_accuracy(folder: Path, *, wrong: int = 125, published: str = "87.5") -> Path:
    """All keyword files, the first ``wrong`` of them answered with the next class."""
    folder.mkdir(parents=True, exist_ok=True)
    log = ["00001.000 session: m-session-start-id[1]", *config("runMode", "multi")]
    for index, (file, label) in enumerate(zip(KWS_FILES, KWS_LABELS, strict=True)):
        predicted = (label + (index < wrong)) % 12
        outputs = ",".join("0.990" if c == predicted else "0.001" for c in range(12))
        log += [
            f'00002.000 parser: Command "bload dut "/sets/kws01/{file}""',
            '00002.000 parser: Command "dut infer 1 0"',
            "00002.000 dut: m-infer-start-1",
            "00002.000 dut: m-infer-done",
            f"00002.000 dut: m-results-[{outputs}]",
        ]
    write(folder, "log.txt", [*log, STOP])
    write(folder, "results.txt", [f"00003.000 ulp-mlperf: Top-1: {published}%"])
    write(folder, "script.async", ["cmd: 'dut infer 1 0'"] * len(KWS_FILES))
    return folder


def config(key: str, value: str) -> list[str]:
    """One line of the runner's configuration."""
    return [f"00001.000 parser: m-bm-cfg-name[ulp-mlperf]-key[{key}]-val[{value}]"]


def trial(**parts: Any) -> dict[str, Any]:
    """One element of results.json."""
    infer = {"iterations": 250, "warmups": 1, **parts.pop("infer", {})}
    return {"file": "tst_000000_Stop_7.bin", "class": "7", "infer": infer, "mode": "e", **parts}


def write_mlcommons(
    folder: Path, trials: Any, results: Sequence[str], model: str = "kws01"
) -> Path:
    """A session of the MLCommons runner."""
    folder.mkdir(parents=True, exist_ok=True)
    log = ["Logging initialized. Writing output to log.txt", f"Device model retrieved: {model}"]
    write(folder, "log.txt", [*log, *results])
    write(folder, "results.txt", results)
    (folder / "results.json").write_text(json.dumps(trials))
    return folder


def write(folder: Path, name: str, lines: Sequence[str], end: str = "\r\n") -> None:
    """A text file."""
    folder.joinpath(name).write_text("".join(line + end for line in lines), newline="")
