"""Energy of a window from samples, by the arithmetic of each published runner.

Both runners add up samples between two time stamps; they differ in which samples those are
and in the order of the sums. Each method repeats its runner's arithmetic step by step, so
that the published digits come out again (rules and metrics §3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MLCOMMONS_RATE_HZ = 1000.0
"""The MLCommons runner divides sample counts by this, whatever the instrument."""


@dataclass(frozen=True, slots=True)
class WindowEnergy:
    """What a method finds between two stamps.

    Args:
        energy_uj: the sum of the samples.
        power_uw: mean power; 0 where the window holds no sample.
        runtime_s: the window's length.
        samples: how many samples were added up.
    """

    energy_uj: float
    power_uw: float
    runtime_s: float
    samples: int


def sequential_sum(values: NDArray[np.floating[Any]]) -> float:
    """Sum from first to last in double precision; NumPy's own sum adds pairwise."""
    return float(np.add.accumulate(values, dtype=np.float64)[-1]) if len(values) else 0.0


def sample_times_s(count: int, rate_hz: float) -> NDArray[np.float64]:
    """Times of ``count`` samples as the EEMBC runner has them: 1/rate added again and again."""
    steps = np.full(count, 1.0 / rate_hz)
    steps[:1] = 0.0
    return np.add.accumulate(steps)


def eembc_energy(
    samples_uj: NDArray[np.floating[Any]], rate_hz: float, t0_s: float, t1_s: float
) -> WindowEnergy:
    """Energy of the samples whose time lies in [t0, t1), as the EEMBC runner adds it up.

    Args:
        samples_uj: energy in each sample period, µJ, shape (n,), from time 0 on.
        rate_hz: samples a second.
        t0_s: the opening stamp, seconds.
        t1_s: the closing stamp, seconds.
    """
    times = sample_times_s(len(samples_uj), rate_hz)
    first, last = (int(i) for i in np.searchsorted(times, (t0_s, t1_s)))
    energy_uj = sequential_sum(samples_uj[first:last])
    count = max(0, last - first)
    power_uw = energy_uj / (count / rate_hz) if count else 0.0
    return WindowEnergy(energy_uj, power_uw, t1_s - t0_s, count)


def mlcommons_energy(
    samples_j: NDArray[np.floating[Any]],
    first: int,
    last: int,
    rate_hz: float = MLCOMMONS_RATE_HZ,
) -> WindowEnergy:
    """Energy of the samples [first, last), as the MLCommons runner adds it up.

    Args:
        samples_j: energy in each sample period, joule, shape (n,).
        first: samples received before the opening event.
        last: samples received before the closing event.
        rate_hz: samples a second.
    """
    inside = samples_j[first:last]
    total_j = float(np.sum(inside, dtype=np.float64))
    runtime_s = last / rate_hz - first / rate_hz
    power_mw = 1e3 * total_j / runtime_s if runtime_s > 0 else 0.0
    return WindowEnergy(total_j * 1e6, power_mw * 1e3, runtime_s, len(inside))
