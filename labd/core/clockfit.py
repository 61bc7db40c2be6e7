"""Whether a pairing of edges can be trusted, and how far: every reason to refuse one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from labd.core.clock_map import Bound, Clock, ClockMap, Evidence, Stamps, unwrap
from labd.core.curves import (
    Curve,
    Floats,
    chi_square,
    fit_curve,
    log_binomial_tail,
    student_t,
)
from labd.core.errors import LabdBug, MeasurementInvalid
from labd.core.pairing import (
    Match,
    best_match,
    log_false_alarms,
    losses,
    settle,
)
from labd.core.strips import Edges, Indices, Near, Noise

WARM_UP = "let the bench warm up, keep draughts from it, or allow for the bend"

GATE_SIGMAS = 3.5
"""True pairs lie so near; every sigma more lets in more chance pairs."""

GATE_LOSS = 5e-4
"""Share of true pairs farther off than that."""

LEAST_EDGES = 3
FALSE_ALARMS = 1e-6
"""Pairings as full as the found one that unrelated edges may be expected to give."""

LOSS = 0.25
"""Share of true edges that either clock may have lost."""

AMBIGUITY = 0.05
"""Largest chance that the runner-up is the truth and lost so many pairs by bad luck."""

RIVAL_ALARMS = 0.01
"""A runner-up that chance gives more often than this is no sign of a repeating pattern."""

BEND_SIGMAS = 5.0
KEPT = 0.98
"""Share of the widely paired edges that a closer look must keep."""

BETWEEN = 128
"""Places at which a bent relation is compared with the straight line."""

NOISE_CONFIDENCE = 1 - 1e-5
STRAY_CHANCE = 1e-4
STRAY_PPM = 5.0
"""Within how much drift lone edges beside the line are looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One clock's edges: unwrapped stamps, and nominal seconds from a whole tick."""

    clock: Clock
    stamps: Stamps
    origin: int
    seconds: Floats

    @staticmethod
    def of(clock: Clock, ticks: ArrayLike) -> Side:
        """Unwrap a clock's edges; refuse too few."""
        stamps = unwrap(clock, ticks)
        if len(stamps) < LEAST_EDGES:
            raise MeasurementInvalid(
                "clock-few-edges",
                f"{clock.name} saw {len(stamps)} edges, a tie needs {LEAST_EDGES} or more",
                "check the line's wiring, and mark the run more often",
            )
        origin = math.floor(stamps[0])
        seconds = np.asarray(stamps - origin, dtype=np.float64) * clock.tick_s
        return Side(clock, stamps, origin, seconds)


def make_edges(a: Side, b: Side, near: ClockMap | None, bend_s: float = 0.0) -> Edges:
    """Both sides, and how far a pair may lie off a straight line that bends so much."""
    clocks = (a.clock, b.clock)
    jitter = math.hypot(*(clock.jitter_s for clock in clocks))
    half_widths = [clock.half_width_s for clock in clocks]
    noise = Noise(
        gate_s=sum(half_widths) + GATE_SIGMAS * jitter + bend_s,
        sigma_s=math.sqrt(jitter**2 + sum(w**2 for w in (*half_widths, bend_s)) / 3),
        rate=sum(clock.tolerance_ppm for clock in clocks) * 1e-6,
        bend_s=bend_s,
    )
    if noise.gate_s <= 0:
        raise LabdBug("clock-exact", "no two clocks agree exactly: give a jitter or resolution")
    if near is None:
        return Edges(a.seconds, b.seconds, noise)
    there = np.asarray(near.to_b(a.stamps) - b.origin, dtype=np.float64) * b.clock.tick_s
    known = Near(there - a.seconds, near.uncertainty_s(a.stamps))
    return Edges(a.seconds, b.seconds, noise, known)


def winner(edges: Edges, a: Side, b: Side) -> Match:
    """Find the pairing that explains most edges; refuse one that chance would give."""
    match = best_match(edges)
    if match is None or log_false_alarms(edges, match) > math.log(FALSE_ALARMS):
        raise MeasurementInvalid(
            "clock-unrelated",
            f"of {len(a.stamps)} edges of {a.clock.name} and {len(b.stamps)} of {b.clock.name} "
            f"no more than {0 if match is None else len(match)} agree, as chance would have it",
            "check that both are wired to the same line, and mark the run more often",
        )
    return match


