"""Calibration of a Nordic PPK2, conversion of its words into currents, and spike filter. Pure.

Sources: Nordic's pc-nrfconnect-ppk (``serialDevice.ts``) and the IRNAS
client, which agree on every formula here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RANGES = 5
ADC_BITS = 14
CODE_MASK = 0x1FFFF
"""ADC value and measuring range of a word, which determine its current."""

RANGE_SHIFT = ADC_BITS
RANGE_FIELD = 0x7 << RANGE_SHIFT
_ADC_VOLT = 1.8 / 163840  # over the shunt, for one step of four times the 14-bit value

TYPICAL: Mapping[str, tuple[float, ...]] = {
    "R": (1031.64, 101.65, 10.15, 0.94, 0.043),
    "GS": (1.0,) * RANGES,
    "GI": (1.0,) * RANGES,
    "O": (0.0,) * RANGES,
    "S": (0.0,) * RANGES,
    "I": (0.0,) * RANGES,
    "UG": (1.0,) * RANGES,
}
"""Nordic's values for an instrument without its own."""

_NEVER_ZERO = ("R", "GI", "UG")  # a zero there would divide by it, or measure nothing

PLAUSIBLE_FACTOR = 3.0
"""A shunt or a gain is within this factor of Nordic's typical value.

Published calibrations are within a factor of 1.4; a digit or a point lost from the text makes a
factor of ten."""

_NEAR_TYPICAL = ("R", "GI", "UG")
_TOP_A = (50e-6, 500e-6, 5e-3, 60e-3, 1.0)
"""Top currents of the ranges, by the user guide."""

_OF_THE_MOMENT = ("VDD", "mode")  # facts that change with a command
_ENTRY = re.compile(r"([A-Za-z]+)([0-4]?):[ \t]*([^\s:]+)")


# ---- metadata ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ppk2Metadata:
    """The instrument's answer to the metadata command.

    Args:
        coefficients: by name (R, GS, GI, O, S, I, UG) the value for each of the five ranges.
        typical: the coefficients that have Nordic's typical values instead of their own.
        missing: those of them without a line in the answer.
        facts: the other lines (``Calibrated``, ``VDD``, ``HW``, ``mode``, ``IA``) as text.
    """

    coefficients: Mapping[str, tuple[float, ...]]
    typical: tuple[str, ...]
    missing: tuple[str, ...]
    facts: Mapping[str, str]

    def differences_from(self, other: Ppk2Metadata) -> list[str]:
        """Return, in words, the entries that should be the same in every answer and are not."""
        mine, others = self._constant_entries(), other._constant_entries()
        return [
            f"{key} {mine.get(key, 'missing')} and {others.get(key, 'missing')}"
            for key in {**mine, **others}
            if mine.get(key) != others.get(key)
        ]

    def implausible_coefficients(self) -> list[str]:
        """Return, in words, the coefficients that no instrument can have.

        R, GI and UG are near the typical values. GS is not (0 to 113 in published
        calibrations): it corrects the linear term, so up to a range's top current it
        contributes less than that.
        """
        found: list[str] = []
        for name in _NEAR_TYPICAL:
            for index, value in enumerate(self.coefficients[name]):
                typical = TYPICAL[name][index]
                if not typical / PLAUSIBLE_FACTOR <= value <= typical * PLAUSIBLE_FACTOR:
                    found.append(f"{name}{index} is {value:g}, typical is {typical:g}")
        for index, value in enumerate(self.coefficients["GS"]):
            most = 1 / _TOP_A[index]
            if abs(value) > most:
                found.append(f"GS{index} is {value:g}, at most {most:g} is plausible")
        return found

    def _constant_entries(self) -> dict[str, str]:
        """Return every entry in the answer except those that commands change."""
        entries = {key: text for key, text in self.facts.items() if key not in _OF_THE_MOMENT}
        for name, row in self.coefficients.items():
            entries |= {f"{name}{index}": f"{value!r}" for index, value in enumerate(row)}
        entries |= dict.fromkeys(self.typical, "unusable")
        return {key: text for key, text in entries.items() if key not in self.missing}


