"""The load of a simulated power monitor: its interface, and a synthetic load.

The synthetic load runs one "batch" every :data:`PERIOD_S`: the timestamp line pulses low at its
start and at its end; in between the load draws its run current, otherwise its sleep current.
Everything is a pure function of time, so that a test knows the exact charge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from labd.simulation.virtual_time import PS_PER_S

PERIOD_S = 2.0
START_S = 0.5
STOP_S = 1.5
PULSE_S = 0.004
SLEEP_A = 0.002
RUN_A = 0.012
RIPPLE_A = 0.001
RIPPLE_HZ = 97.0

Series = NDArray[np.float64]


def synthetic_current_a(t_s: Series) -> Series:
    """Return the current of the made-up board at these times, A, shape as ``t_s``."""
    phase = np.mod(t_s, PERIOD_S)
    running = (phase >= START_S) & (phase < STOP_S)
    ripple = RIPPLE_A * np.sin(2 * np.pi * RIPPLE_HZ * t_s)
    return np.where(running, RUN_A + ripple, SLEEP_A)


def timestamp_line_is_high(t_s: Series) -> NDArray[np.bool_]:
    """Return the level of the timestamp line at these times: idle high, low in a pulse."""
    phase = np.mod(t_s, PERIOD_S)
    first = (phase >= START_S) & (phase < START_S + PULSE_S)
    second = (phase >= STOP_S) & (phase < STOP_S + PULSE_S)
    return ~(first | second)


def timestamp_falls_between(start_s: float, stop_s: float) -> list[float]:
    """Return the times in [start, stop) at which the timestamp line falls, seconds."""
    first, last = int(start_s // PERIOD_S), int(stop_s // PERIOD_S)
    falls = [n * PERIOD_S + at for n in range(first, last + 1) for at in (START_S, STOP_S)]
    return [at for at in falls if start_s <= at < stop_s]


class Consumption(Protocol):
    """What a load draws, as means of consecutive sample periods."""

    @property
    def current_na(self) -> int:
        """The current drawn now."""
        ...

    @property
    def change_count(self) -> int:
        """How often current or voltage have changed so far."""
        ...

    def currents_a(self, start_ps: int, period_ps: int, count: int) -> Series:
        """Return the mean currents, A, shape (count,)."""
        ...

    def energies_j(self, start_ps: int, period_ps: int, count: int) -> Series:
        """Return the energies, J, shape (count,)."""
        ...

    def begin_acquisition(self, at_ps: int) -> None:
        """An acquisition begins: no later question concerns an earlier time."""
        ...

    def forget_before(self, at_ps: int) -> None:
        """No later question concerns an earlier time."""
        ...


class Load(Protocol):
    """A board at the output of a power monitor."""

    @property
    def is_powered(self) -> bool:
        """Whether the output is on."""
        ...

    @property
    def ledger(self) -> Consumption:
        """What it draws."""
        ...

    def power_on(self, voltage_mv: int) -> None:
        """Switch the output on."""
        ...

    def power_off(self) -> None:
        """Switch it off."""
        ...

    def set_voltage(self, voltage_mv: int) -> None:
        """Change the voltage of an output that is on."""
        ...


class SyntheticLoad:
    """A load whose current is a function of the time since the acquisition began.

    Args:
        current_a: current at given times, A.
    """

    def __init__(self, current_a: Callable[[Series], Series] = synthetic_current_a) -> None:
        self._current_a = current_a
        self._voltage_mv = 0
        self._origin_ps = self._edges_ps = 0
        self.change_count = 0

    @property
    def ledger(self) -> Self:
        """Itself."""
        return self

    @property
    def is_powered(self) -> bool:
        """Whether it is supplied."""
        return self._voltage_mv > 0

    def power_on(self, voltage_mv: int) -> None:
        """Supply it."""
        self._voltage_mv = voltage_mv

    set_voltage = power_on

    def power_off(self) -> None:
        """Cut its supply."""
        self._voltage_mv = 0

    @property
    def current_na(self) -> int:
        """The current that it draws most of the time."""
        return round(SLEEP_A * 1e9) * self.is_powered

    def currents_a(self, start_ps: int, period_ps: int, count: int) -> Series:
        """Return the currents in the middle of consecutive periods, A, shape (count,)."""
        times_ps = start_ps - self._origin_ps + (np.arange(count) + 0.5) * period_ps
        return self._current_a(times_ps / PS_PER_S) * float(self.is_powered)

    def energies_j(self, start_ps: int, period_ps: int, count: int) -> Series:
        """Return the energies of consecutive periods, J, shape (count,)."""
        seconds_volts = period_ps / PS_PER_S * self._voltage_mv / 1000
        return self.currents_a(start_ps, period_ps, count) * seconds_volts

    def begin_acquisition(self, at_ps: int) -> None:
        """Begin the first batch's period now."""
        self._origin_ps = self._edges_ps = at_ps

    def forget_before(self, at_ps: int) -> None:
        """Nothing is kept."""

    def timestamp_edges_until(self, now_ps: int) -> list[tuple[int, bool]]:
        """Return the time (ps) and level of the timestamp line's edges since the last call."""
        start_ps, self._edges_ps = self._edges_ps - self._origin_ps, now_ps
        stop_ps = now_ps - self._origin_ps
        falls = timestamp_falls_between(start_ps / PS_PER_S - PULSE_S, stop_ps / PS_PER_S)
        edges = [(at, False) for at in falls] + [(at + PULSE_S, True) for at in falls]
        placed = [(round(at_s * PS_PER_S), level) for at_s, level in sorted(edges)]
        return [
            (self._origin_ps + at_ps, level)
            for at_ps, level in placed
            if self.is_powered and start_ps <= at_ps < stop_ps
        ]
