"""Clocks tied by the edges both saw, or by marks: a map with its error, or a refusal.

Edges come unlabelled; some are lost and some are false on either side. A wrong map would
move every window, so a fit is refused unless its pairing is beyond chance, far better than
any other, straight, as quiet as the clocks claim, and as exact as asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from labd.core.clock_map import Bound, Clock, ClockMap, Evidence, Mark, unwrap
from labd.core.clockfit import (
    LEAST_EDGES,
    WARM_UP,
    Side,
    follow_bend,
    judge,
    make_edges,
    refuse_noise,
    refuse_strays,
    runner_up,
    winner,
)
from labd.core.curves import Curve, fit_curve
from labd.core.errors import MeasurementInvalid
from labd.core.mark_constraints import Strips, allow
from labd.core.pairing import Match, alone_in_gate
from labd.core.strips import Edges

__all__ = ["Clock", "ClockMap", "Limits", "Mark", "tie_edges", "tie_marks", "unwrap"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a map must keep, or is refused.

    Args:
        offset_s: bound of the error at the map's reference, the middle of its pairs.
        rate_ppm: bound of the rate's error.
        bend_s: how far a drift may bend the relation away from a straight line; it is added
            to the map's uncertainty.
        confidence: of these bounds.
    """

    offset_s: float = math.inf
    rate_ppm: float = math.inf
    bend_s: float = 0.0
    confidence: float = 0.999


def tie_edges(
    a: Clock,
    ticks_a: ArrayLike,
    b: Clock,
    ticks_b: ArrayLike,
    *,
    near: ClockMap | None = None,
    limits: Limits | None = None,
) -> ClockMap:
    """Tie two clocks by edges of one line that both saw.

    Edges lost and false on either side do no harm, in number nor in place; which is which
    is found here. Directions must be filtered before (rising against rising).

    Args:
        a: the clock mapped from.
        ticks_a: its edges in order of arrival, shape (n_a,).
        b: the clock mapped to.
        ticks_b: its edges, shape (n_b,).
        near: a coarse map (of sync marks) that the fit must agree with; decides between
            pairings that regular edges leave open. Over unwrapped ticks, like the result's.
        limits: what the map must keep.

    Raises:
        MeasurementInvalid: too few edges, no relation beyond chance, two pairings nearly as
            good, a drift, more noise than the clocks claim, or a limit not kept.
        LabdBug: stamps that are no times in order.
    """
    limits = limits or Limits()
    from_a, from_b = Side.of(a, ticks_a), Side.of(b, ticks_b)
    wide = make_edges(from_a, from_b, near, limits.bend_s)
    match = winner(wide, from_a, from_b)
    rival = runner_up(wide, match)
    edges, match = follow_bend(make_edges(from_a, from_b, near), wide, match)
    sure = alone_in_gate(edges, match)
    line = fit_curve(edges.a[sure.a], edges.b[sure.b] - edges.a[sure.a], 1)
    if line is None or len(sure) < LEAST_EDGES:
        raise MeasurementInvalid(
            "clock-doubtful",
            f"nearly every edge of {a.name} or {b.name} has two candidates",
            "keep the line from bouncing: each true edge must come once",
        )
    refuse_noise(edges, sure)
    refuse_strays(edges, match)
    bound, evidence = judge(edges, sure, line, (a, b), limits.confidence, rival)
    tied = _draw(edges, from_a, from_b, line, match, sure, bound, evidence)
    _keep(tied, limits)
    return tied


def _draw(
    edges: Edges,
    a: Side,
    b: Side,
    line: Curve,
    match: Match,
    sure: Match,
    bound: Bound,
    evidence: Evidence,
) -> ClockMap:
    """Put the line between whole ticks, so that nothing is lost to large counts."""
    at_a = a.origin + round(line.centre / a.clock.tick_s)
    x = (at_a - a.origin) * a.clock.tick_s
    y = x + float(line.at(np.array([x]))[0])
    ticks_b = math.floor(y / b.clock.tick_s)
    return ClockMap(
        a=a.clock,
        b=b.clock,
        at_a=at_a,
        at_b=b.origin + ticks_b,
        rest_s=y - ticks_b * b.clock.tick_s,
        rate=line.slope,
        bound=bound,
        evidence=evidence,
        pairs=np.stack([sure.a, sure.b], axis=1),
        false_a=np.delete(np.arange(len(edges.a)), match.a),
        false_b=np.delete(np.arange(len(edges.b)), match.b),
        doubtful=len(match) - len(sure),
    )


