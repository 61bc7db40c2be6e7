"""Requests, replies and retained states as models; :mod:`labd.wire.job_events` has the events.

What a client sends is checked strictly: an unknown key is a mistake. What labd sends may
gain keys within one version, so a client ignores those it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
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
from labd.core.model import Build, EnergyMethod, Mode, Priority, Verdict
from labd.wire.results import IfKnown
from labd.wire.topics import NAME_PATTERN
from labd.wire.validation import LABELS_FILE_PATTERN, REMARK_PATTERN, Mistake

DEFAULT_CLIENT = "default"
MAX_LISTED = 1000

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
LabelsFile = Annotated[str, StringConstraints(pattern=LABELS_FILE_PATTERN)]
Remark = Annotated[str, StringConstraints(max_length=200, pattern=REMARK_PATTERN)]


def _require_distinct_modes(modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    for mode in modes:
        if modes.count(mode) > 1:
            raise PydanticCustomError(
                "duplicate", "{mode} is listed more than once", {"mode": mode}
            )
    return modes


Modes = Annotated[
    tuple[Mode, ...],
    Field(min_length=1, max_length=len(Mode)),
    AfterValidator(_require_distinct_modes),
]


class ClientRequest(BaseModel):
    """The keys of every request.

    Args:
        v: version of the wire contract.
        client: last level of the topic that the reply is published on.
        request: id that the reply repeats.
        expires_ns: after this time, ns since the epoch, the request has no effect; the clocks of
            client and daemon must agree to a few seconds. A broker keeps requests while the
            daemon is away.
        job: id of a job of the user.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    v: Literal[1] = 1
    client: Name = DEFAULT_CLIENT
    request: Name | None = None
    expires_ns: int | None = Field(default=None, ge=0)


class Submit(ClientRequest):
    """Queue a job; submitting it again has no effect.

    Args:
        job: id chosen by the client, unique in the lab.
        benchmark: name of the benchmark, e.g. ``kws01``.
        modes: what to measure, in this order.
        station: run only there; any suitable station if absent.
        firmware: name of the firmware to flash; the benchmark's own if absent.
        priority: priority class.
        voltage_mv: supply voltage of the DUT, mV; the station's own if absent.
        energy_method: arithmetic of the energy score.
        labels: labels file of the data set, e.g. ``y_labels_alt.csv``; ``y_labels.csv`` if absent.
        custom_data: accept a data set other than the benchmark's official one; without it, the
            verdict on such a data set is invalid.
        expire_after_s: longest time in the queue, s; the lab's ``expire_after_days`` if absent.
    """

    job: Name
    benchmark: Name
    modes: Modes = tuple(Mode)
    station: Name | None = None
    firmware: Name | None = None
    priority: Priority = Priority.NORMAL
    voltage_mv: int | None = Field(default=None, ge=1000, le=5500)
    energy_method: EnergyMethod = EnergyMethod.LABD
    labels: LabelsFile | None = None
    custom_data: bool = False
    expire_after_s: float | None = Field(default=None, ge=1, le=315_360_000)

    def to_job_spec(self, user: str) -> JobSpec:
        """Return the job as a value of the core."""
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
            labels=self.labels or "",
            custom_data=self.custom_data,
            expire_after_s=self.expire_after_s,
        )


class Cancel(ClientRequest):
    """Cancel a job of the user; repeating it has no effect.

    Args:
        reason: why, for people.
    """

    job: Name
    reason: Remark = ""


class Pin(ClientRequest):
    """Keep the traces of a job of the user, whatever the lab's limits."""

    job: Name


class Unpin(ClientRequest):
    """Apply the lab's limits to the traces of a job of the user again."""

    job: Name


class JobOrder(StrEnum):
    """Order of a list of jobs."""

    NEWEST = "newest"
    SCHEDULE = "schedule"


class ListJobs(ClientRequest):
    """List one job, or several; the result is a list of :class:`JobStatus`.

    The reply's ``total`` counts the jobs in these states and of this user.

    Args:
        job: only this job.
        states: only jobs in these states.
        user: only jobs of this user.
        limit: how many of them.
        order: ``newest``: the newest ones, oldest first; ``schedule``: those that run, then those
            that are queued, in the order in which they are scheduled, then those that have
            ended, the last one first.
        skip: leave out the first ones of this order (of ``newest``: the newest).
    """

    job: Name | None = None
    states: tuple[JobState, ...] | None = None
    user: Name | None = None
    limit: int = Field(default=100, ge=1, le=MAX_LISTED)
    order: JobOrder = JobOrder.NEWEST
    skip: int = Field(default=0, ge=0, le=2**31)


class ListStations(ClientRequest):
    """List every station; the result is a list of :class:`StationStatus`."""


class ReplayEvents(ClientRequest):
    """List events of one job, in order; the result is a list of :class:`Event`.

    Args:
        job: whose events.
        from_seq: number of the first event.
        limit: how many at most.
    """

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
"""The requests by verb."""


class LabMessage(BaseModel):
    """The keys of every message of labd.

    Args:
        v: version of the wire contract.
    """

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1

    def to_json_bytes(self) -> bytes:
        """Return the message as JSON."""
        return self.model_dump_json().encode()


class Reply(LabMessage):
    """The reply to one request; sent after the commit.

    Args:
        ok: whether the request was accepted.
        request: id of the request.
        verb: of the request.
        job: that it was about.
        code: ``ok``, or a stable code of the refusal.
        text: for people.
        errors: every mistake of a refused request.
        result: what the request asks for.
        total: of ``jobs``: how many jobs match, listed or not.
    """

    ok: bool
    request: str | None
    verb: str
    job: str = ""
    code: str = "ok"
    text: str = ""
    errors: tuple[Mistake, ...] = ()
    result: JsonValue = None
    total: IfKnown[int] = None


