"""Every message on the wire as a model; its JSON Schema comes from here.

What a client sends is checked strictly: an unknown key is a mistake. What labd sends may
gain keys within one version, so a client ignores those it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from labd.core.health import Activity, Health
from labd.core.jobs import JobSpec, JobState
from labd.core.model import EnergyMethod, Mode, Priority, Verdict
from labd.wire.topics import NAME_PATTERN
from labd.wire.validation import REMARK_PATTERN, Mistake

DEFAULT_CLIENT = "default"
MAX_LISTED = 1000

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Remark = Annotated[str, StringConstraints(max_length=200, pattern=REMARK_PATTERN)]


def _distinct(modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    for mode in modes:
        if modes.count(mode) > 1:
            raise PydanticCustomError("duplicate", "{mode} stands more than once", {"mode": mode})
    return modes


Modes = Annotated[
    tuple[Mode, ...], Field(min_length=1, max_length=len(Mode)), AfterValidator(_distinct)
]


class _Asked(BaseModel):
    """What every request has."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    v: Literal[1] = 1
    client: Name = DEFAULT_CLIENT
    request: Name | None = None


class Submit(_Asked):
    """Queue a job. ``job`` is the client's own id: sending it again is harmless."""

    job: Name
    benchmark: Name
    modes: Modes = tuple(Mode)
    station: Name | None = None
    firmware: Name | None = None
    priority: Priority = Priority.NORMAL
    voltage_mv: int | None = Field(default=None, ge=1000, le=5500)
    energy_method: EnergyMethod = EnergyMethod.LABD

    def spec(self, user: str) -> JobSpec:
        """What ``user`` asks for, as the core knows it."""
        return JobSpec(
            job=self.job,
            user=user,
            benchmark=self.benchmark,
            modes=self.modes,
            station=self.station or "",
            firmware=self.firmware or "",
            priority=self.priority,
            voltage_mv=self.voltage_mv,
            energy_method=self.energy_method,
        )


class Cancel(_Asked):
    """Give up a job of one's own; repeating it is harmless."""

    job: Name
    reason: Remark = ""


class Pin(_Asked):
    """Keep the traces of a job of one's own, whatever the lab's limits; repeating is harmless."""

    job: Name


class Unpin(_Asked):
    """Let the traces of a job of one's own go by the lab's limits; repeating is harmless."""

    job: Name


class ListJobs(_Asked):
    """One job, or the newest ``limit`` jobs, oldest of them first, as :class:`JobStatus`."""

    job: Name | None = None
    states: tuple[JobState, ...] | None = None
    user: Name | None = None
    limit: int = Field(default=100, ge=1, le=MAX_LISTED)


class ListStations(_Asked):
    """Every station as :class:`StationStatus`."""


class ReplayEvents(_Asked):
    """The events of one job from ``from_seq`` on, as :class:`Event`."""

    job: Name
    from_seq: int = Field(default=0, ge=0, le=2**31)
    limit: int = Field(default=MAX_LISTED, ge=1, le=MAX_LISTED)


Request = Submit | Cancel | Pin | Unpin | ListJobs | ListStations | ReplayEvents

REQUESTS: Mapping[str, type[Request]] = MappingProxyType(
    {
        "submit": Submit,
        "cancel": Cancel,
        "pin": Pin,
        "unpin": Unpin,
        "jobs": ListJobs,
        "stations": ListStations,
        "events": ReplayEvents,
    }
)
"""The verbs a lab understands."""


class _Sent(BaseModel):
    """What everything labd sends has."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1

    def payload(self) -> bytes:
        """The message as it goes on the wire."""
        return self.model_dump_json().encode()


class Reply(_Sent):
    """The answer to one request; sent after the commit.

    ``code`` is ``ok`` or a stable word for programs, ``text`` is for people, ``errors`` has
    every mistake of a refused request, ``result`` what was asked for.
    """

    ok: bool
    request: str | None
    verb: str
    job: str = ""
    code: str = "ok"
    text: str = ""
    errors: tuple[Mistake, ...] = ()
    result: JsonValue = None


class ModeSummary(_Sent):
    """What one mode found, without the evidence."""

    mode: Mode
    attempt: int
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    score: dict[str, FiniteFloat] = {}


class JobStatus(_Sent):
    """Retained: where a job stands.

    ``next_seq`` is the number of its next event: a client that has seen fewer asks for the
    rest. ``waiting`` says why a queued job does not run yet. ``pinned``: its traces stay
    whatever the lab's limits; ``removed`` lists the attempts whose traces had to go.
    """

    job: str
    user: str
    benchmark: str
    modes: tuple[Mode, ...]
    priority: Priority
    state: JobState
    verdict: Verdict | None = None
    reason: str = ""
    station: str = ""
    attempt: int = 0
    cancel_requested: bool = False
    submitted_ns: int
    updated_ns: int
    waiting: str = ""
    simulated: bool = False
    next_seq: int
    results: tuple[ModeSummary, ...] = ()
    pinned: bool = False
    removed: tuple[int, ...] = ()


class PartIdentity(_Sent):
    """Who answered at one part's port."""

    kind: str
    name: str
    serial: str = ""
    firmware: str = ""
    simulated: bool = False


class StationStatus(_Sent):
    """Retained: how a station is and what it does.

    ``parts`` maps dut, io, power and flasher to the driver's name; ``why`` explains a health
    other than good.
    """

    station: str
    host: str
    board: str
    health: Health
    activity: Activity
    job: str = ""
    why: str = ""
    parts: dict[str, str] = {}
    simulated: bool = False
    identities: dict[str, PartIdentity] = {}
    updated_ns: int


class DaemonStatus(_Sent):
    """Retained: whether a daemon is there; its last will says offline."""

    host: str
    state: Literal["online", "offline"]
    version: str
    since_ns: int


class EventType(StrEnum):
    """What can happen to a job."""

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


class Event(_Sent):
    """One thing that happened to a job; ``seq`` counts from 0 without a hole."""

    job: str
    seq: int
    t_ns: int
    type: EventType
    station: str = ""
    attempt: int = 0
    data: dict[str, JsonValue] = {}


SENT: tuple[type[_Sent], ...] = (Reply, JobStatus, StationStatus, DaemonStatus, Event)


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every message, by model name; requests as read, the rest as sent."""
    asked = {model.__name__: model.model_json_schema() for model in REQUESTS.values()}
    sent = {model.__name__: model.model_json_schema(mode="serialization") for model in SENT}
    return asked | sent
