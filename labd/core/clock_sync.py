"""Fit a clock map to labelled marks: a map with a guaranteed uncertainty, or a refusal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from labd.core.clock_map import Clock, ClockMap, ErrorBound, Mark
from labd.core.errors import MeasurementInvalid
from labd.core.mark_constraints import MarkConstraints, feasible_region


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
    region = feasible_region(MarkConstraints.of(x, apart, half, max_rate))
    if region is None:
        raise MeasurementInvalid(
            "clock-marks",
            f"{len(marks)} marks of {a.name} and {b.name} contradict each other within their "
            "uncertainties and the clocks' tolerances",
            "check that the two stamps of each mark are of the same moment",
        )
    offset, rate = region.middle
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
