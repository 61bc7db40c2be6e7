"""Polled records: a wrong count is a fault, time marks and edges are true."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.scpi.record_clock import (
    CONFIRM_NS,
    LEARN_NS,
    Moment,
    RecordClock,
)
from drivers.scpi.record_stream import CurrentStepLine, RecordStream
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark

RATE_HZ = 1000.0
SECOND = 1_000_000_000
THRESHOLD_A, BAND_A = 1e-3, 2e-4
LOW_A, HIGH_A = 0.5e-3, 1.5e-3  # of the current; the line is the other way round


def samples_of(index: int, rows: NDArray[np.float64]) -> Samples:
    return Samples(index, rows[:, 0] * 3.0, rows[:, 0])


def a_stream(*, line: bool = True, buffer_s: float = 15.0) -> RecordStream:
    step = CurrentStepLine("io", THRESHOLD_A, BAND_A) if line else None
    stream = RecordStream(RecordClock(RATE_HZ, buffer_s), samples_of, step)
    stream.clock.note_start(Moment(0, 1000))
    return stream


def log(pulses: list[int], missing: list[int], count: int = 6000) -> NDArray[np.float64]:
    """Return records of two values: a ramp, and a line that is low for 4 records per pulse."""
    rows = np.column_stack([np.arange(1.0, count + 1), np.full(count, LOW_A)])
    for at in pulses:
        rows[at : at + 4, 1] = HIGH_A
    rows[missing, 0] = np.nan
    return rows


def played(
    rows: NDArray[np.float64], polls: list[int], stream: RecordStream | None = None
) -> list[StreamItem]:
    """Poll all records that exist at each of these times, in ms."""
    stream = stream or a_stream()
    items: list[StreamItem] = []
    places = [0, *polls, len(rows)]
    for start, end in itertools.pairwise(places):
        now = end * 1_000_000 + 1500
        items += stream.add_records(rows[start:end], Moment(now - 500, now), drained=True)
        assert stream.clock.fault == ""
    return items + stream.release_tail()


def flat(items: list[StreamItem]) -> list[object]:
    """Return items as values, however samples are grouped; without marks."""
    out: list[object] = []
    for item in items:
        if isinstance(item, Samples):
            assert item.current_a is not None
            out += zip(itertools.count(item.index), item.current_a.tolist())
        elif isinstance(item, Gap):
            out += [("gap", index, item.reason) for index in range(item.index, item.end)]
        elif isinstance(item, Edge):
            out.append(item)
    return out


poll_times = st.lists(st.integers(1, 5999), max_size=30, unique=True).map(sorted)
places = st.lists(st.integers(0, 5990), max_size=8)


@settings(max_examples=100, deadline=None)
@given(places, places, poll_times, poll_times)
def test_any_polling_gives_the_same_stream(
    pulses: list[int], missing: list[int], one: list[int], other: list[int]
) -> None:
    rows = log(pulses, missing)
    assert flat(played(rows, one)) == flat(played(rows, other))


@settings(max_examples=100, deadline=None)
@given(places, places, poll_times)
def test_every_index_comes_once_with_its_record(
    pulses: list[int], missing: list[int], polls: list[int]
) -> None:
    rows = log(pulses, missing)
    at = 0
    for item in played(rows, polls):
        if isinstance(item, Edge):
            assert item.index == at
            index = int(item.index)
            assert rows[index, 1] == (LOW_A if item.rising else HIGH_A)
            assert rows[index - 1, 1] == (HIGH_A if item.rising else LOW_A)
            assert not np.isnan(rows[index - 1 : index + 1]).any()
        elif isinstance(item, (Samples, Gap)):
            assert item.index == at
            assert item.end > at
            gap = isinstance(item, Gap)
            assert (np.isnan(rows[item.index : item.end, 0]) == gap).all()
            if isinstance(item, Samples):
                np.testing.assert_array_equal(item.current_a, rows[item.index : item.end, 0])
            at = item.end
    assert at == len(rows)


def test_an_edge_that_touches_a_gap_is_dropped() -> None:
    rows = log([1000, 2000, 3000], [1000, 1999, 3003, 3004])
    items = played(rows, [])
    edges = [(item.index, item.rising) for item in items if isinstance(item, Edge)]
    assert edges == [(1004.0, True), (2004.0, True), (3000.0, False)]


def test_within_the_hysteresis_band_the_level_does_not_change() -> None:
    line = CurrentStepLine("io", THRESHOLD_A, BAND_A)
    middle = THRESHOLD_A
    fall = Edge(3.0, "io", rising=False)
    assert line.find_edges(0, np.array([middle, LOW_A, middle, HIGH_A])) == [fall]
    assert line.find_edges(4, np.array([middle, middle, LOW_A])) == [Edge(6.0, "io", rising=True)]
    assert line.find_edges(7, np.array([np.nan, middle])) == []
    assert line.find_edges(9, np.array([HIGH_A, LOW_A])) == [Edge(10.0, "io", rising=True)]
    assert line.find_edges(11, np.empty(0)) == []


def test_edges_are_counted_on_arrival() -> None:
    stream = a_stream()
    rows = log([100, 200], [])[:300]
    items = stream.add_records(rows, Moment(299_500_000, 300_000_000), drained=True)
    assert (stream.received_samples, stream.edges_seen) == (300, 2)
    assert items == []


def test_records_are_released_after_a_later_count_was_right() -> None:
    stream = a_stream(line=False)
    rows = log([], [])[:, :1]
    released: list[StreamItem] = []
    got = 0
    for end in range(100, 5100, 100):
        now = end * 1_000_000
        released += stream.add_records(rows[end - 100 : end], Moment(now - 10, now), drained=True)
        got = sum(len(item) for item in released if isinstance(item, Samples))
        learned = end * 1_000_000 > LEARN_NS
        assert got == (end - CONFIRM_NS // 1_000_000 if learned else 0)
    assert got == 4000


def test_unconfirmed_records_are_a_gap() -> None:
    stream = a_stream()
    rows = log([3800], [])[:4000]
    for start, end in ((0, 500), (500, 2500), (2500, 4000)):
        now = end * 1_000_000
        stream.add_records(rows[start:end], Moment(now - 10, now), drained=True)
    assert stream.rest_as_gap("broken off") == [
        Gap(2500, 1500, "broken off; 2 edges in it dropped")
    ]
    assert stream.rest_as_gap("broken off") == []


@pytest.mark.parametrize(
    ("pace", "by_s"), [(0.5, 1.5), (0.75, 2.5), (0.9, 3.0), (4 / 3, 1.0), (2.0, 1.0)]
)
def test_a_wrong_rate_is_found_before_anything_is_released(pace: float, by_s: float) -> None:
    stream = a_stream(line=False)
    items: list[StreamItem] = []
    sent = 0
    for now_ms in range(50, round(by_s * 1000) + 1, 50):
        new = int(now_ms * pace) - sent
        sent += new
        moment = Moment(now_ms * 1_000_000 - 500, now_ms * 1_000_000)
        items += stream.add_records(np.ones((new, 1)), moment, drained=True)
    assert stream.clock.fault
    assert not any(isinstance(item, Samples) for item in items)
    gap = stream.rest_as_gap("never mind")[-1]
    assert isinstance(gap, Gap)
    assert (gap.index, gap.end, gap.reason) == (0, sent, stream.clock.fault)


def test_a_loss_late_in_a_long_log_is_found() -> None:
    """After an hour the count may be off by two seconds since the start, but not in ten."""
    clock = RecordClock(RATE_HZ, 15.0)
    clock.note_start(Moment(0, 0))
    for now_ms in range(250, 3_600_000, 250):
        now = now_ms * 1_000_000
        clock.add_count(now_ms, Moment(now, now), drained=True)
    assert clock.fault == ""
    clock.add_count(3_600_000 - 400, Moment(3600 * SECOND, 3600 * SECOND), drained=True)
    assert "some were lost" in clock.fault


@pytest.mark.parametrize("ppm", [-500, 500])
def test_an_ordinary_clock_is_no_fault(ppm: int) -> None:
    clock = RecordClock(RATE_HZ, 15.0)
    clock.note_start(Moment(0, 0))
    for now_ms in range(250, 3_600_000, 250):
        now = now_ms * 1_000_000
        total = int(now_ms * (1 + ppm * 1e-6))
        clock.add_count(total, Moment(now, now), drained=True)
    assert clock.fault == ""


def test_a_late_count_is_no_fault_while_the_buffer_can_hold_the_rest() -> None:
    clock = RecordClock(RATE_HZ, buffer_s=5.0)
    clock.note_start(Moment(0, 0))
    late = Moment(6 * SECOND, 6 * SECOND)
    clock.add_count(2000, late, drained=False)
    assert clock.fault == ""
    assert not clock.on_time
    assert clock.confirmed == 0
    clock.add_count(6000, late, drained=False)
    assert clock.on_time
    clock.add_count(6000, Moment(11 * SECOND, 11 * SECOND), drained=False)
    assert clock.fault == ""
    clock.add_count(6001, Moment(12 * SECOND, 12 * SECOND), drained=False)
    assert "some were lost" in clock.fault


@settings(max_examples=100, deadline=None)
@given(
    update_ms=st.sampled_from([1, 1, 1, 40, 100]),
    pauses=st.lists(st.floats(0.01, 0.12), min_size=60, max_size=60),
    trips=st.lists(st.floats(0.0005, 0.03), min_size=60, max_size=60),
    ppm=st.floats(-100, 100),
)
def test_marks_bound_the_time_of_their_record(
    update_ms: int, pauses: list[float], trips: list[float], ppm: float
) -> None:
    """An instrument that counts by its own clock and updates its count at intervals."""
    clock = RecordClock(RATE_HZ, 15.0)
    marks: list[TimeMark] = []
    clock.note_start(Moment(-2_000_000, 3_000_000))
    now_s = 0.003
    for pause_s, trip_s in zip(pauses, trips, strict=True):
        now_s += pause_s
        served_s = now_s + trip_s / 2
        total = int(served_s * 1000 * (1 + ppm * 1e-6) // update_ms * update_ms)
        moment = Moment(round(now_s * 1e9), round((now_s + trip_s) * 1e9))
        marks += clock.add_count(total, moment, drained=True)
        now_s += trip_s
    marks += clock.confirm_all()
    assert clock.fault == ""
    assert len(marks) >= 2
    slack_ns = 0 if update_ms == 1 else update_ms * 1e6  # seen at one phase alone, it cannot show
    for mark in marks:
        true_ns = mark.index / (1 + ppm * 1e-6) * 1e6
        assert abs(mark.t_ns - true_ns) <= mark.uncertainty_ns + slack_ns + 1000
    assert all(a.index <= b.index for a, b in itertools.pairwise(marks))


def test_the_quickest_answer_limits_the_uncertainty_of_a_mark() -> None:
    clock = RecordClock(RATE_HZ, 15.0)
    clock.note_start(Moment(0, 0))
    marks: list[TimeMark] = []
    for now_ms in range(100, 1200, 100):
        now = now_ms * 1_000_000
        marks += clock.add_count(now_ms, Moment(now - 200_000, now), drained=True)
    first, mark = marks
    assert first.index == 0
    assert mark.uncertainty_ns <= 600_000 + 1


def test_slow_updates_widen_the_uncertainty_of_marks() -> None:
    clock = RecordClock(RATE_HZ, 15.0)
    clock.note_start(Moment(-10_000_000, 10_000_000))
    marks: list[TimeMark] = []
    for hundred_ms in range(6, 20):
        for phase_ms in (20, 55, 95):  # never right after the update
            now = (hundred_ms * 100 + phase_ms) * 1_000_000
            moment = Moment(now - 200_000, now)
            marks += clock.add_count(hundred_ms * 100, moment, drained=True)
    first, mark = marks
    assert first.index == 0
    true_ns = mark.index * 1e6
    assert abs(mark.t_ns - true_ns) <= mark.uncertainty_ns
    assert mark.uncertainty_ns < 50_000_000


def test_a_meter_that_may_hold_more_is_bounded_by_the_start() -> None:
    """Only its highest rate bounds when it reached a count."""
    clock = RecordClock(RATE_HZ, 1.0)
    clock.note_start(Moment(0, 1_000_000))
    marks: list[TimeMark] = []
    for now_ms in range(100, 1200, 100):
        now = (now_ms + 1) * 1_000_000
        marks += clock.add_count(now_ms, Moment(now - 90_000_000, now), drained=False)
    first, mark = marks
    assert first.index == 0
    assert mark.uncertainty_ns < 2_000_000
    assert abs(mark.t_ns - mark.index * 1e6) <= mark.uncertainty_ns + 1


def polled(
    latency_ms: int,
    update_ms: int,
    *,
    seed: int = 1,
    lost: int = 0,
    seconds: float = 30.0,
    lost_s: float = 15.0,
    ppm: float = 0.0,
) -> tuple[RecordStream, list[StreamItem], Callable[[int], float]]:
    """Poll an instrument whose records appear late and at intervals, every 75 ms.

    Args:
        latency_ms: from a record's end to its appearance.
        update_ms: between appearances; 0 for each record alone.
        seed: of the answers' times.
        lost: records lost at ``lost_s``.
        seconds: duration.
        lost_s: time of the loss.
        ppm: by how much its clock is fast.
    """
    random = np.random.default_rng(seed)
    stream = a_stream(line=False)

    def count(now_s: float) -> int:
        made_s = max(0.0, now_s - latency_ms / 1e3)
        if update_ms:
            made_s = made_s // (update_ms / 1e3) * (update_ms / 1e3)
        return int(made_s * RATE_HZ * (1 + ppm * 1e-6)) - lost * (made_s > lost_s)

    items: list[StreamItem] = []
    now_s = 0.005
    while now_s < seconds and not stream.clock.fault:
        answered_s = now_s + float(random.uniform(0.001, 0.008))
        new = max(0, count(now_s + (answered_s - now_s) / 2) - stream.received_samples)
        moment = Moment(round(now_s * 1e9), round(answered_s * 1e9))
        items += stream.add_records(np.full((new, 1), 0.005), moment, drained=True)
        now_s = answered_s + 0.07

    def true_s(index: int) -> float:
        made_s = index / RATE_HZ / (1 + ppm * 1e-6)
        return made_s + (lost / RATE_HZ if made_s > lost_s else 0.0)

    return stream, items, true_s


LATENCIES_MS = [0, 20, 50, 140]
UPDATES_MS = [0, 100, 250, 500]


@pytest.mark.parametrize("latency_ms", LATENCIES_MS)
@pytest.mark.parametrize("update_ms", UPDATES_MS)
@pytest.mark.parametrize("ppm", [-100, 100])
def test_a_constant_latency_and_slow_updates_are_no_loss(
    latency_ms: int, update_ms: int, ppm: int
) -> None:
    for seed in range(3):
        stream, items, true_s = polled(latency_ms, update_ms, seed=seed, ppm=ppm)
        assert stream.clock.fault == ""
        items += stream.release_tail()
        samples = [item for item in items if isinstance(item, Samples)]
        assert sum(map(len, samples)) == stream.received_samples
        assert stream.received_samples >= (30 - 0.08 - (latency_ms + update_ms) / 1000) * 999
        marks = [item for item in items if isinstance(item, TimeMark)]
        assert len(marks) > 20
        for mark in marks:
            off_ns = abs(mark.t_ns - true_s(int(mark.index)) * 1e9)
            assert off_ns <= mark.uncertainty_ns
            assert mark.uncertainty_ns / 1e6 < 12 + latency_ms + min(update_ms, 80)


@pytest.mark.parametrize("latency_ms", LATENCIES_MS)
@pytest.mark.parametrize(
    ("update_ms", "least"), [(0, 20), (100, 40), (250, 60), (500, 100)], ids=str
)
@pytest.mark.parametrize("more", [0, 40, 80])
def test_lost_records_are_a_fault(latency_ms: int, update_ms: int, least: int, more: int) -> None:
    for seed in range(3):
        stream, items, _ = polled(latency_ms, update_ms, seed=seed, lost=least + more)
        assert "some were lost" in stream.clock.fault
        assert isinstance(stream.rest_as_gap("never mind")[-1], Gap)
        assert sum(len(item) for item in items if isinstance(item, Samples)) > 10_000


@pytest.mark.parametrize("latency_ms", LATENCIES_MS)
@pytest.mark.parametrize("update_ms", UPDATES_MS)
@pytest.mark.parametrize("pace", [0.5, 0.75, 4 / 3, 2.0])
def test_a_wrong_rate_is_found_at_any_latency(latency_ms: int, update_ms: int, pace: float) -> None:
    stream, items, _ = polled(latency_ms, update_ms, ppm=(pace - 1) * 1e6, seconds=5)
    assert stream.clock.fault
    assert not any(isinstance(item, Samples) for item in items)


def test_one_late_update_is_no_loss() -> None:
    """One count is 60 ms late, the others are not."""
    clock = RecordClock(RATE_HZ, 15.0)
    clock.note_start(Moment(0, 0))
    for now_ms in range(50, 20_000, 50):
        late_ms = 60 if 10_000 < now_ms <= 10_100 else 0
        now = now_ms * 1_000_000
        clock.add_count(now_ms - late_ms, Moment(now, now), drained=True)
    assert clock.fault == ""


def test_a_log_too_short_to_learn_from_must_be_on_time() -> None:
    for latency_ms, right in ((100, True), (300, False)):
        stream, _, _ = polled(latency_ms, 0, seconds=2)
        assert stream.clock.fault == ""
        got = sum(len(item) for item in stream.release_tail() if isinstance(item, Samples))
        assert got == (stream.received_samples if right else 0)


def test_records_before_the_start_are_an_error() -> None:
    with pytest.raises(ValueError, match="before the start"):
        RecordClock(RATE_HZ, 15.0).add_count(1, Moment(0, 0), drained=True)
