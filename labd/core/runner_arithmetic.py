"""Energy of a window from samples, by the arithmetic of each published runner.

Both runners add up samples between two timestamps; they differ in which samples those are and
in the order of the sums. Each method repeats its runner's arithmetic step by step, so that the
published digits come out again.

Sources: github.com/mlcommons/tiny, benchmark/runner/main.py and power_manager/ (``mlcommons``).
The EEMBC runner (github.com/eembc/energyrunner) is published as a binary only; ``eembc``
reproduces all 614 energy windows that were published with their traces in the repositories
github.com/mlcommons/tiny_results_v0.5 to v1.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MLCOMMONS_RATE_HZ = 1000.0
"""The MLCommons runner divides sample counts by this rate for every instrument."""


@dataclass(frozen=True, slots=True)
class WindowEnergy:
    """Energy between two timestamps by one method.

    Args:
        energy_uj: sum of the samples.
        power_uw: mean power; 0 if the window holds no sample.
        runtime_s: length of the window.
        samples: number of samples in the sum.
    """

    energy_uj: float
    power_uw: float
    runtime_s: float
    samples: int


def sequential_sum(values: NDArray[np.floating[Any]]) -> float:
    """Add from first to last in double precision; ``np.sum`` adds pairwise."""
    return float(np.add.accumulate(values, dtype=np.float64)[-1]) if len(values) else 0.0


def sample_times_s(count: int, rate_hz: float) -> NDArray[np.float64]:
    """Return the times of ``count`` samples as the EEMBC runner has them: 1/rate, accumulated."""
    steps = np.full(count, 1.0 / rate_hz)
    steps[:1] = 0.0
    return np.add.accumulate(steps)


def eembc_energy(
    samples_uj: NDArray[np.floating[Any]], rate_hz: float, t0_s: float, t1_s: float
) -> WindowEnergy:
    """Add up the samples whose time lies in [t0, t1), as the EEMBC runner does.

    Args:
        samples_uj: energy per sample period, µJ, shape (n,), from time 0 on.
        rate_hz: samples per second.
        t0_s: start timestamp, seconds.
        t1_s: stop timestamp, seconds.
    """
    times = sample_times_s(len(samples_uj), rate_hz)
    first, last = (int(i) for i in np.searchsorted(times, (t0_s, t1_s)))
    energy_uj = sequential_sum(samples_uj[first:last])
    count = max(0, last - first)
    power_uw = energy_uj / (count / rate_hz) if count else 0.0
    return WindowEnergy(energy_uj, power_uw, t1_s - t0_s, count)


def mlcommons_energy(samples_j: NDArray[np.floating[Any]], first: int, last: int) -> WindowEnergy:
    """Add up the samples [first, last), as the MLCommons runner does.

    Args:
        samples_j: energy per sample period, joule, shape (n,).
        first: samples received before the start event.
        last: samples received before the stop event.
    """
    inside = samples_j[first:last]
    total_j = float(np.sum(inside, dtype=np.float64))
    runtime_s = last / MLCOMMONS_RATE_HZ - first / MLCOMMONS_RATE_HZ
    power_mw = 1e3 * total_j / runtime_s if runtime_s > 0 else 0.0
    return WindowEnergy(total_j * 1e6, power_mw * 1e3, runtime_s, len(inside))