def parse_metadata(text: str) -> Ppk2Metadata | None:
    """Parse the answer to the metadata command; ``None`` if it has no coefficient.

    A coefficient that is missing, not a number or not finite (``-nan``) has Nordic's typical
    value, and so has a zero where zero is impossible. Text before the first entry is skipped;
    of an entry given twice the last one counts.
    """
    given: dict[str, float] = {}
    facts: dict[str, str] = {}
    for name, number, value in _ENTRY.findall(text):
        if number and name in TYPICAL:
            given[name + number] = _parse_finite(value)
        elif not number:
            facts[name] = value
    if not given:
        return None
    typical: list[str] = []
    missing = [f"{name}{i}" for name in TYPICAL for i in range(RANGES) if f"{name}{i}" not in given]
    coefficients: dict[str, tuple[float, ...]] = {}
    for name, values in TYPICAL.items():
        row = list(values)
        for index in range(RANGES):
            value = given.get(f"{name}{index}", math.nan)
            if math.isnan(value) or (value == 0 and name in _NEVER_ZERO):
                typical.append(f"{name}{index}")
            else:
                row[index] = value
        coefficients[name] = tuple(row)
    return Ppk2Metadata(coefficients, tuple(typical), tuple(missing), facts)


def _parse_finite(text: str) -> float:
    """Return the number, NaN if it is not finite or not a number."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


# ---- conversion --------------------------------------------------------------------------


def current_table(
    coefficients: Mapping[str, tuple[float, ...]], voltage_v: float
) -> NDArray[np.float64]:
    """Return the current of every possible word, ampere, shape (131072,), by ``word & CODE_MASK``.

    With a = 4·ADC and r = min(range, 4): w = (a - O[r])·(1.8/163840)/R[r] and
    I = UG[r]·(w·(GS[r]·w + GI[r]) + S[r]·Vdd + I[r]) (``getAdcResult`` in serialDevice.ts).
    """
    adc = 4.0 * np.arange(1 << ADC_BITS)
    table = np.empty((8, 1 << ADC_BITS))
    for index in range(len(table)):
        r, gs, gi, o, s, i, ug = (coefficients[name][min(index, RANGES - 1)] for name in TYPICAL)
        w = (adc - o) * (_ADC_VOLT / r)
        table[index] = ug * (w * (gs * w + gi) + (s * voltage_v + i))
    return table.reshape(-1)


# ---- spike filter ------------------------------------------------------------------------

ALPHA = 0.18
ALPHA_TOP = 0.06
TOP_RANGE = RANGES - 1
SPIKE_SAMPLES = 3
SETTLING_SAMPLES = 2
_ROW = 128


class _RunningMean:
    """m[n] = alpha·x[n] + (1 - alpha)·m[n - 1], evaluated in rows of 128 inputs.

    Within a row the mean is a cumulative sum under weights that grow as the mean forgets;
    from row to row one number is carried. Rows are counted from the first input on, so the
    result is the same to the bit, however the inputs are split into calls.
    """

    def __init__(self, alpha: float) -> None:
        self._beta = 1.0 - alpha
        self._decay = self._beta ** np.arange(_ROW)
        self._weights = alpha / self._decay
        self._row_decay = float(self._decay[-1])
        self._carry: float | None = None

    def reset(self) -> None:
        """Start again: the next input is the first mean."""
        self._carry = None

    def means_at(
        self, rows: NDArray[np.float64], whole: int, ranks: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the means at some inputs, and forget the whole rows.

        Args:
            rows: the inputs since the last whole row, shape (n, 128), zeros after the last.
            whole: number of whole rows.
            ranks: the inputs wanted; -1 for the mean before the first.
        """
        before = float(rows[0, 0]) if self._carry is None else self._carry
        parts = rows * self._weights
        beta, decay = self._beta, self._row_decay
        carries = np.fromiter(
            itertools.accumulate(
                parts[:whole].sum(axis=1).tolist(),
                lambda mean, row: decay * (row + beta * mean),
                initial=before,
            ),
            np.float64,
            whole + 1,
        )
        self._carry = float(carries[-1])
        row, place = np.divmod(ranks + 1, _ROW)  # place 0 is the mean that the row begins with
        used, which = np.unique(row, return_inverse=True)
        sums = np.cumsum(parts[used], axis=1)[which, place - 1]
        means = self._decay[place - 1] * (sums + beta * carries[row])
        return np.where(place == 0, carries[row], means)


