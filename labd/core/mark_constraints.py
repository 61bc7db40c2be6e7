"""Feasible region of clock offset and rate under marks with bounded errors.

A mark at x whose two clocks stand ``apart`` gives ``|apart - offset - rate x| <= half``: two
half planes of (offset, rate). For a given rate the offset lies between the highest lower
limit and the lowest upper limit. Over the rate, these limits are the upper and the lower
envelope of straight lines, whose breakpoints are the slopes of the convex hulls of the points
(x, apart - half) and (x, apart + half). The cost is that of sorting the marks.

One mark may be in error by more than its uncertainty and so cut off the true values. The
region therefore includes what remains feasible without any single mark. Only marks that bound
the polygon change it when they are left out.

Written out rather than taken from scipy: ``HalfspaceIntersection`` needs a strictly interior
point and fails where exact or barely agreeing marks leave a segment or a point; ``linprog``
finds one corner per call and takes 7 ms for 14 marks and 145 ms for 3000, the whole region
here 1 ms and 18 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

ROUNDING_S = 1e-12
ROUNDING = 1e-9
"""Contradictions up to this are rounding: absolute, s, and relative to the half widths."""

MIN_FOR_LEAVE_ONE_OUT = 4
"""From this many marks on, one may be in error: two determine offset and rate, one
contradicts, one decides."""

MIN_FOR_OUTLIER = 8
"""From this many marks on, one that contradicts all others is left out."""

MAX_GROUPS = 16
"""Marks that bound the polygon are left out in at most this many groups (conservative)."""


@dataclass(frozen=True, slots=True, eq=False)
class MarkConstraints:
    """Constraints of marks on offset and rate; arrays of shape (n,), x rising.

    Args:
        x: seconds from the reference.
        apart: B's time minus A's, s.
        half: uncertainty of that, s.
        max_rate: sum of the clocks' tolerances, as a fraction.
    """

    x: Floats
    apart: Floats
    half: Floats
    max_rate: float

    @staticmethod
    def from_marks(x: Floats, apart: Floats, half: Floats, max_rate: float) -> MarkConstraints:
        """Sort marks by their place."""
        order = np.argsort(x, kind="stable")
        return MarkConstraints(x[order], apart[order], half[order], max_rate)

    def without_mark(self, left_out: Indices) -> MarkConstraints:
        """Leave out some marks."""
        return self.only_marks(np.delete(np.arange(len(self.x)), left_out))

    def only_marks(self, kept: Indices) -> MarkConstraints:
        """Keep these marks, given in order."""
        return MarkConstraints(self.x[kept], self.apart[kept], self.half[kept], self.max_rate)

    def offset_envelopes(self) -> tuple[_Envelope, _Envelope]:
        """Return the lower and the upper limit of the offset over the rate."""
        low, high = self.apart - self.half, self.apart + self.half
        return _Envelope.from_points(self.x, low, 1.0), _Envelope.from_points(self.x, high, -1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """What satisfies all marks.

    Args:
        corners: (offset, rate), shape (k, 2); empty if the marks contradict each other.
        active: the marks that bound it; of a contradiction, the marks that cause it, among
            them every one whose removal ends it.
    """

    corners: Floats
    active: Indices


@dataclass(frozen=True, slots=True, eq=False)
class FeasibleRegion:
    """What satisfies all marks but any one.

    Args:
        corners: (offset, rate), shape (k, 2), of the convex hull of the polygons that each
            lack one mark, outlier candidates left out.
        first_s: place of the first mark that is no outlier candidate.
        last_s: place of the last one.
        outlier_candidates: marks any one of which contradicts all others; 0 when none does.
    """

    corners: Floats
    first_s: float
    last_s: float
    outlier_candidates: int = 0

    @property
    def centre(self) -> tuple[float, float]:
        """Offset and rate with the smallest worst-case error at the first and last mark."""
        if self.first_s >= self.last_s:
            offset, rate = self.corners.mean(axis=0).tolist()
            return offset, rate
        heights = self.corners[:, :1] + self.corners[:, 1:] * [self.first_s, self.last_s]
        first, last = ((heights.max(axis=0) + heights.min(axis=0)) / 2).tolist()
        rate = (last - first) / (self.last_s - self.first_s)
        return first - rate * self.first_s, rate


def feasible_region(marks: MarkConstraints) -> FeasibleRegion | None:
    """Find what marks allow, one of which may be in error; ``None`` when more must be."""
    whole = feasible_polygon(marks)
    if len(whole.corners):
        corners = _leave_one_out(marks, whole)
        return FeasibleRegion(corners, float(marks.x[0]), float(marks.x[-1]))
    if len(marks.x) < MIN_FOR_OUTLIER:
        return None
    candidates: list[int] = []
    feasible: list[Floats] = []
    for mark in whole.active.tolist():
        others = marks.without_mark(np.array([mark]))
        rest = feasible_polygon(others)
        if len(rest.corners):
            candidates.append(mark)
            feasible.append(_leave_one_out(others, rest))
    if not candidates:
        return None
    agreed = np.delete(marks.x, candidates)
    corners = convex_hull(np.concatenate(feasible))
    return FeasibleRegion(corners, float(agreed[0]), float(agreed[-1]), len(candidates))


def _leave_one_out(marks: MarkConstraints, whole: Polygon) -> Floats:
    """Corners around the polygons that remain when any one mark is left out.

    They depend only on the marks on the two hulls and on the hulls without these. Where many
    marks are active, several are left out together, which enlarges the result.
    """
    if len(marks.x) < MIN_FOR_LEAVE_ONE_OUT:
        return whole.corners
    near = np.unique(np.concatenate([_marks_of_two_hulls(marks, sign) for sign in (1.0, -1.0)]))
    few, active = marks.only_marks(near), np.searchsorted(near, whole.active)
    groups = [active[group::MAX_GROUPS] for group in range(min(MAX_GROUPS, len(active)))]
    parts = [feasible_polygon(few.without_mark(left_out)).corners for left_out in groups]
    return convex_hull(np.concatenate([whole.corners, *parts]))


def _marks_of_two_hulls(marks: MarkConstraints, sign: float) -> Indices:
    """Marks on one hull, and on the hull of the others without these."""
    y = marks.apart - sign * marks.half
    outer = _Envelope.from_points(marks.x, y, sign).mark
    rest = np.delete(np.arange(len(y)), outer)
    if not len(rest):
        return outer
    inner = _Envelope.from_points(marks.x[rest], y[rest], sign).mark
    return np.concatenate([outer, rest[inner]])


def convex_hull(points: Floats) -> Floats:
    """Return the points (offset, rate) that are corners of the convex hull of all."""
    points = points[np.lexsort((points[:, 0], points[:, 1]))]
    rate = points[:, 1].tolist()
    sides = [_upper_hull(rate, (sign * points[:, 0]).tolist()) for sign in (1.0, -1.0)]
    return points[np.unique(np.concatenate(sides))]


def feasible_polygon(marks: MarkConstraints) -> Polygon:
    """Find the corners of what satisfies all marks, and the marks that bound it."""
    low, high = marks.offset_envelopes()
    rates = np.concatenate([[-marks.max_rate, marks.max_rate], low.breaks, high.breaks])
    rates = np.unique(rates[np.abs(rates) <= marks.max_rate])
    gap = high.limit_at_rates(rates) - low.limit_at_rates(rates)
    best = int(gap.argmax())
    same = 2 * (ROUNDING_S + ROUNDING * float(marks.half.min()))
    finest = same / max(float(np.abs(marks.x).max()), 1.0)
    if gap[best] < -same:
        at = float(rates[best])
        return Polygon(np.empty((0, 2)), _active_constraints(low, high, at - finest, at + finest))
    first, last = (_zero_crossing(rates, gap, best, step) for step in (-1, 1))
    ends = np.array([first] if first == last else [first, last])
    lowest, highest = low.limit_at_rates(ends), high.limit_at_rates(ends)
    shut = highest - lowest <= same
    parts = [
        np.stack([np.where(shut, (lowest + highest) / 2, lowest), ends], axis=1),
        np.stack([highest, ends], axis=1)[~shut],
        low.breakpoints_between(first, last, finest),
        high.breakpoints_between(first, last, finest),
    ]
    return Polygon(
        np.concatenate(parts), _active_constraints(low, high, first - finest, last + finest)
    )


def _active_constraints(low: _Envelope, high: _Envelope, first: float, last: float) -> Indices:
    return np.unique(np.concatenate([side.marks_within_rates(first, last) for side in (low, high)]))


@dataclass(frozen=True, slots=True, eq=False)
class _Envelope:
    """Limit of the offset over the rate: segments of marks' lines ``y - rate x``."""

    x: Floats
    y: Floats
    mark: Indices
    breaks: Floats

    @staticmethod
    def from_points(x: Floats, y: Floats, sign: float) -> _Envelope:
        """Return the highest of the lines (``sign`` 1) or the lowest (-1); x must not fall."""
        hull = np.array(_upper_hull(x.tolist(), (sign * y).tolist()), dtype=np.intp)
        # The highest line at a high rate is the one with the smallest x: breaks fall with x.
        hull = hull[::-1] if sign > 0 else hull
        x, y = x[hull], y[hull]
        return _Envelope(x, y, hull, np.diff(y) / np.diff(x))

    def limit_at_rates(self, rate: Floats) -> Floats:
        """The limit at each rate, shape of ``rate``."""
        place = np.searchsorted(self.breaks, rate)
        return self.y[place] - rate * self.x[place]

    def marks_within_rates(self, first: float, last: float) -> Indices:
        """Marks that are the limit somewhere between two rates."""
        start, stop = np.searchsorted(self.breaks, [first, last]).tolist()
        return self.mark[start : stop + 1]

    def breakpoints_between(self, first: float, last: float, finest: float) -> Floats:
        """Breakpoints (offset, rate) between two rates, at least ``finest`` apart: (k, 2)."""
        breaks = self.breaks[(self.breaks > first + finest) & (self.breaks < last - finest)]
        breaks = breaks[np.diff(breaks, prepend=-np.inf) > finest]
        return np.stack([self.limit_at_rates(breaks), breaks], axis=1)


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


def _zero_crossing(rates: Floats, gap: Floats, best: int, step: int) -> float:
    """Where the gap, linear between rates, closes on one side of its maximum."""
    shut = np.flatnonzero(gap[best::step] < min(0.0, float(gap[best])))
    if not len(shut):
        return float(rates[0] if step < 0 else rates[-1])
    outer = best + step * int(shut[0])
    inner = outer - step
    share = max(0.0, float(gap[inner] / (gap[inner] - gap[outer])))
    return float(rates[inner] + share * (rates[outer] - rates[inner]))