def follow_bend(edges: Edges, wide: Edges, match: Match) -> tuple[Edges, Match]:
    """Pair as closely as the stamps allow: along a straight line, or a bent one if it drifts.

    A drift that neither follows leaves most pairs of the wide gate out; then these stand.
    """
    best = match if edges.noise == wide.noise else settle(edges, match.curve)
    a = wide.a[match.a]
    start = fit_curve(a, wide.b[match.b] - a, 2)
    bent = None if start is None else settle(edges, start)
    if bent is not None and (best is None or len(bent) >= KEPT * len(best)):
        error = bent.curve.factor_error(2) * _scatter(edges, bent)
        if abs(bent.curve.factors[2]) > BEND_SIGMAS * error:
            best = bent
    if best is None or len(best) < KEPT * len(match):
        return wide, match
    return edges, best


def _scatter(edges: Edges, match: Match) -> float:
    """Standard deviation of the pairs: as found, but no less than the clocks claim."""
    freedom = max(1, len(match) - len(match.curve.factors))
    found = math.sqrt(float((match.misses(edges) ** 2).sum()) / freedom)
    return max(edges.noise.sigma_s, found)


def runner_up(edges: Edges, match: Match) -> int:
    """How many pairs the next best pairing explains; refuse when that is too many.

    Were the runner-up true, the edges of each of the winner's pairs would be true edges whose
    partners the runner-up must show, or one clock lost them. So many losses must be beyond
    bad luck. (That the winner's pairs fit at all then means the edges repeat themselves, and
    a pattern that does fits nearly as well when shifted once more.) Where the recordings
    overlap less in a runner-up that is itself beyond chance, only losses there count.
    """
    rival = best_match(edges, forbidden=match)
    count, fewer = len(match), 0 if rival is None else len(rival)
    luck = log_binomial_tail(2 * (count - fewer), 2 * count, LOSS)
    if rival is not None and log_false_alarms(edges, rival) < math.log(RIVAL_ALARMS):
        lost, asked = losses(edges, match, rival)
        luck = max(luck, log_binomial_tail(lost, asked, LOSS))
    if luck <= math.log(AMBIGUITY):
        return fewer
    if rival is not None:
        own = ~np.isin(rival.a, match.a)  # a double edge shares the winner's, a drift does not
        if len(_beside(edges, match, rival.a[own], rival.b[own])) > len(rival) / 2:
            raise _drift(edges, match, len(rival))
    raise MeasurementInvalid(
        "clock-ambiguous",
        f"{count} edges agree in one pairing and {fewer} in another: nobody can tell which "
        "edge is which",
        "give sync marks, or make the edges less regular",
    )


def refuse_noise(edges: Edges, sure: Match) -> None:
    """Refuse when the pairs scatter more than the clocks claim."""
    freedom = len(sure) - len(sure.curve.factors)
    if freedom < 1:
        return
    total = float((sure.misses(edges) ** 2).sum())
    if total <= edges.noise.sigma_s**2 * chi_square(NOISE_CONFIDENCE, freedom):
        return
    raise MeasurementInvalid(
        "clock-noise",
        f"{len(sure)} pairs scatter by {math.sqrt(total / freedom) * 1e6:.2f} µs, the clocks "
        f"claim {edges.noise.sigma_s * 1e6:.2f} µs",
        "check the clocks' stated jitter and the signal on the line",
    )


def refuse_strays(edges: Edges, match: Match) -> None:
    """Refuse when lone edges of both clocks lie beside the line more often than by chance."""
    lone_a = np.delete(np.arange(len(edges.a)), match.a)
    lone_b = np.delete(np.arange(len(edges.b)), match.b)
    if not len(lone_a) or not len(lone_b):
        return
    target = edges.a[lone_a] + match.curve.at(edges.a[lone_a])
    after = np.searchsorted(edges.b[lone_b], target)
    sides = [np.clip(after - back, 0, len(lone_b) - 1) for back in (1, 0)]
    found = [_beside(edges, match, lone_a, lone_b[side]) for side in sides]
    beside = len(np.union1d(*found))
    reach, span = _reach(edges), float(edges.b[-1] - edges.b[0])
    chance = 2 * reach * len(lone_b) / span + GATE_LOSS * len(match) / len(lone_a)
    if log_binomial_tail(beside, len(lone_a), min(1.0, chance)) < math.log(STRAY_CHANCE):
        raise _drift(edges, match, beside)


