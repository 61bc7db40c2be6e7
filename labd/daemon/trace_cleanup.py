"""Makes room: removes the files of old runs as the lab's limits say, and nothing else.

The journal hears of it first: it refuses where the job was pinned or is in progress, and a
daemon killed half way finishes the removal after its restart. What a run found stays in the
journal; its job's state tells which attempts' files are gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from labd.aio.blocking_io import run_disk_io
from labd.core.errors import LabdError
from labd.core.retention import Removal, RetentionLimits, plan_removals
from labd.daemon.job_log import JobLog
from labd.store.run_files import (
    assess,
    find_runs,
    leftovers,
    remove_run,
    sweep_rests,
    unsealed_traces,
)
from labd.store.traces.reader import seal_trace

log = structlog.get_logger(__name__)

SWEEP_S = 3600.0
"""At the daemon's start, and then so often."""


class TraceCleanup:
    """Keeps the lab's traces within its limits.

    Args:
        job_log: knows the runs.
        traces: the folder of every job's traces.
        limits: how much is kept.
        now_ns: wall clock, ns since the epoch.
    """

    def __init__(
        self, job_log: JobLog, traces: Path, limits: RetentionLimits, now_ns: Callable[[], int]
    ) -> None:
        self._job_log = job_log
        self._traces = traces
        self._limits = limits
        self._now_ns = now_ns

    async def run(self) -> None:
        """Sweep now and then, for ever; a disk or journal that fails is tried again later."""
        await self._try(self.seal())
        while True:
            await self._try(self.sweep())
            await asyncio.sleep(SWEEP_S)

    async def seal(self) -> None:
        """Close the traces that a killed daemon left behind, all that can be.

        Raises:
            InfraError: the disk fails.
        """
        for path in await run_disk_io(unsealed_traces, self._traces):
            try:
                sealed = await run_disk_io(seal_trace, path)
            except LabdError as error:
                log.warning("trace-not-sealed", trace=str(path), error=str(error))
            else:
                log.info("trace-sealed" if sealed else "trace-in-use", trace=str(path))

    async def sweep(self) -> list[Removal]:
        """Remove what has to go; what was.

        Raises:
            InfraError: the disk or the journal fails; the rest goes next time.
        """
        await run_disk_io(sweep_rests, self._traces)
        folders = await run_disk_io(find_runs, self._traces)
        records = await self._job_log.run_records()
        for folder in leftovers(folders, records):
            await run_disk_io(remove_run, self._traces, folder.job, folder.attempt)
        removals = plan_removals(assess(folders, records), self._limits, self._now_ns())
        return [removal for removal in removals if await self._remove(removal)]

    async def _remove(self, removal: Removal) -> bool:
        run = removal.run
        if not await self._job_log.note_removal(run.job, run.attempt):
            return False
        await run_disk_io(remove_run, self._traces, run.job, run.attempt)
        log.info(
            "run-removed",
            job=run.job,
            attempt=run.attempt,
            megabytes=round(run.size_bytes / 1e6, 3),
            why=removal.reason,
        )
        return True

    async def _try(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except LabdError as error:
            log.warning("sweep-failed", error=str(error))
        except Exception:  # the top of the sweeper's task: the lab goes on without it
            log.exception("labd-bug", what="the sweeper")
