"""A power monitor's acquisition, kept while it runs.

Samples reach the recording once the driver has confirmed them, so what is *received*
(``received``, ``edges_seen``) and what is *confirmed* differ here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from drivers.base.interfaces import Acquisition, PowerMonitor
from labd.core.errors import DeadlineExceeded, InstrumentError
from labd.core.model import Edge, Gap, Part, Samples, StreamFormat, StreamItem, TimeMark, Window
from labd.core.recording import Recording, assemble_recording
from labd.procedure.mode_run import ModeRun, TraceWriter

QUIET_S = 0.02
"""An edge is missing if it has not come after this much further signal."""

DRAIN_DEADLINE_S = 5.0

STILL_S = 0.3
"""When nothing comes for this long beyond two of the instrument's intervals, every sample taken
so far has been received."""

CONFIRM_DEADLINE_S = 15.0
"""Longest wait for the confirmation of a window's samples; a PPK2 takes 6 s under host load."""

QUIET_DEADLINE_S = 30.0
"""An input whose edges do not cease within this is not the DUT's timestamp."""

EDGE_STILL_S = 2.0
"""Edges of a finished command may still arrive while anything does …"""

EDGE_DEADLINE_S = 10.0
"""… but no longer than this."""


COUNTED = ("confirmed_samples", "lost_samples", "gaps", "confirmed_timestamps", "time_marks")
"""What is counted of the confirmed stream."""


@dataclass(frozen=True, slots=True)
class Position:
    """What had been received at one moment."""

    received: int
    edges_seen: int


class Capture:
    """One running acquisition; made by :func:`start_capture`.

    Attributes:
        closed_through: index up to which samples and edges are complete.
        marks: time marks of the stream by the host's clock.
        quiet_samples: length of the stretch without edges that :meth:`wait_until_quiet` waits for.
    """

    def __init__(
        self,
        name: str,
        stream_format: StreamFormat,
        acquisition: Acquisition,
        stack: AsyncExitStack,
    ) -> None:
        self.name = name
        self.format = stream_format
        self._acquisition = acquisition
        self._stack = stack
        self._items: deque[StreamItem] = deque()
        self.marks: list[TimeMark] = []
        self._writer: TraceWriter | None = None
        self._counts = dict.fromkeys(COUNTED, 0)
        self.quiet_samples = math.ceil(QUIET_S * stream_format.sample_rate_hz)
        interval_s = max(stream_format.delivery_interval_s, 1 / stream_format.sample_rate_hz)
        self._still_s = STILL_S + 2 * interval_s
        self.closed_through = 0
        self.collector: asyncio.Task[None] | None = None

    @property
    def received_samples(self) -> int:
        """Samples received so far."""
        return self._acquisition.received_samples

    @property
    def edges_seen(self) -> int:
        """Timestamps received so far."""
        return self._acquisition.edges_seen

    async def wait_until_quiet(self) -> Position:
        """Wait for a stretch without edges, or until nothing more comes.

        Raises:
            InstrumentError: edges never cease.
        """
        start = self._current_position()
        deadline = time.monotonic() + QUIET_DEADLINE_S
        while self.received_samples < start.received + self.quiet_samples:
            if time.monotonic() > deadline:
                raise InstrumentError(
                    "timestamp-wire",
                    f"the monitor's trigger input was not quiet for {QUIET_DEADLINE_S:g} s",
                    "is it open, or on another pin than the DUT's timestamp (D7)?",
                )
            if not await self._has_progress(self._still_s):
                break
            if self.edges_seen != start.edges_seen:
                start = self._current_position()
        return self._current_position()

    async def wait_for_edges(self, start: Position, wanted: int) -> int:
        """Wait for edges and a quiet stretch after them; return the samples received by then.

        Missing edges raise nothing here: they make their window invalid.
        """
        deadline = time.monotonic() + EDGE_DEADLINE_S
        while self.edges_seen < start.edges_seen + wanted:
            if time.monotonic() > deadline or not await self._has_progress(EDGE_STILL_S):
                return self.received_samples
        return (await self.wait_until_quiet()).received

    async def wait_until_confirmed(self, stop: int) -> None:
        """Wait until the samples before ``stop`` are confirmed, as long as anything comes.

        A driver that cannot confirm them in time raises nothing here: their window is evaluated
        later.
        """
        deadline = time.monotonic() + CONFIRM_DEADLINE_S
        while self.closed_through < stop and time.monotonic() < deadline:
            if not await self._has_progress(EDGE_STILL_S):
                return

    async def stop_acquisition(self) -> None:
        """End the acquisition; then everything received is confirmed or a gap."""
        await self._stack.aclose()
        if self.collector is not None:
            await self.collector

    def recording_of(self, start: int, stop: int) -> Recording:
        """Return the confirmed stream of the samples [start, stop), in whole runs."""
        return assemble_recording(
            self.format, [item for item in self._items if _overlaps_range(item, start, stop)]
        )

    def drop_before(self, before: int, keep: Sequence[tuple[int, int]] = ()) -> None:
        """Drop the stream before a sample, except these stretches.

        The trace has all of it; memory holds what a window still needs.
        """
        kept: list[StreamItem] = []
        while self._items and _end_index(self._items[0]) < before:
            item = self._items.popleft()
            kept += [item] if any(_overlaps_range(item, *stretch) for stretch in keep) else []
        self._items.extendleft(reversed(kept))

    def timestamp_edges(self, start: int, stop: int) -> list[Edge]:
        """Return the confirmed timestamps of the DUT in the sample range [start, stop]."""
        return [
            item
            for item in self._items
            if isinstance(item, Edge)
            and item.line == self.format.timestamp_line
            and not item.rising
            and start <= item.index <= stop
        ]

    async def annotate_windows(self, windows: Sequence[Window]) -> None:
        """Write the windows into the trace."""
        if self._writer is not None:
            await self._writer.annotate_windows(windows)

    async def collect_stream(self, writer: TraceWriter | None) -> None:
        """Read the stream to its end.

        A run of samples counts as confirmed when the next one comes: its edges are between them.
        """
        self._writer = writer
        end = 0
        async for item in self._acquisition:
            self._count_item(item)
            if isinstance(item, TimeMark):
                self.marks += [item] if item.clock == "host" else []
            else:
                self._items.append(item)
            if isinstance(item, (Samples, Gap)):
                self.closed_through, end = item.index, item.end
            if writer is not None:
                await writer.write_items([item])
        self.closed_through = end

    @property
    def event_counts(self) -> dict[str, int]:
        """What was received, confirmed and lost, and the driver's own counters."""
        received = {
            "received_samples": self.received_samples,
            "received_timestamps": self.edges_seen,
        }
        return received | self._counts | dict(self._acquisition.event_counts)

    def _count_item(self, item: StreamItem) -> None:
        match item:
            case Samples():
                self._counts["confirmed_samples"] += len(item)
            case Gap():
                self._counts["gaps"] += 1
                self._counts["lost_samples"] += item.count
            case Edge():
                is_timestamp = item.line == self.format.timestamp_line and not item.rising
                self._counts["confirmed_timestamps"] += is_timestamp
            case TimeMark():
                self._counts["time_marks"] += 1

    async def _has_progress(self, still_s: float) -> bool:
        """Return whether anything comes within this time; a failed stream raises its fault."""
        if self.collector is not None and self.collector.done():
            self.collector.result()
        try:
            await self._acquisition.wait_progress(still_s)
        except DeadlineExceeded:
            return False
        return True

    def _current_position(self) -> Position:
        return Position(self.received_samples, self.edges_seen)


