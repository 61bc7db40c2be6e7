"""A run's news: from the procedure into the job log, its traces into the store."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from labd.aio.blocking_io import run_disk_io
from labd.core.model import Identity, Mode, ModeResult, StreamFormat, Window
from labd.daemon.job_log import JobLog
from labd.daemon.trace_writer import FileTrace, open_trace
from labd.procedure.session import OutputRow
from labd.store.state_directory import write_json
from labd.wire.frames import FrameMaker
from labd.wire.messages import EventType

OUTPUTS = "accuracy-outputs.csv"

PROGRESS_INTERVAL_S = 0.5
"""Progress is told at most this often; its last step always."""


class RunReporter:
    """Tells the news of one attempt at one job.

    Args:
        job_log: where they go.
        job: the job's id.
        attempt: the attempt they belong to.
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(
        self, job_log: JobLog, job: str, attempt: int, monotonic: Callable[[], float]
    ) -> None:
        self._job_log = job_log
        self._job = job
        self._attempt = attempt
        self._monotonic = monotonic
        self._last_progress = float("-inf")
        self._mode = ""

    async def phase(self, mode: Mode, name: str) -> None:
        """Something new begins."""
        self._mode = mode
        self._last_progress = float("-inf")
        await self._tell(EventType.PHASE, {"mode": mode, "phase": name})

    async def progress(self, done: int, total: int, unit: str) -> None:
        """So much of the present phase is done."""
        now = self._monotonic()
        if done < total and now - self._last_progress < PROGRESS_INTERVAL_S:
            return
        self._last_progress = now
        data = {"mode": self._mode, "done": done, "total": total, "unit": unit}
        await self._tell(EventType.PROGRESS, data)

    async def window(self, mode: Mode, window: Window) -> None:
        """A window was measured."""
        data = {"mode": mode, "valid": window.valid, **dataclasses.asdict(window)}
        await self._tell(EventType.WINDOW, data)

    async def note(self, text: str, **data: Any) -> None:
        """Something a reader of the result should know."""
        await self._tell(EventType.NOTE, {"text": text, **data})

    async def result(self, result: ModeResult) -> None:
        """A mode is through: keep all of it."""
        await self._job_log.result(self._job, self._attempt, dataclasses.asdict(result))

    async def _tell(self, kind: EventType, data: dict[str, Any]) -> None:
        await self._job_log.event(self._job, kind, data)


class RunEvidence:
    """Keeps the evidence of one attempt.

    Args:
        folder: where; made when there is something to keep.
        attempt: of the job.
        send: gets the frames for live plots, where anybody may look on; returns at once.
    """

    def __init__(
        self, folder: Path, attempt: int = 1, send: Callable[[bytes], None] | None = None
    ) -> None:
        self._folder = folder
        self._attempt = attempt
        self._send = send or _drop
        self._traces = 0

    @asynccontextmanager
    async def trace(
        self, name: str, stream_format: StreamFormat, instrument: Identity
    ) -> AsyncGenerator[FileTrace]:
        """Open a trace file; it is closed whatever happens."""
        frames = FrameMaker(self._attempt, self._traces, stream_format.sample_rate_hz)
        self._traces += 1
        path = self._folder / name
        async with open_trace(path, stream_format, instrument, frames, self._send) as trace:
            yield trace

    async def outputs(self, rows: Sequence[OutputRow]) -> str:
        """Write what the DUT answered as CSV: file, label, outputs."""
        await run_disk_io(_write_outputs, self._folder / OUTPUTS, rows)
        return OUTPUTS

    async def result(self, job: str, benchmark: str, result: ModeResult) -> None:
        """Keep what a mode concluded beside its evidence: ``labd score`` reads it there."""
        told = {"job": job, "benchmark": benchmark, **dataclasses.asdict(result)}
        await run_disk_io(_write_result, self._folder / f"result-{result.mode}.json", told)


def _drop(_frame: bytes) -> None:
    """Nobody looks on."""


def _write_outputs(path: Path, rows: Sequence[OutputRow]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([row.file, row.label, *row.outputs] for row in rows)


def _write_result(path: Path, told: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, told)
