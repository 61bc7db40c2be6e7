"""Which job runs where: one pure function over plain values.

Today the order is age alone; priority classes, fair share and reservations come into the
same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labd.core.health import Activity, Health
from labd.core.jobs import Job, JobSpec, JobState
from labd.core.model import Mode, Part


@dataclass(frozen=True, slots=True)
class StationView:
    """What scheduling needs to know of a station.

    Args:
        name: of the station.
        parts: what it has.
        health: whether it may serve.
        activity: what it does.
        why: what its last check noticed.
        sees_timestamps: its monitor, or a wire to its I/O manager, shows when a batch begins
            and ends; without that every energy window is invalid.
    """

    name: str
    parts: frozenset[Part]
    health: Health
    activity: Activity
    why: str = ""
    sees_timestamps: bool = True


@dataclass(frozen=True, slots=True)
class Assignment:
    """Run this job there, now."""

    job: str
    station: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Assignments, and why every other queued job waits (by job id)."""

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]


def incapable(mode: Mode, parts: frozenset[Part], *, sees_timestamps: bool) -> str:
    """Say what a station lacks for a mode; empty when it has everything."""
    if Part.DUT not in parts and Part.IO not in parts:
        return "no serial way to the DUT"
    if mode is not Mode.ENERGY:
        return ""
    if Part.POWER not in parts:
        return "no power monitor for energy mode"
    return "" if sees_timestamps else "no way to see the DUT's timestamps, which energy mode needs"


def unsuitable(spec: JobSpec, station: StationView) -> str:
    """Say why a station can never run a job; empty when it could."""
    if spec.station and spec.station != station.name:
        return f"the job asks for station {spec.station}"
    lacks = (
        incapable(mode, station.parts, sees_timestamps=station.sees_timestamps)
        for mode in spec.modes
    )
    return next(filter(None, lacks), "")


def impossible(spec: JobSpec, stations: Sequence[StationView]) -> str:
    """Say why no station of the lab could ever run a job; empty when one could."""
    if not stations:
        return "the lab has no station"
    if spec.station and spec.station not in {station.name for station in stations}:
        known = ", ".join(station.name for station in stations)
        return f"there is no station {spec.station!r}; the lab has {known}"
    reasons = {
        station.name: unsuitable(spec, station)
        for station in stations
        if not spec.station or station.name == spec.station
    }
    if not all(reasons.values()):
        return ""
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def plan(jobs: Iterable[Job], stations: Sequence[StationView]) -> Plan:
    """Assign queued jobs to free stations, oldest first.

    Args:
        jobs: the jobs in the order in which they were accepted.
        stations: every station of this daemon.

    Returns:
        at most one job a station and one station a job, and a reason for each job that
        was left waiting.
    """
    free = {
        station.name: station
        for station in stations
        if station.health is Health.GOOD and station.activity is Activity.IDLE
    }
    assignments: list[Assignment] = []
    waiting: dict[str, str] = {}
    for job in jobs:
        if job.state is not JobState.QUEUED:
            continue
        choice = next((name for name, s in free.items() if not unsuitable(job.spec, s)), None)
        if choice is None:
            waiting[job.spec.job] = _why_waiting(job.spec, stations)
        else:
            del free[choice]
            assignments.append(Assignment(job.spec.job, choice))
    return Plan(tuple(assignments), waiting)


def _why_waiting(spec: JobSpec, stations: Sequence[StationView]) -> str:
    verdict = impossible(spec, stations)
    if verdict:
        return verdict
    suitable = [station for station in stations if not unsuitable(spec, station)]
    states = "; ".join(f"{station.name} {_state(station)}" for station in suitable)
    return f"waiting for a station: {states}"


def _state(station: StationView) -> str:
    if station.health is not Health.GOOD:
        return f"is {station.health}" + (f" ({station.why})" if station.why else "")
    if station.activity is Activity.IDLE:
        return "is taken by an older job"
    return f"is {station.activity}"
