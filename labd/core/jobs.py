"""A job's life: what a user asked for, the states it goes through, and which steps exist.

The table below is the whole life cycle; a pair that is not in it raises and changes
nothing::

    queued → leased → running → done(verdict)
    leased | running → queued          (infra fault with retries left, or the daemon died)
    any but done → done                (cancelled, expired)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from labd.core.errors import LabdBug
from labd.core.model import EnergyMethod, Mode, Priority, Verdict


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    DONE = "done"


class JobStep(StrEnum):
    """What can happen to a job."""

    LEASE = "lease"
    START = "start"
    REQUEUE = "requeue"
    FINISH = "finish"
    CANCEL = "cancel"
    EXPIRE = "expire"


TRANSITIONS: dict[tuple[JobState, JobStep], JobState] = {
    (JobState.QUEUED, JobStep.LEASE): JobState.LEASED,
    (JobState.LEASED, JobStep.START): JobState.RUNNING,
    (JobState.LEASED, JobStep.REQUEUE): JobState.QUEUED,
    (JobState.RUNNING, JobStep.REQUEUE): JobState.QUEUED,
    (JobState.LEASED, JobStep.FINISH): JobState.DONE,
    (JobState.RUNNING, JobStep.FINISH): JobState.DONE,
    (JobState.QUEUED, JobStep.CANCEL): JobState.DONE,
    (JobState.LEASED, JobStep.CANCEL): JobState.DONE,
    (JobState.RUNNING, JobStep.CANCEL): JobState.DONE,
    (JobState.QUEUED, JobStep.EXPIRE): JobState.DONE,
    (JobState.LEASED, JobStep.EXPIRE): JobState.DONE,
    (JobState.RUNNING, JobStep.EXPIRE): JobState.DONE,
}

FIXED_VERDICT = {JobStep.CANCEL: Verdict.CANCELLED, JobStep.EXPIRE: Verdict.EXPIRED}

MAX_FAULTS = 3
"""So many attempts may end by a fault of the bench; the last one becomes the verdict."""

MAX_ATTEMPTS = 20
"""No more attempts are begun, whatever interrupted the others: a job may crash labd itself."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a user asked for; never changes after it was accepted.

    Args:
        job: the client's id, unique in the lab; resubmitting it is harmless.
        user: who asked, from the topic the request came on.
        benchmark: name from the suite, e.g. ``kws01``.
        modes: what to measure, in order.
        station: run only there; empty means anywhere suitable.
        firmware: firmware name to flash; empty means the benchmark's own name.
        priority: priority class.
        voltage_mv: supply voltage; ``None`` means the station's own.
        energy_method: whose arithmetic the energy score follows.
    """

    job: str
    user: str
    benchmark: str
    modes: tuple[Mode, ...]
    station: str = ""
    firmware: str = ""
    priority: Priority = Priority.NORMAL
    voltage_mv: int | None = None
    energy_method: EnergyMethod = EnergyMethod.LABD


@dataclass(frozen=True, slots=True)
class Job:
    """A job and where it stands.

    ``attempt`` counts the runs started so far; ``station`` is where the present or last one
    is; ``reason`` says why a waiting job waits or a finished one did not pass.
    """

    spec: JobSpec
    state: JobState
    submitted_ns: int
    updated_ns: int
    attempt: int = 0
    station: str = ""
    verdict: Verdict | None = None
    reason: str = ""
    cancel_requested: bool = False


def advance(
    job: Job,
    step: JobStep,
    now_ns: int,
    *,
    station: str = "",
    verdict: Verdict | None = None,
    reason: str = "",
) -> Job:
    """Take one step of a job's life.

    Args:
        job: the job as it stands.
        step: what happened.
        now_ns: wall clock, ns since the epoch.
        station: where it was leased (``lease`` only).
        verdict: how it ended (``finish`` only).
        reason: why, for people.

    Raises:
        LabdBug: the table knows no such step from this state, or a step's data are missing;
            ``job`` is unchanged.
    """
    state = TRANSITIONS.get((job.state, step))
    if state is None:
        raise LabdBug("job-step", f"job {job.spec.job} is {job.state} and cannot {step}")
    if step is JobStep.LEASE and not station:
        raise LabdBug("job-step", f"job {job.spec.job}: a lease names its station")
    verdict = FIXED_VERDICT.get(step, verdict)
    if (state is JobState.DONE) != (verdict is not None):
        raise LabdBug("job-step", f"job {job.spec.job}: {step} with verdict {verdict}")
    return replace(
        job,
        state=state,
        updated_ns=now_ns,
        attempt=job.attempt + (step is JobStep.START),
        station="" if state is JobState.QUEUED else station or job.station,
        verdict=verdict,
        reason=reason,
    )
