"""Which edge of one clock is which edge of another, when nothing says so.

Two clocks saw the same edges; each missed some and saw some that were none. An edge is a
time and no more, so a pairing is found as the straight line ``b - a = offset + rate * a``
that most pairs of edges lie on:

1. A stretch of A's edges is set against all of B's. True pairs lie within a strip as wide as
   the clocks' rates allow, false ones anywhere: the fullest strips are kept, judged by how
   full they still are where the stretch is cut in parts and the strip is narrower.
2. In a strip the rate is narrowed eightfold a step, keeping the fullest narrower strips,
   until the strip is as narrow as an edge's own uncertainty.
3. The line is settled on all edges: each takes its nearest, the line is fitted again and
   reaches further, until the pairs no longer change.

The runner-up is found the same way with the winner's pairs forbidden: how few it explains
says how sure the winner is. Every strip as full as a shifted pattern's is settled for it, and
its pairs count as far off as its line is unsure: what is missed here is a wrong map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labd.core.curves import Curve, Floats, fit_curve, log_binomial_tail
from labd.core.strips import FULL, Edges, Indices, find_lines, stretches

SETTLED = 3
"""Lines of a stretch that are settled on all edges; of a runner-up's all."""

ROUNDS = 12

DOUBT_SIGMAS = 4.0
"""How far a fitted curve may be off, in its standard errors."""

