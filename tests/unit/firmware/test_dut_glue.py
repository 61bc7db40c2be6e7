"""Input formats and results, on a model without operators: its input tensor is its output."""

import re
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.unit.firmware.host import ask, build_dut, load_commands

NOT_FINITE = [float("nan"), float("inf"), float("-inf"), 3e38, -3e38]


def identity_model(folder: Path, size: int, scale: float, zero_point: int) -> Path:
    tensor = f"{{arena, {size}, {float(np.float32(scale)).hex()}F, {zero_point}}}"
    source = folder / "identity.c"
    source.write_text(
        '#include "dut.h"\n'
        f"static int8_t arena[{size}];\n"
        'const nn_model dut_model = {.name = "identity", .arena = arena,\n'
        f"    .input = {tensor}, .output = {tensor}}};\n",
        encoding="ascii",
    )
    return source


def identity_dut(
    folder: Path, glue: tuple[str, str], size: int, scale: float, zero_point: int
) -> Path:
    bytes_each = 4 if glue[0] == "float32" else 1
    model = identity_model(folder, size, scale, zero_point)
    return build_dut(folder, model=model, glue=glue, buffer_size=size * bytes_each)


def results(dut: Path, data: bytes) -> list[str]:
    reply = ask(dut, *load_commands(data), "infer 1 0")[-1].decode("latin-1")
    return re.search(r"m-results-\[(.*)\]\r\n", reply)[1].split(",")


ALL_BYTES = bytes(range(256))


def test_softmax_outputs_are_correctly_rounded_and_can_be_recovered(tmp_path: Path) -> None:
    dut = identity_dut(tmp_path, ("uint8", "tensor"), 256, 1 / 256, -128)
    shown = results(dut, ALL_BYTES)
    assert shown == [f"{value / 256:.3f}" for value in range(256)]  # Python's is the C library's
    assert [round(float(text) * 256) for text in shown] == list(range(256))


def test_int8_inputs_are_copied(tmp_path: Path) -> None:
    dut = identity_dut(tmp_path, ("int8", "tensor"), 256, 1.0, 0)
    expected = [f"{value:.3f}" for value in np.frombuffer(ALL_BYTES, np.int8)]
    assert results(dut, ALL_BYTES) == expected


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0131072, 5), (7.7, -128), (1e-4, 127)])
def test_results_of_any_scale_are_correctly_rounded(
    tmp_path: Path, scale: float, zero_point: int
) -> None:
    dut = identity_dut(tmp_path, ("int8", "tensor"), 256, scale, zero_point)
    exact = Fraction(float(np.float32(scale)))
    steps = np.frombuffer(ALL_BYTES, np.int8).astype(int) - zero_point
    expected = [round(int(step) * exact * 1000) for step in steps]  # of a Fraction: ties to even
    shown = results(dut, ALL_BYTES)
    assert [round(float(text) * 1000) for text in shown] == expected
    assert all(re.fullmatch(r"-?\d+\.\d{3}", text) for text in shown)


def test_float32_inputs_are_quantised_to_the_nearest_step(tmp_path: Path) -> None:
    dut = identity_dut(tmp_path, ("float32", "tensor"), 8, 0.5, 10)
    values = [0.0, 0.2, 0.25, -0.25, 100.0, -100.0, 58.5, -69.0]
    expected = ["0.000", "0.000", "0.500", "-0.500", "58.500", "-69.000", "58.500", "-69.000"]
    assert results(dut, struct.pack("<8f", *values)) == expected


def test_float32_inputs_that_are_no_numbers_do_no_harm(tmp_path: Path) -> None:
    dut = identity_dut(tmp_path, ("float32", "tensor"), 5, 1.0, 0)
    expected = ["-128.000", "127.000", "-128.000", "127.000", "-128.000"]
    assert results(dut, struct.pack("<5f", *NOT_FINITE)) == expected


def test_error_is_the_mean_square_against_the_float_input(tmp_path: Path) -> None:
    dut = identity_dut(tmp_path, ("float32", "error"), 4, 1.0, 0)
    assert results(dut, struct.pack("<4f", 0.25, -0.5, 3.0, 130.0)) == ["2.328"]  # 9.3125 / 4


@pytest.mark.parametrize("value", NOT_FINITE)
def test_an_error_that_cannot_be_shown_is_no_number(tmp_path: Path, value: float) -> None:
    dut = identity_dut(tmp_path, ("float32", "error"), 1, 1.0, 0)
    assert results(dut, struct.pack("<f", value)) == ["nan"]


def test_the_error_stays_with_the_inference_when_the_next_input_loads(tmp_path: Path) -> None:
    dut = identity_dut(tmp_path, ("float32", "error"), 1, 1.0, 0)
    first, second = struct.pack("<f", 0.5), struct.pack("<f", 0.0)
    replies = ask(dut, *load_commands(first), "infer 1 0", *load_commands(second), "results")
    assert replies[-1] == b"m-results-[0.250]\r\n"


def test_a_short_float_input_is_counted_in_elements(tmp_path: Path) -> None:
    dut = identity_dut(tmp_path, ("float32", "tensor"), 4, 1.0, 0)
    assert ask(dut, "db load 8", "db " + "00" * 8, "infer")[-1].startswith(
        b"Input db has 2 elemented, expected 4\n"
    )
