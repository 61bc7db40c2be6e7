"""Hands queued jobs to idle stations, again after every change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from labd.core.errors import InfraError
from labd.core.jobs import JobState
from labd.core.schedule import StationView, plan
from labd.daemon.job_log import JobLog
from labd.daemon.supervisor import Supervisor
from labd.store.journal.journal import Journal

log = structlog.get_logger(__name__)


class Dispatcher:
    """Assigns jobs to stations as :func:`labd.core.schedule.plan` decides.

    Args:
        job_log: holds the queue.
        supervisors: of every station, by name.
        retry_s: pause after the journal failed.
    """

    def __init__(
        self, job_log: JobLog, supervisors: Mapping[str, Supervisor], retry_s: float = 1.0
    ) -> None:
        self._job_log = job_log
        self._supervisors = supervisors
        self._retry_s = retry_s
        self._changed = asyncio.Event()

    def request_planning(self) -> None:
        """Plan again: a job or a station changed."""
        self._changed.set()

    def station_views(self) -> list[StationView]:
        """Return every station as scheduling needs it."""
        return [supervisor.scheduling_view() for supervisor in self._supervisors.values()]

    def cancel_running_attempt(self, job: str) -> bool:
        """Cancel the attempt at a job; return whether a station was running it."""
        return any(supervisor.cancel_attempt(job) for supervisor in self._supervisors.values())

    async def plan_after_changes(self) -> None:
        """Plan after every change until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._assign_jobs()
            except InfraError as error:
                log.warning("journal-failed", error=str(error))
                await asyncio.sleep(self._retry_s)
                self.request_planning()

    async def _assign_jobs(self) -> None:
        """Assign the jobs that can start now; store and publish why the others wait."""
        queued = await self._job_log.query_journal(Journal.jobs, [JobState.QUEUED])
        planned = plan(queued, self.station_views())
        specs = {job.spec.job: job.spec for job in queued}
        for assignment in planned.assignments:
            if await self._job_log.lease_job(assignment.job, assignment.station):
                self._supervisors[assignment.station].assign_job(specs[assignment.job])
        changed = self._job_log.set_waiting_reasons(planned.waiting)
        self._job_log.queue_job_states(sorted(changed))
