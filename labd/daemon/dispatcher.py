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

    def wake(self) -> None:
        """Plan again: a job or a station changed."""
        self._changed.set()

    def views(self) -> list[StationView]:
        """Return every station as scheduling needs it."""
        return [supervisor.view() for supervisor in self._supervisors.values()]

    def cancel(self, job: str) -> bool:
        """Cancel the attempt at a job; return whether a station was running it."""
        return any(supervisor.cancel(job) for supervisor in self._supervisors.values())

    async def dispatch(self) -> None:
        """Plan after every change until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._plan()
            except InfraError as error:
                log.warning("journal-failed", error=str(error))
                await asyncio.sleep(self._retry_s)
                self.wake()

    async def _plan(self) -> None:
        """Assign the jobs that can start now; store and publish why the others wait."""
        queued = await self._job_log.read(Journal.jobs, [JobState.QUEUED])
        planned = plan(queued, self.views())
        specs = {job.spec.job: job.spec for job in queued}
        for assignment in planned.assignments:
            if await self._job_log.lease(assignment.job, assignment.station):
                self._supervisors[assignment.station].assign(specs[assignment.job])
        changed = self._job_log.set_waiting(planned.waiting)
        self._job_log.publish_states(sorted(changed))
