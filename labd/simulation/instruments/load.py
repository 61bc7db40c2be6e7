"""What a fake instrument measures when nobody tells it otherwise: a board at work.

One "batch" every :data:`PERIOD_S`: the timestamp line pulses low at its start and at its end,
in between the board draws its run current, else its sleep current. Everything is a pure
function of time, so that a test knows the exact charge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERIOD_S = 2.0
START_S = 0.5
STOP_S = 1.5
PULSE_S = 0.004
SLEEP_A = 0.002
RUN_A = 0.012
RIPPLE_A = 0.001
RIPPLE_HZ = 97.0


def current_a(t_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Current at these times, ampere, shape as ``t_s``."""
    phase = np.mod(t_s, PERIOD_S)
    running = (phase >= START_S) & (phase < STOP_S)
    ripple = RIPPLE_A * np.sin(2 * np.pi * RIPPLE_HZ * t_s)
    return np.where(running, RUN_A + ripple, SLEEP_A)


def timestamp_high(t_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Level of the timestamp line at these times: idle high, low during a pulse."""
    phase = np.mod(t_s, PERIOD_S)
    first = (phase >= START_S) & (phase < START_S + PULSE_S)
    second = (phase >= STOP_S) & (phase < STOP_S + PULSE_S)
    return ~(first | second)


def falls_between(start_s: float, stop_s: float) -> list[float]:
    """Times in [start, stop) at which the timestamp line falls, seconds."""
    first, last = int(start_s // PERIOD_S), int(stop_s // PERIOD_S)
    falls = [n * PERIOD_S + at for n in range(first, last + 1) for at in (START_S, STOP_S)]
    return [at for at in falls if start_s <= at < stop_s]
