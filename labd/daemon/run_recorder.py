"""Record a run: events and results in the job log, files in the store."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from labd.aio.blocking_io import run_disk_io
from labd.aio.transcript import recorded_in
from labd.core.model import Identity, Mode, StreamFormat, Window
from labd.daemon.job_log import JobLog
from labd.daemon.run_logs import TRANSCRIPT, RunLogs
from labd.daemon.trace_writer import FileTrace, open_trace
from labd.procedure.mode_run import OutputRow
from labd.protocol.infer_reply import InferReply
from labd.store.state_directory import write_json
from labd.wire.frames import FrameMaker
from labd.wire.job_events import EventData, Note, Phase, Progress
from labd.wire.results import MeasuredWindow, ModeResult, ResultFile

OUTPUTS = "accuracy-outputs.csv"
INFERENCES = "accuracy-inferences.csv.gz"

PROGRESS_INTERVAL_S = 0.5
"""Least time between two progress events; the last step is always reported."""


class RunReporter:
    """Writes the events of one attempt at one job.

    Args:
        job_log: where they go.
        job: the job's id.
        attempt: the attempt they belong to.
        monotonic: seconds of a monotonic clock.
    """

    def __init__(
        self, job_log: JobLog, job: str, attempt: int, monotonic: Callable[[], float]
    ) -> None:
        self._job_log = job_log
        self._job = job
        self._attempt = attempt
        self._monotonic = monotonic
        self._last_progress = float("-inf")
        self._mode = Mode.ACCURACY

    async def report_phase(self, mode: Mode, name: str) -> None:
        """Report that a phase begins."""
        self._mode = mode
        self._last_progress = float("-inf")
        await self._append_event(Phase(mode=mode, phase=name))

    async def report_progress(self, done: int, total: int, unit: str) -> None:
        """Report ``done`` of ``total``, at most every :data:`PROGRESS_INTERVAL_S`."""
        now = self._monotonic()
        if done < total and now - self._last_progress < PROGRESS_INTERVAL_S:
            return
        self._last_progress = now
        await self._append_event(Progress(mode=self._mode, done=done, total=total, unit=unit))

    async def report_window(self, mode: Mode, window: Window) -> None:
        """Report a measured window."""
        await self._append_event(MeasuredWindow.from_window(mode, window))

    async def report_note(self, text: str, reasons: Sequence[str] = ()) -> None:
        """Report what a reader of the result should know."""
        await self._append_event(Note(text=text, reasons=tuple(reasons)))

    async def store_result(self, result: ModeResult) -> None:
        """Keep what a mode found."""
        await self._job_log.store_result(self._job, self._attempt, result)

    async def _append_event(self, data: EventData) -> None:
        await self._job_log.append_event(self._job, data)


class RunEvidence:
    """Writes the files of one attempt.

    Args:
        folder: of the files; created with the first.
        attempt: of the job.
        send: publishes a frame for live plots; returns at once.

    Attributes:
        folder: ``traces/<job>/<attempt>``, below the lab's state directory.
        transcript_file: name of the transcript of the serial lines.
        inferences_file: name of the log of accuracy mode's inferences: file, window of the file,
            host times of start and end in ns, the DUT's counter at both, outputs.
    """

    def __init__(
        self, folder: Path, attempt: int = 1, send: Callable[[bytes], None] | None = None
    ) -> None:
        self._folder = folder
        self._attempt = attempt
        self._send = send or _discard_frame
        self._traces = 0
        self._logs = RunLogs(folder)
        self.folder = "/".join(folder.parts[-3:])
        self.transcript_file = TRANSCRIPT
        self.inferences_file = INFERENCES

    @asynccontextmanager
    async def record_run(self) -> AsyncGenerator[None]:
        """Write the run's logs while the body runs; ports that it opens are transcribed.

        Raises:
            InfraError: a disk operation failed.
        """
        async with self._logs:
            with recorded_in(self._logs.transcript):
                yield

    @asynccontextmanager
    async def open_trace(
        self, name: str, stream_format: StreamFormat, instrument: Identity
    ) -> AsyncGenerator[FileTrace]:
        """Open a trace file; it is closed whatever happens."""
        frames = FrameMaker(self._attempt, self._traces, stream_format.sample_rate_hz)
        self._traces += 1
        path = self._folder / name
        async with open_trace(path, stream_format, instrument, frames, self._send) as trace:
            yield trace

    def log_inference(self, file: str, window: int, reply: InferReply) -> None:
        """Append an inference of accuracy mode to its log.

        Raises:
            InfraError: writing the logs failed before.
        """
        laps = reply.laps_us or ("", "")
        values = (file, window, reply.start_ns, reply.done_ns, *laps, *reply.results)
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._logs.append_text(INFERENCES, line.getvalue())

    async def write_outputs(self, rows: Sequence[OutputRow]) -> str:
        """Write the DUT's outputs as CSV (file, label, outputs) and return the file's name."""
        await run_disk_io(_write_outputs, self._folder / OUTPUTS, rows)
        return OUTPUTS

    async def write_result_copy(self, job: str, benchmark: str, result: ModeResult) -> None:
        """Write a copy of a mode's result beside its evidence, for ``labd score``."""
        copy = ResultFile(job=job, benchmark=benchmark, **dict(result))
        await run_disk_io(_write_result, self._folder / f"result-{result.mode}.json", copy)


def _discard_frame(_frame: bytes) -> None:
    """Discard a frame."""


def _write_outputs(path: Path, rows: Sequence[OutputRow]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([row.file, row.label, *row.outputs] for row in rows)


def _write_result(path: Path, copy: ResultFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, copy.model_dump(mode="json"))
