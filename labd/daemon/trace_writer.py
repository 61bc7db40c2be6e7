"""A trace written from the event loop, and the frames for live plots that come of it.

Stream items are gathered for a tenth of a second and go to the disk in one piece: many
stations at a hundred thousand samples a second leave most of a core free. So a kill -9 costs
at most the last tenth of a second of what the instrument had confirmed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from labd.aio.blocking_io import run_disk_io
from labd.aio.shielded import wait_shielded
from labd.core.errors import LabdError, TransportError
from labd.core.model import Identity, Samples, StreamFormat, StreamItem, Window
from labd.mqtt.link import MqttLink
from labd.store.traces.writer import TraceFile
from labd.wire.frames import FrameMaker

log = structlog.get_logger(__name__)

GATHER_S = 0.1
"""Items are written this long after the first of them came, and frames made as often."""

MAX_GATHERED = 1 << 21
"""With so many samples waiting for the disk, whoever has more waits too."""

MAX_FRAMES = 64
"""So many frames of all stations wait for the broker; then the oldest is dropped."""

FRAME_DEADLINE_S = 1.0


class LiveFrames:
    """Frames on their way to the broker: dropped rather than queued, never waited for."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MAX_FRAMES)
        self._more = asyncio.Event()

    def send(self, topic: str, frame: bytes) -> None:
        """Offer a frame; returns at once."""
        self._waiting.append((topic, frame))
        self._more.set()

    async def deliver(self, link: MqttLink) -> None:
        """Publish what is offered, for ever."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                topic, frame = self._waiting.popleft()
                if link.connected:
                    with suppress(TransportError):
                        await link.publish(topic, frame, qos=0, deadline_s=FRAME_DEADLINE_S)


class FileTrace:
    """One trace file, written from the event loop; made by :func:`open_trace`."""

    def __init__(self, file: TraceFile, frames: FrameMaker, send: Callable[[bytes], None]) -> None:
        self._file = file
        self._frames = frames
        self._send = send
        self._gathered: list[StreamItem] = []
        self._samples = 0
        self._more = asyncio.Event()
        self._written = asyncio.Event()
        self._ending = asyncio.Event()
        self._disk = asyncio.Lock()
        self._writer = asyncio.create_task(self._write_on(), name="trace writer")

    async def write(self, items: Sequence[StreamItem]) -> None:
        """Append stream items in order; they are on the disk a moment later.

        Raises:
            InfraError: the disk refused these or earlier ones.
            LabdBug: earlier ones were not in order.
        """
        self._gathered += items
        self._samples += sum(len(item) for item in items if isinstance(item, Samples))
        self._more.set()
        while self._samples > MAX_GATHERED and not self._writer.done():
            self._written.clear()
            await self._written.wait()
        if self._writer.done():
            self._writer.result()

    async def windows(self, windows: Sequence[Window]) -> None:
        """Mark the windows measured in it, in place of those marked before.

        Raises:
            InfraError: the disk refuses.
        """
        async with self._disk:
            await run_disk_io(self._file.mark_windows, windows)

    async def end(self) -> None:
        """Write what is left, even while being cancelled.

        Raises:
            InfraError: the disk refused some of it.
            LabdBug: some of it was not in order.
        """
        self._ending.set()
        self._more.set()
        cancelled = await wait_shielded(self._writer)
        self._writer.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _write_on(self) -> None:
        try:
            while self._gathered or not self._ending.is_set():
                await self._more.wait()
                await self._gather()
                await self._write_some()
            self._tell(last=True)
        finally:
            self._written.set()

    async def _gather(self) -> None:
        """Let more come, but not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await self._ending.wait()

    async def _write_some(self) -> None:
        items, self._gathered, self._samples = self._gathered, [], 0
        if not self._ending.is_set():
            self._more.clear()
        async with self._disk:
            await run_disk_io(self._file.write, items)
        self._written.set()
        self._tell(last=False)

    def _tell(self, *, last: bool) -> None:
        frame = self._frames.take(last=last)
        if frame is not None:
            self._send(frame.encode())


@asynccontextmanager
async def open_trace(
    path: Path,
    stream_format: StreamFormat,
    instrument: Identity,
    frames: FrameMaker,
    send: Callable[[bytes], None],
) -> AsyncGenerator[FileTrace]:
    """Open a trace file; it is closed whatever happens, complete only if nothing did.

    Args:
        path: without suffix.
        stream_format: what its samples mean.
        instrument: who measures.
        frames: gets the samples as they were written.
        send: gets the frames they make.

    Raises:
        InfraError: the disk refuses.
    """
    file = await run_disk_io(TraceFile, path, stream_format, instrument, frames.feed)
    complete = False
    try:
        async with _ended(FileTrace(file, frames, send)) as trace:
            yield trace
        complete = True
    finally:
        await run_disk_io(file.close, complete=complete)


@asynccontextmanager
async def _ended(trace: FileTrace) -> AsyncGenerator[FileTrace]:
    """End the writer after the body, whose own fault goes before one of the writer's."""
    try:
        yield trace
    except BaseException:
        try:
            await trace.end()
        except LabdError as error:
            log.warning("trace-cut-short", error=str(error))
        raise
    await trace.end()
