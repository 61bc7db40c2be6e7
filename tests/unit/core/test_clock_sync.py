"""Clock maps from labelled marks: the true relation within the stated bound, or a refusal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.clock_map import Clock, Mark, fit_clock_map, unwrap_counter_stamps
from labd.core.errors import LabdBug, MeasurementInvalid
from tests.campaigns.clock_maps import KINDS, WRAPS_AT, run

US = Clock("us", 1e-6)
NS = Clock("ns", 1e-9)
DUT = Clock("dut", 1e-6)


# ---- the campaign, in small --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_simulated_map_is_wrong(kind: str) -> None:
    tally = run(kind, range(20_000, 20_060))
    assert tally.wrong == []
    assert tally.right + tally.refused.total() == 60
    least = {"none": 60, "drift": 60, "beyond": 0}.get(kind, 45)
    assert tally.right >= least
    assert kind == "beyond" or tally.wrapped >= 15


# ---- the map -----------------------------------------------------------------------------


def exact_marks(times: np.ndarray, ppm: float, start: int, tick_s: float = 1e-9) -> list[Mark]:
    """Marks of µs ticks and B's ticks, each rounded by half a tick at most."""
    at_b = np.rint(times * (1 + ppm * 1e-6) / tick_s).astype(np.int64) + start
    return [
        Mark(int(i), int(j), 0.0)
        for i, j in zip(np.rint(times * 1e6).astype(np.int64), at_b, strict=True)
    ]


def some_times(seed: int, count: int = 100, length_s: float = 600.0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).uniform(0, length_s, count))


@given(
    seed=st.integers(0, 10**6),
    ppm=st.floats(-190, 190),
    start=st.integers(0, 10**18),
    count=st.integers(2, 60),
)
def test_the_map_and_its_inverse_keep_their_bound(
    seed: int, ppm: float, start: int, count: int
) -> None:
    times = some_times(seed, count)
    found = fit_clock_map(US, NS, exact_marks(times, ppm, start))
    true = np.rint(times * (1 + ppm * 1e-6) * 1e9).astype(np.int64) + start
    at = np.rint(times * 1e6)
    assert (np.abs(found.to_b(at) - true) * 1e-9 <= found.uncertainty_s(at) + 6e-7).all()
    assert np.abs(found.to_a(found.to_b(at)) - at).max() < 0.01


def test_whole_nanoseconds_since_1970_stay_whole() -> None:
    times = some_times(14)
    start = 1_790_123_456_789_012_345
    marks = exact_marks(times, 0, start)
    a, b = (np.array([getattr(mark, side) for mark in marks]) for side in "ab")
    found = fit_clock_map(US, NS, marks)
    there = found.to_b(a)
    assert there.dtype == np.int64
    assert np.abs(there - b).max() < 7000
    assert np.abs(found.to_a(b) - a).max() < 7
    assert found.offset_s == pytest.approx(start * 1e-9)


@pytest.mark.parametrize("start", [0, 3, 123_456_789])
def test_parts_of_coarse_ticks_are_not_lost(start: int) -> None:
    coarse = Clock("coarse", 1e-2, resolution_s=1e-6)
    times = some_times(16)
    at_a, at_b = np.rint(times * 1e9), times * 1e2 + start
    found = fit_clock_map(NS, coarse, [Mark(i, j, 0) for i, j in zip(at_a, at_b, strict=True)])
    assert found.to_b(at_a) == pytest.approx(at_b, abs=1e-4)
    assert found.to_a(at_b) == pytest.approx(at_a, abs=1e3)


# ---- unwrapping --------------------------------------------------------------------------


