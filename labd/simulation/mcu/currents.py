"""Supply current of the board, and its exact integrals.

Source of the figures, and how far each goes:

* Run: 110 µA/MHz, the STM32L4R5 datasheet's headline for Run mode from the LDO (DS12023,
  features page), taken for range 1 boost, linear in the core frequency.
* Sleep: 37 µA/MHz, the STM32L4 family's figure (DS10198, STM32L476, Sleep mode in range 1:
  2.96 mA at 80 MHz). **Assumption**: DS12023's own Sleep table was not at hand.
* The other ranges: dynamic current follows the core voltage, 1.28 V boost, 1.20 V normal,
  1.00 V range 2 (RM0432 section 5.1.8). **Derived**, not measured.
* Board: nothing (LEDs, ST-LINK and level shifters are not behind the monitor), unless the
  station's ``board_ua`` adds a constant load.

Every energy that comes from this bench is simulated, and labd marks it so.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RUN_NA_PER_MHZ = 110_000
SLEEP_NA_PER_MHZ = 37_000
_CORE_MV = {"boost": 1280, "normal": 1200, "low": 1000}

COULOMB = 10**21  # nA·ps in a coulomb
JOULE = 10**24  # nA·mV·ps in a joule
_KEPT_SEGMENTS = 8192


def core_current_na(hclk_hz: int, supply_range: str, *, asleep: bool) -> int:
    """Return the current of the chip, nA, executing or in Sleep mode."""
    per_mhz = SLEEP_NA_PER_MHZ if asleep else RUN_NA_PER_MHZ
    return per_mhz * hclk_hz * _CORE_MV[supply_range] // (_CORE_MV["boost"] * 1_000_000)


class Total(NamedTuple):
    """Charge and energy delivered since the bench started, exact."""

    charge_na_ps: int = 0
    energy_na_mv_ps: int = 0

    @property
    def coulombs(self) -> float:
        """The charge, rounded once."""
        return self.charge_na_ps / COULOMB

    @property
    def joules(self) -> float:
        """The energy, rounded once."""
        return self.energy_na_mv_ps / JOULE

    def difference_from(self, earlier: Total) -> Total:
        """Return the difference of two totals."""
        return Total(
            self.charge_na_ps - earlier.charge_na_ps,
            self.energy_na_mv_ps - earlier.energy_na_mv_ps,
        )


class _Segment(NamedTuple):
    start_ps: int
    current_na: int
    voltage_mv: int
    charge_na_ps: int  # delivered before it, as the energy
    energy_na_mv_ps: int


class Ledger:
    """Piecewise-constant supply current and voltage, integrated in integers.

    Only recent segments are kept: a question about a time before :attr:`oldest_ps` is a bug
    of the caller and raises ``ValueError``.
    """

    def __init__(self) -> None:
        self._starts = [0]
        self._segments = [_Segment(0, 0, 0, 0, 0)]
        self.change_count = 0
        """How often current or voltage have changed."""

    @property
    def oldest_ps(self) -> int:
        """The earliest time still recorded."""
        return self._starts[0]

    @property
    def current_na(self) -> int:
        """The current drawn now."""
        return self._segments[-1].current_na

    def set_supply(self, at_ps: int, current_na: int, voltage_mv: int) -> None:
        """Record what the supply delivers from ``at_ps`` on; times never decrease."""
        last = self._segments[-1]
        if last.current_na == current_na and last.voltage_mv == voltage_mv:
            return
        self.change_count += 1
        charge = last.current_na * (at_ps - last.start_ps)
        energy = last.energy_na_mv_ps + charge * last.voltage_mv
        segment = _Segment(at_ps, current_na, voltage_mv, last.charge_na_ps + charge, energy)
        if at_ps == last.start_ps:
            self._segments[-1] = segment
            return
        self._starts.append(at_ps)
        self._segments.append(segment)
        if len(self._starts) > _KEPT_SEGMENTS:
            self.forget_before(self._starts[_KEPT_SEGMENTS // 2])

    def total_until(self, at_ps: int) -> Total:
        """Return charge and energy delivered up to ``at_ps``."""
        segment = self._segments[-1]
        if at_ps < segment.start_ps:
            index = bisect_right(self._starts, at_ps) - 1
            if index < 0:
                raise ValueError(f"{at_ps} ps is older than what is kept ({self.oldest_ps} ps)")
            segment = self._segments[index]
        charge = segment.current_na * (at_ps - segment.start_ps)
        return Total(
            segment.charge_na_ps + charge, segment.energy_na_mv_ps + charge * segment.voltage_mv
        )

    def currents_a(self, start_ps: int, period_ps: int, count: int) -> NDArray[np.float64]:
        """Return the mean currents of consecutive periods, A, shape (count,)."""
        charges, _ = self._per_period(start_ps, period_ps, count)
        return charges * (1e-9 / period_ps)

    def energies_j(self, start_ps: int, period_ps: int, count: int) -> NDArray[np.float64]:
        """Return the energies of consecutive periods, J, shape (count,)."""
        _, energies = self._per_period(start_ps, period_ps, count)
        return energies / JOULE

    def _per_period(
        self, start_ps: int, period_ps: int, count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return nA·ps and nA·mV·ps per period, exact to twelve digits."""
        first = bisect_right(self._starts, start_ps) - 1
        last = bisect_right(self._starts, start_ps + count * period_ps)
        parts = self._segments[first:last]
        if len(parts) == 1:
            charge = float(parts[0].current_na * period_ps)
            return np.full(count, charge), np.full(count, charge * parts[0].voltage_mv)
        charge, energy = self.total_until(start_ps)
        first_part = parts[0]._replace(
            start_ps=start_ps, charge_na_ps=charge, energy_na_mv_ps=energy
        )
        rows = [
            (
                *(part.start_ps - start_ps, part.charge_na_ps - charge),
                *(part.energy_na_mv_ps - energy, part.current_na),
                part.current_na * part.voltage_mv,
            )
            for part in (first_part, *parts[1:])
        ]
        starts, charges, energies, currents, powers = np.array(rows, np.float64).T
        ends = np.arange(count + 1) * float(period_ps)
        which = np.searchsorted(starts, ends, side="right") - 1
        since = ends - starts[which]
        charge_at = charges[which] + currents[which] * since
        return np.diff(charge_at), np.diff(energies[which] + powers[which] * since)

    def begin_acquisition(self, at_ps: int) -> None:
        """Drop segments before the start of an acquisition."""
        self.forget_before(at_ps)

    def forget_before(self, at_ps: int) -> None:
        """Drop segments that ended before ``at_ps``."""
        index = bisect_right(self._starts, at_ps) - 1
        if index > 0:
            del self._starts[:index], self._segments[:index]
