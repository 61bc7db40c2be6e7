"""Timing of one batch by the I/O manager's log."""

from __future__ import annotations

from typing import Any, cast

import pytest

from drivers.base.interfaces import IoConfig, IoManager, TimerEdge
from labd.core.errors import InstrumentError
from labd.core.model import Build
from labd.procedure.batch import (
    BatchTiming,
    check_by_best_clock,
    clear_interval_log,
    run_timed_batch,
)
from labd.procedure.mode_run import ModeRun


class TimerConfig(IoConfig):
    timestamp_wire: bool

    @property
    def times_timestamps(self) -> bool:
        return self.timestamp_wire


class Timer:
    """An I/O manager whose log the test writes."""

    tick_s = 1e-5
    clock_tolerance_ppm = 100.0

    def __init__(self, *, times_timestamps: bool = False) -> None:
        self.config = TimerConfig(timestamp_wire=times_timestamps)
        self.log: list[tuple[int, int]] = []
        self.edges: list[TimerEdge] = []
        self.clears = 0
        self.broken = False

    async def clear_intervals(self) -> None:
        self.log, self.edges, self.clears = [], [], self.clears + 1

    async def read_intervals(self) -> list[tuple[int, int]]:
        if self.broken:
            raise InstrumentError("intervals", "starts and stops do not alternate")
        return list(self.log)

    def logged_timestamps(self) -> list[TimerEdge]:
        return list(self.edges)


class Dut:
    """Runs a batch, during which the test acts on the wires."""

    def __init__(self, happens: Any) -> None:
        self._happens = happens

    async def run_inferences(self, *_: object) -> None:
        self._happens()


class Ready:
    build = Build.ENERGY

    def __init__(self, dut: Dut) -> None:
        self.dut = dut


class Bench:
    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def batch_timer(self, _: Build) -> IoManager:
        return cast("IoManager", self._timer)


def mode_run(timer: Timer, happens: Any) -> ModeRun:
    rest: Any = None
    return ModeRun(
        cast("Any", Bench(timer)), cast("Any", Ready(Dut(happens))), rest, rest, rest, rest, rest
    )


async def run(timer: Timer, happens: Any) -> BatchTiming:
    return await run_timed_batch(mode_run(timer, happens), 10, 0, 1.0)


async def test_only_the_interval_of_this_batch_counts_and_the_counter_runs_on() -> None:
    timer = Timer()
    running = mode_run(timer, lambda: None)
    await clear_interval_log(running)
    for number in range(1, 4):
        batch = await run(timer, lambda n=number: timer.log.append((n * 1000, n * 1000 + 500)))
        assert batch.ticks == (number * 1000, number * 1000 + 500)
    assert timer.clears == 1


@pytest.mark.parametrize("pulses", [0, 2])
async def test_other_than_one_pulse_is_no_clock(pulses: int) -> None:
    timer = Timer()
    batch = await run(timer, lambda: timer.log.extend([(1, 2)] * pulses))
    assert batch.ticks is None
    check = check_by_best_clock(mode_run(timer, None), batch)
    assert check.seconds is None
    assert check.note == f"{pulses} pulses on the processing pin instead of 1"


async def test_a_log_without_intervals_concerns_this_window_only() -> None:
    timer = Timer()

    def torn() -> None:
        timer.broken = True

    batch = await run(timer, torn)
    assert batch.ticks is None
    assert "do not alternate" in batch.fault


async def test_a_board_that_times_timestamps_gives_the_batch_its_two_edges() -> None:
    timer = Timer(times_timestamps=True)
    timer.edges = [TimerEdge(7, 0)]  # of a sync mark before
    batch = await run(timer, lambda: timer.edges.extend([TimerEdge(10, 1), TimerEdge(30, 2)]))
    assert batch.ticks == (10, 30)
    batch = await run(timer, lambda: timer.edges.append(TimerEdge(40, 3)))
    assert batch.ticks is None
    assert batch.fault == "1 edges on the timestamp pin instead of 2"
