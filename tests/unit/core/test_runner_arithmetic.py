"""Energy of a window by each runner's arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.runner_arithmetic import (
    eembc_energy,
    mlcommons_energy,
    sample_times_s,
    sequential_sum,
)


def test_sums_run_from_first_to_last() -> None:
    values = np.array([1.0] + [1e-16] * 100)
    assert sequential_sum(values) == 1.0
    assert float(np.sum(values)) > 1.0


def test_an_empty_sum_is_zero() -> None:
    assert sequential_sum(np.empty(0)) == 0.0


def test_sample_times_are_accumulated() -> None:
    times = sample_times_s(11, 10.0)
    assert times[0] == 0.0
    assert times[3] == 0.1 + 0.1 + 0.1 != 3 / 10.0


def test_an_eembc_window_holds_the_samples_from_its_first_stamp_up_to_its_second() -> None:
    found = eembc_energy(np.arange(10, dtype=np.float32), 8.0, 0.25, 0.75)
    assert (found.energy_uj, found.samples) == (2.0 + 3.0 + 4.0 + 5.0, 4)
    assert found.power_uw == 14.0 / 0.5
    assert found.runtime_s == 0.5


def test_repeated_addition_moves_an_edge_by_a_sample() -> None:
    """0.001 added 3 times is more than 0.003, so that sample lies after the timestamp."""
    assert sample_times_s(4, 1000.0)[3] == 0.003
    drifted = next(k for k, t in enumerate(sample_times_s(2000, 1000.0)) if t < k / 1000)
    found = eembc_energy(np.ones(2000), 1000.0, drifted / 1000, 1.999)
    exact = eembc_energy(np.ones(2000), 1000.0, (drifted - 0.5) / 1000, 1.999)
    assert exact.samples == found.samples + 1


def test_a_window_without_samples_has_no_power() -> None:
    assert eembc_energy(np.ones(5), 1000.0, 7.0, 8.0).power_uw == 0.0


def test_an_mlcommons_window_counts_samples() -> None:
    found = mlcommons_energy(np.full(3000, 2e-5), 1000, 2500)
    assert found.samples == 1500
    assert found.energy_uj == pytest.approx(30_000)
    assert found.runtime_s == 1.5
    assert found.power_uw == pytest.approx(20_000)


@given(
    st.lists(st.floats(0, 1e4, width=32), min_size=2, max_size=300),
    st.data(),
)
def test_at_whole_samples_both_methods_agree(samples: list[float], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(samples) - 2))
    last = data.draw(st.integers(first + 1, len(samples) - 1))
    values = np.array(samples)
    times = sample_times_s(len(values), 1000.0)
    eembc = eembc_energy(values, 1000.0, float(times[first]), float(times[last]))
    mlcommons = mlcommons_energy(values / 1e6, first, last)
    assert eembc.samples == mlcommons.samples == last - first
    assert math.isclose(eembc.energy_uj, mlcommons.energy_uj, rel_tol=1e-9, abs_tol=1e-9)
