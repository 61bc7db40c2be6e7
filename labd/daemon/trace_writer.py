"""Write traces from the event loop, and make the frames for live plots from them.

Stream items are collected for 0.1 s and written in one piece, so that many stations at 100 000
samples per second leave most of a core free. A kill -9 loses at most the last 0.1 s.
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
"""Time from the first collected item to the write; also the interval of frames."""

MAX_GATHERED = 1 << 21
"""Back-pressure threshold: writers block above this many queued samples."""

MAX_FRAMES = 64
"""Frames of all stations that wait for the broker; then the oldest is dropped."""

FRAME_DEADLINE_S = 1.0


class LiveFrames:
    """Frames to publish; nothing waits for them, and the oldest are dropped."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MAX_FRAMES)
        self._more = asyncio.Event()

    def queue_frame(self, topic: str, frame: bytes) -> None:
        """Queue a frame; return at once."""
        self._waiting.append((topic, frame))
        self._more.set()

    async def publish_frames(self, link: MqttLink) -> None:
        """Publish the queued frames until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                topic, frame = self._waiting.popleft()
                if link.is_connected:
                    with suppress(TransportError):
                        await link.publish_message(topic, frame, qos=0, deadline_s=FRAME_DEADLINE_S)


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
        self._writer = asyncio.create_task(self._write_until_finished(), name="trace writer")

    async def write_items(self, items: Sequence[StreamItem]) -> None:
        """Append stream items, in order; they are written within :data:`GATHER_S`.

        Raises:
            InfraError: writing these or earlier ones failed.
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

    async def annotate_windows(self, windows: Sequence[Window]) -> None:
        """Annotate the windows measured in this trace; replaces earlier ones.

        Raises:
            InfraError: a disk operation failed.
        """
        async with self._disk:
            await run_disk_io(self._file.annotate_windows, windows)

    async def finish_writing(self) -> None:
        """Write the remaining items, even while being cancelled.

        Raises:
            InfraError: writing failed.
            LabdBug: items were not in order.
        """
        self._ending.set()
        self._more.set()
        cancelled = await wait_shielded(self._writer)
        self._writer.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _write_until_finished(self) -> None:
        try:
            while self._gathered or not self._ending.is_set():
                await self._more.wait()
                await self._wait_for_more_items()
                await self._write_gathered_items()
            self._send_live_frame(last=True)
        finally:
            self._written.set()

    async def _wait_for_more_items(self) -> None:
        """Wait for more items, at most :data:`GATHER_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await self._ending.wait()

    async def _write_gathered_items(self) -> None:
        items, self._gathered, self._samples = self._gathered, [], 0
        if not self._ending.is_set():
            self._more.clear()
        async with self._disk:
            await run_disk_io(self._file.write_items, items)
        self._written.set()
        self._send_live_frame(last=False)

    def _send_live_frame(self, *, last: bool) -> None:
        frame = self._frames.take_frame(last=last)
        if frame is not None:
            self._send(frame.to_bytes())


@asynccontextmanager
async def open_trace(
    path: Path,
    stream_format: StreamFormat,
    instrument: Identity,
    frames: FrameMaker,
    send: Callable[[bytes], None],
) -> AsyncGenerator[FileTrace]:
    """Open a trace file and close it after the body, as complete if nothing was raised.

    Args:
        path: without suffix.
        stream_format: of its samples.
        instrument: the power monitor.
        frames: makes frames of the samples that were written.
        send: publishes a frame.

    Raises:
        InfraError: a disk operation failed.
    """
    file = await run_disk_io(TraceFile, path, stream_format, instrument, frames.add_samples)
    complete = False
    try:
        async with _finish_after_body(FileTrace(file, frames, send)) as trace:
            yield trace
        complete = True
    finally:
        await run_disk_io(file.close, complete=complete)


@asynccontextmanager
async def _finish_after_body(trace: FileTrace) -> AsyncGenerator[FileTrace]:
    """End the writer after the body; an error of the body takes precedence."""
    try:
        yield trace
    except BaseException:
        try:
            await trace.finish_writing()
        except LabdError as error:
            log.warning("trace-cut-short", error=str(error))
        raise
    await trace.finish_writing()
