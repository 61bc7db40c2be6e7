"""Blocks of Joulescope samples, kept per signal in the order of their ticks, each tick once.

A tick is one count of ``sample_id``: 2 MHz, whatever the signal's own rate is.
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
class AnalogBlock:
    """Values of current or voltage from tick ``start``, each ``step`` ticks long."""

    start: int
    step: int
    values: NDArray[np.float32]

    @property
    def end(self) -> int:
        """Tick after the last value."""
        return self.start + self.step * len(self.values)

    def part(self, start: int, stop: int) -> Self:
        """Return the values of [start, stop), both on this block's grid."""
        first, last = (start - self.start) // self.step, (stop - self.start) // self.step
        return type(self)(start, self.step, self.values[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class LineBlock:
    """Level of an input line at tick ``start``, and the ticks before ``end`` where it changed."""

    start: int
    end: int
    level: bool
    changes: NDArray[np.int64]

    @property
    def last_level(self) -> bool:
        """Level at the end."""
        return self.level ^ bool(len(self.changes) & 1)

    @property
    def falls(self) -> int:
        """Number of falling edges inside the block."""
        return (len(self.changes) + self.level) // 2

    def part(self, start: int, stop: int) -> Self:
        """Return the levels of [start, stop)."""
        first = int(np.searchsorted(self.changes, start, "right"))
        last = int(np.searchsorted(self.changes, stop, "left"))
        return type(self)(start, stop, self.level ^ bool(first & 1), self.changes[first:last])


def line_block(start: int, step: int, packed: NDArray[np.uint8]) -> LineBlock:
    """Unpack the levels of a message: eight per byte, the earliest in the lowest bit."""
    end = start + step * 8 * len(packed)
    first = int(packed[0])
    if first in (0, 255) and bool((packed == packed[0]).all()):
        return LineBlock(start, end, first == 255, _NO_CHANGES)  # noqa: PLR2004 - all ones
    bits = np.unpackbits(packed, bitorder="little")
    places = np.flatnonzero(bits[1:] != bits[:-1]) + 1
    return LineBlock(start, end, bool(bits[0]), start + step * places.astype(np.int64))


B = TypeVar("B", AnalogBlock, LineBlock)


def holes(start: int, stop: int, blocks: Sequence[B]) -> Iterator[tuple[int, int]]:
    """Yield the parts of [start, stop) that no block covers; blocks in the order of ticks."""
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


class SignalTrack(Generic[B]):
    """Blocks of one signal in the order of ticks, until they are taken.

    Attributes:
        step: ticks per value; 0 before the first block.
        phase: first tick of a value, modulo ``step``.
        reach: tick after the newest value.
        late: ticks that arrived after they had been taken.
    """

    def __init__(self) -> None:
        self.step = 0
        self.phase = 0
        self.reach = -1
        self.late = 0
        self._at = -1  # everything before is settled
        self._blocks: list[B] = []

    @property
    def started(self) -> bool:
        """Whether any block has arrived."""
        return bool(self.step)

    @property
    def first(self) -> int:
        """First tick that is kept."""
        return self._blocks[0].start if self._blocks else max(self._at, self.reach)

    def insert(self, block: B) -> list[B]:
        """Keep the ticks of ``block`` that are new; return these as blocks."""
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
        """Return the tick before which everything has arrived, or is lost: older than ``limit``."""
        at = max(self._at, limit)
        for block in self._blocks:
            if block.start > at:
                break
            at = max(at, block.end)
        return at

    def take(self, stop: int) -> list[B]:
        """Remove and return the blocks before ``stop``, which is then settled."""
        count = bisect_right(self._blocks, stop - 1, key=lambda block: block.start)
        taken, self._blocks = self._blocks[:count], self._blocks[count:]
        if taken and taken[-1].end > stop:
            last = taken.pop()
            self._blocks.insert(0, last.part(stop, last.end))
            taken.append(last.part(last.start, stop))
        self._at = stop
        return taken


class FallCounter:
    """Count of a line's falling edges over its blocks, in any order of arrival."""

    def __init__(self) -> None:
        self.falls = 0
        self._ends: dict[int, bool] = {}  # level where a block ends …
        self._starts: dict[int, bool] = {}  # … and where one starts, until the two meet

    def add(self, blocks: Sequence[LineBlock]) -> None:
        """Count the falls in new blocks and between them and their neighbours."""
        for block in blocks:
            self.falls += block.falls
            before = self._ends.pop(block.start, None)
            self.falls += bool(before) and not block.level
            if before is None:
                self._starts[block.start] = block.level
            after = self._starts.pop(block.end, None)
            self.falls += block.last_level and after is False
            if after is None:
                self._ends[block.end] = block.last_level
