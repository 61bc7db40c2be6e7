"""Conversion of a PPK2's confirmed words into samples and edges. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.ppk2.calibration import CODE_MASK, SpikeFilter
from drivers.ppk2.word_framer import Words
from labd.core.model import Edge, Samples, StreamItem

LOGIC_SHIFT = 24
BATCH = 8192
"""Words converted at a time."""


@dataclass(frozen=True, slots=True)
class WordMeaning:
    """How the words of one acquisition are converted.

    Args:
        table: current of every possible word, see :func:`current_table`.
        voltage_v: supply voltage of the DUT.
        spike_filter: whether samples after a change of range are smoothed.
        lines: numbers of the logic inputs that are wired.
        timestamp_line: number of the one wired to the DUT's timestamp pin.
    """

    table: NDArray[np.float64]
    voltage_v: float
    spike_filter: bool
    lines: tuple[int, ...]
    timestamp_line: int


class Converter:
    """Converts confirmed words in batches; the batch size does not affect the values."""

    def __init__(self, meaning: WordMeaning) -> None:
        self._meaning = meaning
        self._filter = SpikeFilter() if meaning.spike_filter else None
        self._wired = np.uint32(sum(1 << (LOGIC_SHIFT + line) for line in meaning.lines))
        self._parts: list[Words] = []
        self._count = 0
        self._index = 0  # of the first word in the parts
        self._last_word: int | None = None

    def reset(self) -> None:
        """Forget the signal before a gap."""
        self._last_word = None
        if self._filter is not None:
            self._filter.reset()

    def add_words(self, index: int, words: Words) -> list[StreamItem]:
        """Take the words from ``index`` on."""
        if not self._parts:
            self._index = index
        self._parts.append(words)
        self._count += len(words)
        return self.convert_pending() if self._count >= BATCH else []

    def convert_pending(self) -> list[StreamItem]:
        """Convert the words taken so far."""
        if not self._parts:
            return []
        words = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        self._parts.clear()
        self._count = 0
        items: list[StreamItem] = []
        for at in range(0, len(words), 2 * BATCH):
            items += self._convert_words(self._index + at, words[at : at + 2 * BATCH])
        return items

    def _convert_words(self, index: int, words: Words) -> list[StreamItem]:
        currents = self._meaning.table[(words & np.uint32(CODE_MASK)).astype(np.intp)]
        if self._filter is not None:
            self._filter.filter_in_place(words, currents)
        return [
            Samples(index, currents * self._meaning.voltage_v, currents),
            *self._find_edges(index, words),
        ]

    def _find_edges(self, index: int, words: Words) -> list[Edge]:
        changed = (words[1:] ^ words[:-1]) & self._wired
        places = (np.flatnonzero(changed) + 1).tolist()
        before = self._last_word
        self._last_word = int(words[-1])
        if before is not None and (before ^ int(words[0])) & int(self._wired):
            places.insert(0, 0)
        edges: list[Edge] = []
        for place in places:
            after = int(words[place])
            flipped = after ^ (int(words[place - 1]) if place else before or 0)
            edges += [
                Edge(float(index + place), f"d{line}", bool(after >> (LOGIC_SHIFT + line) & 1))
                for line in self._meaning.lines
                if flipped >> (LOGIC_SHIFT + line) & 1
            ]
        return edges