NEIGHBOURHOOD = 50
"""Gates to either side of a line in which the density of chance pairs is counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """Pairs of edges and the curve ``b - a`` over a through them; shapes (n,)."""

    a: Indices
    b: Indices
    curve: Curve

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.a)

    def misses(self, edges: Edges) -> Floats:
        """How far each pair lies off the curve, s, shape (n,)."""
        a = edges.a[self.a]
        return edges.b[self.b] - a - self.curve.at(a)


def best_match(edges: Edges, forbidden: Match | None = None) -> Match | None:
    """Find the line that most pairs of edges lie on.

    Args:
        edges: of both clocks.
        forbidden: pairs that may not be used.

    Returns:
        the fullest match; ``None`` when no three pairs lie on a line, or when none with
        other pairs than the forbidden ones comes near them in number.
    """
    taken = np.full(len(edges.a), -1, dtype=np.intp)
    if forbidden is not None:
        taken[forbidden.a] = forbidden.b
    best: Match | None = None
    half = min(len(edges.a), len(edges.b)) / 2
    for part in stretches(len(edges.a)):
        least = FULL * np.count_nonzero(taken[part] >= 0)
        lines = sorted(find_lines(edges, part, taken, least), key=lambda line: -line.count)
        for line in lines[: SETTLED if forbidden is None else None]:
            match = settle(edges, line, taken, generous=forbidden is not None)
            if match is not None and (best is None or len(match) > len(best)):
                best = match
        if best is not None and len(best) >= half:
            break
    return best


def settle(
    edges: Edges, curve: Curve, taken: Indices | None = None, *, generous: bool = False
) -> Match | None:
    """Pair all edges near a curve, fit it again, and go on until nothing changes.

    The curve is trusted only as far as its own error allows, so one known over a stretch
    grows over the run.

    Args:
        edges: of both clocks.
        curve: where to begin; its degree is kept.
        taken: for each of A's edges the one of B's it may not have, or -1.
        generous: count pairs beyond the gate as far as the curve itself may be off.

    Returns:
        the settled match; ``None`` when too few pairs remain.
    """
    noise, degree = edges.noise, len(curve.factors) - 1
    before: tuple[bytes, bytes] | None = None
    for _ in range(ROUNDS):
        first, second = _nearest(edges, curve, _reach(edges, curve), taken)
        now = first.tobytes(), second.tobytes()
        if now == before:
            break
        before = now
        fitted = fit_curve(edges.a[first], edges.b[second] - edges.a[first], degree)
        if (
            fitted is None
            or abs(fitted.slope) > noise.rate + DOUBT_SIGMAS * noise.sigma_s * fitted.slope_error
        ):
            return None
        curve = fitted
    last = _reach(edges, curve) if generous else np.full(len(edges.a), noise.gate_s)
    first, second = _nearest(edges, curve, last, taken)
    fitted = fit_curve(edges.a[first], edges.b[second] - edges.a[first], degree)
    return None if fitted is None else Match(first, second, fitted)


def _reach(edges: Edges, curve: Curve) -> Floats:
    """How far from the curve a pair may lie at each of A's edges; -1 where nobody knows.

    It is known between the edges it goes through, of which none has a lever above 1, and
    beyond them until its doubt is like the gate. (A cut at the gate alone would drop the outer
    ones of three or four edges, and with them the pairing, where a coarse tick makes up most
    of the gate: it is 1.7 standard deviations there, not 3.5.)
    """
    noise = edges.noise
    doubt = DOUBT_SIGMAS * noise.sigma_s * curve.lever(edges.a)
    most = max(2 * noise.gate_s, DOUBT_SIGMAS * noise.sigma_s * (1 + 1e-9))
    return np.where(doubt <= most, noise.gate_s + doubt, -1.0)


def alone_in_gate(edges: Edges, match: Match) -> Match:
    """Leave out pairs of which an edge has a second candidate: nobody can tell which is true."""
    gate = edges.noise.gate_s
    target = edges.a + match.curve.at(edges.a)
    low = np.searchsorted(edges.b, target - gate, side="left")
    high = np.searchsorted(edges.b, target + gate, side="right")
    claims = np.zeros(len(edges.b) + 1, dtype=np.intp)
    np.add.at(claims, low, 1)
    np.add.at(claims, high, -1)
    claimed = np.cumsum(claims)[:-1]
    sure = ((high - low)[match.a] == 1) & (claimed[match.b] == 1)
    first, second = match.a[sure], match.b[sure]
    degree = len(match.curve.factors) - 1
    curve = fit_curve(edges.a[first], edges.b[second] - edges.a[first], degree)
    return Match(first, second, match.curve if curve is None else curve)


def log_false_alarms(edges: Edges, match: Match) -> float:
    """How many matches as full as this unrelated edges would give, natural logarithm.

    Two pairs make a line; the others would have to lie in its gate by chance. The chance is
    the density of B's edges, or of pairs around the line where edges come in bursts. (The
    expected number of false alarms of Desolneux, Moisan & Morel, "Meaningful alignments",
    2000.)
    """
    gate, n_a, n_b = edges.noise.gate_s, len(edges.a), len(edges.b)
    lines = 2 * math.log(n_a * n_b) - math.log(2)
    span = max(float(edges.b[-1] - edges.b[0]), gate)
    target = edges.a + match.curve.at(edges.a)
    reach = NEIGHBOURHOOD * gate
    around = np.searchsorted(edges.b, target + reach) - np.searchsorted(edges.b, target - reach)
    beside = max(0, int(around.sum()) - len(match)) / (NEIGHBOURHOOD * n_a)
    chance = min(1.0, max(2 * gate * n_b / span, beside))
    return lines + log_binomial_tail(len(match) - 2, n_a - 2, chance)


def losses(edges: Edges, match: Match, other: Match) -> tuple[int, int]:
    """How many edges of a match were lost if another match is the truth.

    Returns:
        edges of the match without a partner in the other, and edges that could have one
        because the other clock was recording.
    """
    a, b = edges.a[match.a], edges.b[match.b]
    apart = float(other.curve.at(np.array([other.curve.centre]))[0])
    in_b = a + other.curve.at(a)
    in_a = b - other.curve.at(b - apart)
    asked_a = (in_b >= edges.b[0]) & (in_b <= edges.b[-1])
    asked_b = (in_a >= edges.a[0]) & (in_a <= edges.a[-1])
    lost_a = asked_a & ~np.isin(match.a, other.a)
    lost_b = asked_b & ~np.isin(match.b, other.b)
    return int(lost_a.sum() + lost_b.sum()), int(asked_a.sum() + asked_b.sum())


def _nearest(
    edges: Edges, curve: Curve, reach: Floats, taken: Indices | None
) -> tuple[Indices, Indices]:
    """Give each of A's edges the nearest of B's within reach; each is given once."""
    target = edges.a + curve.at(edges.a)
    after = np.clip(np.searchsorted(edges.b, target), 1, max(1, len(edges.b) - 1))
    before = after - 1
    after = np.minimum(after, len(edges.b) - 1)
    nearer = np.abs(edges.b[after] - target) < np.abs(edges.b[before] - target)
    choice = np.where(nearer, after, before)
    miss = np.abs(edges.b[choice] - target)
    good = miss <= reach
    if taken is not None:
        good &= choice != taken
    first = np.flatnonzero(good)
    second = choice[first]
    order = np.lexsort((miss[first], second))
    keep = np.ones(len(order), dtype=bool)
    keep[1:] = second[order][1:] != second[order][:-1]
    chosen = np.sort(order[keep])
    return first[chosen], second[chosen]
