"""Clocks tied by edges and marks: the right pairing with a true bound, or a refusal."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.core.clock_map import Mark
from labd.core.clock_sync import Clock, ClockMap, Limits, tie_edges, tie_marks, unwrap
from labd.core.errors import LabdBug, MeasurementInvalid
from tests.campaigns.clock_pairing import DUT, HOST, SURE, Tally, make_case, run

US = Clock("us", 1e-6)
NS = Clock("ns", 1e-9)
TICKS = Clock("io", 1e-5, wraps_at=1 << 32)
MONITOR = Clock("lpm01a", 1e-3, resolution_s=1e-3, jitter_s=0.0)
TURN = 1 << 32


def stamps(
    rng: np.random.Generator, times: np.ndarray, tick_s: float, ppm: float, start: int = 0
) -> np.ndarray:
    late = times * (1 + ppm * 1e-6) + rng.normal(0, 1e-6, len(times))
    return np.rint(np.sort(late) / tick_s).astype(np.int64) + start


def some_times(rng: np.random.Generator, count: int = 100, length_s: float = 600.0) -> np.ndarray:
    return np.sort(rng.uniform(0, length_s, count))


def refused(code: str, *arguments: object, **options: object) -> str:
    with pytest.raises(MeasurementInvalid) as caught:
        tie_edges(*arguments, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.todo
    return caught.value.what


def pairs(tied: ClockMap) -> list[tuple[int, int]]:
    return [(a, b) for a, b in tied.pairs.tolist()]


# ---- the campaign, in small --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "windows", "mixed"])
def test_no_simulated_clocks_are_tied_wrongly_and_hardly_any_refused(kind: str) -> None:
    tally = run(kind, range(20_000, 20_067))
    assert tally.wrong == []
    assert tally.paired >= 65
    assert tally.pairs >= 0.998 * tally.true_pairs
    assert tally.outside_bound == 0


@pytest.mark.parametrize("count", [6, 12, 60, 500])
def test_periodic_edges_are_refused_or_right(count: int) -> None:
    tally = run("periodic", range(20), count)
    assert tally.wrong == []
    assert sum(tally.refused.values()) + tally.paired == 20


@pytest.mark.parametrize(("lost", "false"), [(0.2, 0.8), (0.0, 1.0), (0.4, 0.1)])
def test_half_of_the_edges_may_be_false_or_lost(lost: float, false: float) -> None:
    tally = Tally()
    for seed in range(10):
        case = make_case(seed, "random", 150, lost, false)
        tied = tie_edges(DUT, case.ticks_a, HOST, case.ticks_b, limits=SURE)
        tally.add(str(seed), case, tied)
    assert tally.wrong == []
    assert tally.pairs >= 0.99 * tally.true_pairs


# ---- regular edges -----------------------------------------------------------------------


def windows(rng: np.random.Generator, pause_jitter_s: float) -> np.ndarray:
    starts = 5.0 + 12.0 * np.arange(5) + np.cumsum(rng.normal(0, pause_jitter_s, 5))
    return np.sort(np.concatenate([[1.0], starts, starts + 10.4, [70.0]]))


def test_five_equal_windows_are_paired_by_their_pauses() -> None:
    rng = np.random.default_rng(1)
    times = windows(rng, 0.003)
    a, b = stamps(rng, times, 1e-6, 40), stamps(rng, times[2:], 1e-9, -30, 10**18)
    tied = tie_edges(US, a, NS, b)
    assert pairs(tied) == [(i + 2, i) for i in range(10)]
    assert tied.rate_ppm == pytest.approx(-70, abs=tied.rate_error_ppm)
    assert tied.false_a.tolist() == [0, 1]


def test_five_windows_equal_to_the_jitter_are_refused() -> None:
    rng = np.random.default_rng(2)
    times = windows(rng, 0.0)[1:-1]
    a, b = stamps(rng, times[:-2], 1e-6, 40), stamps(rng, times, 1e-6, -30)
    assert "in one pairing and" in refused("clock-ambiguous", US, a, US, b)


def test_marks_decide_what_periodic_edges_leave_open() -> None:
    rng = np.random.default_rng(3)
    times = np.arange(300) * 1.0
    a = stamps(rng, times[20:], 1e-6, 40)
    b = stamps(rng, times[:-50], 1e-9, -30, 10**18)
    refused("clock-ambiguous", US, a, NS, b)
    marks = [
        Mark(0.0, 10**18 + 3_000_000, 0.005),
        Mark(300e6 * (1 + 40e-6), 10**18 + int(300e9 * (1 - 30e-6)), 0.005),
    ]
    tied = tie_edges(US, a, NS, b, near=tie_marks(US, NS, marks))
    assert pairs(tied) == [(i, i + 20) for i in range(230)]
    assert tied.offset_error_s < 1e-6


@pytest.mark.parametrize("tick_s", [1e-3, 1e-5, 1e-6])
def test_a_few_strictly_periodic_edges_are_never_paired_wrongly(tick_s: float) -> None:
    a, b = Clock("a", tick_s), Clock("b", 1e-5)
    for seed in range(300):
        rng = np.random.default_rng([17, seed])
        times = np.arange(rng.integers(5, 9)) * rng.choice([10.0, 60.0, 100.0])
        time_a, time_b = (
            np.delete(times, rng.choice(len(times), rng.integers(0, 3), replace=False))
            for _ in range(2)
        )
        late = time_b * (1 + rng.uniform(-9e-5, 9e-5)) + 300
        try:
            tied = tie_edges(a, np.floor((time_a + 50) / tick_s), b, np.floor(late / 1e-5))
        except MeasurementInvalid:
            continue
        wrong = [(i, j) for i, j in pairs(tied) if time_a[i] != time_b[j]]
        assert not wrong, f"seed {seed}, runner-up {tied.evidence.runner_up}"


def test_four_pairs_a_period_off_do_not_hide_the_four_true_ones() -> None:
    a, b = Clock("a", 1e-3), Clock("b", 1e-5)  # true: 0 1 2 3 4 and 0 1 2 4 5, times 100 s
    at_a = [49999, 149993, 249986, 349979, 449972]
    at_b = [29693823, 39694054, 49694286, 69694749, 79694980]
    assert "4 edges agree in one pairing and 4 in another" in refused(
        "clock-ambiguous", a, at_a, b, at_b
    )


def test_a_coarse_tick_costs_no_edge_of_a_small_match() -> None:
    fine = Clock("fine", 1e-5)
    coarse = Clock("coarse", 1e-3)
    right = 0
    for seed in range(100):
        rng = np.random.default_rng([18, seed])
        times = some_times(rng, 6)
        at_a = np.floor(times / 1e-3)
        at_b = np.floor((times * (1 + rng.uniform(-9e-5, 9e-5)) + 300) / 1e-5)
        try:
            found = pairs(tie_edges(coarse, at_a, fine, at_b))
        except MeasurementInvalid:
            continue
        assert all(i == j for i, j in found)
        right += 1
    assert right >= 90


# ---- what must be refused ----------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_edges_are_refused(count: int) -> None:
    refused("clock-few-edges", US, np.arange(count), US, np.arange(50))
    refused("clock-few-edges", US, np.arange(50), US, np.arange(count))


@pytest.mark.parametrize("count", [3, 12, 100, 700])
def test_edges_of_different_lines_are_refused(count: int) -> None:
    rng = np.random.default_rng(count)
    a, b = (stamps(rng, some_times(rng, count), 1e-6, 0) for _ in range(2))
    refused("clock-unrelated", US, a, US, b)


def test_only_false_edges_on_one_side_are_refused() -> None:
    rng = np.random.default_rng(4)
    a = stamps(rng, some_times(rng, 100), 1e-6, 0)
    refused("clock-unrelated", US, a, US, stamps(rng, some_times(rng, 20), 1e-6, 0))


def test_edges_all_at_one_time_are_refused() -> None:
    refused("clock-unrelated", US, [5] * 30, US, [7] * 30)


def test_a_rate_beyond_the_tolerances_is_refused() -> None:
    rng = np.random.default_rng(5)
    times = some_times(rng)
    a, b = stamps(rng, times, 1e-6, 0), stamps(rng, times, 1e-6, 900)
    refused("clock-unrelated", US, a, US, b)
    coarse = Clock("resonator", 1e-6, tolerance_ppm=5000)
    assert tie_edges(US, a, coarse, b).rate_ppm == pytest.approx(900, abs=0.01)


def test_more_jitter_than_the_clocks_claim_is_refused() -> None:
    rng = np.random.default_rng(6)
    times = some_times(rng, 300)
    a, b = (stamps(rng, times + rng.normal(0, 2.5e-6, 300), 1e-6, 0) for _ in range(2))
    assert "the clocks claim" in refused("clock-noise", US, a, US, b)
    loud = Clock("loud", 1e-6, jitter_s=4e-6)
    assert len(tie_edges(loud, a, loud, b).pairs) > 290


def test_a_map_less_exact_than_asked_for_is_refused() -> None:
    rng = np.random.default_rng(7)
    times = some_times(rng, 15)
    a, b = stamps(rng, times, 1e-6, 0), stamps(rng, times, 1e-6, 0)
    tied = tie_edges(US, a, US, b)
    exact = tied.offset_error_s, tied.rate_error_ppm
    tie_edges(US, a, US, b, limits=Limits(exact[0] * 1.01, exact[1] * 1.01))
    for limits in (Limits(offset_s=exact[0] * 0.99), Limits(rate_ppm=exact[1] * 0.99)):
        refused("clock-imprecise", US, a, US, b, limits=limits)


def drifting(bend: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    times = some_times(rng, 200)
    kept = rng.uniform(size=200) < 0.8
    return stamps(rng, times, 1e-6, 0), stamps(rng, (times + bend(times))[kept], 1e-9, 0)


BENDS = {
    "rate up by 2 ppm": lambda t: 1e-6 * t**2 / 600,
    "step of 2 ppm": lambda t: 2e-6 * np.maximum(0, t - 300),
    "draught": lambda t: 3e-5 * np.sin(t / 40),
    "a change at the very end": lambda t: 2e-6 * np.maximum(0, t - 540),
}


@pytest.mark.parametrize("name", BENDS)
def test_a_drift_is_refused_or_kept_within_the_bound(name: str) -> None:
    bend = BENDS[name]
    a, b = drifting(bend)
    refused("clock-drift", US, a, NS, b)
    tied = tie_edges(US, a, NS, b, limits=Limits(bend_s=5e-4))
    moments = np.linspace(a[0] * 1e-6, a[-1] * 1e-6, 500)
    at = np.rint(moments * 1e6).astype(np.int64)
    off = np.abs(tied.to_b(at) * 1e-9 - (moments + bend(moments)))
    assert (off <= tied.uncertainty_s(at)).all()
    assert 1e-5 < tied.bound.bend_s < 3e-4


def test_a_drift_smaller_than_the_jitter_is_still_seen() -> None:
    a, b = drifting(lambda t: 0.1e-6 * t**2 / 1200)
    assert "changed by +0.1" in refused("clock-drift", US, a, NS, b)
    tied = tie_edges(US, a, NS, b, limits=Limits(bend_s=1e-5))
    assert 2e-6 < tied.bound.bend_s < 1e-5


def test_the_drift_is_measured() -> None:
    a, b = drifting(BENDS["rate up by 2 ppm"])
    found = tie_edges(US, a, NS, b, limits=Limits(bend_s=5e-4)).evidence
    assert found.drift_ppm == pytest.approx(2.0, abs=0.05)
    steady = tie_edges(US, *drifting(np.zeros_like)[:1], NS, drifting(np.zeros_like)[1])
    assert abs(steady.evidence.drift_ppm) < steady.evidence.drift_error_ppm < 0.05
    assert steady.bound.bend_s == 0


# ---- bounce and near misses --------------------------------------------------------------


def test_an_edge_with_two_candidates_is_left_out() -> None:
    rng = np.random.default_rng(9)
    times = some_times(rng, 60)
    a, b = stamps(rng, times, 1e-9, 0), stamps(rng, times, 1e-9, 0)
    b = np.sort(np.append(b, b[30] + 1500))
    tied = tie_edges(NS, a, NS, b)
    assert 30 not in tied.pairs[:, 0]
    assert tied.doubtful == 1
    assert len(tied.pairs) == 59


@pytest.mark.parametrize("delay_us", [8, 20, 60])
def test_every_edge_doubled_on_one_side_is_refused(delay_us: int) -> None:
    rng = np.random.default_rng(10)
    a = stamps(rng, some_times(rng, 80), 1e-6, 0)
    refused("clock-ambiguous", US, a, US, np.sort(np.concatenate([a, a + delay_us])))


def test_bounces_do_no_harm_where_the_true_edge_still_stands_out() -> None:
    rng = np.random.default_rng(11)
    times = some_times(rng, 200)
    bounce = times[::3] + rng.uniform(10e-6, 300e-6, 67)
    a, b = stamps(rng, times, 1e-6, 20), stamps(rng, np.append(times, bounce), 1e-9, -20)
    tied = tie_edges(US, a, NS, b)
    assert len(tied.pairs) >= 195
    assert len(tied.false_b) >= 60
    assert tied.residual_max_s < 6e-6


# ---- clocks of all kinds -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_sampled_line_is_tied_to_the_io_managers_ticks(seed: int) -> None:
    rng = np.random.default_rng([12, seed])
    times = windows(rng, 0.05)
    monitor = np.ceil(times * (1 + 30e-6) * 1e3) + 7_000
    io = (stamps(rng, times[1:], 1e-5, -50) + TURN - 3_000_000) % TURN
    tied = tie_edges(MONITOR, monitor, TICKS, io)
    assert pairs(tied) == [(i + 1, i) for i in range(11)]
    assert abs(tied.rate_ppm + 80) < tied.rate_error_ppm < 100
    true = np.interp(monitor, times * (1 + 30e-6) * 1e3 + 7_000, times) * (1 - 50e-6)
    off = np.abs(tied.to_b(monitor) * 1e-5 - (true + (TURN - 3_000_000) * 1e-5))
    assert (off <= tied.uncertainty_s(monitor) + 1e-3).all()
    assert tied.uncertainty_s(monitor).max() < 5e-3


def test_one_phase_of_all_samples_does_not_average_out() -> None:
    times = np.cumsum(np.random.default_rng(13).integers(200, 3000, 300)) * 1e-3
    b = np.rint((times - 0.0009) * 1e6).astype(np.int64)
    tied = tie_edges(MONITOR, np.rint(times * 1e3), US, b)
    off = abs(float(tied.to_b(tied.at_a)) * 1e-6 - tied.at_a * 1e-3 + 0.0005)
    assert off == pytest.approx(0.0004, abs=1e-5)
    assert off <= tied.offset_error_s


def test_whole_nanoseconds_since_1970_stay_whole() -> None:
    rng = np.random.default_rng(14)
    times = some_times(rng)
    start = 1_790_123_456_789_012_345
    a, b = stamps(rng, times, 1e-6, 0), stamps(rng, times, 1e-9, 0, start)
    tied = tie_edges(US, a, NS, b)
    there = tied.to_b(a)
    assert there.dtype == np.int64
    assert np.abs(there - b).max() < 7000
    assert np.abs(tied.to_a(b) - a).max() < 7
    assert tied.offset_s == pytest.approx(start * 1e-9)


@pytest.mark.parametrize("start", [0, 3, 123_456_789])
def test_parts_of_coarse_ticks_are_not_lost(start: int) -> None:
    coarse = Clock("coarse", 1e-2, resolution_s=1e-6)
    times = some_times(np.random.default_rng(16))
    tied = tie_edges(NS, np.rint(times * 1e9), coarse, times * 1e2 + start)
    assert tied.to_b(np.rint(times * 1e9)) == pytest.approx(times * 1e2 + start, abs=1e-4)
    assert tied.to_a(times * 1e2 + start) == pytest.approx(times * 1e9, abs=1e3)


def test_recordings_may_overlap_in_part() -> None:
    rng = np.random.default_rng(15)
    times = some_times(rng, 400)
    a, b = stamps(rng, times[:250], 1e-6, 10), stamps(rng, times[150:], 1e-6, 0)
    tied = tie_edges(US, a, US, b)
    assert np.array_equal(tied.pairs[:, 0] - tied.pairs[:, 1], np.full(len(tied.pairs), 150))
    assert len(tied.pairs) >= 98


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    ppm=st.floats(-190, 190),
    start=st.integers(0, 10**18),
    count=st.integers(20, 120),
)
def test_the_map_and_its_inverse_keep_their_bound(
    seed: int, ppm: float, start: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    times = some_times(rng, count)
    a, b = stamps(rng, times, 1e-6, 0), stamps(rng, times, 1e-9, ppm, start)
    tied = tie_edges(US, a, NS, b, limits=Limits(confidence=0.999_999))
    true = np.rint(times * (1 + ppm * 1e-6) * 1e9).astype(np.int64) + start
    at = np.rint(times * 1e6)
    assert (np.abs(tied.to_b(at) - true) * 1e-9 <= tied.uncertainty_s(at) + 6e-7).all()
    assert np.abs(tied.to_a(tied.to_b(at)) - at).max() < 0.01
    length, bound = tied.interval_s(at[0], at[-1])
    assert abs(length - (at[-1] - at[0]) * 1e-6 * (1 + ppm * 1e-6)) <= bound


def test_a_map_describes_itself_as_plain_values() -> None:
    case = make_case(1, "random", 100)
    plain = tie_edges(DUT, case.ticks_a, HOST, case.ticks_b).describe()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["a"] == "dut"
    assert plain["pairs"] > 50
    assert 0 < plain["residual_rms_s"] < plain["residual_max_s"] < 1e-5
    assert plain["chance_pairs"] < 0.01


# ---- unwrapping --------------------------------------------------------------------------


@given(
    start=st.integers(0, TURN - 1),
    steps=st.lists(st.integers(0, TURN // 2 - 1), max_size=50),
)
def test_unwrapping_gives_back_what_wrapped(start: int, steps: list[int]) -> None:
    true = start + np.cumsum([0, *steps])
    assert unwrap(DUT, true % TURN).tolist() == true.tolist()


def test_half_a_turn_needs_the_hosts_time() -> None:
    true = np.array([5, 1000, 1000 + 3 * TURN + 17, 1000 + 4 * TURN])
    with pytest.raises(MeasurementInvalid, match="half a turn"):
        unwrap(DUT, true % TURN)
    host = [int(t) * 1000 + 30_000_000 * k for k, t in enumerate(true)]
    assert unwrap(DUT, true % TURN, host).tolist() == true.tolist()


def test_a_step_back_is_refused_even_with_the_hosts_time() -> None:
    with pytest.raises(MeasurementInvalid, match="lies before it"):
        unwrap(DUT, [5000, 4000], [0, 1_000_000])


@pytest.mark.parametrize("bad", [[1.0, float("nan")], [1.0, float("inf")], [[1, 2]], ["a"]])
def test_what_is_no_time_is_a_bug(bad: list[object]) -> None:
    with pytest.raises(LabdBug):
        unwrap(US, bad)  # type: ignore[arg-type]


def test_stamps_out_of_order_or_range_are_a_bug() -> None:
    with pytest.raises(LabdBug, match="not in order"):
        unwrap(US, [3, 2])
    with pytest.raises(LabdBug, match="outside 0 to"):
        unwrap(DUT, [TURN])
    with pytest.raises(LabdBug, match="host times"):
        unwrap(DUT, [1, 2], [0])
    assert unwrap(US, []).tolist() == []
    assert unwrap(US, [4, 4]).tolist() == [4, 4]


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
    tied = tie_marks(US, US, marks)
    places = np.linspace(-100e6, 700e6, 50)
    off = np.abs(tied.to_b(places) - (10**12 + places * rate)) * 1e-6
    assert (off <= tied.uncertainty_s(places) + 1e-9).all()


def test_two_marks_give_offset_and_rate() -> None:
    exact = Clock("exact", 1e-6, resolution_s=0.0)
    tied = tie_marks(exact, exact, [Mark(0, 50, 0.01), Mark(600e6, 600e6 + 50 + 6000, 0.01)])
    assert tied.rate_ppm == pytest.approx(10)
    assert tied.rate_error_ppm == pytest.approx(0.02 / 600 * 1e6)
    assert tied.uncertainty_s([0, 300e6, 600e6]) == pytest.approx([0.01, 0.01, 0.01])
    assert tied.uncertainty_s(1200e6) == pytest.approx(0.03 + 600 * 2e-6)


def test_one_mark_leaves_the_rate_to_the_tolerances() -> None:
    tied = tie_marks(US, US, [Mark(0, 7, 0.001)])
    assert tied.rate_ppm == pytest.approx(0, abs=1e-9)
    assert tied.rate_error_ppm == pytest.approx(200)
    assert tied.uncertainty_s(10e6) == pytest.approx(0.001 + 1e-6 + 10 * 202e-6)


def test_marks_at_one_end_do_not_serve_the_other() -> None:
    marks = [Mark(0, 0, 0.005), Mark(2e6, 2e6, 0.005)]
    tie_marks(US, US, marks, span=(0, 3e6), max_error_s=0.01)
    with pytest.raises(MeasurementInvalid, match="both ends") as caught:
        tie_marks(US, US, marks, span=(0, 600e6), max_error_s=0.01)
    assert caught.value.code == "clock-imprecise"


@pytest.mark.parametrize("marks", [[], [Mark(0, 0, 1e-3), Mark(10e6, 10.1e6, 1e-3)]])
def test_marks_that_cannot_be_true_are_refused(marks: list[Mark]) -> None:
    with pytest.raises(MeasurementInvalid) as caught:
        tie_marks(US, US, marks)
    assert caught.value.code == "clock-marks"


LATE_S = [0.0, 0.004, 0.012, 0.02, 0.04, 0.3, 5.0]


def late_marks(seed: int, late_s: float) -> tuple[list[Mark], float]:
    """A counter's batches by the host, one of which it heard of late; and the true rate."""
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
    doubtful = 0
    for seed in range(60):
        marks, rate = late_marks(seed, late_s)
        tied = tie_marks(US, US, marks)
        doubtful += tied.doubtful > 0
        off = np.abs(tied.to_b(places) - (1e9 + places * rate)) * 1e-6
        assert (off <= tied.uncertainty_s(places) + 1e-9).all(), f"seed {seed}"
    assert doubtful == 0 if late_s == 0 else doubtful >= (10 if late_s >= 0.02 else 0)


def test_a_doubtful_mark_is_told_in_the_record() -> None:
    marks = [Mark(t, t + (1e6 if t == 3e6 else 0), 1e-3) for t in np.arange(10) * 1e6]
    tied = tie_marks(US, US, marks)
    assert tied.doubtful == 1
    assert tied.describe()["doubtful"] == 1
    with pytest.raises(MeasurementInvalid, match="contradict each other"):
        tie_marks(US, US, [*marks, Mark(5e6, 9e6, 1e-3)])
