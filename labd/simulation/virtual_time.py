"""Virtual time: integer picoseconds, and the agenda of future events.

A picosecond is fine enough that every clock on the bench (62.5 ns at 16 MHz, 8.3 ns at
120 MHz, a UART bit, a sample period) is represented to better than one part in 10 000 of its
own period, and integers keep sums exact over weeks.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

PS_PER_S = 1_000_000_000_000
PS_PER_MS = 1_000_000_000
PS_PER_US = 1_000_000
_PS_PER_NS = 1000


def periods_ps(count: int, hz: int) -> int:
    """Return the duration of ``count`` periods of a clock of ``hz``, ps, rounded down."""
    return count * PS_PER_S // hz


@dataclass
class Timeline:
    """The present of a station, shared by everything on it."""

    now_ps: int = 0


class _Entry(NamedTuple):
    due_ps: int
    order: int  # unique: two entries are never compared beyond it
    action: Callable[[int], None]
    waits: bool


class Agenda:
    """The clock of a simulated instrument and its future events, run in order of time.

    An event either *waits* (a board restarts, a supply is calibrated: a person would see it
    take time) or is a signal on a wire. Under ``pace`` signals are jumped to; waits follow the
    wall clock.

    Args:
        now_ps: returns the present.
    """

    def __init__(self, now_ps: Callable[[], int]) -> None:
        self.now_ps = now_ps
        self._heap: list[_Entry] = []
        self._order = 0

    def schedule(self, due_ps: int, action: Callable[[int], None], *, waits: bool = False) -> None:
        """Run ``action(due_ps)`` when time reaches ``due_ps``."""
        heapq.heappush(self._heap, _Entry(due_ps, self._order, action, waits))
        self._order += 1

    @property
    def next_ps(self) -> int | None:
        """Time of the earliest event."""
        return self._heap[0].due_ps if self._heap else None

    @property
    def next_waits(self) -> bool:
        """Whether the earliest event is one that takes visible time."""
        return bool(self._heap) and self._heap[0].waits

    def run_due(self, now_ps: int) -> None:
        """Run every event due by ``now_ps``, including those that these events add."""
        while self._heap and self._heap[0].due_ps <= now_ps:
            entry = heapq.heappop(self._heap)
            entry.action(entry.due_ps)


class LoopAgenda(Agenda):
    """An agenda that runs in the asyncio event loop, for an instrument without a bench.

    Args:
        real_time: time follows the wall clock. Otherwise it stands still and jumps to the next
            event in the next iteration of the loop: nothing that the instrument does takes
            time.
    """

    def __init__(self, *, real_time: bool) -> None:
        self._began_ns = time.monotonic_ns()
        self._standing = Timeline()
        self._real_time = real_time
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(self._wall_ps if real_time else lambda: self._standing.now_ps)

    def schedule(self, due_ps: int, action: Callable[[int], None], *, waits: bool = False) -> None:
        """Run ``action(due_ps)`` at ``due_ps``; call it within the event loop."""
        super().schedule(due_ps, action, waits=waits)
        self._arm()

    def _wall_ps(self) -> int:
        return (time.monotonic_ns() - self._began_ns) * _PS_PER_NS

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self.next_ps is not None:
            delay_s = (self.next_ps - self._wall_ps()) / PS_PER_S if self._real_time else 0.0
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, delay_s), self._run)

    def _run(self) -> None:
        if not self._real_time and self.next_ps is not None:
            self._standing.now_ps = max(self._standing.now_ps, self.next_ps)
        self.run_due(self.now_ps())
        self._arm()
