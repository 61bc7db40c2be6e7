"""What Joulescope messages say of stretches of ticks, sorted and free of repeats.

A tick is one count of ``sample_id``, 2 MHz whatever a signal's own rate is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

_NO_CHANGES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Analog:
    """Values of one signal, each ``step`` ticks long, from tick ``start`` on."""

    start: int
    step: int
    values: NDArray[np.float32]

    @property
    def end(self) -> int:
        """The tick after the last value."""
        return self.start + self.step * len(self.values)

    def part(self, start: int, stop: int) -> Self:
        """The values of [start, stop), both on this block's grid."""
        first, last = (start - self.start) // self.step, (stop - self.start) // self.step
        return type(self)(start, self.step, self.values[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class Digital:
    """A line's level from tick ``start`` to ``end`` and the ticks at which it changed."""

    start: int
    end: int
    level: bool
    changes: NDArray[np.int64]

    @property
    def last_level(self) -> bool:
        """The level at the end."""
        return self.level ^ bool(len(self.changes) & 1)

    @property
    def falls(self) -> int:
        """How often it fell inside."""
        return (len(self.changes) + self.level) // 2

    def part(self, start: int, stop: int) -> Self:
        """The levels of [start, stop)."""
        first = int(np.searchsorted(self.changes, start, "right"))
        last = int(np.searchsorted(self.changes, stop, "left"))
        return type(self)(start, stop, self.level ^ bool(first & 1), self.changes[first:last])


def digital(start: int, step: int, packed: NDArray[np.uint8]) -> Digital:
    """Levels from a message's bytes, eight in each, the earliest in the lowest bit."""
    end = start + step * 8 * len(packed)
    first = int(packed[0])
    if first in (0, 255) and bool((packed == packed[0]).all()):
        return Digital(start, end, first == 255, _NO_CHANGES)  # noqa: PLR2004 - all ones
    bits = np.unpackbits(packed, bitorder="little")
    places = np.flatnonzero(bits[1:] != bits[:-1]) + 1
    return Digital(start, end, bool(bits[0]), start + step * places.astype(np.int64))


B = TypeVar("B", Analog, Digital)


def holes(start: int, stop: int, blocks: Sequence[B]) -> Iterator[tuple[int, int]]:
    """The stretches of [start, stop) that no block covers; blocks in order of ticks."""
    for block in blocks:
        if block.end <= start:
            continue
        if block.start >= stop:
            break
        if block.start > start:
            yield start, block.start
        start = block.end
    if start < stop:
        yield start, stop


class Track(Generic[B]):
    """One signal's blocks in order of ticks, each tick once, until they are taken."""

    def __init__(self) -> None:
        self.step = 0
        self.phase = 0
        self.reach = -1
        self.late = 0
        self._at = -1  # everything before is settled
        self._blocks: list[B] = []

    @property
    def heard(self) -> bool:
        """Whether anything has come."""
        return bool(self.step)

    @property
    def first(self) -> int:
        """The first tick that is kept."""
        return self._blocks[0].start if self._blocks else max(self._at, self.reach)

    def begin(self, tick: int) -> None:
        """Forget what lies before ``tick``."""
        self.take(tick)

    def insert(self, block: B) -> list[B]:
        """Keep what of ``block`` is new; the pieces of it that were."""
        if block.end <= self._at:
            self.late += block.end - block.start
            return []
        self.reach = max(self.reach, block.end)
        start = max(block.start, self._at)
        if not self._blocks or start >= self._blocks[-1].end:
            pieces = [block if start == block.start else block.part(start, block.end)]
            self._blocks += pieces
            return pieces
        pieces = [block.part(a, b) for a, b in holes(start, block.end, self._blocks)]
        self._blocks = sorted([*self._blocks, *pieces], key=lambda kept: kept.start)
        return pieces

    def settled(self, limit: int) -> int:
        """The tick up to which all is here, or lost for being older than ``limit``."""
        at = max(self._at, limit)
        for block in self._blocks:
            if block.start > at:
                break
            at = max(at, block.end)
        return at

    def take(self, stop: int) -> list[B]:
        """Take what there is before ``stop`` and settle it."""
        count = bisect_right(self._blocks, stop - 1, key=lambda block: block.start)
        taken, self._blocks = self._blocks[:count], self._blocks[count:]
        if taken and taken[-1].end > stop:
            last = taken.pop()
            self._blocks.insert(0, last.part(stop, last.end))
            taken.append(last.part(last.start, stop))
        self._at = stop
        return taken
