"""The scheduler's loop: when something changed, plan anew and hand out jobs."""

from __future__ import annotations

import asyncio

import structlog

from labd.core.errors import InfraError
from labd.core.jobs import JobState
from labd.core.schedule import StationView, plan
from labd.daemon.job_log import JobLog
from labd.daemon.supervisor import Supervisor

log = structlog.get_logger(__name__)

RETRY_S = 1.0


class Dispatcher:
    """Hands queued jobs to idle stations through :func:`labd.core.schedule.plan`."""

    def __init__(self, job_log: JobLog, supervisors: dict[str, Supervisor]) -> None:
        self._job_log = job_log
        self._supervisors = supervisors
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Something changed that may let a job start."""
        self._changed.set()

    def views(self) -> list[StationView]:
        """Every station as scheduling sees it."""
        return [supervisor.view() for supervisor in self._supervisors.values()]

    async def dispatch(self) -> None:
        """Plan after every change, for ever; a journal that fails is tried again."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._plan()
            except InfraError as error:
                log.warning("journal-fails", error=str(error))
                await asyncio.sleep(RETRY_S)
                self.wake()

    async def _plan(self) -> None:
        """Hand out what can start now, and tell the others why they wait."""
        queued = await self._job_log.jobs([JobState.QUEUED])
        planned = plan(queued, self.views())
        specs = {job.spec.job: job.spec for job in queued}
        for assignment in planned.assignments:
            if await self._job_log.lease(assignment.job, assignment.station):
                self._supervisors[assignment.station].assign(specs[assignment.job])
        changed = self._job_log.set_waiting(planned.waiting)
        self._job_log.publish_states(sorted(changed))
