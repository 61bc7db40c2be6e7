"""One station's life: check it, run what it is given, and never leave it powered or busy."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from labd.aio.shielded import wait_shielded
from labd.core.errors import (
    ConfigError,
    DutError,
    InfraError,
    JobError,
    LabdError,
    MeasurementInvalid,
)
from labd.core.health import Activity, Health, HealthStep, next_health
from labd.core.jobs import MAX_FAULTS, Job, JobSpec
from labd.core.model import Finding, Identity, Part, Verdict
from labd.core.schedule import StationView
from labd.daemon.job_log import JobLog
from labd.daemon.run_recorder import RunEvidence, RunReporter
from labd.procedure.run import verdict_of
from labd.station.open_station import StationBench
from labd.store.journal.rows import Outcome
from labd.wire.results import ModeResult

log = structlog.get_logger(__name__)

RECHECK_S = 30.0
"""A station that failed its check is looked at again after this, then twice as long …"""

RECHECK_MAX_S = 600.0
"""… up to this."""


ATTEMPT_DEADLINE_S = 48 * 3600.0
"""No attempt takes longer: the slowest official set needs 30 h at 9600 baud."""

JOURNAL_RETRY_S = 1.0


class Work(Protocol):
    """What a supervisor does on its station; the daemon puts it together."""

    def open(self, spec: JobSpec | None) -> AbstractAsyncContextManager[StationBench]:
        """Open the station, for a job or (``None``) for a check."""
        ...

    def run(
        self, bench: StationBench, spec: JobSpec, reporter: RunReporter, evidence: RunEvidence
    ) -> AsyncIterator[ModeResult]:
        """Run a job's modes on the open station."""
        ...

    async def check(self, bench: StationBench) -> list[Finding]:
        """Decide whether the open station may serve."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended; ``retry`` when the job deserves another one."""

    verdict: Verdict
    reason: str
    retry: bool = False


