"""Requests, replies and retained states as models; :mod:`labd.wire.job_events` has the events.

What a client sends is checked strictly: an unknown key is a mistake. What labd sends may
gain keys within one version, so a client ignores those it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

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


class ClientRequest(BaseModel):
    """What every request has.

    Args:
        v: version of the wire contract.
        client: who is answered: the last level of the reply's topic.
        request: id that the reply repeats; any name, or none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    v: Literal[1] = 1
    client: Name = DEFAULT_CLIENT
    request: Name | None = None


class Submit(ClientRequest):
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


class Cancel(ClientRequest):
    """Give up a job of one's own; repeating it is harmless."""

    job: Name
    reason: Remark = ""


class Pin(ClientRequest):
    """Keep the traces of a job of one's own, whatever the lab's limits; repeating is harmless."""

    job: Name


class Unpin(ClientRequest):
    """Let the traces of a job of one's own go by the lab's limits; repeating is harmless."""

    job: Name


class ListJobs(ClientRequest):
    """One job, or the newest ``limit`` jobs, oldest of them first, as :class:`JobStatus`."""

    job: Name | None = None
    states: tuple[JobState, ...] | None = None
    user: Name | None = None
    limit: int = Field(default=100, ge=1, le=MAX_LISTED)


class ListStations(ClientRequest):
    """Every station as :class:`StationStatus`."""


class ReplayEvents(ClientRequest):
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


class LabMessage(BaseModel):
    """What every message of labd has; ``v`` is the version of the wire contract."""

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1

    def payload(self) -> bytes:
        """Return the message as JSON."""
        return self.model_dump_json().encode()


class Reply(LabMessage):
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


class ModeSummary(LabMessage):
    """What one mode found, without the evidence."""

    mode: Mode
    attempt: int
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    score: dict[str, FiniteFloat] = {}


class JobStatus(LabMessage):
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


class PartIdentity(LabMessage):
    """Who answered at one part's port."""

    kind: str
    name: str
    serial: str = ""
    firmware: str = ""
    simulated: bool = False


class StationStatus(LabMessage):
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


class DaemonStatus(LabMessage):
    """Retained: whether a daemon is there; its last will says offline."""

    host: str
    state: Literal["online", "offline"]
    version: str
    since_ns: int
