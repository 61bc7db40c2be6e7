"""Removes the files of old runs within the lab's limits.

A removal is recorded in the journal first: the journal refuses it for a pinned or unfinished
job, and a daemon killed half way finishes it after its restart. Results stay in the journal;
the job's state lists the attempts whose files were removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from labd.aio.blocking_io import run_disk_io
from labd.core.errors import LabdError
from labd.core.retention import RetentionLimits, RunFiles, plan_removals
from labd.daemon.background_tasks import log_failure
from labd.daemon.job_log import JobLog
from labd.store.journal.attempts import read_attempts
from labd.store.run_files import delete_interrupted_removals, find_runs, remove_run, unsealed_traces
from labd.store.traces.reader import seal_trace

log = structlog.get_logger(__name__)


class TraceCleanup:
    """Keeps the lab's traces within its limits.

    Args:
        job_log: records the removals.
        traces: the folder of every job's traces.
        limits: how much is kept.
        now_ns: wall clock, ns since the epoch.
        interval_s: between two cleanups.
    """

    def __init__(
        self,
        job_log: JobLog,
        traces: Path,
        limits: RetentionLimits,
        now_ns: Callable[[], int],
        interval_s: float = 3600.0,
    ) -> None:
        self._job_log = job_log
        self._traces = traces
        self._limits = limits
        self._now_ns = now_ns
        self._interval_s = interval_s

    async def clean_up_periodically(self) -> None:
        """Clean up at the start and once per interval, until cancelled; log what fails."""
        await _log_failure(self.seal_open_traces())
        while True:
            await _log_failure(self.remove_old_runs())
            await asyncio.sleep(self._interval_s)

    async def seal_open_traces(self) -> None:
        """Close every trace that a killed daemon left open, where that is possible.

        Raises:
            InfraError: a disk operation failed.
        """
        for path in await run_disk_io(unsealed_traces, self._traces):
            try:
                sealed = await run_disk_io(seal_trace, path)
            except LabdError as error:
                log.warning("trace-not-sealed", trace=str(path), error=str(error))
            else:
                log.info("trace-sealed" if sealed else "trace-in-use", trace=str(path))

    async def remove_old_runs(self) -> list[RunFiles]:
        """Remove the files beyond the limits and return what was removed.

        Raises:
            InfraError: the disk or the journal failed; the rest is removed next time.
        """
        await run_disk_io(delete_interrupted_removals, self._traces)
        attempts = await self._job_log.query_journal(read_attempts)
        runs = await run_disk_io(find_runs, self._traces, attempts)
        for run in runs:
            if run.removed and not run.protected:
                await run_disk_io(remove_run, self._traces, run.job, run.attempt)
        planned = plan_removals(runs, self._limits, self._now_ns())
        return [run for run, reason in planned if await self._remove_run(run, reason)]

    async def _remove_run(self, run: RunFiles, reason: str) -> bool:
        if not await self._job_log.record_removal(run.job, run.attempt):
            return False
        await run_disk_io(remove_run, self._traces, run.job, run.attempt)
        log.info(
            "run-removed",
            job=run.job,
            attempt=run.attempt,
            megabytes=round(run.size_bytes / 1e6, 3),
            why=reason,
        )
        return True


_log_failure = partial(log_failure, event="cleanup-failed", what="trace cleanup")
