"""Virtual time: integer picoseconds, and the agenda of things that will happen.

A picosecond is fine enough that every clock on the bench (62.5 ns at 16 MHz, 8.3 ns at
120 MHz, a UART bit, a sample period) is represented to better than one part in 10 000 of its
own period, and integers keep sums exact over weeks.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

PS_PER_S = 1_000_000_000_000
PS_PER_MS = 1_000_000_000
PS_PER_US = 1_000_000


def periods(count: int, hz: int) -> int:
    """Picoseconds that ``count`` periods of a clock of ``hz`` last, rounded down."""
    return count * PS_PER_S // hz


@dataclass(order=True, slots=True)
class _Entry:
    due_ps: int
    order: int
    action: Callable[[int], None] = field(compare=False)
    waits: bool = field(compare=False)


class Agenda:
    """Future events of one station, run in order of time, then of entry.

    An event either *waits* (a board restarting, a calibration: something a person would see
    take time) or is a signal on a wire. Signals are jumped to; waits follow the wall clock in
    ``pace``.
    """

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._order = 0

    def at(self, due_ps: int, action: Callable[[int], None], *, waits: bool = False) -> None:
        """Run ``action(due_ps)`` when virtual time reaches ``due_ps``."""
        heapq.heappush(self._heap, _Entry(due_ps, self._order, action, waits))
        self._order += 1

    @property
    def next_ps(self) -> int | None:
        """When the earliest event is due."""
        return self._heap[0].due_ps if self._heap else None

    @property
    def next_waits(self) -> bool:
        """Whether the earliest event is one that takes visible time."""
        return bool(self._heap) and self._heap[0].waits

    def run_due(self, now_ps: int) -> None:
        """Run every event due by ``now_ps``, those that events add included."""
        while self._heap and self._heap[0].due_ps <= now_ps:
            entry = heapq.heappop(self._heap)
            entry.action(entry.due_ps)
