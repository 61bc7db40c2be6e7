"""What offset and rate marks allow: the polygon their half widths and the tolerances leave.

A mark at x that stands ``apart`` from its partner says ``|apart - offset - rate x| <= half``:
two half planes of (offset, rate). For one rate the offset lies between the highest lower
limit and the lowest upper one. Over the rate the former is a convex chain, the latter a
concave one, whose bends are the slopes of the convex hulls of the points (x, apart - half)
and (x, apart + half): sorting the marks is the dearest step.

One mark may be in error by more than it says. It then cuts away the truth, and the polygon is
the smaller for it. So the polygons that remain without each single mark are looked at too;
only marks that touch the polygon change it.
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

LEAST_SPARE = 4
"""From so many marks on one may be in error: offset, rate, one to contradict, one to decide."""

LEAST_DECIDING = 8
"""From so many marks on one that contradicts all others is left out."""

TURNS = 16
"""Marks that touch a polygon are left out in so many turns, one a turn if there are no more."""


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

    def but(self, left_out: Indices) -> Strips:
        """Without some marks."""
        return self.only(np.delete(np.arange(len(self.x)), left_out))

    def only(self, kept: Indices) -> Strips:
        """These marks, given in order."""
        return Strips(self.x[kept], self.apart[kept], self.half[kept], self.rate)

    def chains(self) -> tuple[_Chain, _Chain]:
        """The lower and the upper limit of the offset."""
        low, high = self.apart - self.half, self.apart + self.half
        return _Chain.over(self.x, low, 1.0), _Chain.over(self.x, high, -1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """What marks allow.

    Args:
        corners: (offset, rate), shape (k, 2); none if the marks contradict each other.
        touching: the marks that bound it; of a contradiction those that make it, among which
            any is that would end it alone.
    """

    corners: Floats
    touching: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """What marks allow of which one may be in error.

    Args:
        corners: (offset, rate) around what any one mark less allows, the doubtful left out,
            shape (k, 2).
        first_s: place of the first mark that is not doubtful.
        last_s: place of the last one.
        doubtful: marks of which one contradicts all others; 0 when none does.
    """

    corners: Floats
    first_s: float
    last_s: float
    doubtful: int = 0

    @property
    def middle(self) -> tuple[float, float]:
        """The offset and rate that may be off least at the first mark and at the last one."""
        if self.first_s >= self.last_s:
            offset, rate = self.corners.mean(axis=0).tolist()
            return offset, rate
        heights = self.corners[:, :1] + self.corners[:, 1:] * [self.first_s, self.last_s]
        first, last = ((heights.max(axis=0) + heights.min(axis=0)) / 2).tolist()
        rate = (last - first) / (self.last_s - self.first_s)
        return first - rate * self.first_s, rate


def allow(strips: Strips) -> Allowed | None:
    """Find what marks allow, one of which may be in error; ``None`` when more must be."""
    whole = polygon(strips)
    if len(whole.corners):
        x = strips.x
        return Allowed(_possible(strips, whole), float(x[0]), float(x[-1]))
    if len(strips.x) < LEAST_DECIDING:
        return None
    doubtful: list[int] = []
    possible: list[Floats] = []
    for mark in whole.touching.tolist():
        others = strips.but(np.array([mark]))
        left = polygon(others)
        if len(left.corners):
            doubtful.append(mark)
            possible.append(_possible(others, left))
    if not doubtful:
        return None
    sure = np.delete(strips.x, doubtful)
    around = enclose(np.concatenate(possible))
    return Allowed(around, float(sure[0]), float(sure[-1]), len(doubtful))


def _possible(strips: Strips, whole: Polygon) -> Floats:
    """Corners around the polygons that remain when any one mark is left out.

    They depend on no mark but those on the hulls, and on what is the hull without these.
    Where many touch, some are left out together: that leaves more, never less.
    """
    if len(strips.x) < LEAST_SPARE:
        return whole.corners
    near = np.unique(np.concatenate([_layers(strips, sign) for sign in (1.0, -1.0)]))
    few, touching = strips.only(near), np.searchsorted(near, whole.touching)
    turns = [touching[turn::TURNS] for turn in range(min(TURNS, len(touching)))]
    parts = [polygon(few.but(left_out)).corners for left_out in turns]
    return enclose(np.concatenate([whole.corners, *parts]))


def _layers(strips: Strips, sign: float) -> Indices:
    """Marks on one hull, or on the one that the others have without these."""
    y = strips.apart - sign * strips.half
    outer = _Chain.over(strips.x, y, sign).mark
    rest = np.delete(np.arange(len(y)), outer)
    if not len(rest):
        return outer
    inner = _Chain.over(strips.x[rest], y[rest], sign).mark
    return np.concatenate([outer, rest[inner]])


def enclose(points: Floats) -> Floats:
    """Those of the points (offset, rate) that are corners around all others."""
    points = points[np.lexsort((points[:, 0], points[:, 1]))]
    rate = points[:, 1].tolist()
    sides = [_upper_hull(rate, (sign * points[:, 0]).tolist()) for sign in (1.0, -1.0)]
    return points[np.unique(np.concatenate(sides))]


def polygon(strips: Strips) -> Polygon:
    """Corners of what all marks allow, and the marks that bound it."""
    low, high = strips.chains()
    bends = np.concatenate([[-strips.rate, strips.rate], low.bends, high.bends])
    rates = np.unique(bends[np.abs(bends) <= strips.rate])
    gap = high.at(rates) - low.at(rates)
    best = int(gap.argmax())
    same = 2 * (ROUNDING_S + ROUNDING * float(strips.half.min()))
    finest = same / max(float(np.abs(strips.x).max()), 1.0)
    if gap[best] < -same:
        at = float(rates[best])
        return Polygon(np.empty((0, 2)), _touching(low, high, at - finest, at + finest))
    first, last = (_crossing(rates, gap, best, step) for step in (-1, 1))
    ends = np.array([first] if first == last else [first, last])
    floor, ceiling = low.at(ends), high.at(ends)
    shut = ceiling - floor <= same
    parts = [
        np.stack([np.where(shut, (floor + ceiling) / 2, floor), ends], axis=1),
        np.stack([ceiling, ends], axis=1)[~shut],
        low.between(first, last, finest),
        high.between(first, last, finest),
    ]
    return Polygon(np.concatenate(parts), _touching(low, high, first - finest, last + finest))


def _touching(low: _Chain, high: _Chain, first: float, last: float) -> Indices:
    return np.unique(np.concatenate([chain.within(first, last) for chain in (low, high)]))


@dataclass(frozen=True, slots=True, eq=False)
class _Chain:
    """The limit of the offset over the rate: marks' lines ``y - rate x``, bend to bend."""

    x: Floats
    y: Floats
    mark: Indices
    bends: Floats

    @staticmethod
    def over(x: Floats, y: Floats, sign: float) -> _Chain:
        """The highest of the lines (``sign`` 1), or the lowest (-1); x must not fall."""
        hull = np.array(_upper_hull(x.tolist(), (sign * y).tolist()), dtype=np.intp)
        # The highest line at a high rate is the one of the smallest x: bends fall with x.
        hull = hull[::-1] if sign > 0 else hull
        x, y = x[hull], y[hull]
        return _Chain(x, y, hull, np.diff(y) / np.diff(x))

    def at(self, rate: Floats) -> Floats:
        """The limit at each rate, shape of ``rate``."""
        place = np.searchsorted(self.bends, rate)
        return self.y[place] - rate * self.x[place]

    def within(self, first: float, last: float) -> Indices:
        """Marks that are the limit somewhere between two rates."""
        start, stop = np.searchsorted(self.bends, [first, last]).tolist()
        return self.mark[start : stop + 1]

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
