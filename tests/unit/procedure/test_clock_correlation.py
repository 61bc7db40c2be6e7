"""A counter's ticks converted to the stream of a monitor that does not see them."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from labd.core.clock_map import Clock, Mark, fit_clock_map
from labd.core.errors import MeasurementInvalid
from labd.core.model import Edge, StreamFormat, TimeMark
from labd.procedure.batch import COUNTER_MODULUS, BatchTiming
from labd.procedure.clock_correlation import (
    TEXT_S,
    RunClocks,
    compare_clocks,
    positions_from_counter,
    to_clock_map_record,
)
from labd.protocol.infer_reply import InferReply

BAUD = 9600
TICK_S = 1e-5
RATE_HZ = 5000.0
CLOCKS = RunClocks("n6705", StreamFormat(RATE_HZ, 1 / RATE_HZ, 50.0, "current", 3.0, "d0"), BAUD)


class World:
    """True times of a run, and their stamps by each clock and text."""

    def __init__(self, seed: int, *, io_ppm: float = 40.0, monitor_ppm: float = -30.0) -> None:
        self._random = random.Random(seed)
        self._io = 1 + io_ppm * 1e-6
        self._monitor = 1 + monitor_ppm * 1e-6
        self._io_zero_s = self._random.uniform(0, COUNTER_MODULUS * TICK_S)
        self._host_zero_ns = self._random.randrange(10**15)
        starts = [2.0, *(12.0 + 45.0 * n for n in range(5)), 240.0]
        self.true_s = [(at, at + (0.2 if at in (2.0, 240.0) else 31.0)) for at in starts]

    def tick(self, at_s: float) -> int:
        return int((self._io_zero_s + at_s * self._io) / TICK_S) % COUNTER_MODULUS

    def index(self, at_s: float) -> float:
        return (at_s + 1.7) * self._monitor * RATE_HZ

    def host_ns(self, at_s: float) -> int:
        return self._host_zero_ns + round(at_s * 1e9)

    def late_s(self) -> float:
        return self._random.uniform(0.001, TEXT_S)

    def batches(self) -> list[BatchTiming]:
        return [self.batch(start, stop) for start, stop in self.true_s]

    def batch(self, start: float, stop: float) -> BatchTiming:
        reply = SimpleNamespace(
            start_ns=self.host_ns(start + self.late_s()),
            done_ns=self.host_ns(stop + 140 / BAUD + self.late_s()),
        )
        timer = cast("Any", SimpleNamespace(tick_s=TICK_S, clock_tolerance_ppm=100.0))
        return BatchTiming(cast("InferReply", reply), timer, (self.tick(start), self.tick(stop)))

    def times(self) -> list[TimeMark]:
        marks: list[TimeMark] = []
        for second in range(0, 280, 3):
            off_ns = self._random.randint(-4_000_000, 4_000_000)
            at_ns = self.host_ns(float(second)) + off_ns
            marks.append(TimeMark(self.index(float(second)), at_ns, 5_000_000, "host"))
        return marks


@pytest.mark.parametrize("seed", range(50))
def test_true_positions_lie_within_the_stated_uncertainty(seed: int) -> None:
    world = World(seed)
    pairs, maps = positions_from_counter(CLOCKS, world.batches(), world.times())
    assert len(pairs) == len(world.true_s)
    for (start, stop), true in zip(pairs, world.true_s, strict=True):
        for place, at_s in ((start, true[0]), (stop, true[1])):
            off_s = abs(place.index - world.index(at_s)) / RATE_HZ
            assert off_s <= place.uncertainty_s
            assert place.uncertainty_s < 0.02
    assert [each.b.name for each in maps] == ["host", "host"]


def test_a_counter_that_wraps_in_the_run_is_followed() -> None:
    world = World(3)
    world._io_zero_s = COUNTER_MODULUS * TICK_S - 100.0
    pairs, _ = positions_from_counter(CLOCKS, world.batches(), world.times())
    lengths = [(stop.index - start.index) / RATE_HZ for start, stop in pairs[1:-1]]
    assert lengths == pytest.approx([31.0] * 5, abs=0.01)


def test_a_board_that_restarted_in_the_run_is_refused() -> None:
    world = World(4)
    before = world.batches()
    world._io_zero_s += 1000.0
    with pytest.raises(MeasurementInvalid, match="contradict each other"):
        positions_from_counter(CLOCKS, [*before[:3], *world.batches()[3:]], world.times())


def test_without_marks_of_the_stream_there_is_no_position() -> None:
    with pytest.raises(MeasurementInvalid, match="no mark relates n6705 to host"):
        positions_from_counter(CLOCKS, World(5).batches(), [])


def labelled(world: World) -> list[list[Edge]]:
    return [
        [Edge(round(world.index(at)), "d0", rising=False) for at in batch] for batch in world.true_s
    ]


def test_two_clocks_that_saw_the_same_edges_are_compared() -> None:
    world = World(6)
    found = compare_clocks(CLOCKS, world.batches(), labelled(world))
    assert found.rate_ppm == pytest.approx(70.0, abs=5.0)
    assert found.rate_ppm == pytest.approx(70.0, abs=found.rate_error_ppm)
    record = to_clock_map_record(found)
    assert record.pairs == 14
    assert record.residual_rms_s == found.residual_rms_s <= found.residual_max_s < 2e-4


def test_the_record_of_a_clock_map_has_plain_values() -> None:
    microseconds = Clock("us", 1e-6)
    misses = np.array([3e-4, -3e-4, 0.0, 3e-4, -3e-4])
    marks = [Mark(10e6 * k, 10e6 * k + 1e6 * miss, 1e-3) for k, miss in enumerate(misses)]
    plain = to_clock_map_record(fit_clock_map(microseconds, microseconds, marks)).model_dump()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["a"], plain["b"]) == ("us", "us")
    assert plain["pairs"] == 5
    assert plain["doubtful"] == 0
    assert plain["tied_s"] == pytest.approx(40.0)
    assert 0 < plain["residual_rms_s"] < plain["residual_max_s"] < 1e-3


@pytest.mark.parametrize("late_s", [0.004, 0.03, 2.0])
def test_one_false_edge_of_fourteen_is_within_the_bound_or_left_out(late_s: float) -> None:
    world = World(8)
    edges = labelled(world)
    stop = edges[3][1]
    edges[3][1] = Edge(stop.index + round(late_s * RATE_HZ), stop.line, stop.rising)
    found = compare_clocks(CLOCKS, world.batches(), edges)
    assert found.rate_ppm == pytest.approx(70.0, abs=found.rate_error_ppm)
    assert found.outlier_candidates == (1 if late_s > 0.02 else 0)
    assert to_clock_map_record(found).doubtful == found.outlier_candidates


def test_a_monitor_whose_clock_is_wrong_contradicts_the_counter() -> None:
    world = World(7, monitor_ppm=5000.0)
    with pytest.raises(MeasurementInvalid, match="contradict each other"):
        compare_clocks(CLOCKS, world.batches(), labelled(world))
