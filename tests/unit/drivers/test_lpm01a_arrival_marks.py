"""Time marks of an LPM01A stream without edges: the quickest delivery of each half second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.lpm01a.arrival_marks import DELIVERY_NS, ArrivalMarks
from labd.core.model import Gap, TimeMark

RATE_HZ = 10_000
CHUNK = 100  # samples, 10 ms
START_NS = 5_000_000_000


def taken_ns(index: float) -> float:
    return START_NS + index * 1e9 / RATE_HZ


def marks_of(late_ns: list[int]) -> list[TimeMark]:
    """Marks of chunks that came so late."""
    marks, found = ArrivalMarks(RATE_HZ), list[TimeMark]()
    for number, late in enumerate(late_ns, 1):
        index = number * CHUNK
        marks.arrived(index, round(taken_ns(index)) + late)
        found += marks.confirmed([], index)
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
        *(DELIVERY_NS // 2, DELIVERY_NS // 2),
        (DELIVERY_NS + 500_000) // 2,
    ]


def test_a_mark_waits_for_its_samples_and_dies_in_a_gap() -> None:
    marks = ArrivalMarks(RATE_HZ)
    for index in (1000, 6000, 11_000, 16_000):
        marks.arrived(index, round(taken_ns(index)))
    assert marks.confirmed([], 999) == []
    assert [mark.index for mark in marks.confirmed([], 1000)] == [1000.0]
    assert [mark.index for mark in marks.confirmed([Gap(5000, 2000)], 12_000)] == [11_000.0]
    assert marks.confirmed([Gap(15_000, 2000)], 20_000) == []
    marks.arrived(21_000, round(taken_ns(21_000)))
    marks.arrived(26_000, round(taken_ns(26_000)))
    assert [mark.index for mark in marks.confirmed([], 30_000)] == [21_000.0]
