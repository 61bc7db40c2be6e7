"""Events of a job: a union of one model per ``type``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from labd.core.model import Mode, Verdict
from labd.wire.messages import LabMessage
from labd.wire.results import MeasuredWindow, ModeVerdict


class EventType(StrEnum):
    """Type of an event."""

    QUEUED = "queued"
    LEASED = "leased"
    STARTED = "started"
    PHASE = "phase"
    PROGRESS = "progress"
    WINDOW = "window"
    RESULT = "result"
    NOTE = "note"
    REQUEUED = "requeued"
    FINISHED = "finished"


# ---- data --------------------------------------------------------------------------------


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True)


class Queued(_Data):
    """What was submitted."""

    user: str
    benchmark: str
    modes: tuple[Mode, ...]


class Leased(_Data):
    """No data: the event has the station."""


class Started(_Data):
    """No data: the event has the station and the attempt."""


class Phase(_Data):
    """The phase of a mode that begins: ``prepare``, ``infer``, ``probe`` or ``windows``."""

    mode: Mode
    phase: str


class Progress(_Data):
    """Progress of the current phase: ``done`` of ``total``, in ``unit`` (inputs or windows)."""

    mode: Mode
    done: int
    total: int
    unit: str


def _is_empty(value: tuple[str, ...]) -> bool:
    return not value


class Note(_Data):
    """A remark for the reader of the result, with its ``reasons`` if there are any."""

    text: str
    reasons: Annotated[tuple[str, ...], Field(exclude_if=_is_empty)] = ()


class Requeued(_Data):
    """Why the job was queued again."""

    reason: str


class Finished(_Data):
    """How the job ended; ``reason`` is empty if it passed."""

    verdict: Verdict
    reason: str = ""


EventData = (
    Queued
    | Leased
    | Started
    | Phase
    | Progress
    | MeasuredWindow
    | ModeVerdict
    | Note
    | Requeued
    | Finished
)


# ---- events ------------------------------------------------------------------------------


class JobEvent(LabMessage):
    """The keys of every event.

    Args:
        job: the job.
        seq: number of the event in its job, from 0 without holes.
        t_ns: wall clock, ns since the epoch.
        station: where it happened; empty while the job is queued.
        attempt: number of the attempt, from 1; 0 before the first.
    """

    job: str
    seq: int
    t_ns: int
    station: str = ""
    attempt: int = 0


class QueuedEvent(JobEvent):
    """The job was accepted."""

    type: Literal[EventType.QUEUED] = EventType.QUEUED
    data: Queued


class LeasedEvent(JobEvent):
    """The job was leased to a station."""

    type: Literal[EventType.LEASED] = EventType.LEASED
    data: Leased = Leased()


class StartedEvent(JobEvent):
    """An attempt began."""

    type: Literal[EventType.STARTED] = EventType.STARTED
    data: Started = Started()


class PhaseEvent(JobEvent):
    """A phase of a mode began."""

    type: Literal[EventType.PHASE] = EventType.PHASE
    data: Phase


class ProgressEvent(JobEvent):
    """The current phase advanced; at most two per second, and always the last step."""

    type: Literal[EventType.PROGRESS] = EventType.PROGRESS
    data: Progress


class WindowEvent(JobEvent):
    """A window was measured, valid or not, or does not count any more.

    The last event of a window's number in a mode and attempt holds the window.
    """

    type: Literal[EventType.WINDOW] = EventType.WINDOW
    data: MeasuredWindow


class ResultEvent(JobEvent):
    """A mode ended; its windows have their own events."""

    type: Literal[EventType.RESULT] = EventType.RESULT
    data: ModeVerdict


class NoteEvent(JobEvent):
    """Something that the reader of the result should know."""

    type: Literal[EventType.NOTE] = EventType.NOTE
    data: Note


class RequeuedEvent(JobEvent):
    """The attempt ended without a verdict; ``station`` is where."""

    type: Literal[EventType.REQUEUED] = EventType.REQUEUED
    data: Requeued


class FinishedEvent(JobEvent):
    """The job ended; no event follows."""

    type: Literal[EventType.FINISHED] = EventType.FINISHED
    data: Finished


Event = Annotated[
    QueuedEvent
    | LeasedEvent
    | StartedEvent
    | PhaseEvent
    | ProgressEvent
    | WindowEvent
    | ResultEvent
    | NoteEvent
    | RequeuedEvent
    | FinishedEvent,
    Field(discriminator="type"),
]
"""An event of a job."""

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads an event as JSON or as plain values."""

_CLASS_OF = {
    event.model_fields["data"].annotation: event
    for event in cast("tuple[type[JobEvent], ...]", get_args(get_args(Event)[0]))
}


def new_event(
    data: EventData, *, job: str, seq: int, t_ns: int, station: str, attempt: int
) -> Event:
    """Return the event whose type is that of its ``data``; see :class:`JobEvent`."""
    made = _CLASS_OF[type(data)]
    head = {"job": job, "seq": seq, "t_ns": t_ns, "station": station, "attempt": attempt}
    return cast("Event", made.model_validate({**head, "data": data}))
