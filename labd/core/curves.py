"""Least squares on few points, and the probabilities that say how far to trust it.

Written out rather than imported: a clock fit has a handful of parameters, and what a number
is refused by should be readable here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SINGULAR = 1e-9
"""Determinant of a normal matrix, beside its diagonal's, of too few distinct abscissae."""

SERIES_FROM = 30
"""Degrees of freedom from which the series for Student's t is good to 1e-3."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A polynomial through points by least squares, about their centroid.

    Args:
        centre: mean of the points' abscissae; the best-known place of the curve.
        scale: largest distance of a point from the centre; the polynomial's unit.
        factors: coefficients, lowest power first, shape (degree + 1,).
        spread: inverse normal matrix, shape (degree + 1, degree + 1); the covariance of the
            factors for points of unit variance.
        count: number of points.
    """

    centre: float
    scale: float
    factors: Floats
    spread: Floats
    count: int

    def at(self, x: Floats) -> Floats:
        """Height at each x, shape of ``x``."""
        return self._powers(x) @ self.factors

    def lever(self, x: Floats) -> Floats:
        """Standard error of the height at each x, for points of unit variance."""
        powers = self._powers(x)
        return np.sqrt(np.einsum("...i,ij,...j->...", powers, self.spread, powers))

    def factor_error(self, power: int) -> float:
        """Standard error of one factor, for points of unit variance."""
        return math.sqrt(max(0.0, float(self.spread[power, power])))

    @property
    def slope(self) -> float:
        """Slope at the centre."""
        return float(self.factors[1]) / self.scale

    @property
    def slope_error(self) -> float:
        """Standard error of the slope at the centre, for points of unit variance."""
        return self.factor_error(1) / self.scale

    def _powers(self, x: Floats) -> Floats:
        u = (np.asarray(x, dtype=np.float64) - self.centre) / self.scale
        return np.stack([u**k for k in range(len(self.factors))], axis=-1)


def fit_curve(x: Floats, y: Floats, degree: int) -> Curve | None:
    """Fit a polynomial by least squares.

    Args:
        x: abscissae, shape (n,).
        y: heights, shape (n,).
        degree: 1 for a line, 2 for a line that bends.

    Returns:
        the curve; ``None`` when the points do not determine one.
    """
    if len(x) <= degree:
        return None
    centre = float(x.mean())
    scale = float(np.abs(x - centre).max())
    if scale <= 0:
        return None
    u = (x - centre) / scale
    powers = np.stack([u**k for k in range(degree + 1)], axis=-1)
    normal = powers.T @ powers
    if float(np.linalg.det(normal)) <= SINGULAR * float(np.prod(np.diag(normal))):
        return None
    spread: Floats = np.linalg.inv(normal).astype(np.float64)
    middle = float(y.mean())
    factors = spread @ (powers.T @ (y - middle))
    factors[0] += middle
    return Curve(centre, scale, factors, spread, len(x))


@lru_cache(maxsize=4096)
def student_t(confidence: float, freedom: int) -> float:
    """Two-sided quantile of Student's t: |t| stays below it with this confidence.

    Abramowitz & Stegun, Handbook of Mathematical Functions: 26.7.5 for many degrees of
    freedom, else 26.7.3 and 26.7.4 inverted by bisection.
    """
    if freedom < 1:
        return math.inf
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    if freedom >= SERIES_FROM:
        first = (z**3 + z) / 4
        second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
        third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
        return z + first / freedom + second / freedom**2 + third / freedom**3
    low, high = 0.0, 1.0
    while _inside_t(high, freedom) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside_t(middle, freedom) < confidence else (low, middle)
    return high


def _inside_t(t: float, freedom: int) -> float:
    """Probability that T lies within t of 0 (26.7.3 for odd freedom, 26.7.4 for even)."""
    angle = math.atan(t / math.sqrt(freedom))
    square = math.cos(angle) ** 2
    odd = freedom % 2
    term, total = 1.0, 0.0
    for k in range(freedom // 2):
        total += term
        term *= square * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)


def chi_square(confidence: float, freedom: int) -> float:
    """Quantile of chi square, by Wilson & Hilferty (Abramowitz & Stegun 26.4.17)."""
    ninth = 2 / (9 * freedom)
    z = NormalDist().inv_cdf(confidence)
    return freedom * (1 - ninth + z * math.sqrt(ninth)) ** 3


def log_binomial_tail(least: int, trials: int, chance: float) -> float:
    """Natural logarithm of the probability of ``least`` or more hits in ``trials``."""
    if least <= trials * chance or least <= 0:
        return 0.0
    if least > trials or chance <= 0:
        return -math.inf
    if chance >= 1:
        return 0.0
    first = (
        math.lgamma(trials + 1)
        - math.lgamma(least + 1)
        - math.lgamma(trials - least + 1)
        + least * math.log(chance)
        + (trials - least) * math.log1p(-chance)
    )
    odds = chance / (1 - chance)
    total = term = 1.0
    for hits in range(least, trials):
        term *= (trials - hits) / (hits + 1) * odds
        total += term
        if term < total * 1e-9:
            break
    return min(0.0, first + math.log(total))