@dataclass(slots=True)
class Supervisor:
    """Runs one station.

    Args:
        name: the station.
        parts: what it has.
        work: how to open, check and use it.
        job_log: where everything is written down.
        evidence: keeps what stands behind the numbers of a job's attempt.
        changed: called after every change of health or activity.
        sees_timestamps: see :class:`labd.core.schedule.StationView`.
    """

    name: str
    parts: frozenset[Part]
    work: Work
    job_log: JobLog
    evidence: Callable[[str, int], RunEvidence]
    changed: Callable[[Supervisor], None]
    sees_timestamps: bool = True
    health: Health = Health.UNKNOWN
    activity: Activity = Activity.IDLE
    why: str = "not checked yet"
    job: str = ""
    identities: dict[str, Identity] = field(default_factory=dict[str, Identity])
    simulated: bool = False
    _inbox: asyncio.Queue[JobSpec] = field(default_factory=lambda: asyncio.Queue(1))
    _attempt: asyncio.Task[Ending] | None = None
    _cancelling: bool = False
    _check_requested: asyncio.Event = field(default_factory=asyncio.Event)

    def view(self) -> StationView:
        """The station as scheduling sees it."""
        return StationView(
            self.name, self.parts, self.health, self.activity, self.why, self.sees_timestamps
        )

    def assign(self, spec: JobSpec) -> None:
        """Give the idle station a job that the journal has leased to it."""
        self.job = spec.job
        self._inbox.put_nowait(spec)
        self._set(activity=Activity.LEASED)

    def cancel(self, job: str) -> bool:
        """Stop the attempt at this job, if it is here; it ends as cancelled."""
        if job != self.job:
            return False
        self._cancelling = True
        if self._attempt is not None:
            self._attempt.cancel()
        return True

    def request_check(self) -> None:
        """Check the station as soon as it is free, whatever its health was."""
        self._check_requested.set()

    async def supervise(self) -> None:
        """Serve for ever; a cancellation ends it after the station was taken down."""
        pause = RECHECK_S
        while True:
            if self.health is not Health.GOOD:
                await self._check()
            if self.health is Health.GOOD:
                pause = RECHECK_S
                await self._await_work()
            else:
                await self._rest(pause)
                pause = min(2 * pause, RECHECK_MAX_S)

    async def _await_work(self) -> None:
        """Serve the next job, or look again when somebody says so."""
        coming = asyncio.create_task(self._inbox.get())
        alarm = asyncio.create_task(self._check_requested.wait())
        try:
            await asyncio.wait({coming, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            if not coming.done():
                coming.cancel()
        if coming.done() and not coming.cancelled():
            await self._serve(coming.result())
        if self._check_requested.is_set():
            self._check_requested.clear()
            self._fault("its bench was restarted")

    async def _rest(self, pause_s: float) -> None:
        self._check_requested.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._check_requested.wait()

    async def _check(self) -> None:
        """Open the station and let the health check decide."""
        self._set(activity=Activity.CHECKING)
        passed, why = False, "the check was broken off"
        try:
            passed, why = await self._examine()
        except LabdError as error:
            why = str(error)
        except Exception as error:  # the top of the check: one station must not end the lab
            log.exception("labd-bug", station=self.name)
            why = f"a defect of labd: {error!r}"
        finally:
            step = HealthStep.CHECK_PASSED if passed else HealthStep.CHECK_FAILED
            log.info("station-checked", station=self.name, step=step, why=why)
            self._set(health=next_health(self.health, step), why=why, activity=Activity.IDLE)

    async def _examine(self) -> tuple[bool, str]:
        """Whether the station may serve, and everything that was noticed."""
        async with self.work.open(None) as bench:
            self.identities, self.simulated = bench.identities, bench.simulated
            findings = await self.work.check(bench)
        noticed = "; ".join(f"{f.text} ({f.remedy})" if f.remedy else f.text for f in findings)
        return not any(finding.serious for finding in findings), noticed

    async def _serve(self, spec: JobSpec) -> None:
        """Run one job to its ending and write that down, even while being shut down."""
        self._attempt = asyncio.create_task(self._start(spec), name=f"{self.name}: {spec.job}")
        if self._cancelling:
            self._attempt.cancel()
        stopped = await wait_shielded(self._attempt, cancel_task=True)
        ending = self._ending(self._attempt, stopped=stopped)
        concluding = asyncio.create_task(self._conclude(spec, ending))
        stopped |= await wait_shielded(concluding)
        self.job, self._cancelling, self._attempt = "", False, None
        self._set(activity=Activity.IDLE)
        concluding.result()
        if stopped:
            raise asyncio.CancelledError

    def _ending(self, attempt: asyncio.Task[Ending], *, stopped: bool) -> Ending | None:
        """How an attempt ended; ``None`` when labd itself is being stopped."""
        ending: Ending | None = None
        if not attempt.cancelled():
            fault = attempt.exception()
            ending = Ending(Verdict.INFRA, str(fault), retry=True) if fault else attempt.result()
        if ending is None or ending.retry:
            if self._cancelling:
                return Ending(Verdict.CANCELLED, "cancelled while it ran")
            if stopped:
                return None
        return ending or Ending(Verdict.INFRA, "the attempt was broken off", retry=True)

    async def _start(self, spec: JobSpec) -> Ending:
        job = await self.job_log.start(spec.job)
        self._set(activity=Activity.RUNNING)
        return await self._judge(job)

    async def _judge(self, job: Job) -> Ending:
        """Run the job and turn every kind of fault into its ending, by blame."""
        try:
            async with asyncio.timeout(ATTEMPT_DEADLINE_S):
                return await self._run(job)
        except (JobError, MeasurementInvalid) as error:
            return Ending(Verdict.INVALID, str(error))
        except DutError as error:
            return Ending(Verdict.FAIL, str(error))
        except (InfraError, ConfigError, TimeoutError) as error:
            self._fault(str(error) or "the attempt took far too long")
            return Ending(Verdict.INFRA, self.why, retry=True)
        except Exception as error:  # the top of a job's task: a defect must end the job too
            log.exception("labd-bug", job=job.spec.job, station=self.name)
            self._fault(f"a defect of labd: {error!r}")
            return Ending(Verdict.INFRA, self.why)

    async def _run(self, job: Job) -> Ending:
        spec = job.spec
        reporter = RunReporter(self.job_log, spec.job, job.attempt, time.monotonic)
        evidence = self.evidence(spec.job, job.attempt)
        results: list[ModeResult] = []
        try:
            async with self.work.open(spec) as bench:
                self.identities, self.simulated = bench.identities, bench.simulated
                async for result in self.work.run(bench, spec, reporter, evidence):
                    results.append(result)
                    await reporter.result(result)
                    await evidence.result(spec.job, spec.benchmark, result)
        except InfraError as error:
            if len(results) < len(spec.modes):
                raise
            self._fault(str(error))  # all is measured; taking the station down went wrong
        reasons = "; ".join(f"{r.mode}: {reason}" for r in results for reason in r.reasons)
        return Ending(verdict_of(results), reasons)

    async def _conclude(self, spec: JobSpec, ending: Ending | None) -> None:
        """Write the ending down; a journal that fails for a while is waited for."""
        while True:
            try:
                await self._write_ending(spec, ending)
            except InfraError as error:
                log.warning("journal-fails", job=spec.job, error=str(error))
                await asyncio.sleep(JOURNAL_RETRY_S)
            else:
                return

    async def _write_ending(self, spec: JobSpec, ending: Ending | None) -> None:
        if ending is None:
            await self.job_log.requeue(spec.job, "labd was stopped", Outcome.INTERRUPTED)
        elif ending.retry and await self.job_log.faults(spec.job) + 1 < MAX_FAULTS:
            await self.job_log.requeue(spec.job, ending.reason, Outcome.FAULT)
        else:
            await self.job_log.finish(spec.job, ending.verdict, ending.reason)

    def _fault(self, why: str) -> None:
        self._set(health=next_health(self.health, HealthStep.FAULT), why=why)

    def _set(
        self,
        *,
        health: Health | None = None,
        activity: Activity | None = None,
        why: str | None = None,
    ) -> None:
        self.health = health or self.health
        self.activity = activity or self.activity
        self.why = self.why if why is None else why
        self.changed(self)
