"""Clocks as values, and the map from one to another with all that speaks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labd.core.curves import Floats
from labd.core.errors import LabdBug, MeasurementInvalid

Stamps = NDArray[np.int64] | NDArray[np.float64]
"""Times in a clock's own ticks: whole, or parts of ticks."""

FINEST_TICK_S = 1e-9
"""Ticks this fine may count from 1970, where a float knows 256 ns: they stay whole."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What a clock's numbers mean and how good they are.

    Args:
        name: the instrument's, for people: ``lpm01a``, ``dut``, ``host``.
        tick_s: nominal seconds a tick (1e-3 a sample at 1 kHz, 1e-5, 1e-6, 1e-9).
        wraps_at: the count at which it starts from 0 again; ``None`` when it never does.
        resolution_s: half width of a time stamp, which lies anywhere in it; half a tick
            when ``None``. A sampled line's edge has ``StreamFormat.edge_uncertainty_s``.
        jitter_s: standard deviation of everything random about a stamp but its resolution.
        tolerance_ppm: how far its rate may be off.
        wander_ppm: how far its rate may change where no edge watches it.
    """

    name: str
    tick_s: float
    wraps_at: int | None = None
    resolution_s: float | None = None
    jitter_s: float = 1e-6
    tolerance_ppm: float = 100.0
    wander_ppm: float = 1.0

    @property
    def half_width_s(self) -> float:
        """Half width of a time stamp, s."""
        return self.tick_s / 2 if self.resolution_s is None else self.resolution_s

    @property
    def lasting_s(self) -> float:
        """What of the half width may be the same in every stamp and so averages out nowhere.

        Jitter of half a tick makes the rounding random (Widrow & Kollár, "Quantization
        Noise", 2008: what is left shrinks as exp(-2 π² σ² / q²), q the whole width).
        """
        half = self.half_width_s
        if half <= 0:
            return 0.0
        return half * math.exp(-2 * (math.pi * self.jitter_s / (2 * half)) ** 2)


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment on both clocks, known by the command that caused it.

    Args:
        a: the moment in ticks of A, unwrapped.
        b: the moment in ticks of B, unwrapped.
        half_width_s: how far apart the two stamps may truly lie.
    """

    a: float
    b: float
    half_width_s: float


@dataclass(frozen=True, slots=True)
class Bound:
    """How far a map may be off, x seconds of A from its reference.

    Args:
        offset_s: confidence bound of the offset at the reference.
        rate: confidence bound of the rate.
        corners: (offset, rate) errors that remain possible whatever the confidence.
        bend_s: how far the true relation bends away from the straight line.
        first_s: where the first tied moment lies.
        last_s: where the last one lies.
        wander: how far the rate may change outside of them.
    """

    offset_s: float
    rate: float
    corners: tuple[tuple[float, float], ...] = ()
    bend_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    wander: float = 0.0

    def at(self, x: Floats) -> Floats:
        """The bound, s, shape of ``x``."""
        outside = np.maximum(0.0, np.maximum(self.first_s - x, x - self.last_s))
        corner = np.zeros_like(x)
        for offset, rate in self.corners:
            corner = np.maximum(corner, np.abs(offset + rate * x))
        known = np.hypot(self.offset_s, self.rate * x) + corner + self.bend_s
        return known + self.wander * outside

    @property
    def whole_rate(self) -> float:
        """Bound of the rate, corners included, as a fraction."""
        return self.rate + max((abs(rate) for _, rate in self.corners), default=0.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an edge fit rests on, for the record.

    Args:
        residual_rms_s: of the pairs about the line.
        residual_max_s: largest of them.
        drift_ppm: change of the rate from the first pair to the last.
        drift_error_ppm: its confidence bound; infinite for fewer than four pairs.
        runner_up: pairs the next best pairing explains; 0 when none comes near.
        chance_pairs: pairs expected to be two lone edges that fell together by chance.
        confidence: of the bounds.
    """

    residual_rms_s: float = 0.0
    residual_max_s: float = 0.0
    drift_ppm: float = 0.0
    drift_error_ppm: float = math.inf
    runner_up: int = 0
    chance_pairs: float = 0.0
    confidence: float = 1.0


