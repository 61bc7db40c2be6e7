"""What offset and rate marks allow: the polygon their half widths and the tolerances leave.

A mark at x that stands ``apart`` from its partner says ``|apart - offset - rate x| <= half``:
two half planes of (offset, rate). For one rate the offset lies between the highest lower
limit and the lowest upper one. Over the rate the former is a convex chain, the latter a
concave one, whose bends are the slopes of the convex hulls of the points (x, apart - half)
and (x, apart + half): sorting the marks is the dearest step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labd.core.curves import Floats

Indices = NDArray[np.intp]

ROUNDING_S = 1e-12
ROUNDING = 1e-9
"""Marks contradict each other by rounding so far, absolute and beside their half widths."""


@dataclass(frozen=True, slots=True, eq=False)
class Strips:
    """For each mark where it lies and what it allows; shapes (n,), x rising.

    Args:
        x: seconds from the reference.
        apart: B's time less A's, s.
        half: how far off that may be, s.
        rate: the clocks' tolerances, as a fraction.
    """

    x: Floats
    apart: Floats
    half: Floats
    rate: float

    @staticmethod
    def of(x: Floats, apart: Floats, half: Floats, rate: float) -> Strips:
        """Sort marks by their place."""
        order = np.argsort(x, kind="stable")
        return Strips(x[order], apart[order], half[order], rate)


def corners(strips: Strips) -> Floats:
    """Corners (offset, rate) of what all marks allow, shape (k, 2); k = 0 if they contradict."""
    low = _Chain.over(strips.x, strips.apart - strips.half, 1.0)
    high = _Chain.over(strips.x, strips.apart + strips.half, -1.0)
    bends = np.concatenate([[-strips.rate, strips.rate], low.bends, high.bends])
    rates = np.unique(bends[np.abs(bends) <= strips.rate])
    gap = high.at(rates) - low.at(rates)
    best = int(gap.argmax())
    same = 2 * (ROUNDING_S + ROUNDING * float(strips.half.min()))
    if gap[best] < -same:
        return np.empty((0, 2))
    first, last = (_crossing(rates, gap, best, step) for step in (-1, 1))
    ends = np.array([first] if first == last else [first, last])
    floor, ceiling = low.at(ends), high.at(ends)
    shut = ceiling - floor <= same
    finest = same / max(float(np.abs(strips.x).max()), 1.0)
    parts = [
        np.stack([np.where(shut, (floor + ceiling) / 2, floor), ends], axis=1),
        np.stack([ceiling, ends], axis=1)[~shut],
        low.between(first, last, finest),
        high.between(first, last, finest),
    ]
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Chain:
    """The limit of the offset over the rate: lines ``y - rate x``, each between two bends."""

    x: Floats
    y: Floats
    bends: Floats

    @staticmethod
    def over(x: Floats, y: Floats, sign: float) -> _Chain:
        """The highest of the lines (``sign`` 1), or the lowest (-1); x must not fall."""
        hull = _upper_hull(x.tolist(), (sign * y).tolist())
        x, y = x[hull], y[hull]
        # The highest line at a high rate is the one of the smallest x: bends fall with x.
        x, y = (x[::-1], y[::-1]) if sign > 0 else (x, y)
        return _Chain(x, y, np.diff(y) / np.diff(x))

    def at(self, rate: Floats) -> Floats:
        """The limit at each rate, shape of ``rate``."""
        place = np.searchsorted(self.bends, rate)
        return self.y[place] - rate * self.x[place]

    def between(self, first: float, last: float, finest: float) -> Floats:
        """Bends (offset, rate) between two rates, apart by more than rounding, shape (k, 2)."""
        bends = self.bends[(self.bends > first + finest) & (self.bends < last - finest)]
        bends = bends[np.diff(bends, prepend=-np.inf) > finest]
        return np.stack([self.at(bends), bends], axis=1)


def _upper_hull(x: list[float], y: list[float]) -> list[int]:
    """Corners of the upper convex hull from left to right (Andrew's monotone chain, 1979)."""
    hull: list[int] = []
    for i, (px, py) in enumerate(zip(x, y, strict=True)):
        if hull and px == x[hull[-1]]:
            if py <= y[hull[-1]]:
                continue
            hull.pop()
        while len(hull) > 1:
            k, j = hull[-2], hull[-1]
            if (x[j] - x[k]) * (py - y[k]) < (y[j] - y[k]) * (px - x[k]):
                break
            hull.pop()
        hull.append(i)
    return hull


def _crossing(rates: Floats, gap: Floats, best: int, step: int) -> float:
    """Where the gap, straight from rate to rate, closes on one side of the best one."""
    shut = np.flatnonzero(gap[best::step] < min(0.0, float(gap[best])))
    if not len(shut):
        return float(rates[0] if step < 0 else rates[-1])
    out = best + step * int(shut[0])
    inner = out - step
    share = max(0.0, float(gap[inner] / (gap[inner] - gap[out])))
    return float(rates[inner] + share * (rates[out] - rates[inner]))
