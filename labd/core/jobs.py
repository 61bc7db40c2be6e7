"""Job life cycle: the request, its states, and the steps between them.

The table below is the whole life cycle; a pair that is not in it raises and changes
nothing::

    queued → leased → running → done(verdict)
    leased | running → queued          (infra fault with retries left, or the daemon died)
    any but done → done                (cancelled)
    queued → done                      (expired)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from labd.core.errors import LabdBug
from labd.core.model import Build, EnergyMethod, Mode, Priority, Verdict


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    DONE = "done"


class JobStep(StrEnum):
    """Step of a job from one state to the next."""

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
}

FIXED_VERDICT = {JobStep.CANCEL: Verdict.CANCELLED, JobStep.EXPIRE: Verdict.EXPIRED}

MAX_ATTEMPTS = 20
"""Attempts that may be started at all, since a job might crash labd itself."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a user asked for; immutable once accepted.

    Args:
        job: the client's id, unique in the lab; submitting it again has no effect.
        user: the submitter, from the topic of the request.
        benchmark: name in the suite, for example ``kws01``.
        modes: what to measure, in order.
        station: where to run; empty means any suitable station.
        firmware: name of the firmware to flash; empty means the benchmark's name.
        priority: priority class.
        voltage_mv: supply voltage; ``None`` means the station's setting.
        energy_method: arithmetic of the energy score.
        labels: labels file of the data set; empty means ``y_labels.csv``.
        custom_data: whether a data set other than the official one may pass.
        expire_after_s: longest time in the queue; ``None`` means the lab's limit.
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
    labels: str = ""
    custom_data: bool = False
    expire_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class FixedImage:
    """A firmware image as it was when a job was accepted.

    Args:
        board: that it is for.
        build: how it marks time.
        name: of its file.
        sha256: of its bytes.
    """

    board: str
    build: Build
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its state.

    ``attempt`` counts the attempts started so far, ``station`` is that of the current or last
    one, ``reason`` states why the job waits or did not pass. While a job is queued,
    ``updated_ns`` is when it came into the queue.
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


def advance_job(
    job: Job,
    step: JobStep,
    now_ns: int,
    *,
    station: str = "",
    verdict: Verdict | None = None,
    reason: str = "",
) -> Job:
    """Return the job after one step.

    ``now_ns`` is the wall clock, ns since the epoch; ``station`` belongs to the step ``lease``,
    ``verdict`` to ``finish``.

    Raises:
        LabdBug: the table has no such step from this state, or a step's data are missing.
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