def _reach(edges: Edges) -> float:
    """How far a drift may carry edges off the line."""
    return edges.noise.gate_s + STRAY_PPM * 1e-6 * float(edges.b[-1] - edges.b[0]) / 2


def _beside(edges: Edges, match: Match, first: Indices, second: Indices) -> Indices:
    """The first of the pairs given that a drift could have carried off the line."""
    a = edges.a[first]
    return first[np.abs(edges.b[second] - a - match.curve.at(a)) <= _reach(edges)]


def _drift(edges: Edges, match: Match, beside: int) -> MeasurementInvalid:
    return MeasurementInvalid(
        "clock-drift",
        f"{beside} edges lie within {_reach(edges) * 1e6:.0f} µs beside the line of the "
        f"{len(match)} that agree: a clock did not keep its rate",
        WARM_UP,
    )


def judge(
    edges: Edges,
    sure: Match,
    line: Curve,
    clocks: tuple[Clock, Clock],
    confidence: float,
    runner_up: int,
) -> tuple[Bound, Evidence]:
    """Say how far the line may be off, by the pairs' scatter and the stamps' resolution."""
    x = edges.a[sure.a]
    off = edges.b[sure.b] - x - line.at(x)
    scatter = _scatter(edges, sure)
    sure_t = student_t(confidence, len(sure) - 2)
    lasting = sum(clock.lasting_s for clock in clocks)
    from_centre = np.abs(x - line.centre)
    tilt = lasting * float(from_centre.sum() / (from_centre**2).sum())
    bound = Bound(
        offset_s=sure_t * scatter * line.factor_error(0),
        rate=sure_t * scatter * line.slope_error,
        corners=((lasting, tilt), (lasting, -tilt)),
        bend_s=_bend_s(edges, sure, line),
        first_s=float(x[0] - line.centre),
        last_s=float(x[-1] - line.centre),
        wander=sum(clock.wander_ppm for clock in clocks) * 1e-6,
    )
    drift, drift_error = _drift_ppm(x, edges.b[sure.b] - x)
    lone = (len(edges.a) - len(sure)) * (len(edges.b) - len(sure))
    evidence = Evidence(
        residual_rms_s=math.sqrt(float((off**2).mean())),
        residual_max_s=float(np.abs(off).max()),
        drift_ppm=drift,
        drift_error_ppm=drift_error * scatter * sure_t,
        runner_up=runner_up,
        chance_pairs=lone * 2 * edges.noise.gate_s / float(edges.b[-1] - edges.b[0]),
        confidence=confidence,
    )
    return bound, evidence


def _bend_s(edges: Edges, sure: Match, line: Curve) -> float:
    """How far the pairs, or the curve between them, leave the line by more than jitter."""
    x, y = edges.a[sure.a], edges.b[sure.b] - edges.a[sure.a]
    curve = fit_curve(x, y, 2) if edges.noise.bend_s else sure.curve
    if curve is None or len(curve.factors) < 3:  # noqa: PLR2004 - a third factor bends it
        return 0.0
    between: Floats = x[0] + (x[-1] - x[0]) * np.arange(BETWEEN + 1.0) / BETWEEN
    bend = float(np.abs(curve.at(between) - line.at(between)).max())
    return max(bend, float(np.abs(y - line.at(x)).max())) if edges.noise.bend_s else bend


def _drift_ppm(x: Floats, apart: Floats) -> tuple[float, float]:
    """Change of the rate over the pairs, and its error for pairs of unit variance, ppm."""
    curve = fit_curve(x, apart, 2)
    if curve is None:
        return 0.0, math.inf
    change = 2 * float(x[-1] - x[0]) / curve.scale**2 * 1e6
    return change * float(curve.factors[2]), change * curve.factor_error(2)