def _no_indices() -> NDArray[np.intp]:
    return np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class ClockMap:
    """A straight line from A's ticks to B's, good about a reference in the middle.

    Ticks are unwrapped (see :func:`unwrap`). At ``at_a`` B reads ``at_b`` ticks and
    ``rest_s`` seconds.

    Args:
        a: the clock mapped from.
        b: the clock mapped to.
        at_a: the reference, whole ticks.
        at_b: whole ticks.
        rest_s: what is left of a tick.
        rate: seconds of B a second of A, less 1.
        bound: how far the map may be off.
        evidence: residuals, drift and what else speaks for it.
        pairs: indices into the edge lists of A and B, shape (n, 2), in order of time.
        false_a: edges of A with no partner: false, lost by B, or outside its recording.
        false_b: the same of B.
        doubtful: pairs left out because an edge had two candidates, or marks of which one
            contradicts all others.
    """

    a: Clock
    b: Clock
    at_a: int
    at_b: int
    rest_s: float
    rate: float
    bound: Bound
    evidence: Evidence = field(default_factory=Evidence)
    pairs: NDArray[np.intp] = field(default_factory=lambda: _no_indices().reshape(0, 2))
    false_a: NDArray[np.intp] = field(default_factory=_no_indices)
    false_b: NDArray[np.intp] = field(default_factory=_no_indices)
    doubtful: int = 0

    def to_b(self, at: ArrayLike) -> Stamps:
        """B's ticks at A's, shape of ``at``; whole where B's ticks are a nanosecond or less.

        Give whole ticks as integers: a float of nanoseconds since 1970 is 256 ns coarse.
        """
        x = self._x(at)
        return _stamps(self.b, self.at_b, x + self.rate * x + self.rest_s)

    def to_a(self, at: ArrayLike) -> Stamps:
        """A's ticks at B's; the inverse of :meth:`to_b`."""
        y = _since(at, self.at_b) * self.b.tick_s - self.rest_s
        return _stamps(self.a, self.at_a, y / (1 + self.rate))

    def uncertainty_s(self, at: ArrayLike) -> Floats:
        """How far :meth:`to_b` may be off at A's ticks, s, shape of ``at``.

        It takes the rate for constant unless a bend was seen; what the pairs can say of a
        drift is in ``evidence.drift_ppm`` and its error.
        """
        return self.bound.at(self._x(at))

    def interval_s(self, start: float, stop: float) -> tuple[float, float]:
        """Length on B's clock of an interval of A's ticks, s, and how far it may be off.

        The bound is the map's; how well the two ends themselves are known comes on top.
        """
        length = float(self._x(stop) - self._x(start))
        outside = self.bound.at(np.array([self._x(start), self._x(stop)])).sum()
        known = self.bound.whole_rate * abs(length) + 2 * self.bound.bend_s
        inside = self.bound.first_s <= self._x(start) and self._x(stop) <= self.bound.last_s
        return length * (1 + self.rate), known if inside else max(known, float(outside))

    @property
    def offset_s(self) -> float:
        """B's reading less A's at the reference, in nominal seconds."""
        return self.at_b * self.b.tick_s - self.at_a * self.a.tick_s + self.rest_s

    @property
    def offset_error_s(self) -> float:
        """How far the map may be off at the reference, s."""
        return float(self.bound.at(np.zeros(1))[0])

    @property
    def rate_ppm(self) -> float:
        """How much faster B runs than A, ppm of nominal."""
        return self.rate * 1e6

    @property
    def rate_error_ppm(self) -> float:
        """How far the rate may be off, ppm."""
        return self.bound.whole_rate * 1e6

    @property
    def residual_rms_s(self) -> float:
        """Root mean square distance of the pairs from the line, s."""
        return self.evidence.residual_rms_s

    @property
    def residual_max_s(self) -> float:
        """Largest distance of a pair from the line, s."""
        return self.evidence.residual_max_s

    def describe(self) -> dict[str, Any]:
        """The map as plain values, for the evidence of a result."""
        found = self.evidence
        plain: dict[str, Any] = {
            "a": self.a.name,
            "b": self.b.name,
            "at_a": self.at_a,
            "at_b": self.at_b,
            "offset_s": self.offset_s,
            "offset_error_s": self.offset_error_s,
            "rate_ppm": self.rate_ppm,
            "rate_error_ppm": self.rate_error_ppm,
            "tied_s": self.bound.last_s - self.bound.first_s,
            "doubtful": self.doubtful,
        }
        if not len(self.pairs):
            return plain
        return plain | {
            "pairs": len(self.pairs),
            "false_a": len(self.false_a),
            "false_b": len(self.false_b),
            "runner_up": found.runner_up,
            "chance_pairs": found.chance_pairs,
            "residual_rms_s": found.residual_rms_s,
            "residual_max_s": found.residual_max_s,
            "bend_s": self.bound.bend_s,
            "drift_ppm": found.drift_ppm,
            "drift_error_ppm": found.drift_error_ppm,
            "confidence": found.confidence,
        }

    def _x(self, at: ArrayLike) -> Floats:
        return _since(at, self.at_a) * self.a.tick_s


