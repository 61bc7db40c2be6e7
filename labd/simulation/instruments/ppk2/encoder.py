"""The conversion of a current to a PPK2 sample word: coefficients, ranges and rounding.

A word is an ADC value (bits 0-13), a measuring range (14-16), a counter (18-23) and the logic
inputs (24-31). The value read back by the instrument's own coefficients is

    I = UG·(w·(GS·w + GI) + S·Vdd + I0),  w = (4·ADC - O)·(1.8/163840)/R

(Nordic's pc-nrfconnect-ppk); here it is solved for the ADC, which is rounded under a dither of
one step, so that means over many samples are true.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 100_000
WORD_BYTES = 4
COUNTER_MODULUS = 64
RANGES = 5
COUNTER_SHIFT, LOGIC_SHIFT, RANGE_SHIFT = 18, 24, 14

ARGUMENT_BYTES = {0x0C: 1, 0x0D: 2, 0x11: 1, 0x25: 5}
"""Bytes that follow an opcode; one not named here has none."""

RANGE_UP_A = (60e-6, 600e-6, 6e-3, 60e-3)
RANGE_DOWN_A = (40e-6, 400e-6, 4e-3, 40e-3)
"""Above which current the instrument leaves a range, below which it comes back.

Near the ranges of the user guide (50 µA, 500 µA, 5 mA, 60 mA); the firmware's own points are
not published."""

_STEP_V = 1.8 / 163840
_TOP = (1 << RANGE_SHIFT) - 1

Words = NDArray[np.uint32]
Currents = NDArray[np.float64]

METADATA: Mapping[str, tuple[str, ...]] = {
    "R": ("1003.3506", "101.5865", "10.3027", "0.9636", "0.0564"),
    "GS": ("0.0000", "112.7890", "17.2343", "2.3210", "0.1480"),
    "GI": ("1.0000", "0.9776", "0.9896", "1.0012", "0.9805"),
    "O": ("98.4130", "87.2100", "91.5060", "79.8630", "84.0350"),
    "S": ("0.000000048", "0.000000596", "0.000005281", "0.000062577", "0.002940743"),
    "I": ("-0.000000104", "-0.000001443", "0.000036439", "-0.000374119", "-0.009388455"),
    "UG": ("1.00",) * RANGES,
}
"""Coefficients of a calibrated instrument."""


def calibration_lines() -> dict[str, str]:
    """Return the lines of the answer to the metadata command, without VDD and mode."""
    lines = {"Calibrated": "0"}
    for name, row in METADATA.items():
        lines |= {f"{name}{index}": value for index, value in enumerate(row)}
    return lines | {"HW": "9173-simulated", "IA": "56"}


def format_metadata(lines: Mapping[str, str]) -> bytes:
    """Return the answer to the metadata command."""
    return ("\n".join(f"{key}: {value}" for key, value in lines.items()) + "\nEND").encode()


class Encoder:
    """Converts currents to words; keeps the measuring range.

    Args:
        lines: of the instrument's metadata.
        seed: of the dither; it depends only on the index of a sample.
    """

    def __init__(self, lines: Mapping[str, str], seed: int) -> None:
        rows = [[float(lines[f"{name}{index}"]) for index in range(RANGES)] for name in METADATA]
        self._coefficients = np.array(rows)
        self._random = np.random.default_rng(seed)
        self._range = 0

    def encode_currents(self, current_a: Currents, voltage_v: float) -> tuple[Words, Currents]:
        """Return words without counter and logic, and the currents they stand for, A."""
        ranges = self._select_ranges(current_a)
        shunt, square, gain, offset, slope, bias, user = self._coefficients[:, ranges]
        wanted = current_a / user - (slope * voltage_v + bias)
        # the root of square·w² + gain·w = wanted near 0, in the form that allows square = 0
        w = 2 * wanted / (gain + np.sqrt(np.maximum(gain**2 + 4 * square * wanted, 0.0)))
        step = _STEP_V / shunt
        dither = self._random.random(len(w)) - 0.5
        adc = np.clip(np.rint((w / step + offset) / 4 + dither), 0, _TOP)
        w = (4 * adc - offset) * step
        rounded = user * (w * (square * w + gain) + slope * voltage_v + bias)
        words = adc.astype(np.uint32) | (ranges.astype(np.uint32) << np.uint32(RANGE_SHIFT))
        return words, rounded

    def _select_ranges(self, current_a: Currents) -> NDArray[np.intp]:
        """Return the range of each sample."""
        if not len(current_a):
            return np.empty(0, np.intp)
        least, most = (
            np.searchsorted(RANGE_UP_A, current_a),
            np.searchsorted(RANGE_DOWN_A, current_a),
        )
        changes = np.flatnonzero((np.diff(least) != 0) | (np.diff(most) != 0)) + 1
        starts = np.concatenate([[0], changes])
        ranges = np.empty(len(starts), np.intp)
        for number, start in enumerate(starts.tolist()):
            self._range = min(max(self._range, int(least[start])), int(most[start]))
            ranges[number] = self._range
        return np.repeat(ranges, np.diff(np.concatenate([starts, [len(current_a)]])))


def add_counters(words: Words, counter: int) -> bytes:
    """Return the bytes of the words with ascending counters."""
    counters = (counter + np.arange(len(words), dtype=np.uint32)) % np.uint32(COUNTER_MODULUS)
    return (words | counters << np.uint32(COUNTER_SHIFT)).astype("<u4").tobytes()