class ModeSummary(LabMessage):
    """Verdict and score of one mode.

    Args:
        mode: what was measured.
        attempt: that measured it.
        verdict: pass, fail or invalid.
        reasons: why it is not ``pass``.
        score: named numbers.
        method: energy: the arithmetic that the score follows; absent in other modes.
    """

    mode: Mode
    attempt: int
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    score: dict[str, FiniteFloat] = {}
    method: IfKnown[EnergyMethod] = None


class JobImage(LabMessage):
    """A firmware image as it was when its job was accepted; the job runs these bytes.

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


class JobStatus(LabMessage):
    """Retained: the state of a job.

    Args:
        job: its id.
        user: who submitted it.
        benchmark: name of the benchmark.
        modes: what is measured, in order.
        priority: priority class.
        state: in its life cycle.
        verdict: how it ended.
        reason: why it did not pass, was queued again, or is being cancelled.
        wanted_station: where it must run; empty if any suitable station will do.
        firmware: name of the firmware to flash; empty for the benchmark's own.
        voltage_mv: supply voltage asked for, mV; ``None`` for the station's own.
        energy_method: arithmetic of the energy score.
        station: where it runs, or ran last.
        attempt: number of the current or last attempt; 0 before the first.
        cancel_requested: whether it is being cancelled.
        submitted_ns: wall clock, ns since the epoch.
        updated_ns: time of its last change, ns since the epoch.
        waiting: why a queued job does not run yet.
        position: place of a queued job among those that wait, from 1, when the reply was made;
            absent in the retained message.
        simulated: whether any of its results is.
        custom_data: whether any of its results is on other data than the official data set.
        next_seq: number of its next event; a client that received fewer asks for the rest.
        results: of the running or last attempt, by mode.
        broken_off: results of earlier attempts, which do not count.
        pinned: whether its traces are kept whatever the lab's limits.
        removed: attempts whose traces were removed.
        images: firmware for the boards that labd flashes.
    """

    job: str
    user: str
    benchmark: str
    modes: tuple[Mode, ...]
    priority: Priority
    state: JobState
    verdict: Verdict | None = None
    reason: str = ""
    wanted_station: str = ""
    firmware: str = ""
    voltage_mv: int | None = None
    energy_method: EnergyMethod = EnergyMethod.LABD
    station: str = ""
    attempt: int = 0
    cancel_requested: bool = False
    submitted_ns: int
    updated_ns: int
    waiting: str = ""
    position: IfKnown[int] = None
    simulated: bool = False
    custom_data: bool = False
    next_seq: int
    results: tuple[ModeSummary, ...] = ()
    broken_off: tuple[ModeSummary, ...] = ()
    pinned: bool = False
    removed: tuple[int, ...] = ()
    images: tuple[JobImage, ...] = ()


class PartIdentity(LabMessage):
    """Identity of one part of a station.

    Args:
        kind: the driver's name.
        name: that the part reports.
        serial: serial number, if it reports one.
        firmware: version, if it reports one.
        simulated: whether it is simulated.
    """

    kind: str
    name: str
    serial: str = ""
    firmware: str = ""
    simulated: bool = False


class BoardFirmware(LabMessage):
    """Firmware on a board that labd does not flash, as its last health check found it.

    Args:
        model: that it reports.
        build: how it marks time.
        profile: version of the harness that it reports.
    """

    model: str
    build: Build
    profile: str = ""


class StationStatus(LabMessage):
    """Retained: the state of a station.

    Args:
        station: its name.
        host: of its daemon.
        board: its DUT.
        health: whether it may run jobs.
        activity: what it does now.
        job: that it does.
        why: explains a health other than good.
        parts: the driver's name of each part, by dut, io, power, flasher.
        simulated: whether any part is simulated.
        identities: identity that each part reports, by part.
        firmware: on the board, if labd does not flash it; it decides which jobs run there.
        updated_ns: time of its last change, ns since the epoch.
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
    firmware: BoardFirmware | None = None
    updated_ns: int


class DaemonStatus(LabMessage):
    """Retained: the state of a daemon; ``offline`` is its last will.

    Args:
        host: where it runs.
        state: online or offline.
        version: of labd.
        since_ns: when it was started, ns since the epoch.
        pid: its process on that host.
        instance: id of this life of the process.
        state_directory: that holds its journal, on that host.
        journal: id of the journal that holds the lab's jobs; empty from labd 0.1.
    """

    host: str
    state: Literal["online", "offline"]
    version: str
    since_ns: int
    pid: int = 0
    instance: str = ""
    state_directory: str = ""
    journal: str = ""


class LabClaim(LabMessage):
    """A daemon's claim to its lab, published before it connects; other daemons answer with theirs.

    A daemon that holds the lab goes first, then one that held it until its connection was lost,
    then the one that was started first.

    Args:
        instance: id of this life of the process.
        asks: whether it asks for answers.
        holds: whether it holds the lab.
        held: whether it held the lab before and asks again.
        host: where it runs.
        pid: its process on that host.
        state_directory: that holds its journal, on that host.
        journal: id of its journal.
        since_ns: when it was started, ns since the epoch.
    """

    instance: Name
    asks: bool
    holds: bool
    held: bool = False
    host: str
    pid: int
    state_directory: str
    journal: str
    since_ns: int