def unwrap(clock: Clock, raw: ArrayLike, host_ns: Sequence[int] | None = None) -> Stamps:
    """Count on where a counter started from 0 again.

    Args:
        clock: whose stamps they are.
        raw: stamps in order of arrival, shape (n,).
        host_ns: when the host saw each, ns; tells whole turns apart in long silences. Need
            only be right to a quarter of a turn.

    Returns:
        stamps that never fall, from the first's own value on, shape (n,).

    Raises:
        LabdBug: they are no row of finite numbers, or fall though the clock does not wrap.
        MeasurementInvalid: a step is half a turn or more and no host time tells whether it
            is that, or a step back.
    """
    stamps = _row(clock, raw)
    steps = np.diff(stamps)
    if clock.wraps_at is None:
        if len(steps) and steps.min() < 0:
            raise LabdBug("clock-order", f"the {clock.name} stamps are not in order of time")
        return stamps
    turn = clock.wraps_at
    if len(stamps) and not (stamps.min() >= 0 and stamps.max() < turn):
        raise LabdBug("clock-range", f"a {clock.name} stamp is outside 0 to {turn - 1}")
    steps %= turn
    if host_ns is not None:
        if len(host_ns) != len(stamps):
            raise LabdBug("clock-host", f"{len(host_ns)} host times for {len(stamps)} stamps")
        passed = np.diff(np.asarray(host_ns, dtype=np.int64)) * 1e-9 / clock.tick_s
        steps += np.rint((passed - steps) / turn).astype(steps.dtype) * turn
    if len(steps) and (steps.min() < 0 or (host_ns is None and steps.max() >= turn / 2)):
        raise MeasurementInvalid(
            "clock-wrap",
            f"a {clock.name} stamp comes half a turn ({turn * clock.tick_s / 2:.0f} s) or more "
            "after the one before, or lies before it",
            "mark the run more often, or give the host's times of arrival",
        )
    stamps[1:] = stamps[:1] + np.cumsum(steps)
    return stamps


def _row(clock: Clock, raw: ArrayLike) -> Stamps:
    stamps = np.asarray(raw)
    if not stamps.size:
        return np.empty(0, dtype=np.int64)
    if stamps.ndim != 1 or stamps.dtype.kind not in "iuf" or not np.isfinite(stamps).all():
        raise LabdBug("clock-stamps", f"the {clock.name} stamps are no row of finite numbers")
    return stamps.astype(np.float64) if stamps.dtype.kind == "f" else stamps.astype(np.int64)


def _since(at: ArrayLike, origin: int) -> Floats:
    return np.asarray(np.asarray(at) - origin, dtype=np.float64)


def _stamps(clock: Clock, origin: int, seconds: Floats) -> Stamps:
    ticks = seconds / clock.tick_s
    if clock.tick_s <= FINEST_TICK_S:
        return np.rint(ticks).astype(np.int64) + origin
    return ticks + origin
