"""Assignment of queued jobs to free stations, as a pure function.

Jobs are taken by priority class, within a class in the order in which they were accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labd.core.health import Activity, Health
from labd.core.jobs import Job, JobSpec, JobState
from labd.core.model import Mode, Part, Priority

_CLASSES = tuple(Priority)


@dataclass(frozen=True, slots=True)
class StationView:
    """A station as the scheduler sees it.

    Args:
        why: findings of its last health check.
        sees_timestamps: its power monitor, or a wire to its I/O manager, shows the start and
            the end of a batch; otherwise every energy window would be invalid.
    """

    name: str
    parts: frozenset[Part]
    health: Health
    activity: Activity
    why: str = ""
    sees_timestamps: bool = True

    @property
    def is_free(self) -> bool:
        """Whether it can start a job now."""
        return self.health is Health.GOOD and self.activity is Activity.IDLE


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job to start on a station now."""

    job: str
    station: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """Assignments, and the reason why each other queued job waits, by job id."""

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]


def missing_for_mode(mode: Mode, parts: frozenset[Part], *, sees_timestamps: bool) -> str:
    """Return what a station lacks for a mode; empty if nothing."""
    if Part.DUT not in parts and Part.IO not in parts:
        return "no serial way to the DUT"
    if mode is not Mode.ENERGY:
        return ""
    if Part.POWER not in parts:
        return "no power monitor for energy mode"
    return "" if sees_timestamps else "no way to see the DUT's timestamps, which energy mode needs"


def why_station_unsuitable(spec: JobSpec, station: StationView) -> str:
    """Return why a station can never run a job; empty if it can."""
    if spec.station and spec.station != station.name:
        return f"the job asks for station {spec.station}"
    lacks = (
        missing_for_mode(mode, station.parts, sees_timestamps=station.sees_timestamps)
        for mode in spec.modes
    )
    return next(filter(None, lacks), "")


def why_no_station(spec: JobSpec, stations: Sequence[StationView]) -> str:
    """Return why no station of the lab can ever run a job; empty if one can."""
    if not stations:
        return "the lab has no station"
    if spec.station and spec.station not in {station.name for station in stations}:
        known = ", ".join(station.name for station in stations)
        return f"there is no station {spec.station!r}; the lab has {known}"
    reasons = {
        station.name: why_station_unsuitable(spec, station)
        for station in stations
        if not spec.station or station.name == spec.station
    }
    if not all(reasons.values()):
        return ""
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def plan_assignments(jobs: Iterable[Job], stations: Sequence[StationView]) -> Schedule:
    """Assign queued jobs to free stations, by priority class, then oldest first.

    Args:
        jobs: in the order in which they were accepted.
        stations: every station of this daemon.

    Returns:
        at most one job per station and one station per job, and a reason for each job left
        waiting.
    """
    free = {station.name: station for station in stations if station.is_free}
    assignments: list[Assignment] = []
    waiting: dict[str, str] = {}
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    for job in sorted(queued, key=lambda job: _CLASSES.index(job.spec.priority)):
        choice = next(
            (name for name, s in free.items() if not why_station_unsuitable(job.spec, s)), None
        )
        if choice is None:
            waiting[job.spec.job] = _why_waiting(job.spec, stations)
        else:
            del free[choice]
            assignments.append(Assignment(job.spec.job, choice))
    return Schedule(tuple(assignments), waiting)


def _why_waiting(spec: JobSpec, stations: Sequence[StationView]) -> str:
    verdict = why_no_station(spec, stations)
    if verdict:
        return verdict
    suitable = [station for station in stations if not why_station_unsuitable(spec, station)]
    states = "; ".join(f"{station.name} {_station_obstacle(station)}" for station in suitable)
    return f"waiting for a station: {states}"


def _station_obstacle(station: StationView) -> str:
    if station.health is not Health.GOOD:
        return f"is {station.health}" + (f" ({station.why})" if station.why else "")
    if station.activity is Activity.IDLE:
        return "is taken by a job that goes first"
    return f"is {station.activity}"