def _keep(tied: ClockMap, limits: Limits) -> None:
    bend = tied.bound.bend_s
    if bend > limits.bend_s:
        raise MeasurementInvalid(
            "clock-drift",
            f"the rate between {tied.a.name} and {tied.b.name} changed by "
            f"{tied.evidence.drift_ppm:+.2f} ppm, {bend * 1e6:.1f} µs away from a straight line",
            WARM_UP,
        )
    if tied.offset_error_s <= limits.offset_s and tied.rate_error_ppm <= limits.rate_ppm:
        return
    raise MeasurementInvalid(
        "clock-imprecise",
        f"{len(tied.pairs)} pairs tie {tied.a.name} to {tied.b.name} to "
        f"{tied.offset_error_s * 1e6:.2f} µs and {tied.rate_error_ppm:.4f} ppm, asked for were "
        f"{limits.offset_s * 1e6:.2f} µs and {limits.rate_ppm:.4f} ppm",
        "mark the run more often",
    )


def tie_marks(
    a: Clock,
    b: Clock,
    marks: Sequence[Mark],
    *,
    span: tuple[float, float] | None = None,
    max_error_s: float = math.inf,
) -> ClockMap:
    """Tie two clocks by moments whose pairing is known: sync marks, or commands.

    Everything the marks and the clocks' tolerances allow is kept as a polygon of offset and
    rate and, from four marks on, everything that remains allowed when any one mark is left
    out. The map is the middle of that, the uncertainty its farthest corner: it holds for sure
    if the marks' half widths do, and still if those of one mark do not. A mark that comes too
    late can so move the map within its bound, but never make the bound too small.

    From eight marks on one that contradicts all others is left out, and ``doubtful`` in the
    result is 1 (or more when it could be any of some); the uncertainty is that of the others, of
    which again any one may be in error.

    The limits: fewer than four marks are taken at their word. Two marks in error by more than
    they say, both to one side and not enough to contradict the others, are not seen and not
    covered. A mark alone at its end of the run cannot be checked there: without it the rest
    must reach so far, and the uncertainty says so. One mark, or marks at one end only, leave
    the rate to the tolerances, and the uncertainty grows with the distance.

    Args:
        a: the clock mapped from.
        b: the clock mapped to.
        marks: at least one, in any order.
        span: first and last tick of A for which the map will be used.
        max_error_s: the largest uncertainty allowed in there.

    Raises:
        MeasurementInvalid: no mark, marks that contradict each other or the clocks'
            tolerances (one of eight or more may), or an uncertainty above ``max_error_s``.
    """
    if not marks:
        raise MeasurementInvalid("clock-marks", f"no mark ties {a.name} to {b.name}")
    first, last = (pick(mark.a for mark in marks) for pick in (min, max))
    at_a = math.floor((first + last) / 2)
    at_b = math.floor(marks[0].b)
    x = np.array([(mark.a - at_a) * a.tick_s for mark in marks])
    apart = np.array([(mark.b - at_b) * b.tick_s for mark in marks]) - x
    half = np.array([mark.half_width_s for mark in marks]) + a.half_width_s + b.half_width_s
    allowed = allow(Strips.of(x, apart, half, (a.tolerance_ppm + b.tolerance_ppm) * 1e-6))
    if allowed is None:
        raise MeasurementInvalid(
            "clock-marks",
            f"{len(marks)} marks of {a.name} and {b.name} contradict each other within their "
            "stated errors and the clocks' tolerances",
            "check that both marks of each pair are the same moment",
        )
    offset, rate = allowed.middle
    ticks_b = math.floor(offset / b.tick_s)
    bound = Bound(
        offset_s=0.0,
        rate=0.0,
        corners=tuple((o - offset, r - rate) for o, r in allowed.corners.tolist()),
        first_s=allowed.first_s,
        last_s=allowed.last_s,
        wander=(a.wander_ppm + b.wander_ppm) * 1e-6,
    )
    rest = offset - ticks_b * b.tick_s
    doubtful = allowed.doubtful
    tied = ClockMap(a, b, at_a, at_b + ticks_b, rest, rate, bound, doubtful=doubtful)
    _refuse_vague(tied, span or (first, last), max_error_s)
    return tied


def _refuse_vague(tied: ClockMap, span: tuple[float, float], max_error_s: float) -> None:
    worst = float(tied.uncertainty_s(np.array(span)).max())
    if worst <= max_error_s:
        return
    length = tied.bound.last_s - tied.bound.first_s
    raise MeasurementInvalid(
        "clock-imprecise",
        f"marks over {length:.3f} s tie {tied.a.name} to {tied.b.name} to {worst * 1e6:.1f} µs "
        f"where it is needed, asked for were {max_error_s * 1e6:.1f} µs",
        "set a sync mark at both ends of the run",
    )
