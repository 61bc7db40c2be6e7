"""What odd firmware prints decides: information leaves the numbers, a reported failure none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from labd.core.errors import DutError, InfraError
from labd.procedure.accuracy import measure_accuracy
from labd.procedure.performance import measure_performance
from labd.protocol.replies import REPLY_DAMAGED
from labd.simulation.instruments.reference_dut import KNOWN_FIRMWARES, SimulatedDut
from tests.unit.protocol.test_failure_texts import OTHER_FAILURES, PUBLISHED_FAILURES
from tests.virtual.procedure.dut_station import open_dut_run

Rewording = Callable[[str], str]


def text_before(word: str, text: str, end: str = "\r\n") -> Rewording:
    """Print a text before every line that begins with a word."""
    return lambda line: f"{text}{end}{line}" if line.startswith(word) else line


def numbers_as(form: Callable[[float], str], join: str = ",") -> Rewording:
    """Print the outputs in another format."""

    def reword(line: str) -> str:
        found = re.fullmatch(r"m-results-\[(.*)\]", line)
        if not found:
            return line
        return f"m-results-[{join.join(form(float(each)) for each in found[1].split(','))}]"

    return reword


class Buffered:
    """Hold all lines of a reply back until its end."""

    def __init__(self) -> None:
        self._held: list[str] = []

    def __call__(self, line: str) -> str:
        self._held.append(line)
        if line != "m-ready":
            return ""
        held, self._held = self._held, []
        return "\r\n".join(held)


HONEST: dict[str, Callable[[], Rewording]] = {
    "right size as information": lambda: text_before(
        "m-warmup-start", "Input db has 490 elemented, expected 490"
    ),
    "right size, commoner spelling": lambda: text_before(
        "m-warmup-start", "Input db has 490 elements, expected 490", "\n"
    ),
    "right size after the echo": lambda: text_before(
        "m-warmup-start", "infer 10 1%Input db has 490 elements, expected 490"
    ),
    "right size marked as an error": lambda: text_before(
        "m-infer-start", "e-[Input db has 490 elements, expected 490]"
    ),
    "prose with e-[": lambda: text_before("m-infer-start", "core-[0] clock 98 MHz"),
    "vendor messages": lambda: text_before("m-infer-done", "m-info-[clock 98 MHz]"),
    "clock print": lambda: text_before("m-infer-start", "sysclk 120000000 Hz"),
    "timing": lambda: text_before("m-results", "infer time: 155587 us"),
    "no errors": lambda: text_before("m-results", "0 errors"),
    "zero failures": lambda: text_before("m-results", "passed: 10, failed: 0"),
    "an error rate": lambda: text_before("m-results", "error rate 0.01"),
    "a measure of error": lambda: text_before("m-results", "mean squared error: 0.0131"),
    "a timeout setting": lambda: text_before("m-infer-start", "watchdog timeout 8 s"),
    "interrupts": lambda: text_before("m-infer-done", "got feature interrupt\r\ngot ack from dsp"),
    "colours": lambda: text_before("m-results", "Done inference ...\x1b[32mOK\x1b[0m"),
    "text without a line end": lambda: text_before("m-warmup-start", "src_mem_size: 490", ""),
    "bytes received": lambda: text_before("m-load-done", "490 of 490 bytes received"),
    "activations": lambda: text_before("m-results", "Activations: [  -1,    2, ]"),
    "a table": lambda: text_before("m-infer-start", "1:   00 1f ff\r\n2:   ba d0 fa"),
    "blank lines": lambda: text_before("m-", "\r\n"),
    "a prompt": lambda: text_before("m-", "> ", ""),
    "indented": lambda: text_before("m-", "   ", ""),
    "progress": lambda: text_before("m-infer-done", "10 %\r\n50 %\r\n100 %"),
    "whole numbers": lambda: numbers_as(lambda x: f"{x:.0f}"),
    "exponents": lambda: numbers_as(lambda x: f"{x:.3e}"),
    "many digits": lambda: numbers_as(lambda x: f"{x:.9f}"),
    "negative zeros": lambda: numbers_as(lambda x: f"{x or -0.0:.3f}"),
    "plus signs": lambda: numbers_as(lambda x: f"{x:+.3f}"),
    "no digit before the point": lambda: numbers_as(lambda x: f"{x:.3f}".lstrip("0")),
    "blanks between numbers": lambda: numbers_as(lambda x: f" {x:.3f} ", " , "),
    "tabs between numbers": lambda: numbers_as(lambda x: f"{x:.3f}", ",\t"),
    "buffered output": Buffered,
    "empty outputs": lambda: numbers_as(lambda _: "", ""),
}


async def measure_with(reword: Rewording, folder: Path) -> tuple[str, tuple[str, ...], list[str]]:
    """Run performance mode; return its verdict, its findings, and the notes reported."""
    dut = SimulatedDut()
    dut.reword_line = reword
    async with open_dut_run(dut, folder) as (run, reporter):
        result = await measure_performance(run)
    expected_ips = 1e6 / dut.us_per_inference
    assert result.score["median_throughput_ips"] == pytest.approx(expected_ips, rel=1e-6)
    return result.verdict, result.details.findings or (), reporter.notes


@pytest.mark.parametrize("habit", HONEST)
async def test_an_odd_but_honest_firmware_gets_its_number(habit: str, tmp_path: Path) -> None:
    verdict, findings, notes = await measure_with(HONEST[habit](), tmp_path)
    assert (verdict, notes) == ("pass", [])
    assert bool(findings) is (habit == "empty outputs")


@pytest.mark.parametrize("quirks", KNOWN_FIRMWARES)
async def test_a_published_firmware_gets_its_number(quirks: str, tmp_path: Path) -> None:
    async with open_dut_run(SimulatedDut(KNOWN_FIRMWARES[quirks]), tmp_path) as (run, _):
        assert (await measure_performance(run)).verdict == "pass"


@pytest.mark.parametrize("word", ["m-warmup-start", "m-infer-done", "m-results", "m-ready"])
@pytest.mark.parametrize("text", ["Input db has 489 elements, expected 490", "ERROR: no result"])
async def test_a_failure_makes_no_window_wherever_it_is_printed(
    word: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(DutError, match=r"expected 490|no result"):
        await measure_with(text_before(word, text), tmp_path)


@pytest.mark.parametrize("text", [*PUBLISHED_FAILURES, *OTHER_FAILURES])
async def test_a_failure_in_any_wording_makes_no_window(text: str, tmp_path: Path) -> None:
    with pytest.raises(DutError):
        await measure_with(text_before("m-infer-done", text), tmp_path)


async def test_an_error_after_the_end_of_a_reply_is_not_lost(tmp_path: Path) -> None:
    def reword(line: str) -> str:
        return f"{line}\r\ne-[Invoke failed]" if line == "m-ready" else line

    dut = SimulatedDut()
    async with open_dut_run(dut, tmp_path) as (run, _):
        dut.reword_line = reword
        with pytest.raises(DutError, match="the DUT sent: Invoke failed"):
            await measure_performance(run)


NOISE = "m-infer-done\x02\x10PI[0.999,0.000]"


def damage_replies(*numbers: int) -> Rewording:
    """Damage these replies to ``infer``, or every one, as an overrun at 9600 baud does."""
    seen = 0

    def reword(line: str) -> str:
        nonlocal seen
        seen += line == "m-infer-done"
        if numbers and seen not in numbers:
            return line
        return {"m-infer-done": NOISE}.get(line, "" if line.startswith("m-results") else line)

    return reword


async def test_a_damaged_reply_is_asked_for_again(tmp_path: Path) -> None:
    verdict, _, notes = await measure_with(damage_replies(1, 4, 5), tmp_path)
    assert verdict == "pass"
    assert notes == ["repeated, because the reply was damaged"] * 3


async def test_a_line_that_damages_every_reply_is_the_benchs_fault(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="damaged on the line") as caught:
        await measure_with(damage_replies(), tmp_path)
    assert caught.value.code == REPLY_DAMAGED


async def test_a_reply_that_is_whole_and_always_wrong_is_the_firmwares(tmp_path: Path) -> None:
    with pytest.raises(DutError, match="m-infer-done is missing"):
        await measure_with(lambda line: line.replace("m-infer-done", "done"), tmp_path)


async def test_accuracy_needs_outputs(tmp_path: Path) -> None:
    dut = SimulatedDut()
    dut.reword_line = numbers_as(lambda _: "", "")
    async with open_dut_run(dut, tmp_path) as (run, _):
        with pytest.raises(DutError, match="accuracy is judged by its outputs"):
            await measure_accuracy(run)
