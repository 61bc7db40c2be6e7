"""Performance mode on a simulated DUT, over its real driver, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from labd.core.errors import DutError, MeasurementInvalid
from labd.core.suite import MAX_INFERENCES
from labd.procedure.performance import measure_performance
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.simulation.virtual_time import PS_PER_US
from tests.virtual.procedure.dut_station import performance_run


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
    async with performance_run(dut, tmp_path) as (run, _):
        with pytest.raises(MeasurementInvalid, match=said) as caught:
            await measure_performance(run)
    assert f"limit {MAX_INFERENCES}" in str(caught.value)
    assert "check that infer runs the model" in caught.value.remedy
    assert largest_batch(dut) <= MAX_INFERENCES


async def test_a_timer_that_stands_still_is_named_with_the_command(tmp_path: Path) -> None:
    async with performance_run(fast_dut(0, 0), tmp_path) as (run, _):
        with pytest.raises(DutError, match="infer 2147483647 1: no time passed") as caught:
            await measure_performance(run)
    assert "its timer does not run, or its inference is empty" in caught.value.remedy


async def test_the_shortest_inference_that_the_protocol_can_time_is_timed(tmp_path: Path) -> None:
    dut = fast_dut(0, 4900)
    async with performance_run(dut, tmp_path) as (run, _):
        result = await measure_performance(run)
    assert result.verdict == "pass"
    assert 0.99 * MAX_INFERENCES < largest_batch(dut) <= MAX_INFERENCES
