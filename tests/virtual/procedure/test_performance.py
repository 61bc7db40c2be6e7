"""Performance mode on a simulated DUT, over its real driver, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from labd.core.errors import DutError, MeasurementInvalid
from labd.core.model import ClockCheck, TimeBase
from labd.core.suite import MAX_INFERENCES
from labd.procedure import performance
from labd.procedure.performance import measure_performance
from labd.simulation.instruments.reference_dut import KNOWN_FIRMWARES, SimulatedDut
from labd.simulation.virtual_time import PS_PER_US, LoopAgenda
from tests.virtual.procedure.dut_station import open_dut_run


def fast_dut(batch_us: int, inference_ps: int) -> SimulatedDut:
    """Return a DUT that takes the same time for every batch and some for each inference."""
    dut = SimulatedDut()
    dut.batch_ps = lambda number: batch_us * PS_PER_US + number * inference_ps
    return dut


def largest_batch(dut: SimulatedDut) -> int:
    return max(int(each.split()[1]) for each in dut.commands if each.startswith("infer"))


@pytest.mark.parametrize(
    ("batch_us", "inference_ps", "said"),
    [
        (1500, 0, r"an inference of 0\.0006\d+ ns is too short .* N would be 150\d{11} "),
        (
            0,
            2000,
            r"an inference of 2 ns is too short .* N would be 525\d{7} for a window of 10\.",
        ),
        (0, 4880, r"an inference of 4\.88 ns is too short .* N would be 215\d{7} "),
    ],
)
async def test_an_inference_that_is_too_short_for_the_protocol_is_named(
    tmp_path: Path, batch_us: int, inference_ps: int, said: str
) -> None:
    dut = fast_dut(batch_us, inference_ps)
    async with open_dut_run(dut, tmp_path) as (run, _):
        with pytest.raises(MeasurementInvalid, match=said) as caught:
            await measure_performance(run)
    assert f"limit {MAX_INFERENCES}" in str(caught.value)
    assert "check that infer runs the model" in caught.value.remedy
    assert largest_batch(dut) <= MAX_INFERENCES


async def test_a_timer_that_stands_still_is_named_with_the_command(tmp_path: Path) -> None:
    async with open_dut_run(fast_dut(0, 0), tmp_path) as (run, _):
        with pytest.raises(DutError, match="infer 2147483647 1: no time passed") as caught:
            await measure_performance(run)
    assert "its timer does not run, or its inference is empty" in caught.value.remedy


class MillisecondDut(SimulatedDut):
    """Counts milliseconds where microseconds are asked for."""

    @property
    def now_us(self) -> int:
        return super().now_us // 1000


async def test_a_counter_in_another_unit_is_found_by_the_hosts_clock(tmp_path: Path) -> None:
    dut = MillisecondDut(agenda=LoopAgenda(real_time=True))
    async with open_dut_run(dut, tmp_path, time_base=TimeBase.HOST) as (run, _):
        with pytest.raises(DutError, match=r"infer 10 1: 1\d{3} µs by the DUT's timestamps, 1\."):
            await measure_performance(run)
    assert [each for each in dut.commands if each.startswith("infer")] == ["infer 10 1"] * 2


async def test_one_delay_of_the_host_is_not_blamed_on_the_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([5.0])
    late = ClockCheck("host", 5.0, 0.15)
    on_time = ClockCheck("host", None, 0.0)
    monkeypatch.setattr(
        performance, "check_by_host_clock", lambda *_: late if next(seconds, 0) else on_time
    )
    async with open_dut_run(SimulatedDut(), tmp_path) as (run, _):
        result = await measure_performance(run)
    assert result.verdict == "pass"


async def test_the_shortest_inference_that_the_protocol_can_time_is_timed(tmp_path: Path) -> None:
    dut = fast_dut(0, 4900)
    async with open_dut_run(dut, tmp_path) as (run, _):
        result = await measure_performance(run)
    assert result.verdict == "pass"
    assert 0.99 * MAX_INFERENCES < largest_batch(dut) <= MAX_INFERENCES


def speeding_dut(fast_us: int, *, from_inferences: int) -> SimulatedDut:
    """Return a DUT that takes 100 ms per inference, and less in batches of this size."""
    dut = SimulatedDut()
    dut.batch_ps = lambda number: (
        number * (fast_us if number >= from_inferences else 100_000) * PS_PER_US
    )
    return dut


async def test_a_dut_that_is_faster_in_windows_than_in_the_probe_gets_its_number(
    tmp_path: Path,
) -> None:
    async with open_dut_run(speeding_dut(94_500, from_inferences=50), tmp_path) as (run, seen):
        result = await measure_performance(run)
    assert (result.verdict, result.reasons) == ("pass", ())
    short, *counted = result.windows
    assert short.runtime_s == pytest.approx(105 * 0.0945)
    assert short.not_counted == "too short: repeated with 112 inferences"
    assert [window.number for window in counted] == [2, 3, 4, 5, 6]
    assert [window.input_file for window in counted] == [f"tst_{n}.bin" for n in range(5)]
    assert {window.inferences for window in counted} == {112}
    assert result.score["median_throughput_ips"] == pytest.approx(1 / 0.0945)
    assert seen.windows == list(result.windows)


async def test_one_fast_input_gives_every_window_its_n_and_each_change_is_reported(
    tmp_path: Path,
) -> None:
    dut = SimulatedDut()
    dut.batch_ps = lambda number: number * (90_000 if dut.input[0] == 2 else 100_000) * PS_PER_US
    async with open_dut_run(dut, tmp_path) as (run, seen):
        result = await measure_performance(run)
    assert result.verdict == "pass"
    counted = [window for window in result.windows if window.is_counted]
    assert {window.inferences for window in counted} == {117}
    assert sorted(window.input_file for window in counted) == [f"tst_{n}.bin" for n in range(5)]
    assert len(result.windows) == 8
    last_report = {window.number: window for window in seen.windows}
    assert [last_report[number] for number in range(1, 9)] == list(result.windows)


async def test_a_dut_that_is_never_slow_enough_ends_early_and_says_what_was_tried(
    tmp_path: Path,
) -> None:
    dut = SimulatedDut()
    dut.batch_ps = lambda number: (
        number * 100_000 * PS_PER_US if number < 50 else 9_950_000 * PS_PER_US
    )
    async with open_dut_run(dut, tmp_path) as (run, _):
        result = await measure_performance(run)
    assert result.verdict == "invalid"
    assert len(result.windows) == 4
    assert result.reasons[0] == "window 4 lasts 9.950000 s, less than 10 s"
    assert "after 3 repeats of it and 3 in this mode: 105 in 9.950 s" in result.reasons[1]


async def test_a_window_keeps_its_laps_and_outputs(tmp_path: Path) -> None:
    dut = SimulatedDut(KNOWN_FIRMWARES["wrapping-laps"])
    async with open_dut_run(dut, tmp_path) as (run, _):
        result = await measure_performance(run)
    for window in result.windows:
        assert window.outputs == dut.results
        assert window.laps_us is not None
        start, stop = window.laps_us
        assert (stop - start) % 2**32 == round(window.runtime_s * 1e6)
        assert window.inferences == 68
