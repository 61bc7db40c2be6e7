"""One station: check it, run the jobs assigned to it, never leave it powered or busy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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
from labd.core.jobs import Job, JobSpec
from labd.core.model import Identity, Verdict
from labd.core.schedule import HeldFirmware, StationView, can_start
from labd.daemon.attempt_ending import Ending, ending_of_failed_start, write_ending
from labd.daemon.job_log import JobLog
from labd.daemon.run_recorder import RunEvidence, RunReporter
from labd.daemon.station_runner import StationRunner
from labd.procedure.run import combine_verdicts
from labd.station.config import StationConfig
from labd.store.journal.journal import Journal
from labd.wire.results import ModeResult

log = structlog.get_logger(__name__)


WRONG_FIRMWARE = {"wrong-model", "wrong-build"}
"""Errors of a board that runs another firmware than the job needs."""


@dataclass(slots=True)
class Supervisor:
    """Runs one station: health check, jobs, one ending per attempt.

    Args:
        station: its configuration.
        runner: opens, checks and uses it.
        job_log: where every step of a job is committed.
        make_evidence_writer: makes the writer of an attempt's files, by job and attempt.
        has_alternative: whether a job could run on another station than the named one.
        on_change: called after every change of health or activity.
        recheck_s: pause after a failed check; it doubles with every further one.
        recheck_max_s: longest pause between two checks.
        attempt_deadline_s: limit of one attempt. The slowest official data set takes 30 h at
            9600 baud.
        defect_pause_s: pause after a defect of labd.
        stop_grace_s: how long the journal may refuse an attempt's ending while labd stops.
    """

    station: StationConfig
    runner: StationRunner
    job_log: JobLog
    make_evidence_writer: Callable[[str, int], RunEvidence]
    has_alternative: Callable[[JobSpec, str], bool]
    on_change: Callable[[Supervisor], None]
    recheck_s: float = 30.0
    recheck_max_s: float = 600.0
    attempt_deadline_s: float = 48 * 3600.0
    defect_pause_s: float = 1.0
    stop_grace_s: float = 10.0
    health: Health = Health.UNKNOWN
    activity: Activity = Activity.IDLE
    why: str = "not checked yet"
    job: str = ""
    identities: dict[str, Identity] = field(default_factory=dict[str, Identity])
    simulated: bool = False
    holds: HeldFirmware | None = None
    _assigned: JobSpec | None = None
    _attempt: asyncio.Task[Ending] | None = None
    _cancelling: bool = False
    _check_reason: str = ""
    _firmware_wanted: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _pause_s: float = 0.0
    _logged_check: tuple[HealthStep, str] | None = None
    _reread_pause_s: float = 0.0

    @property
    def name(self) -> str:
        """The station's name."""
        return self.station.name

    def scheduling_view(self) -> StationView:
        """Return the station as scheduling needs it."""
        return StationView(
            self.name,
            frozenset(self.station.parts),
            self.health,
            self.activity,
            self.why,
            self.station.sees_timestamps,
            self.holds,
            self.station.board,
        )

    def assign_job(self, spec: JobSpec) -> bool:
        """Give the station a job that the journal has leased to it.

        Returns:
            False, without effect, if it cannot start the job any more.
        """
        if not can_start(spec, self.scheduling_view()):
            return False
        self.job, self._assigned = spec.job, spec
        self._update_state(activity=Activity.LEASED)
        self._changed.set()
        return True

    def cancel_attempt(self, job: str) -> bool:
        """Cancel the attempt at this job; return whether it is on this station."""
        if job != self.job:
            return False
        self._cancelling = True
        if self._attempt is not None:
            self._attempt.cancel()
        return True

    def request_check(self, why: str) -> None:
        """Check the station as soon as it is free, whatever its health."""
        self._check_reason = why
        if self.scheduling_view().is_free:
            self._set_faulty(why)
        self._changed.set()

    def set_firmware_wanted(self, *, wanted: bool) -> None:
        """State whether a waiting job needs another firmware on the board.

        labd cannot flash it, but somebody may: it is read again at once, then with growing pauses.
        """
        if wanted != self._firmware_wanted:
            self._firmware_wanted, self._reread_pause_s = wanted, 0.0
            self._changed.set()

    async def check_and_run_jobs(self) -> None:
        """Check the station and run its jobs until cancelled, then close the station."""
        while True:
            try:
                await self._check_or_run_job()
            except Exception as error:  # the top of a station: the others must go on
                log.exception("labd-bug", station=self.name)
                self._update_state(health=Health.UNKNOWN, why=f"a defect of labd: {error!r}")
                await asyncio.sleep(self.defect_pause_s)

    async def _check_or_run_job(self) -> None:
        """Check a station that is not good; otherwise wait for a job and run it."""
        if self.health is not Health.GOOD:
            await self._check_health()
            if self.health is Health.BAD:
                await self._wait_before_check()
            return
        self._pause_s = self.recheck_s
        spec = await self._wait_for_job()
        if spec is not None:
            await self._run_job(spec)
        if self._check_reason and self.health is Health.GOOD:
            self._set_faulty(self._check_reason)

    async def _wait_for_job(self) -> JobSpec | None:
        """Wait for a job, or until the station is to be checked."""
        while self._assigned is None and self.health is Health.GOOD:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._reread_pause_s if self._firmware_wanted else None):
                    await self._changed.wait()
            except TimeoutError:
                pause_s = max(2 * self._reread_pause_s, self.recheck_s)
                self._reread_pause_s = min(pause_s, self.recheck_max_s)
                self.request_check("a job waits for another firmware on its board")
        spec, self._assigned = self._assigned, None
        return spec

    async def _wait_before_check(self) -> None:
        """Wait before the next check, or for the request of one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s or self.recheck_s):
                while not self._check_reason:
                    self._changed.clear()
                    await self._changed.wait()
        self._pause_s = min(2 * (self._pause_s or self.recheck_s), self.recheck_max_s)

    # ---- health check --------------------------------------------------------------------

    async def _check_health(self, afterwards: Activity = Activity.IDLE) -> None:
        """Open the station and let the health check decide."""
        self._check_reason = ""
        self._update_state(activity=Activity.CHECKING)
        passed: bool | None = None
        why = "its check was interrupted"
        try:
            passed, why = await self._run_health_check()
        except LabdError as error:
            passed, why = False, str(error)
        except Exception as error:  # the top of the check: one station must not end the lab
            log.exception("labd-bug", station=self.name)
            passed, why = False, f"a defect of labd: {error!r}"
        finally:
            health = self.health
            if passed is not None:
                step = HealthStep.CHECK_PASSED if passed else HealthStep.CHECK_FAILED
                self._log_check(step, why)
                health = next_health(health, step)
            self._update_state(health=health, why=why, activity=afterwards)

    def _log_check(self, step: HealthStep, why: str) -> None:
        """Log a check that found something new; the repeated checks of a bad station do not."""
        is_new = (step, why) != self._logged_check
        self._logged_check = (step, why)
        level = logging.INFO if is_new else logging.DEBUG
        log.log(level, "station-checked", station=self.name, step=step, why=why)

    async def _run_health_check(self) -> tuple[bool, str]:
        """Return whether the station may serve, and its findings as text."""
        async with self.runner.create_bench(None) as bench:
            self.identities, self.simulated = bench.identities, bench.is_simulated
            findings = await self.runner.check_health(bench)
            self.holds = bench.held_firmware
        texts = [f"{f.text} ({f.remedy})" if f.remedy else f.text for f in findings]
        return not any(finding.serious for finding in findings), "; ".join(texts)

    # ---- a job: run the attempt, derive its ending, write the ending ---------------------

    async def _run_job(self, spec: JobSpec) -> None:
        """Run one attempt and write its ending, even while labd is being stopped."""
        self._attempt = asyncio.create_task(
            self._run_attempt(spec), name=f"{self.name}: {spec.job}"
        )
        if self._cancelling:
            self._attempt.cancel()
        stopped = await wait_shielded(self._attempt, cancel_task=True)
        ending = self._ending_of_attempt(self._attempt, stopped=stopped)
        alternative = self.has_alternative(spec, self.name)
        writing = asyncio.create_task(
            write_ending(self.job_log, spec, ending, alternative=alternative)
        )
        stopped = await wait_shielded(writing, cancelled=stopped, grace_s=self.stop_grace_s)
        self.job, self._cancelling, self._attempt = "", False, None
        self._update_state(activity=Activity.IDLE)
        if writing.cancelled():  # the next start finds the attempt open and queues the job again
            log.warning("ending-not-stored", job=spec.job, station=self.name)
        writing.result()
        if stopped:
            raise asyncio.CancelledError

    async def _run_attempt(self, spec: JobSpec) -> Ending:
        """Start the attempt, run its modes, and map every error to an ending, by blame."""
        job = await self.job_log.start_attempt(spec.job)
        if job.cancel_requested:  # while the job was leased
            return Ending(Verdict.CANCELLED, "cancelled before it ran")
        self._update_state(activity=Activity.RUNNING)
        try:
            async with asyncio.timeout(self.attempt_deadline_s):
                return await self._run_modes(job)
        except (JobError, MeasurementInvalid) as error:
            if self.holds is not None and error.code in WRONG_FIRMWARE:
                self._check_reason = "its board holds another firmware than at its last check"
            return Ending(Verdict.INVALID, str(error))
        except DutError as error:
            return Ending(Verdict.FAIL, str(error))
        except (InfraError, ConfigError, TimeoutError) as error:
            reason = str(error) or "the attempt exceeded its deadline"
            self._set_faulty(reason)
            return Ending(
                Verdict.INFRA, reason, retry=True, dut_fault=await self._confirm_dut_fault(error)
            )
        except Exception as error:  # the top of a job's task: a defect must end the job too
            log.exception("labd-bug", job=spec.job, station=self.name)
            self._set_faulty(f"a defect of labd: {error!r}")
            return Ending(Verdict.INFRA, self.why)

    async def _confirm_dut_fault(self, error: Exception) -> str:
        """Check the station after a fault that the firmware may have caused.

        Returns:
            the fault's code if the station passed, which leaves the firmware to blame.
        """
        if not isinstance(error, InfraError) or not error.dut_suspected:
            return ""
        await self._check_health(afterwards=Activity.RUNNING)
        return error.code if self.health is Health.GOOD else ""

    async def _run_modes(self, job: Job) -> Ending:
        """Open the station, run every mode and store its result."""
        spec = job.spec
        reporter = RunReporter(self.job_log, spec.job, job.attempt, time.monotonic)
        evidence = self.make_evidence_writer(spec.job, job.attempt)
        images = await self.job_log.query_journal(Journal.list_images, spec.job)
        results: list[ModeResult] = []
        try:
            async with evidence.record_run(), self.runner.create_bench(spec, images) as bench:
                self.identities, self.simulated = bench.identities, bench.is_simulated
                async for result in self.runner.run_job(bench, spec, reporter, evidence):
                    results.append(result)
                    await reporter.store_result(result)
                    await evidence.write_result_copy(spec.job, spec.benchmark, result)
        except InfraError as error:
            if len(results) < len(spec.modes):
                raise
            self._set_faulty(str(error))  # every mode is measured; only closing failed
        reasons = "; ".join(f"{r.mode}: {reason}" for r in results for reason in r.reasons)
        return Ending(combine_verdicts(results), reasons)

    def _ending_of_attempt(self, attempt: asyncio.Task[Ending], *, stopped: bool) -> Ending | None:
        """Return how an attempt ended; ``None`` when labd is being stopped."""
        ending: Ending | None = None
        if not attempt.cancelled():
            error = attempt.exception()
            ending = ending_of_failed_start(error) if error else attempt.result()
        if ending is None or ending.retry:
            if self._cancelling:
                return Ending(Verdict.CANCELLED, "cancelled while it ran")
            if stopped:
                return None
        return ending or Ending(Verdict.INFRA, "the attempt was interrupted", retry=True)

    # ---- state ---------------------------------------------------------------------------

    def _set_faulty(self, why: str) -> None:
        self._update_state(health=next_health(self.health, HealthStep.FAULT), why=why)

    def _update_state(
        self,
        *,
        health: Health | None = None,
        activity: Activity | None = None,
        why: str | None = None,
    ) -> None:
        self.health = health or self.health
        self.activity = activity or self.activity
        self.why = self.why if why is None else why
        try:
            self.on_change(self)
        except Exception:  # a state that cannot be published must not stop the station
            log.exception("labd-bug", station=self.name)
