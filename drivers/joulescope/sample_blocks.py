"""Blocks of Joulescope samples, kept per signal in the order of their ticks, and sample periods.

A tick is one count of ``sample_id``: 2 MHz, whatever the signal's own rate is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from labd.core.model import Edge, Gap, Samples, StreamItem

_NO_CHANGES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class AnalogBlock:
    """Values of current or voltage from tick ``start``, each ``step`` ticks long."""

    start: int
    step: int
    values: NDArray[np.float32]

    @property
    def end_tick(self) -> int:
        """Tick after the last value."""
        return self.start + self.step * len(self.values)

    def part_between(self, start: int, stop: int) -> Self:
        """Return the values of [start, stop), both on this block's grid."""
        first, last = (start - self.start) // self.step, (stop - self.start) // self.step
        return type(self)(start, self.step, self.values[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class LineBlock:
    """Level of an input line at tick ``start``, and the ticks before ``end`` where it changed."""

    start: int
    end_tick: int
    level: bool
    changes: NDArray[np.int64]

    @property
    def last_level(self) -> bool:
        """Level at the end."""
        return self.level ^ bool(len(self.changes) & 1)

    @property
    def falling_edges(self) -> int:
        """Number of falling edges inside the block."""
        return (len(self.changes) + self.level) // 2

    def part_between(self, start: int, stop: int) -> Self:
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


def uncovered_ranges(start: int, stop: int, blocks: Sequence[B]) -> Iterator[tuple[int, int]]:
    """Yield the parts of [start, stop) that no block covers; blocks in the order of ticks."""
    for block in blocks:
        if block.end_tick <= start:
            continue
        if block.start >= stop:
            break
        if block.start > start:
            yield start, block.start
        start = block.end_tick
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
    def has_started(self) -> bool:
        """Whether any block has arrived."""
        return bool(self.step)

    @property
    def first_tick(self) -> int:
        """First tick that is kept."""
        return self._blocks[0].start if self._blocks else max(self._at, self.reach)

    def insert_block(self, block: B) -> list[B]:
        """Keep the ticks of ``block`` that are new; return these as blocks."""
        if block.end_tick <= self._at:
            self.late += block.end_tick - block.start
            return []
        self.reach = max(self.reach, block.end_tick)
        start = max(block.start, self._at)
        if not self._blocks or start >= self._blocks[-1].end_tick:
            pieces = [block if start == block.start else block.part_between(start, block.end_tick)]
            self._blocks += pieces
            return pieces
        pieces = [
            block.part_between(a, b)
            for a, b in uncovered_ranges(start, block.end_tick, self._blocks)
        ]
        self._blocks = sorted([*self._blocks, *pieces], key=lambda kept: kept.start)
        return pieces

    def settled_until(self, limit: int) -> int:
        """Return the tick before which everything has arrived, or is lost: older than ``limit``."""
        at = max(self._at, limit)
        for block in self._blocks:
            if block.start > at:
                break
            at = max(at, block.end_tick)
        return at

    def take_before(self, stop: int) -> list[B]:
        """Remove and return the blocks before ``stop``, which is then settled."""
        count = bisect_right(self._blocks, stop - 1, key=lambda block: block.start)
        taken, self._blocks = self._blocks[:count], self._blocks[count:]
        if taken and taken[-1].end_tick > stop:
            last = taken.pop()
            self._blocks.insert(0, last.part_between(stop, last.end_tick))
            taken.append(last.part_between(last.start, stop))
        self._at = stop
        return taken


class FallCounter:
    """Count of a line's falling edges over its blocks, in any order of arrival."""

    def __init__(self) -> None:
        self.falls = 0
        self._ends: dict[int, bool] = {}  # level where a block ends …
        self._starts: dict[int, bool] = {}  # … and where one starts, until the two meet

    def add_blocks(self, blocks: Sequence[LineBlock]) -> None:
        """Count the falls in new blocks and between them and their neighbours."""
        for block in blocks:
            self.falls += block.falling_edges
            before = self._ends.pop(block.start, None)
            self.falls += bool(before) and not block.level
            if before is None:
                self._starts[block.start] = block.level
            after = self._starts.pop(block.end_tick, None)
            self.falls += block.last_level and after is False
            if after is None:
                self._ends[block.end_tick] = block.last_level


# ---- sample periods ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class LostTicks:
    """Ticks [start, stop) without a value of one signal."""

    start: int
    stop: int
    reason: str


class LinePart(NamedTuple):
    """Blocks of one line within the periods added, and the line's ticks per level."""

    step: int
    blocks: Sequence[LineBlock]


class PeriodStream:
    """Convert sample periods to stream items, runs of unknown periods to gaps.

    An edge lies between two ticks; it is reported if the periods of both are known, otherwise
    counted in the reason of the gap it touches.

    Args:
        origin: tick of index 0.
        period: ticks per sample period.
    """

    def __init__(self, origin: int, period: int) -> None:
        self._origin = origin
        self._period = period
        self._level: dict[str, tuple[int, bool]] = {}  # each line's level before this tick
        self._last_known = False  # whether the last period added was known
        self._gap: int | None = None  # first period of the open gap
        self._gap_reasons: dict[str, None] = {}
        self._dropped: list[int] = []  # ticks of edges that touch a gap

    def add_periods(
        self,
        start: int,
        columns: Sequence[NDArray[np.float64]],
        known: NDArray[np.bool_] | None,
        lines: Mapping[str, LinePart],
        losses: Sequence[LostTicks],
    ) -> Iterator[StreamItem]:
        """Yield the periods from tick ``start``, then the edges in them.

        Args:
            start: follows the periods added before.
            columns: power, current and voltage per period, each of shape (n,).
            known: which periods are complete, shape (n,); ``None`` if all are.
            lines: levels of the input lines in these periods.
            losses: why periods are incomplete.
        """
        edges = self._known_edges(start, known, lines)
        index, count = self._period_index(start), len(columns[0])
        cuts = [] if known is None else (np.flatnonzero(known[1:] != known[:-1]) + 1).tolist()
        for first, last in zip([0, *cuts], [*cuts, count], strict=True):
            if known is None or known[first]:
                yield from self.close_gap(start + first * self._period)
                power_w, current_a, voltage_v = (column[first:last] for column in columns)
                yield Samples(index + first, power_w, current_a, voltage_v)
            else:
                self._gap = index + first if self._gap is None else self._gap
                begin, end = (start + place * self._period for place in (first, last))
                reasons = [loss.reason for loss in losses if loss.start < end and begin < loss.stop]
                self._gap_reasons.update(dict.fromkeys(reasons or ["not a number"]))
        yield from edges

    def close_gap(self, end: int) -> Iterator[Gap]:
        """Yield the open gap, if there is one; it ends at tick ``end_tick``."""
        if self._gap is None:
            return
        dropped = sum(tick <= end for tick in self._dropped)
        self._dropped = [tick for tick in self._dropped if tick > end]
        text = ", ".join(sorted(self._gap_reasons)) + (
            f"; {dropped} edges in it dropped" * bool(dropped)
        )
        yield Gap(self._gap, self._period_index(end) - self._gap, text)
        self._gap = None
        self._gap_reasons.clear()

    def _period_index(self, tick: int) -> int:
        return (tick - self._origin) // self._period

    def _known_edges(
        self, start: int, known: NDArray[np.bool_] | None, lines: Mapping[str, LinePart]
    ) -> list[Edge]:
        """Return the lines' edges between known periods, in order; remember the others."""
        found: list[tuple[int, str, bool]] = []
        for line, part in lines.items():
            for tick, rising in self._line_changes(line, part.blocks):
                periods = (
                    (tick - part.step - start) // self._period,
                    (tick - start) // self._period,
                )
                if all(self._is_known(period, known) for period in periods):
                    found.append((tick, line, rising))
                else:
                    self._dropped.append(tick)
        self._last_known = known is None or bool(known[-1])
        return [
            Edge((tick - self._origin) / self._period, line, rising=rising)
            for tick, line, rising in sorted(found)
        ]

    def _is_known(self, period: int, known: NDArray[np.bool_] | None) -> bool:
        if period < 0:
            return self._last_known
        return known is None or bool(known[period])

    def _line_changes(self, line: str, blocks: Sequence[LineBlock]) -> Iterator[tuple[int, bool]]:
        for block in blocks:
            end, level = self._level.get(line, (-1, False))
            if end == block.start and level != block.level:
                yield block.start, block.level
            level = block.level
            for tick in block.changes.tolist():
                level = not level
                yield tick, level
            self._level[line] = (block.end_tick, level)
