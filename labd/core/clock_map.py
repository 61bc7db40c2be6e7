"""Clocks, the marks that relate two of them, and the affine map fitted to these marks.

The map has a guaranteed uncertainty; marks that contradict each other are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labd.core.errors import LabdBug, MeasurementInvalid
from labd.core.mark_constraints import Floats, MarkConstraints, feasible_region

Stamps = NDArray[np.int64] | NDArray[np.float64]
"""Times in a clock's ticks: whole ticks, or fractions."""

FINEST_TICK_S = 1e-9
"""Ticks this fine may count from 1970, where a float resolves 256 ns: they stay integers."""

WANDER_PPM = 1.0
"""How far the rate of one clock may change where no mark watches it."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A counter of time: what its numbers mean and how good they are.

    Args:
        name: the instrument's: ``lpm01a``, ``dut``, ``host``.
        tick_s: nominal seconds per tick (1e-3 per sample at 1 kHz, 1e-5, 1e-6, 1e-9).
        resolution_s: uncertainty of a time stamp; half a tick when ``None``. For an edge on a
            sampled line it is ``StreamFormat.edge_uncertainty_s``.
        tolerance_ppm: how far its rate may be off.
    """

    name: str
    tick_s: float
    resolution_s: float | None = None
    tolerance_ppm: float = 100.0

    @property
    def stamp_uncertainty_s(self) -> float:
        """Uncertainty of a time stamp, s."""
        return self.tick_s / 2 if self.resolution_s is None else self.resolution_s


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment on two clocks, labelled by the command that caused it.

    Args:
        a: the moment in ticks of clock A, unwrapped.
        b: the moment in ticks of clock B, unwrapped.
        uncertainty_s: how far apart the two moments may be; the stamps' own uncertainties
            are added to it.
    """

    a: float
    b: float
    uncertainty_s: float


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """Largest error of a map, x seconds of A from its reference.

    Args:
        corners: (offset, rate) errors at the corners of the feasible region, s and fraction.
        first_s: x of the first mark.
        last_s: x of the last mark.
    """

    corners: tuple[tuple[float, float], ...]
    first_s: float
    last_s: float

    def error_bound_s(self, x: Floats) -> Floats:
        """The bound, s, shape of ``x``."""
        outside = np.maximum(0.0, np.maximum(self.first_s - x, x - self.last_s))
        worst = np.zeros_like(x)
        for offset, rate in self.corners:
            worst = np.maximum(worst, np.abs(offset + rate * x))
        return worst + 2 * WANDER_PPM * 1e-6 * outside

    @property
    def rate_error_bound(self) -> float:
        """Bound of the rate's error, as a fraction."""
        return max(abs(rate) for _, rate in self.corners)


@dataclass(frozen=True, slots=True, eq=False)
class ClockMap:
    """Affine map from clock A's ticks to clock B's, with its uncertainty and residuals.

    Ticks are unwrapped (see :func:`unwrap_counter_stamps`). At ``at_a`` B reads ``at_b`` ticks and
    ``rest_s`` seconds.

    Args:
        a: the clock mapped from.
        b: the clock mapped to.
        at_a: the reference, whole ticks.
        at_b: whole ticks.
        rest_s: the remaining fraction of a tick, s.
        rate: seconds of B per second of A, minus 1.
        bound: how far the map may be off.
        residuals_s: B's stamp minus the map's, per mark, shape (n,).
        outlier_candidates: marks any one of which, left out, ends a contradiction; 0 when the
            marks agree.
    """

    a: Clock
    b: Clock
    at_a: int
    at_b: int
    rest_s: float
    rate: float
    bound: ErrorBound
    residuals_s: Floats
    outlier_candidates: int = 0

    def to_b(self, at: ArrayLike) -> Stamps:
        """Convert A's ticks to B's, shape of ``at``; integers where B's tick is at most 1 ns.

        Give whole ticks as integers: a float of nanoseconds since 1970 is 256 ns coarse.
        """
        x = self._seconds_from_reference(at)
        return _seconds_to_ticks(self.b, self.at_b, x + self.rate * x + self.rest_s)

    def to_a(self, at: ArrayLike) -> Stamps:
        """Convert B's ticks to A's; the inverse of :meth:`to_b`."""
        y = _ticks_since(at, self.at_b) * self.b.tick_s - self.rest_s
        return _seconds_to_ticks(self.a, self.at_a, y / (1 + self.rate))

    def uncertainty_s(self, at: ArrayLike) -> Floats:
        """Uncertainty of :meth:`to_b` at A's ticks, s, shape of ``at``.

        Between the marks the rate is taken as constant.
        """
        return self.bound.error_bound_s(self._seconds_from_reference(at))

    @property
    def offset_s(self) -> float:
        """B's reading minus A's at the reference, in nominal seconds."""
        return self.at_b * self.b.tick_s - self.at_a * self.a.tick_s + self.rest_s

    @property
    def offset_error_s(self) -> float:
        """Uncertainty at the reference, s."""
        return float(self.bound.error_bound_s(np.zeros(1))[0])

    @property
    def rate_ppm(self) -> float:
        """Rate of B relative to A, minus 1, ppm."""
        return self.rate * 1e6

    @property
    def rate_error_ppm(self) -> float:
        """Uncertainty of the rate, ppm."""
        return self.bound.rate_error_bound * 1e6

    @property
    def residual_rms_s(self) -> float:
        """Root mean square of the residuals, s."""
        return float(np.sqrt(np.mean(self.residuals_s**2)))

    @property
    def residual_max_s(self) -> float:
        """Largest absolute residual, s."""
        return float(np.abs(self.residuals_s).max())

    def _seconds_from_reference(self, at: ArrayLike) -> Floats:
        return _ticks_since(at, self.at_a) * self.a.tick_s


