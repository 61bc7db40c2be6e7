"""The feasible region of marks, against every corner tried one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.clock_map import Floats
from labd.core.mark_constraints import MarkConstraints, feasible_polygon, feasible_region

RATE = 2e-4


def every_corner(x: Floats, apart: Floats, half: Floats, rate: float) -> Floats:
    """Each two sides' crossing that all others allow: slow but simple."""
    sides = [
        (1.0, at, height + sign * wide)
        for at, height, wide in zip(x.tolist(), apart.tolist(), half.tolist(), strict=True)
        for sign in (-1, 1)
    ] + [(0.0, 1.0, -rate), (0.0, 1.0, rate)]
    found: list[tuple[float, float]] = []
    for (p, q, u), (r, s, v) in itertools.combinations(sides, 2):
        cross = p * s - q * r
        if cross == 0:
            continue
        corner = (u * s - q * v) / cross, (p * v - u * r) / cross
        off = np.abs(apart - corner[0] - corner[1] * x) - half
        if off.max() <= 1e-12 + 1e-9 * half.min() and abs(corner[1]) <= rate * (1 + 1e-9):
            found.append(corner)
    return np.array(found).reshape(-1, 2)


def some_marks(seed: int) -> tuple[Floats, Floats, Floats]:
    """Marks that agree, barely agree or contradict; at a few places, or anywhere."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 20))
    x = rng.uniform(-300, 300, count)
    if seed % 3 == 0:
        x = np.round(x / 50) * 50
    half = rng.uniform(1e-6, 1e-2, count) if seed % 2 else np.full(count, 1e-3)
    miss = half * rng.uniform(-1, 1, count) * rng.choice([0.9, 1.02, 1.2])
    return x, rng.uniform(-1, 1) + rng.uniform(-1.1, 1.1) * RATE * x + miss, half


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_the_polygon_has_the_corners_found_one_by_one(first: int) -> None:
    empty = 0
    for seed in range(first, first + 50):
        marks = some_marks(seed)
        slow, fast = (
            every_corner(*marks, RATE),
            feasible_polygon(MarkConstraints.from_marks(*marks, RATE)).corners,
        )
        assert len(fast) == len(slow)
        empty += not len(slow)
        if len(slow):
            apart = np.abs(slow[:, np.newaxis] - fast[np.newaxis]).max(axis=2)
            assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 1e-12
            assert fast.mean(axis=0) == pytest.approx(slow.mean(axis=0), abs=1e-12)
    assert 3 < empty < 30


@given(count=st.integers(1, 50), at=st.floats(-1, 1), rate=st.floats(-RATE, RATE))
def test_exact_marks_leave_a_point_or_a_line(count: int, at: float, rate: float) -> None:
    x = np.linspace(0, 600, count)
    found = feasible_polygon(
        MarkConstraints.from_marks(x, at + rate * x, np.zeros(count), RATE)
    ).corners
    if count == 1:
        assert sorted(found[:, 1].tolist()) == [-RATE, RATE]
        assert found[:, 0] == pytest.approx(at)
    else:
        assert found == pytest.approx(np.array([[at, rate]] * len(found)), abs=1e-11)
        assert len(found) in (1, 2)


@given(count=st.integers(2, 60), half=st.sampled_from([1e-6, 1e-3, 0.1]))
def test_equal_marks_are_bound_by_the_outer_two(count: int, half: float) -> None:
    x = np.linspace(-300, 300, count)
    found = feasible_polygon(
        MarkConstraints.from_marks(x, np.full(count, 0.25), np.full(count, half), RATE)
    ).corners
    worst = min(half / 300, RATE)
    assert np.abs(found[:, 1]).max() == pytest.approx(worst)
    assert np.abs(found[:, 0] - 0.25).max() == pytest.approx(half)
    assert found.mean(axis=0) == pytest.approx([0.25, 0.0], abs=half * 1e-6)


def test_ten_thousand_marks_give_a_small_polygon() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-300, 300, 10_000)
    found = feasible_polygon(
        MarkConstraints.from_marks(
            x, 3e-5 * x + rng.uniform(-1e-3, 1e-3, 10_000), x * 0 + 1.5e-3, RATE
        )
    ).corners
    assert 4 <= len(found) < 60
    assert (np.abs(found - [0.0, 3e-5]).max(axis=0) < [6e-4, 5e-6]).all()


# ---- one mark in error -------------------------------------------------------------------


def reach(found: Floats, x: Floats) -> Floats:
    """Highest and lowest offset of corners at each x, shape (2, n)."""
    heights = found[:, :1] + found[:, 1:] * x
    return np.stack([heights.max(axis=0), heights.min(axis=0)])


def without(marks: tuple[Floats, Floats, Floats], left_out: int) -> MarkConstraints:
    return MarkConstraints.from_marks(*(np.delete(part, left_out) for part in marks), RATE)


PLACES = np.linspace(-400, 400, 9)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_the_region_holds_all_that_remains_without_any_one_mark(first: int) -> None:
    seen = 0
    for seed in range(first, first + 50):
        marks = some_marks(seed)
        constraints = MarkConstraints.from_marks(*marks, RATE)
        if len(constraints.x) < 4 or not len(feasible_polygon(constraints).corners):
            continue
        seen += 1
        found = feasible_region(constraints)
        assert found is not None
        assert found.outlier_candidates == 0
        each = [
            every_corner(*(np.delete(part, k) for part in marks), RATE)
            for k in range(len(constraints.x))
        ]
        expected = reach(np.concatenate(each), PLACES)
        assert reach(found.corners, PLACES) == pytest.approx(expected, abs=1e-10)
    assert seen > 15


def test_many_active_marks_are_left_out_in_groups_and_leave_no_less() -> None:
    x = np.linspace(-300, 300, 60)
    marks = x, 1e-8 * x**2, np.full(60, 1.5e-3)  # a drift: every mark touches
    constraints = MarkConstraints.from_marks(*marks, RATE)
    assert len(feasible_polygon(constraints).active) > 32
    found = feasible_region(constraints)
    assert found is not None
    high, low = reach(found.corners, PLACES)
    for k in range(60):
        left_high, left_low = reach(feasible_polygon(without(marks, k)).corners, PLACES)
        assert (high >= left_high - 1e-12).all()
        assert (low <= left_low + 1e-12).all()
    assert (high - low).max() < 1.2 * np.ptp(
        reach(feasible_polygon(constraints).corners, PLACES), axis=0
    ).max()


@pytest.mark.parametrize("count", [8, 20, 300])
@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
def test_one_mark_against_all_others_is_left_out_and_covered(count: int, at: float) -> None:
    rng = np.random.default_rng([count, round(10 * at)])
    x = np.linspace(-300, 300, count)
    half = np.full(count, 0.01)
    apart = 0.5 + 5e-5 * x + rng.uniform(-1, 1, count) * half
    bad = round(at * (count - 1))
    apart[bad] += 1.0
    constraints = MarkConstraints.from_marks(x, apart, half, RATE)
    assert not len(feasible_polygon(constraints).corners)
    found = feasible_region(constraints)
    others = feasible_region(without((x, apart, half), bad))
    assert found is not None
    assert others is not None
    assert found.outlier_candidates == 1
    assert reach(found.corners, PLACES) == pytest.approx(reach(others.corners, PLACES))
    assert (found.first_s, found.last_s) == (np.delete(x, bad)[0], np.delete(x, bad)[-1])


def test_two_marks_against_all_others_or_one_of_few_are_refused() -> None:
    x = np.linspace(-300, 300, 30)
    apart, half = np.zeros(30), np.full(30, 0.01)
    apart[7], apart[20] = 1.0, -1.0
    assert feasible_region(MarkConstraints.from_marks(x, apart, half, RATE)) is None
    few = slice(3, 10)
    assert feasible_region(MarkConstraints.from_marks(x[few], apart[few], half[few], RATE)) is None
    one_more = slice(3, 11)
    found = feasible_region(
        MarkConstraints.from_marks(x[one_more], apart[one_more], half[one_more], RATE)
    )
    assert found is not None
    assert found.outlier_candidates == 1


def test_where_any_of_some_marks_may_be_the_wrong_one_all_are_candidates() -> None:
    x = np.repeat([-300.0, 0.0], [7, 1])
    x = np.append(x, 0.0)
    apart = np.zeros(9)
    apart[8] = 0.05
    found = feasible_region(MarkConstraints.from_marks(x, apart, np.full(9, 0.01), RATE))
    assert found is not None
    assert found.outlier_candidates == 2
    high, low = reach(found.corners, np.zeros(1))
    assert high[0] >= 0.06
    assert low[0] <= -0.01


@pytest.mark.parametrize("seed", range(1, 60, 2))
def test_the_middle_has_the_smallest_error_at_both_ends(seed: int) -> None:
    found = feasible_region(MarkConstraints.from_marks(*some_marks(seed), RATE))
    if found is None or found.first_s == found.last_s:
        return
    offset, rate = found.centre
    assert abs(rate) <= RATE * (1 + 1e-9)
    ends = np.array([found.first_s, found.last_s])
    high, low = reach(found.corners, ends) - (offset + rate * ends)
    assert high == pytest.approx(-low, rel=1e-6, abs=1e-12)