@given(
    start=st.integers(0, WRAPS_AT - 1),
    steps=st.lists(st.integers(0, 5 * WRAPS_AT), max_size=50),
    late=st.integers(0, WRAPS_AT // 4),
)
def test_unwrapping_gives_back_what_wrapped(start: int, steps: list[int], late: int) -> None:
    true = [start]
    for step in steps:
        true.append(true[-1] + step)
    host_ns = [1000 * (at + late * (k % 2)) for k, at in enumerate(true)]
    assert (
        unwrap_counter_stamps(DUT, WRAPS_AT, [at % WRAPS_AT for at in true], host_ns).tolist()
        == true
    )


def test_whole_wraps_between_two_stamps_are_counted_by_the_hosts_clock() -> None:
    true = np.array([5, 1000, 1000 + 3 * WRAPS_AT + 17, 1000 + 4 * WRAPS_AT])
    host = [int(t) * 1000 + 30_000_000 * k for k, t in enumerate(true)]
    assert unwrap_counter_stamps(DUT, WRAPS_AT, true % WRAPS_AT, host).tolist() == true.tolist()


def test_a_step_back_is_refused() -> None:
    with pytest.raises(MeasurementInvalid, match="lies before the previous one"):
        unwrap_counter_stamps(DUT, WRAPS_AT, [5000, 4000], [0, 1_000_000])


@pytest.mark.parametrize("bad", [[1.0, float("nan")], [1.0, float("inf")], [[1, 2]], ["a"]])
def test_what_is_no_time_is_a_bug(bad: list[object]) -> None:
    with pytest.raises(LabdBug):
        unwrap_counter_stamps(US, WRAPS_AT, bad, [0, 1])  # type: ignore[arg-type]


def test_stamps_out_of_range_or_without_a_host_time_are_a_bug() -> None:
    with pytest.raises(LabdBug, match="outside 0 to"):
        unwrap_counter_stamps(DUT, WRAPS_AT, [WRAPS_AT], [0])
    with pytest.raises(LabdBug, match="host times"):
        unwrap_counter_stamps(DUT, WRAPS_AT, [1, 2], [0])
    assert unwrap_counter_stamps(US, WRAPS_AT, [], []).tolist() == []
    assert unwrap_counter_stamps(US, WRAPS_AT, [4, 4], [0, 0]).tolist() == [4, 4]


# ---- marks -------------------------------------------------------------------------------


@given(
    ppm=st.floats(-199, 199),
    misses=st.lists(st.floats(-1, 1), min_size=1, max_size=5),
    half_width_s=st.sampled_from([0.0, 1e-5, 0.02]),
)
def test_the_truth_is_within_the_marks_bound(
    ppm: float, misses: list[float], half_width_s: float
) -> None:
    at = np.linspace(0, 600e6, len(misses))
    rate = 1 + ppm * 1e-6
    b = 10**12 + at * rate + np.array(misses) * half_width_s * 1e6
    marks = [Mark(x, y, half_width_s) for x, y in zip(at, b, strict=True)]
    found = fit_clock_map(US, US, marks)
    places = np.linspace(-100e6, 700e6, 50)
    off = np.abs(found.to_b(places) - (10**12 + places * rate)) * 1e-6
    assert (off <= found.uncertainty_s(places) + 1e-9).all()


def test_two_marks_give_offset_and_rate() -> None:
    exact = Clock("exact", 1e-6, resolution_s=0.0)
    found = fit_clock_map(exact, exact, [Mark(0, 50, 0.01), Mark(600e6, 600e6 + 50 + 6000, 0.01)])
    assert found.rate_ppm == pytest.approx(10)
    assert found.rate_error_ppm == pytest.approx(0.02 / 600 * 1e6)
    assert found.uncertainty_s([0, 300e6, 600e6]) == pytest.approx([0.01, 0.01, 0.01])
    assert found.uncertainty_s(1200e6) == pytest.approx(0.03 + 600 * 2e-6)


def test_one_mark_leaves_the_rate_to_the_tolerances() -> None:
    found = fit_clock_map(US, US, [Mark(0, 7, 0.001)])
    assert found.rate_ppm == pytest.approx(0, abs=1e-9)
    assert found.rate_error_ppm == pytest.approx(200)
    assert found.uncertainty_s(10e6) == pytest.approx(0.001 + 1e-6 + 10 * 202e-6)


def test_marks_at_one_end_leave_the_other_uncertain() -> None:
    found = fit_clock_map(US, US, [Mark(0, 0, 0.005), Mark(2e6, 2e6, 0.005)])
    assert found.uncertainty_s([0, 3e6]).max() < 0.01
    assert found.uncertainty_s([0, 600e6]).max() > 0.1


@pytest.mark.parametrize("marks", [[], [Mark(0, 0, 1e-3), Mark(10e6, 10.1e6, 1e-3)]])
def test_marks_that_cannot_be_true_are_refused(marks: list[Mark]) -> None:
    with pytest.raises(MeasurementInvalid) as caught:
        fit_clock_map(US, US, marks)
    assert caught.value.code == "clock-marks"


LATE_S = [0.0, 0.004, 0.012, 0.02, 0.04, 0.3, 5.0]


def late_marks(seed: int, late_s: float) -> tuple[list[Mark], float]:
    """A counter's batches by the host, one of which reached it late; and the true rate."""
    rng = np.random.default_rng([19, seed])
    count = int(rng.integers(4, 9)) * 2
    at = np.sort(rng.uniform(0, 300, count // 2))
    at = np.sort(np.concatenate([at, at + 0.02]))
    rate = 1 + rng.uniform(-190, 190) * 1e-6
    late = rng.uniform(-0.01, 0.01, count)
    late[rng.integers(count)] += late_s
    return [
        Mark(t * 1e6, 1e9 + (t * rate + d) * 1e6, 0.01) for t, d in zip(at, late, strict=True)
    ], rate


@pytest.mark.parametrize("late_s", LATE_S)
def test_one_late_mark_never_makes_the_bound_too_small(late_s: float) -> None:
    places = np.linspace(0, 300e6, 61)
    left_out = 0
    for seed in range(60):
        marks, rate = late_marks(seed, late_s)
        found = fit_clock_map(US, US, marks)
        left_out += found.outlier_candidates > 0
        off = np.abs(found.to_b(places) - (1e9 + places * rate)) * 1e-6
        assert (off <= found.uncertainty_s(places) + 1e-9).all(), f"seed {seed}"
    assert left_out == 0 if late_s == 0 else left_out >= (10 if late_s >= 0.02 else 0)


def test_a_mark_left_out_is_counted_in_the_evidence() -> None:
    marks = [Mark(t, t + (1e6 if t == 3e6 else 0), 1e-3) for t in np.arange(10) * 1e6]
    found = fit_clock_map(US, US, marks)
    assert found.outlier_candidates == 1
    with pytest.raises(MeasurementInvalid, match="contradict each other"):
        fit_clock_map(US, US, [*marks, Mark(5e6, 9e6, 1e-3)])