def unwrap_counter_stamps(
    clock: Clock, wraps_at: int, raw: ArrayLike, host_ns: Sequence[int]
) -> Stamps:
    """Make the stamps of a wrapping counter monotonic.

    Args:
        clock: whose stamps they are.
        wraps_at: the count that reads as 0 again.
        raw: stamps in order of arrival, shape (n,).
        host_ns: the host clock at each stamp, right to a quarter of a wrap; it gives the
            number of wraps in between, ns.

    Returns:
        stamps that never fall, from the first stamp's own value on, shape (n,).

    Raises:
        LabdBug: they are not a row of finite numbers in [0, wraps_at), or not one host time
            is given per stamp.
        MeasurementInvalid: a stamp lies before the previous one.
    """
    stamps = _to_stamp_array(clock, raw)
    if len(stamps) and not (stamps.min() >= 0 and stamps.max() < wraps_at):
        raise LabdBug("clock-range", f"a {clock.name} stamp is outside 0 to {wraps_at - 1}")
    if len(host_ns) != len(stamps):
        raise LabdBug("clock-host", f"{len(host_ns)} host times for {len(stamps)} stamps")
    steps = np.diff(stamps) % wraps_at
    passed = np.diff(np.asarray(host_ns, dtype=np.int64)) * 1e-9 / clock.tick_s
    steps += np.rint((passed - steps) / wraps_at).astype(steps.dtype) * wraps_at
    if len(steps) and steps.min() < 0:
        raise MeasurementInvalid(
            "clock-wrap",
            f"a {clock.name} stamp lies before the previous one by the host clock",
            "check that the board did not restart during the run",
        )
    stamps[1:] = stamps[:1] + np.cumsum(steps)
    return stamps


def _to_stamp_array(clock: Clock, raw: ArrayLike) -> Stamps:
    stamps = np.asarray(raw)
    if not stamps.size:
        return np.empty(0, dtype=np.int64)
    if stamps.ndim != 1 or stamps.dtype.kind not in "iuf" or not np.isfinite(stamps).all():
        raise LabdBug("clock-stamps", f"the {clock.name} stamps are no row of finite numbers")
    return stamps.astype(np.float64) if stamps.dtype.kind == "f" else stamps.astype(np.int64)


def _ticks_since(at: ArrayLike, origin: int) -> Floats:
    return np.asarray(np.asarray(at) - origin, dtype=np.float64)


def _seconds_to_ticks(clock: Clock, origin: int, seconds: Floats) -> Stamps:
    ticks = seconds / clock.tick_s
    if clock.tick_s <= FINEST_TICK_S:
        return np.rint(ticks).astype(np.int64) + origin
    return ticks + origin


def fit_clock_map(a: Clock, b: Clock, marks: Sequence[Mark]) -> ClockMap:
    """Fit the affine map between two clocks to marks whose errors are bounded.

    The marks and the clocks' tolerances leave a polygon of offset and rate. From four marks
    on it is extended by what remains feasible when any one mark is left out. The map is the
    middle of that region and the uncertainty reaches its farthest corner: it is guaranteed if
    the uncertainties of all marks hold, and still if that of any one mark does not. One late
    mark may move the map within its bound; it never makes the bound too small.

    From eight marks on, one mark that contradicts all others is left out and counted in
    ``outlier_candidates`` (more than 1 when it could be any of several). The uncertainty is
    then that of the others, any one of which may again be in error.

    Limits: up to three marks are taken as exact within their uncertainty. Two marks in error
    by more than their uncertainty, in the same direction and not enough to contradict the
    others, are neither detected nor covered; nor is a rate that exceeds the tolerances by less
    than the marks resolve. A mark alone at its end of the run cannot be
    checked there, so the other marks determine the uncertainty at that end. One mark, or marks
    at one end only, leave the rate to the tolerances: the uncertainty grows with the distance.

    Args:
        a: the clock mapped from.
        b: the clock mapped to.
        marks: at least one, in any order.

    Raises:
        MeasurementInvalid: no mark, or marks that contradict each other or the clocks'
            tolerances (one of eight or more may).
    """
    if not marks:
        raise MeasurementInvalid("clock-marks", f"no mark relates {a.name} to {b.name}")
    at_a = math.floor((min(mark.a for mark in marks) + max(mark.a for mark in marks)) / 2)
    at_b = math.floor(marks[0].b)
    x = np.array([(mark.a - at_a) * a.tick_s for mark in marks])
    apart = np.array([(mark.b - at_b) * b.tick_s for mark in marks]) - x
    stamps_s = a.stamp_uncertainty_s + b.stamp_uncertainty_s
    half = np.array([mark.uncertainty_s for mark in marks]) + stamps_s
    max_rate = (a.tolerance_ppm + b.tolerance_ppm) * 1e-6
    region = feasible_region(MarkConstraints.from_marks(x, apart, half, max_rate))
    if region is None:
        raise MeasurementInvalid(
            "clock-marks",
            f"{len(marks)} marks of {a.name} and {b.name} contradict each other within their "
            "uncertainties and the clocks' tolerances",
            "check that the two stamps of each mark are of the same moment",
        )
    offset, rate = region.centre
    corners = tuple((o - offset, r - rate) for o, r in region.corners.tolist())
    ticks_b = math.floor(offset / b.tick_s)
    return ClockMap(
        a=a,
        b=b,
        at_a=at_a,
        at_b=at_b + ticks_b,
        rest_s=offset - ticks_b * b.tick_s,
        rate=rate,
        bound=ErrorBound(corners, region.first_s, region.last_s),
        residuals_s=apart - (offset + rate * x),
        outlier_candidates=region.outlier_candidates,
    )
