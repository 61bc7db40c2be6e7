"""Hands queued jobs to idle stations, again after every change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import structlog

from labd.core.errors import InfraError
from labd.core.jobs import JobSpec, JobState
from labd.core.schedule import StationView, can_start, plan_assignments
from labd.daemon.job_log import JobLog
from labd.daemon.recovery import requeue_abandoned_jobs
from labd.daemon.supervisor import Supervisor
from labd.store.journal.journal import Journal
from labd.store.journal.rows import AttemptOutcome

log = structlog.get_logger(__name__)


class Dispatcher:
    """Assigns jobs to stations as :func:`labd.core.schedule.plan_assignments` decides.

    Args:
        job_log: holds the queue.
        supervisors: of every station, by name.
        retry_s: pause after planning failed.
    """

    def __init__(
        self, job_log: JobLog, supervisors: Mapping[str, Supervisor], retry_s: float = 1.0
    ) -> None:
        self._job_log = job_log
        self._supervisors = supervisors
        self._retry_s = retry_s
        self._changed = asyncio.Event()
        self._set_aside: dict[str, str] = {}

    def request_planning(self) -> None:
        """Plan again: a job or a station changed."""
        self._changed.set()

    def station_views(self) -> list[StationView]:
        """Return every station as scheduling needs it."""
        return [supervisor.scheduling_view() for supervisor in self._supervisors.values()]

    def cancel_running_attempt(self, job: str) -> bool:
        """Cancel the attempt at a job; return whether a station was running it.

        Two stations have the job for a moment while one still ends its attempt.
        """
        cancelled = [each.cancel_attempt(job) for each in self._supervisors.values()]
        return any(cancelled)

    async def plan_after_changes(self) -> None:
        """Plan after every change until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._assign_jobs()
            except InfraError as error:
                log.warning("journal-failed", error=str(error))
            except Exception:  # the top of planning: the running jobs must go on
                log.exception("labd-bug", what="planning")
            else:
                continue
            await asyncio.sleep(self._retry_s)
            self.request_planning()

    async def _assign_jobs(self) -> None:
        """Assign the jobs that can start now; store and publish why the others wait."""
        queued = await self._job_log.query_journal(Journal.list_jobs, [JobState.QUEUED])
        specs = {job.spec.job: job.spec for job in queued}
        self._set_aside = {job: why for job, why in self._set_aside.items() if job in specs}
        fault_stations = await self._job_log.query_journal(Journal.fault_stations)
        planned = plan_assignments(
            [job for job in queued if job.spec.job not in self._set_aside],
            self.station_views(),
            fault_stations,
            await self._job_log.query_journal(Journal.image_boards),
        )
        for assignment in planned.assignments:
            try:
                await self._assign_job(specs[assignment.job], self._supervisors[assignment.station])
            except InfraError:
                raise
            except Exception as error:  # the top of one assignment: it must not end the lab
                log.exception("labd-bug", job=assignment.job)
                await self._set_job_aside(assignment.job, repr(error))
        for name, supervisor in self._supervisors.items():
            supervisor.set_firmware_wanted(wanted=name in planned.wrong_firmware)
        changed = self._job_log.set_waiting_reasons(planned.waiting | self._set_aside)
        self._job_log.queue_job_states(sorted(changed))

    async def _assign_job(self, spec: JobSpec, supervisor: Supervisor) -> None:
        """Lease the job and hand it over; queue it again if the station changed meanwhile."""
        if not can_start(spec, supervisor.scheduling_view()):  # changed during an earlier lease
            return
        if not await self._job_log.lease_job(spec.job, supervisor.name):
            return
        if supervisor.assign_job(spec):
            return
        reason = f"{supervisor.name} was no longer free when the job was leased to it"
        log.info("assignment-refused", job=spec.job, station=supervisor.name)
        requeue = partial(self._job_log.requeue_job, spec.job, reason, AttemptOutcome.INTERRUPTED)
        await self._job_log.repeat_until_stored(requeue, spec.job)
        self.request_planning()

    async def _set_job_aside(self, job: str, error: str) -> None:
        """Leave a job in the queue whose assignment shows a defect of labd; free its station."""
        held = {each.job for each in self._supervisors.values()}
        requeued = await requeue_abandoned_jobs(self._job_log, "labd lost track of the job", held)
        if job in requeued or not requeued:  # otherwise another job caused it
            why = f"a defect of labd prevents its start: {error}; labd tries again after a restart"
            self._set_aside[job] = why
        self.request_planning()
