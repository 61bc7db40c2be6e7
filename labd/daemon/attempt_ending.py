"""How an attempt at a job ends, and what that means for the job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import structlog

from labd.core.blame import MAX_FAULTS, Fault, why_firmware_failed
from labd.core.errors import InfraError
from labd.core.jobs import Job, JobSpec
from labd.core.model import Verdict
from labd.daemon.job_log import JobLog
from labd.store.journal.journal import Journal
from labd.store.journal.rows import AttemptOutcome

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended.

    Args:
        verdict: of the job, if it is not retried.
        reason: for people.
        retry: whether the job deserves another attempt.
        dut_fault: see :class:`labd.core.blame.Fault`.
    """

    verdict: Verdict
    reason: str
    retry: bool = False
    dut_fault: str = ""


def ending_of_failed_start(error: BaseException) -> Ending:
    """Return the ending of an attempt that was not recorded as started."""
    if isinstance(error, InfraError):
        return Ending(Verdict.INFRA, str(error), retry=True)
    return Ending(Verdict.INFRA, f"a defect of labd: {error!r}")


async def write_ending(
    job_log: JobLog, spec: JobSpec, ending: Ending | None, *, alternative: bool
) -> None:
    """Write the ending of an attempt; repeat until the journal accepts it.

    Args:
        job_log: where it is written.
        spec: the job.
        ending: of its attempt; ``None`` if labd is being stopped.
        alternative: whether another station could run the job.
    """
    write = partial(_write_ending_once, job_log, spec.job, ending, alternative=alternative)
    try:
        await job_log.repeat_until_stored(write, spec.job)
    except Exception:  # a defect: the job must end all the same
        log.exception("labd-bug", job=spec.job)
        reason = "a defect of labd, which its log describes"
        finish = partial(job_log.finish_job, spec.job, Verdict.INFRA, reason)
        await job_log.repeat_until_stored(finish, spec.job)


async def _write_ending_once(
    job_log: JobLog, job: str, ending: Ending | None, *, alternative: bool
) -> None:
    if ending is None:
        await job_log.requeue_job(job, "labd was stopped", AttemptOutcome.INTERRUPTED)
        return
    if not ending.retry:
        await job_log.finish_job(job, ending.verdict, ending.reason)
        return
    faults = await job_log.query_journal(Journal.list_faults, job)
    faults.append(_fault_of_attempt(await job_log.require_job(job), ending))
    if why := why_firmware_failed(faults, alternative=alternative):
        await job_log.finish_job(job, Verdict.FAIL, why)
    elif len(faults) < MAX_FAULTS:
        await job_log.requeue_job(job, ending.reason, AttemptOutcome.FAULT, ending.dut_fault)
    else:
        await job_log.finish_job(job, ending.verdict, ending.reason)


def _fault_of_attempt(job: Job, ending: Ending) -> Fault:
    return Fault(job.attempt, job.station, ending.dut_fault, ending.reason)
