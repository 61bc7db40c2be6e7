"""Streaming of a simulated power monitor in real time, without a bench."""

from __future__ import annotations

import asyncio
from typing import Protocol

from labd.simulation.instruments.synthetic_load import Load, SyntheticLoad
from labd.simulation.virtual_time import Agenda

TICK_S = 0.005
"""How often a monitor sends what it has measured, where the wall clock moves its time."""


class StreamingMonitor(Protocol):
    """A power monitor whose samples follow from the passage of time."""

    def on_timestamp_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """Take an edge of the timestamp line."""
        ...

    def advance_to(self, now_ps: int, waiting: int) -> None:
        """Send what is complete by now; ``waiting`` bytes have not reached the host yet."""
        ...


async def advance_by_wall_clock(monitor: StreamingMonitor, agenda: Agenda, load: Load) -> None:
    """Advance a monitor by its agenda's clock until cancelled."""
    while True:
        await asyncio.sleep(TICK_S)
        now_ps = agenda.now_ps()
        for at_ps, level in (
            load.timestamp_edges_until(now_ps) if isinstance(load, SyntheticLoad) else ()
        ):
            monitor.on_timestamp_edge(at_ps, level)
        monitor.advance_to(now_ps, 0)
