"""Least squares and quantiles, against published tables."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.curves import chi_square, fit_curve, log_binomial_tail, student_t


@pytest.mark.parametrize(
    ("confidence", "freedom", "table"),
    [
        (0.95, 1, 12.706),
        (0.95, 4, 2.776),
        (0.99, 5, 4.032),
        (0.999, 10, 4.587),
        (0.999, 29, 3.659),
        (0.999, 30, 3.646),
        (0.95, 60, 2.000),
        (0.99, 120, 2.617),
    ],
)
def test_students_t_is_the_tables(confidence: float, freedom: int, table: float) -> None:
    """Abramowitz & Stegun, table 26.10."""
    assert student_t(confidence, freedom) == pytest.approx(table, abs=6e-4)


def test_no_freedom_bounds_nothing() -> None:
    assert student_t(0.95, 0) == math.inf


@pytest.mark.parametrize(
    ("confidence", "freedom", "table"), [(0.99, 10, 23.209), (0.999, 30, 59.703)]
)
def test_chi_square_is_the_tables(confidence: float, freedom: int, table: float) -> None:
    """Abramowitz & Stegun, table 26.8; the approximation is good to 0.5 %."""
    assert chi_square(confidence, freedom) == pytest.approx(table, rel=5e-3)


@given(
    trials=st.integers(1, 40),
    least=st.integers(0, 45),
    chance=st.sampled_from([0.0, 1e-6, 0.3, 0.9, 1.0]),
)
def test_binomial_tail_is_the_sum(trials: int, least: int, chance: float) -> None:
    exact = sum(
        math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
        for k in range(least, trials + 1)
    )
    found = math.exp(log_binomial_tail(least, trials, chance))
    assert found == (1.0 if least <= trials * chance else pytest.approx(exact, rel=1e-6))


def test_points_on_a_parabola_give_it_back() -> None:
    x = np.array([1.0, 2.0, 4.0, 9.0])
    curve = fit_curve(x, 3 + 2 * x - 0.5 * x**2, 2)
    assert curve is not None
    assert curve.at(np.array([-5.0, 20.0])) == pytest.approx([-19.5, -157.0])
    assert curve.slope == pytest.approx(2 - 4.0)


def test_the_errors_of_a_line_are_the_textbooks() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0])
    line = fit_curve(x, 5 * x, 1)
    assert line is not None
    assert line.slope_error == pytest.approx(1 / math.sqrt(5))
    assert line.lever(np.array([1.5, 4.5])) == pytest.approx([0.5, math.sqrt(0.25 + 9 / 5)])


@pytest.mark.parametrize(("x", "degree"), [([1.0], 1), ([2.0, 2.0], 1), ([0.0, 0.0, 1.0, 1.0], 2)])
def test_points_that_determine_no_curve_give_none(x: list[float], degree: int) -> None:
    assert fit_curve(np.array(x), np.zeros(len(x)), degree) is None
