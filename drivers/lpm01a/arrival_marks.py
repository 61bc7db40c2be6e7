"""When samples came, by the host's clock: what ties a stream without edges to other clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.model import Gap, StreamItem, TimeMark

CELL_S = 0.5
FLOOR_CELLS = 20
DELIVERY_NS = 3_000_000
"""Assumed: the quickest delivery in half a second took less than this, buffers and USB."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A chunk: how many samples had come with it, when, and how late that is."""

    index: int
    t_ns: int
    lag_ns: float


class ArrivalMarks:
    """The quickest delivery of every half second, as a time mark.

    A sample never comes before it was taken, and the host is late by this and that: of all
    chunks in half a second the one that lags least says most. It was under way for
    :data:`DELIVERY_NS` at most, and for what it lags behind the quickest of the last ten
    seconds. A mark counts once its samples have been confirmed; one in a gap never does.

    Args:
        rate_hz: samples a second.
    """

    def __init__(self, rate_hz: int) -> None:
        self._period_ns = 1e9 / rate_hz
        self._cell_samples = CELL_S * rate_hz
        self._best: _Arrival | None = None
        self._floors: deque[float] = deque(maxlen=FLOOR_CELLS)
        self._waiting: list[tuple[_Arrival, float]] = []  # with how much it lags behind

    def arrived(self, index: int, t_ns: int) -> None:
        """A chunk came, and ``index`` samples with it and before."""
        new, best = _Arrival(index, t_ns, t_ns - index * self._period_ns), self._best
        if best is None:
            self._best = new
        elif index // self._cell_samples != best.index // self._cell_samples:
            self._floors.append(best.lag_ns)
            self._waiting.append((best, best.lag_ns - min(self._floors)))
            self._best = new
        elif new.lag_ns < best.lag_ns:
            self._best = new

    def confirmed(self, items: Sequence[StreamItem], through: int) -> list[TimeMark]:
        """The marks that count now.

        Args:
            items: what the stream has just given out.
            through: index up to which it has been confirmed.
        """
        for item in items:
            if isinstance(item, Gap):
                self._forget(item)
        good = [mark for mark in self._waiting if mark[0].index <= through]
        self._waiting = self._waiting[len(good) :]
        return [_mark(arrival, behind_ns) for arrival, behind_ns in good]

    def _forget(self, gap: Gap) -> None:
        def lies_in(arrival: _Arrival) -> bool:
            return gap.index < arrival.index <= gap.end

        self._waiting = [mark for mark in self._waiting if not lies_in(mark[0])]
        if self._best is not None and lies_in(self._best):
            self._best = None


def _mark(arrival: _Arrival, behind_ns: float) -> TimeMark:
    half_ns = round((DELIVERY_NS + behind_ns) / 2)
    return TimeMark(float(arrival.index), arrival.t_ns - half_ns, half_ns, "host")
