"""Framing of a PPK2's sample stream: bytes in, words with consecutive counters out. Pure.

A word has four bytes, little-endian: ADC value (bits 0-13), measuring range (14-16), unused
(17), a counter (18-23), the logic inputs D0…D7 (24-31). Nothing marks the beginning of a word:
a lost byte shifts all that follow, which only the counter shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORD_BYTES = 4
COUNTER_SHIFT = 18
WRAP = 64
"""Words per counter wrap. A word is confirmed by as many good ones after it: a wrong framing may
meet the right count once by chance, not 64 times in a row."""

DISTINCT_WORDS = 3
"""A run with this many changes of the signal does not look like another by chance."""

_COUNTER_MASK = np.uint32((WRAP - 1) << COUNTER_SHIFT)
_RAMP_WORDS = 1 << 16
_RAMP = (np.arange(_RAMP_WORDS, dtype=np.uint32) % WRAP) << np.uint32(COUNTER_SHIFT)

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Resumed:
    """The framing was found (again).

    Args:
        skipped: bytes between the last good word and the next one.
        advance: of the counter over them, modulo 64; ``None`` at the start.
        head: the first 64 of the good words that follow.
    """

    skipped: int
    advance: int | None
    head: Words


class WordFramer:
    """Cuts bytes into words with consecutive counters.

    After a word whose counter is not the next one, the first 64 words with consecutive counters
    are searched for, in all four framings. Each call returns arrays of good words, and a
    :class:`Resumed` before the first word after a search.
    """

    def __init__(self) -> None:
        self._rest: bytes = b""
        self._expected: int | None = None  # counter of the next word, if known
        self._searching = True
        self._skipped = 0

    @property
    def is_searching(self) -> bool:
        """Whether the framing is unknown at present."""
        return self._searching

    @property
    def pending_bytes(self) -> int:
        """Bytes that are no word, including those skipped while searching."""
        return self._skipped + len(self._rest)

    def feed(self, data: bytes) -> list[Words | Resumed]:
        """Take more bytes."""
        data = self._rest + data if self._rest else data
        out: list[Words | Resumed] = []
        at = 0
        while True:
            if self._searching:
                found = _find_framing(data, at)
                if found is None:
                    keep = max(at, len(data) - (WRAP * WORD_BYTES - 1))
                    self._skipped += keep - at
                    at = keep
                    break
                out.append(self._adopt_framing(data, found, found - at))
                at = found
            words = np.frombuffer(data, np.dtype("<u4"), (len(data) - at) // WORD_BYTES, at)
            good = self._count_good_words(words[:_RAMP_WORDS])
            if good:
                out.append(words[:good])
                at += good * WORD_BYTES
            self._searching = good < min(len(words), _RAMP_WORDS)
            if good == len(words):
                break
        self._rest = data[at:]
        return out

    def _adopt_framing(self, data: bytes, at: int, passed: int) -> Resumed:
        """Adopt the framing found at ``at``."""
        counter = (data[at + 2] >> 2) & (WRAP - 1)
        advance = None if self._expected is None else (counter - self._expected) % WRAP
        head = np.frombuffer(data, np.dtype("<u4"), WRAP, at)
        resumed = Resumed(self._skipped + passed, advance, head)
        self._skipped, self._expected, self._searching = 0, counter, False
        return resumed

    def _count_good_words(self, words: Words) -> int:
        """Return how many of the first words have consecutive counters."""
        assert self._expected is not None  # noqa: S101 - only asked once the framing is known
        level = np.uint32(self._expected << COUNTER_SHIFT)
        wrong = ((words - _RAMP[: len(words)]) & _COUNTER_MASK) != level
        good = int(np.argmax(wrong)) if wrong.any() else len(words)
        self._expected = (self._expected + good) % WRAP
        return good


def _find_framing(data: bytes, at: int) -> int | None:
    """Return the first place from ``at`` on where 64 words with consecutive counters begin."""
    best: int | None = None
    for phase in range(at, at + WORD_BYTES):
        count = (len(data) - phase) // WORD_BYTES
        if count < WRAP:
            continue
        words = np.frombuffer(data, np.dtype("<u4"), count, phase)
        counters = (words >> np.uint32(COUNTER_SHIFT)) & np.uint32(WRAP - 1)
        breaks = np.flatnonzero((counters[1:] - counters[:-1]) % WRAP != 1)
        bounds = np.concatenate([[-1], breaks, [count - 1]])
        runs = np.flatnonzero(np.diff(bounds) >= WRAP)
        if len(runs):
            place = phase + WORD_BYTES * (int(bounds[runs[0]]) + 1)
            best = place if best is None else min(best, place)
    return best


def head_repeats_tail(tail: Words, head: Words) -> bool:
    """Return whether ``head`` repeats ``tail``.

    A run of bytes that was delivered twice and begins or ends within a word has, at one end, one
    word made of two.

    Args:
        tail: the words before a break, shape (n,).
        head: as many words after it.
    """
    same = tail == head
    if len(same) > 2:  # noqa: PLR2004 - of one word or two nothing would be left to compare
        return bool(same[1:-1].all() and (same[0] or same[-1]))
    return bool(same.all())


def is_distinct(words: Words) -> bool:
    """Return whether the signal changes so often that no other words look the same."""
    signal = words & ~_COUNTER_MASK
    return int(np.count_nonzero(signal[1:] != signal[:-1])) >= DISTINCT_WORDS
