"""Time marks from the quickest delivery of each cell, and the line below all deliveries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.host_clock import USB_DELIVERY_NS, MinimumDelayFilter, slope_below
from labd.core.model import Gap, TimeMark

RATE_HZ = 10_000
CELL_S = 0.5
CHUNK = 100  # samples, 10 ms
START_NS = 5_000_000_000


def taken_ns(index: float) -> float:
    return START_NS + index * 1e9 / RATE_HZ


def marks_of(late_ns: list[int]) -> list[TimeMark]:
    """Marks of chunks that came so late."""
    marks, found = MinimumDelayFilter(RATE_HZ, CELL_S), list[TimeMark]()
    for number, late in enumerate(late_ns, 1):
        index = number * CHUNK
        marks.add_observation(index, round(taken_ns(index)) + late)
        found += marks.finished_marks(index)
    return found


@given(st.lists(st.integers(0, 40_000_000), min_size=200, max_size=300), st.integers(0, 1_000_000))
def test_the_true_time_lies_within_a_marks_uncertainty(late_ns: list[int], least_ns: int) -> None:
    """As long as any chunk of the first half second came as quickly as assumed."""
    late_ns[3] = least_ns
    found = marks_of(late_ns)
    assert len(found) >= 3
    for mark in found:
        assert abs(mark.t_ns - taken_ns(mark.index)) <= mark.uncertainty_ns + 1
        assert mark.clock == "host"


def test_the_quickest_chunk_of_half_a_second_is_the_mark() -> None:
    late_ns = [2_000_000] * 200
    late_ns[20], late_ns[70], late_ns[120] = 500_000, 400_000, 900_000
    found = marks_of(late_ns)[:3]
    assert [mark.index for mark in found] == [2100.0, 7100.0, 12_100.0]
    assert [mark.uncertainty_ns for mark in found] == [
        *(USB_DELIVERY_NS // 2, USB_DELIVERY_NS // 2),
        (USB_DELIVERY_NS + 500_000) // 2,
    ]


def test_a_mark_waits_for_its_samples_and_dies_in_a_gap() -> None:
    marks = MinimumDelayFilter(RATE_HZ, CELL_S)
    for index in (1000, 6000, 11_000, 16_000):
        marks.add_observation(index, round(taken_ns(index)))
    assert marks.finished_marks(999) == []
    assert [mark.index for mark in marks.finished_marks(1000)] == [1000.0]
    marks.drop_recent(Gap(5000, 2000))
    assert [mark.index for mark in marks.finished_marks(12_000)] == [11_000.0]
    marks.drop_recent(Gap(15_000, 2000))
    assert marks.finished_marks(20_000) == []
    marks.add_observation(21_000, round(taken_ns(21_000)))
    marks.add_observation(26_000, round(taken_ns(26_000)))
    assert [mark.index for mark in marks.finished_marks(30_000)] == [21_000.0]


def test_marks_hold_the_true_time_of_a_fast_stream() -> None:
    """Chunks of 7 ms with an exponentially distributed delay of 80 µs in the mean."""
    random = np.random.default_rng(1)
    marks, found = MinimumDelayFilter(100_000, 1.0), list[TimeMark]()
    for index in range(700, 1_000_000, 700):
        marks.add_observation(index, index * 10_000 + round(random.exponential(80_000)))
        found += marks.finished_marks(index)
    assert 8 <= len(found) <= 11
    for mark in found:
        assert abs(mark.t_ns - mark.index * 10_000) <= mark.uncertainty_ns <= 2_000_000


def test_the_line_below_touches_the_points_and_lies_under_them() -> None:
    random = np.random.default_rng(1)
    points = [(x, 3.0 * x + float(random.exponential(50))) for x in range(0, 5000, 50)]
    slope = slope_below(points)
    assert slope == pytest.approx(3.0, abs=0.01)
    base = min(y - slope * x for x, y in points)
    assert sum(y - slope * x < base + 1e-6 for x, y in points) >= 2