@asynccontextmanager
async def start_capture(run: ModeRun, monitor: PowerMonitor, name: str) -> AsyncGenerator[Capture]:
    """Acquire, collecting in the background; with a name a trace is kept."""
    async with AsyncExitStack() as outer:
        writer: TraceWriter | None = None
        if name:
            instrument = run.bench.identities[Part.POWER]
            writer = await outer.enter_async_context(
                run.evidence.open_trace(name, monitor.stream_format, instrument)
            )
        async with AsyncExitStack() as running:
            acquisition = await running.enter_async_context(monitor.acquire(run.bench.time_base))
            capture = Capture(name, monitor.stream_format, acquisition, running)
            collector = asyncio.create_task(capture.collect_stream(writer), name=f"collect {name}")
            capture.collector = collector
            outer.push_async_callback(_finish_collector, collector)
            yield capture


async def _finish_collector(collector: asyncio.Task[None]) -> None:
    """Let the collector take the rest within :data:`DRAIN_DEADLINE_S`.

    Its faults are raised by :meth:`Capture.stop_acquisition`, unless the body raised its own.
    """
    await asyncio.wait({collector}, timeout=DRAIN_DEADLINE_S)
    collector.cancel()
    await asyncio.gather(collector, return_exceptions=True)


def _end_index(item: StreamItem) -> float:
    return item.end if isinstance(item, (Samples, Gap)) else item.index


def _overlaps_range(item: StreamItem, start: int, stop: int) -> bool:
    """Whether an item has a sample or an edge in [start, stop)."""
    return item.index < stop and (start <= item.index or start < _end_index(item))
