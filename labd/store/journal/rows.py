"""The journal's values, and their translation from and to rows."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from sqlalchemy import RowMapping

from labd.core.errors import InfraError
from labd.core.jobs import FixedImage, Job, JobSpec, JobState
from labd.core.model import EnergyMethod, Mode, Priority, Verdict
from labd.wire.job_events import EVENT, Event
from labd.wire.results import ModeResult
from labd.wire.validation import format_first_error


@dataclass(frozen=True, slots=True)
class Change:
    """A committed change of one job.

    Args:
        job: after the change.
        events: to publish, in order; empty if a repeated request changed nothing.
        next_seq: number of the job's next event.
    """

    job: Job
    events: tuple[Event, ...]
    next_seq: int


@dataclass(frozen=True, slots=True)
class Accepted(Change):
    """A new job was queued."""


@dataclass(frozen=True, slots=True)
class Duplicate(Change):
    """The same job had been submitted before; nothing changed."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of one mode of one attempt."""

    job: str
    attempt: int
    t_ns: int
    result: ModeResult


class AttemptOutcome(StrEnum):
    """How an attempt ended that did not end its job."""

    FAULT = "fault"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job with everything that its retained message contains.

    Args:
        job: the job.
        next_seq: number of its next event.
        results: of every attempt, in the order they were recorded.
        pinned: whether its files are kept whatever the limits.
        removed: attempts whose files were removed to make room.
        images: the firmware that it was accepted with.
    """

    job: Job
    next_seq: int
    results: tuple[AttemptResult, ...]
    pinned: bool = False
    removed: tuple[int, ...] = ()
    images: tuple[FixedImage, ...] = ()


def to_job_row(job: Job) -> dict[str, Any]:
    """Return a job as a row, without ``number`` and ``next_seq``."""
    spec = job.spec
    return {
        "job": spec.job,
        "user": spec.user,
        "benchmark": spec.benchmark,
        "modes": list(spec.modes),
        "wanted_station": spec.station,
        "firmware": spec.firmware,
        "priority": spec.priority,
        "voltage_mv": spec.voltage_mv,
        "energy_method": spec.energy_method,
        "labels": spec.labels,
        "custom_data": spec.custom_data,
        "expire_after_s": spec.expire_after_s,
        "state": job.state,
        "submitted_ns": job.submitted_ns,
        "updated_ns": job.updated_ns,
        "attempt": job.attempt,
        "station": job.station,
        "verdict": job.verdict,
        "reason": job.reason,
        "cancel_requested": job.cancel_requested,
    }


def read_job(row: RowMapping) -> Job:
    """Return a row as a job."""
    spec = JobSpec(
        job=row["job"],
        user=row["user"],
        benchmark=row["benchmark"],
        modes=tuple(Mode(mode) for mode in row["modes"]),
        station=row["wanted_station"],
        firmware=row["firmware"],
        priority=Priority(row["priority"]),
        voltage_mv=row["voltage_mv"],
        energy_method=EnergyMethod(row["energy_method"]),
        labels=row["labels"],
        custom_data=row["custom_data"],
        expire_after_s=row["expire_after_s"],
    )
    return Job(
        spec=spec,
        state=JobState(row["state"]),
        submitted_ns=row["submitted_ns"],
        updated_ns=row["updated_ns"],
        attempt=row["attempt"],
        station=row["station"],
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]),
        reason=row["reason"],
        cancel_requested=row["cancel_requested"],
    )


def read_event(row: RowMapping) -> Event:
    """Return a row as the message that was published.

    Raises:
        InfraError: its data are not an event's.
    """
    with _translate_validation_error(f"event {row['seq']} of job {row['job']}"):
        return EVENT.validate_python(dict(row))


def read_result(row: RowMapping) -> AttemptResult:
    """Return a row as a result.

    Raises:
        InfraError: its data are not a result.
    """
    with _translate_validation_error(f"a result of job {row['job']}"):
        result = ModeResult.model_validate(row["data"])
    return AttemptResult(row["job"], row["attempt"], row["t_ns"], result)


@contextmanager
def _translate_validation_error(what: str) -> Generator[None]:
    """Translate a validation error."""
    try:
        yield
    except ValidationError as error:
        text = f"the journal holds {what}, which this labd cannot read: {format_first_error(error)}"
        raise InfraError("journal-data", text, "run the labd that wrote it") from error
