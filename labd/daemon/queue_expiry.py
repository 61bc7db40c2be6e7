"""Jobs that have waited too long in the queue end with the verdict *expired*."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from labd.core.jobs import Job, JobState
from labd.daemon.background_tasks import log_failure
from labd.daemon.job_log import JobLog
from labd.store.journal.journal import Journal

log = structlog.get_logger(__name__)


class QueueExpiry:
    """Ends jobs whose time in the queue is over.

    Args:
        job_log: holds the queue.
        limit_s: longest time in the queue of a job that states none.
        now_ns: wall clock, ns since the epoch.
        interval_s: between two looks at the queue.
    """

    def __init__(
        self,
        job_log: JobLog,
        limit_s: float,
        now_ns: Callable[[], int],
        interval_s: float = 60.0,
    ) -> None:
        self._job_log = job_log
        self._limit_s = limit_s
        self._now_ns = now_ns
        self._interval_s = interval_s

    async def expire_periodically(self) -> None:
        """Expire jobs once per interval, until cancelled; log what fails."""
        while True:
            await asyncio.sleep(self._interval_s)  # the first plan gives the reasons to wait
            await log_failure(self.expire_jobs(), event="expiry-failed", what="queue expiry")

    async def expire_jobs(self) -> None:
        """End every job that has been in the queue for too long.

        Raises:
            InfraError: the journal failed; the rest is ended next time.
        """
        for job in await self._job_log.query_journal(Journal.list_jobs, [JobState.QUEUED]):
            limit_s = job.spec.expire_after_s or self._limit_s
            if self._now_ns() - job.updated_ns >= limit_s * 1e9:
                await self._job_log.expire_job(job, self._describe_expiry(job, limit_s))

    def _describe_expiry(self, job: Job, limit_s: float) -> str:
        whose = "its own limit" if job.spec.expire_after_s else "the lab's limit"
        waiting = self._job_log.waiting_reason(job.spec.job)
        why = f"; {waiting}" if waiting else ""
        return f"it was in the queue for {_format_time(limit_s)}, which is {whose}{why}"


def _format_time(seconds: float) -> str:
    """Format a time in its largest whole unit."""
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s and seconds % length_s == 0:
            return f"{seconds / length_s:g} {unit}"
    return f"{seconds:g} s"