class SpikeFilter:
    """Nordic's filter of the spike at a change of the measuring range.

    Two running means follow the current. A sample at which the range has changed, and the
    two after it, are replaced by the mean: in range 4 the slower one. The first two samples
    after a change into range 4 do not enter the means at all.

    Source: ``getAdcResult`` in serialDevice.ts. Its state depends on the samples before, so it
    must be reset at the start and at a gap.
    """

    def __init__(self) -> None:
        self._fast, self._slow = _RunningMean(ALPHA), _RunningMean(ALPHA_TOP)
        self._row = np.empty(0)
        self._range: int | None = None
        self._since = SPIKE_SAMPLES

    def reset(self) -> None:
        """Forget all samples, as at a start."""
        self._fast.reset()
        self._slow.reset()
        self._row = np.empty(0)
        self._range = None
        self._since = SPIKE_SAMPLES

    def filter_in_place(self, words: NDArray[np.uint32], currents: NDArray[np.float64]) -> None:
        """Filter consecutive samples in place.

        Args:
            words: as received, shape (n,), n > 0.
            currents: of the words, ampere, shape (n,); changed in place.
        """
        ranges = np.minimum((words & RANGE_FIELD) >> RANGE_SHIFT, TOP_RANGE).astype(np.int8)
        changes = np.flatnonzero(ranges[1:] != ranges[:-1]) + 1
        if self._range is not None and self._range != ranges[0]:
            changes = np.concatenate([[0], changes])
        known = np.concatenate([[-1 - self._since], changes])
        count = len(words)
        replaced = _samples_after(known, SPIKE_SAMPLES, count)
        settling = _samples_after(known, SETTLING_SAMPLES, count)
        settling = settling[ranges[settling] == TOP_RANGE]
        self._replace_spikes(currents, ranges, replaced, settling)
        self._range = int(ranges[-1])
        self._since = min(count - 1 - int(known[-1]), SPIKE_SAMPLES)

    def _replace_spikes(
        self,
        currents: NDArray[np.float64],
        ranges: NDArray[np.int8],
        replaced: NDArray[np.intp],
        settling: NDArray[np.intp],
    ) -> None:
        kept = np.delete(currents, settling) if len(settling) else currents
        held = len(self._row)
        total = held + len(kept)
        rows = np.zeros((total // _ROW + 1, _ROW))
        inputs = rows.reshape(-1)
        inputs[:held], inputs[held:total] = self._row, kept
        whole = total // _ROW
        ranks = held + replaced - np.searchsorted(settling, replaced, side="right")
        fast, slow = (mean.means_at(rows, whole, ranks) for mean in (self._fast, self._slow))
        currents[replaced] = np.where(ranges[replaced] == TOP_RANGE, slow, fast)
        self._row = inputs[whole * _ROW : total].copy()


def _samples_after(changes: NDArray[np.intp], samples: int, count: int) -> NDArray[np.intp]:
    """Return the places in [0, count) among the first ``samples`` after a change."""
    margin = SPIKE_SAMPLES + 1  # the last change may be this long ago
    marks = np.zeros(margin + count + samples, np.bool_)
    for later in range(samples):
        marks[changes + (margin + later)] = True
    return np.flatnonzero(marks[margin : margin + count])
