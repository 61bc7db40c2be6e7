"""What marks allow, against every corner tried one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.curves import Floats
from labd.core.markfit import Strips, corners

RATE = 2e-4


def every_corner(x: Floats, apart: Floats, half: Floats, rate: float) -> Floats:
    """Each two sides' crossing that all others allow: slow, and plain to see."""
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
    """Marks as they come: true, just true, or just not; at a few places, or any."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 20))
    x = rng.uniform(-300, 300, count)
    if seed % 3 == 0:
        x = np.round(x / 50) * 50
    half = rng.uniform(1e-6, 1e-2, count) if seed % 2 else np.full(count, 1e-3)
    miss = half * rng.uniform(-1, 1, count) * rng.choice([0.9, 1.02, 1.2])
    return x, rng.uniform(-1, 1) + rng.uniform(-1.1, 1.1) * RATE * x + miss, half


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_marks_allow_what_they_allow_tried_one_by_one(first: int) -> None:
    empty = 0
    for seed in range(first, first + 50):
        marks = some_marks(seed)
        slow, fast = every_corner(*marks, RATE), corners(Strips.of(*marks, RATE))
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
    found = corners(Strips.of(x, at + rate * x, np.zeros(count), RATE))
    if count == 1:
        assert sorted(found[:, 1].tolist()) == [-RATE, RATE]
        assert found[:, 0] == pytest.approx(at)
    else:
        assert found == pytest.approx(np.array([[at, rate]] * len(found)), abs=1e-11)
        assert len(found) in (1, 2)


@given(count=st.integers(2, 60), half=st.sampled_from([1e-6, 1e-3, 0.1]))
def test_equal_marks_in_a_row_are_bound_by_the_outer_two(count: int, half: float) -> None:
    x = np.linspace(-300, 300, count)
    found = corners(Strips.of(x, np.full(count, 0.25), np.full(count, half), RATE))
    worst = min(half / 300, RATE)
    assert np.abs(found[:, 1]).max() == pytest.approx(worst)
    assert np.abs(found[:, 0] - 0.25).max() == pytest.approx(half)
    assert found.mean(axis=0) == pytest.approx([0.25, 0.0], abs=half * 1e-6)


def test_ten_thousand_marks_are_no_more_than_sorted() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-300, 300, 10_000)
    found = corners(Strips.of(x, 3e-5 * x + rng.uniform(-1e-3, 1e-3, 10_000), x * 0 + 1.5e-3, RATE))
    assert 4 <= len(found) < 60
    assert (np.abs(found - [0.0, 3e-5]).max(axis=0) < [6e-4, 5e-6]).all()
