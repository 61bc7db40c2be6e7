"""Lines that many pairs of two clocks' edges lie on, found without knowing any pair.

A pair is a point: A's time against ``b - a``. True pairs lie on a line, with a slope as
small as the clocks' rates allow; all others lie anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labd.core.curves import Curve, Floats, fit_curve

Indices = NDArray[np.intp]

STRETCH = 64
"""Edges in a stretch: enough to stand out, few enough that drift hardly widens the strip."""

STRETCHES = 3
"""Stretches tried, at most; a pairing that explains half of the edges ends the search."""

WHOLE = 96
"""Up to so many edges are one stretch."""

PARTS = 8
"""Parts of a stretch in which a strip is judged."""

STRIPS = 8
"""Strips of a stretch that are looked into."""

FULL = 0.4
"""How full they are, at least, beside the fullest; a runner-up's beside the winner."""

MOST_STRIPS = 4096
MOST_BINS = 1 << 22

FORK = 8
BEAM = 3
"""Rates a step tries, and narrower strips it keeps."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How far two stamps of one edge may lie apart, once the clocks are tied.

    Args:
        gate_s: beyond this a pair is none.
        sigma_s: standard deviation of ``b - a``.
        rate: largest difference of the clocks' rates, as a fraction.
        bend_s: what of the gate is left for a drift.
    """

    gate_s: float
    sigma_s: float
    rate: float
    bend_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """What is known beforehand of ``b - a``, s, at each of A's edges: shapes (n_a,)."""

    apart_s: Floats
    half_width_s: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Both clocks' edges in nominal seconds, each from an origin of its own, rising.

    Args:
        a: shape (n_a,).
        b: shape (n_b,).
        noise: how well the stamps agree.
        near: what is known of the offset, if anything.
    """

    a: Floats
    b: Floats
    noise: Noise
    near: Near | None = None


def stretches(count: int) -> list[slice]:
    """Stretches of so many edges, the middle one first."""
    if count <= WHOLE:
        return [slice(0, count)]
    starts = np.linspace(0, count - STRETCH, STRETCHES).astype(int).tolist()
    middle = STRETCHES // 2
    starts.insert(0, starts.pop(middle))  # most likely to lie in the other's recording
    return [slice(start, start + STRETCH) for start in starts]


def find_lines(edges: Edges, part: slice, taken: Indices, least: float) -> list[Curve]:
    """Find lines through so many pairs of a stretch of A's edges with any of B's, or more."""
    noise = edges.noise
    a = edges.a[part]
    middle = float(a[0] + a[-1]) / 2
    apart = edges.b[np.newaxis, :] - a[:, np.newaxis]
    open_ = _open(edges, part, taken, apart)
    rows = np.nonzero(open_)[0]
    apart = apart[open_]
    if not len(apart):
        return []
    reach = float(a[-1] - middle)
    strips = _strips(apart, 2 * (noise.rate * reach + noise.gate_s))
    narrow = 2 * (noise.rate * reach / PARTS + noise.gate_s)
    full = _fullness(strips, rows * PARTS // len(a), apart, narrow)
    ranked = sorted(zip(full, strips, strict=True), key=lambda item: -item[0])
    found: list[Curve] = []
    for fullness, members in ranked[:STRIPS]:
        if fullness < max(least, FULL * ranked[0][0]):
            break
        x, d = a[rows[members]], apart[members]
        kept = _straighten(x - middle, d, noise)
        line = fit_curve(x[kept], d[kept], 1)
        if line is not None:
            found.append(line)
    return found


def _open(edges: Edges, part: slice, taken: Indices, apart: Floats) -> NDArray[np.bool_]:
    """Which pairs may be used, shape (edges of the stretch, n_b)."""
    open_ = np.ones(apart.shape, dtype=bool)
    partner = taken[part]
    rows = np.flatnonzero(partner >= 0)
    open_[rows, partner[rows]] = False
    if edges.near is not None:
        off = np.abs(apart - edges.near.apart_s[part, np.newaxis])
        open_ &= off <= edges.near.half_width_s[part, np.newaxis] + edges.noise.gate_s
    return open_


def _strips(apart: Floats, width: float) -> list[Indices]:
    """Members of the fullest strips, each two widths wide, none beside another."""
    start = float(apart.min())
    width = max(width, (float(apart.max()) - start) / MOST_BINS)
    strip = ((apart - start) / width).astype(np.intp)
    counts = np.bincount(strip, minlength=int(strip.max()) + 2)
    full = counts[:-1] + counts[1:]
    good = np.flatnonzero(full >= max(2.0, FULL * int(full.max())))
    ranked = good[np.argsort(-full[good], kind="stable")][: 3 * MOST_STRIPS]
    free = np.ones(len(full) + 2, dtype=bool)
    chosen: list[int] = []
    for place in ranked.tolist():
        if free[place + 1]:
            chosen.append(place)
            free[place : place + 3] = False
    return _members(strip, chosen[:MOST_STRIPS])


def _members(strip: Indices, chosen: list[int]) -> list[Indices]:
    """For each chosen place the points in its strip or the next."""
    wanted = np.zeros(int(strip.max()) + 2, dtype=bool)
    wanted[chosen] = True
    wanted[np.asarray(chosen, dtype=np.intp) + 1] = True
    points = np.flatnonzero(wanted[strip])
    points = points[np.argsort(strip[points], kind="stable")]
    inside = strip[points]
    low = np.searchsorted(inside, chosen, side="left").tolist()
    high = np.searchsorted(inside, np.asarray(chosen) + 1, side="right").tolist()
    return [points[i:j] for i, j in zip(low, high, strict=True)]


def _fullness(strips: list[Indices], part: Indices, apart: Floats, width: float) -> list[int]:
    """How many points of each strip lie together part by part, in two widths."""
    if len(strips) < 2:  # noqa: PLR2004 - nothing to compare
        return [len(members) for members in strips]
    number = np.repeat(np.arange(len(strips)), [len(members) for members in strips])
    points = np.concatenate(strips)
    group = number * PARTS + part[points]
    level = ((apart[points] - float(apart.min())) / width).astype(np.int64)
    size = int(level.max()) + 2
    keys, counts = np.unique(group * size + level, return_counts=True)
    full = counts.copy()
    beside = np.flatnonzero(keys[1:] - keys[:-1] == 1)
    full[beside] += counts[beside + 1]
    best = np.zeros(len(strips) * PARTS, dtype=np.int64)
    np.maximum.at(best, keys // size, full)
    return best.reshape(-1, PARTS).sum(axis=1).tolist()


def _straighten(x: Floats, d: Floats, noise: Noise) -> Indices:
    """Narrow the rate step by step; return the points within the gate of the best line."""
    reach = float(np.abs(x).max())
    half = noise.rate
    beam: list[tuple[float, Indices]] = [(0.0, np.arange(len(x)))]
    while True:
        last = half * reach <= noise.gate_s / 2
        fork = 1 if last else FORK
        half /= fork
        slopes = half * np.arange(1 - fork, fork, 2, dtype=np.float64)
        width = 2 * (half * reach + noise.gate_s)
        found: list[tuple[float, Indices]] = []
        for slope, members in beam:
            found += _fullest(x, d, members, slope + slopes, width)
        found.sort(key=lambda item: -len(item[1]))
        beam = [item for item in found[:BEAM] if len(item[1]) > FULL * len(found[0][1])]
        if last:
            return beam[0][1]


def _fullest(
    x: Floats, d: Floats, members: Indices, slopes: Floats, width: float
) -> list[tuple[float, Indices]]:
    """For each slope the fullest window of so wide, as the points in it."""
    heights = d[members] - slopes[:, np.newaxis] * x[members]
    order = np.argsort(heights, axis=1)
    rows = np.arange(len(slopes))[:, np.newaxis]
    heights = heights[rows, order]
    heights -= heights.min()
    step = float(heights.max()) + 2 * width
    line: Floats = (heights + step * rows).ravel()
    ends: Indices = np.searchsorted(line, line + width, side="right")
    counts = (ends - np.arange(line.size)).reshape(heights.shape)
    starts: list[int] = counts.argmax(axis=1).tolist()
    return [
        (float(slope), members[order[row, start : start + int(counts[row, start])]])
        for row, (slope, start) in enumerate(zip(slopes.tolist(), starts, strict=True))
    ]
