"""Compressed logs of one run, written beside the event loop while the run goes.

Text is collected for a second and written in one piece: a kill -9 loses at most that.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from labd.aio.blocking_io import run_disk_io
from labd.aio.shielded import wait_shielded
from labd.aio.transcript import Transcript, format_entries
from labd.core.errors import LabdError
from labd.store.compressed_log import CompressedLog

log = structlog.get_logger(__name__)

TRANSCRIPT = "transcript.txt.gz"

FLUSH_S = 1.0
"""Time between two writes."""


class RunLogs:
    """The logs of one run, while its context is entered; each file is created with its text.

    The end of the context writes and closes them, also after an error or a cancellation.

    Args:
        folder: of the files.

    Attributes:
        transcript: collects the text of the run's ports; written to :data:`TRANSCRIPT`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts: defaultdict[str, list[str]] = defaultdict(list)
        self._logs: dict[str, CompressedLog] = {}
        self._ending = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.transcript = Transcript()

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._writer = asyncio.create_task(self._write_on(), name="run logs")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the rest and close the files.

        Raises:
            InfraError: a disk operation failed, and the body raised nothing.
        """
        if self._writer is None:
            return
        self._ending.set()
        cancelled = await wait_shielded(self._writer)
        failure = self._writer.exception()
        if cancelled:
            raise asyncio.CancelledError
        if failure is not None and error is None:
            raise failure
        if isinstance(failure, LabdError):
            log.warning("run-logs-cut-short", folder=str(self._folder), error=str(failure))

    def append_text(self, name: str, text: str) -> None:
        """Append text to a log; it is written within :data:`FLUSH_S`.

        Raises:
            InfraError: writing this log or another one failed before.
        """
        self._texts[name].append(text)
        if self._writer is not None and self._writer.done():
            self._writer.result()

    async def _write_on(self) -> None:
        is_last = False
        try:
            while not is_last:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_S):
                        await self._ending.wait()
                is_last = self._ending.is_set()
                await self._write_collected()
        finally:
            self.transcript.close()
            await run_disk_io(self._close_logs)

    async def _write_collected(self) -> None:
        texts, self._texts = self._texts, defaultdict(list)
        if entries := self.transcript.take_entries():
            texts[TRANSCRIPT].append(format_entries(entries))
        if texts:
            await run_disk_io(self._write_texts, texts)

    def _write_texts(self, texts: Mapping[str, list[str]]) -> None:
        for name, pieces in texts.items():
            if name not in self._logs:
                self._logs[name] = CompressedLog(self._folder / name)
            self._logs[name].write("".join(pieces))

    def _close_logs(self) -> None:
        for each in self._logs.values():
            each.close()
