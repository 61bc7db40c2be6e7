"""Samples, gaps and edges of consecutive sample periods of a Joulescope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.joulescope.sample_blocks import LineBlock
from labd.core.model import Edge, Gap, Samples, StreamItem


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

    def add(
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
        edges = self._edges(start, known, lines)
        index, count = self._index(start), len(columns[0])
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
        """Yield the open gap, if there is one; it ends at tick ``end``."""
        if self._gap is None:
            return
        dropped = sum(tick <= end for tick in self._dropped)
        self._dropped = [tick for tick in self._dropped if tick > end]
        text = ", ".join(sorted(self._gap_reasons)) + (
            f"; {dropped} edges in it dropped" * bool(dropped)
        )
        yield Gap(self._gap, self._index(end) - self._gap, text)
        self._gap = None
        self._gap_reasons.clear()

    def _index(self, tick: int) -> int:
        return (tick - self._origin) // self._period

    def _edges(
        self, start: int, known: NDArray[np.bool_] | None, lines: Mapping[str, LinePart]
    ) -> list[Edge]:
        """Return the lines' edges between known periods, in order; remember the others."""
        found: list[tuple[int, str, bool]] = []
        for line, part in lines.items():
            for tick, rising in self._changes(line, part.blocks):
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

    def _changes(self, line: str, blocks: Sequence[LineBlock]) -> Iterator[tuple[int, bool]]:
        for block in blocks:
            end, level = self._level.get(line, (-1, False))
            if end == block.start and level != block.level:
                yield block.start, block.level
            level = block.level
            for tick in block.changes.tolist():
                level = not level
                yield tick, level
            self._level[line] = (block.end, level)
