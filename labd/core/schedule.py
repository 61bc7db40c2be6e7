"""Assignment of queued jobs to free stations, as a pure function.

Jobs are taken by priority class, within a class in the order in which they were accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from labd.core.health import Activity, Health
from labd.core.jobs import Job, JobSpec, JobState
from labd.core.model import BUILD_FOR, Build, Mode, Part, Priority
from labd.core.suite import is_model_of

_CLASSES = tuple(Priority)


@dataclass(frozen=True, slots=True)
class HeldFirmware:
    """Firmware on a board that labd does not flash, as its last health check found it.

    Args:
        model: that it reports, e.g. ``kws01``.
        build: how it marks time.
        profile: version of the harness that it reports.
    """

    model: str
    build: Build
    profile: str = ""

    def __str__(self) -> str:
        """Format it for people."""
        return f"{self.model} ({self.build} build)"


@dataclass(frozen=True, slots=True)
class StationView:
    """A station as the scheduler sees it.

    Args:
        why: findings of its last health check.
        sees_timestamps: its power monitor, or a wire to its I/O manager, shows the start and
            the end of a batch; otherwise every energy window would be invalid.
        holds: firmware of a board that labd cannot flash; ``None`` until a check has found it.
        board: that its firmware images are for.
    """

    name: str
    parts: frozenset[Part]
    health: Health
    activity: Activity
    why: str = ""
    sees_timestamps: bool = True
    holds: HeldFirmware | None = None
    board: str = ""

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
    """What to start now.

    Args:
        assignments: jobs to start.
        waiting: the reason why each other queued job waits, by job id.
        wrong_firmware: stations that a waiting job needs but for the firmware on their board.
    """

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]
    wrong_firmware: frozenset[str] = frozenset()


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
    for mode in spec.modes:
        lack = missing_for_mode(mode, station.parts, sees_timestamps=station.sees_timestamps)
        if lack:
            return lack
    if Part.FLASHER in station.parts:
        return ""
    if spec.firmware:
        return f"labd cannot flash its board with {spec.firmware}"
    if len(_needed_builds(spec)) > 1:
        return (
            "labd cannot flash its board, and the job needs the performance and the energy "
            "build; submit them as two jobs"
        )
    return ""


def why_wrong_firmware(spec: JobSpec, station: StationView) -> str:
    """Return why the firmware on a board that labd cannot flash does not suit a job."""
    held = station.holds
    if held is None:
        return ""
    if is_model_of(held.model, spec.benchmark) and {held.build} == _needed_builds(spec):
        return ""
    return f"holds {held}, and labd cannot flash it"


def can_start(spec: JobSpec, station: StationView) -> bool:
    """Return whether a station can start a job now."""
    return (
        station.is_free
        and not why_station_unsuitable(spec, station)
        and not why_wrong_firmware(spec, station)
    )


def _needed_builds(spec: JobSpec) -> set[Build]:
    return {BUILD_FOR[mode] for mode in spec.modes}


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


def plan_assignments(
    jobs: Iterable[Job],
    stations: Sequence[StationView],
    fault_stations: Mapping[str, set[str]] = MappingProxyType({}),
    image_boards: Mapping[str, set[str]] = MappingProxyType({}),
) -> Schedule:
    """Assign queued jobs to free stations, by priority class, then oldest first.

    Args:
        jobs: in the order in which they were accepted.
        stations: every station of this daemon.
        fault_stations: where attempts at a job ended with a fault, by job; it goes to another good
            station first, if one suits it.
        image_boards: boards that a job was accepted with images for, by job; it is flashed on no
            other board. A job that is not listed may run on any.

    Returns:
        at most one job per station and one station per job, and a reason for each job left
        waiting.
    """
    free = {station.name: station for station in stations if station.is_free}
    assignments: list[Assignment] = []
    waiting: dict[str, str] = {}
    wrong_firmware: set[str] = set()
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    for job in sorted(queued, key=lambda job: _CLASSES.index(job.spec.priority)):
        usable = _stations_with_image(stations, image_boards.get(job.spec.job))
        avoided = _stations_to_avoid(job.spec, usable, fault_stations.get(job.spec.job, set()))
        choices = (s.name for s in usable if s.name in free and can_start(job.spec, s))
        choice = next((name for name in choices if name not in avoided), None)
        if choice is None:
            waiting[job.spec.job] = _why_waiting(job.spec, usable, avoided)
            wrong_firmware |= _stations_of_wrong_firmware(job.spec, usable)
        else:
            del free[choice]
            assignments.append(Assignment(job.spec.job, choice))
    return Schedule(tuple(assignments), waiting, frozenset(wrong_firmware))


def has_alternative(spec: JobSpec, station: str, stations: Iterable[StationView]) -> bool:
    """Return whether a job could run on another station than this one, now or later."""
    return any(
        other.name != station
        and other.health is not Health.BAD
        and not why_station_unsuitable(spec, other)
        and not why_wrong_firmware(spec, other)
        for other in stations
    )


def _stations_with_image(
    stations: Sequence[StationView], boards: set[str] | None
) -> Sequence[StationView]:
    """Return the stations that need no image, or for whose board there is one."""
    if boards is None:
        return stations
    return [s for s in stations if Part.FLASHER not in s.parts or s.board in boards]


def _stations_to_avoid(
    spec: JobSpec, stations: Sequence[StationView], faulted: set[str]
) -> set[str]:
    """Return the stations where a job failed, while another one could run it."""
    others = [station for station in stations if station.name not in faulted]
    return faulted if faulted and has_alternative(spec, "", others) else set()


def _stations_of_wrong_firmware(spec: JobSpec, stations: Sequence[StationView]) -> set[str]:
    """Return the stations that a job could use with another firmware; empty if it has others."""
    suitable = [station for station in stations if not why_station_unsuitable(spec, station)]
    if all(why_wrong_firmware(spec, station) for station in suitable):
        return {station.name for station in suitable}
    return set()


def _why_waiting(spec: JobSpec, stations: Sequence[StationView], avoided: set[str]) -> str:
    if not stations:
        return "the lab has no station with a board that the job has firmware for"
    verdict = why_no_station(spec, stations)
    if verdict:
        return verdict
    suitable = [station for station in stations if not why_station_unsuitable(spec, station)]
    obstacles = (
        f"{station.name} {why_wrong_firmware(spec, station) or _station_obstacle(station, avoided)}"
        for station in suitable
    )
    return f"waiting for a station: {'; '.join(obstacles)}"


def _station_obstacle(station: StationView, avoided: set[str]) -> str:
    if station.name in avoided:
        return "had a fault with this job, which goes elsewhere first"
    if station.health is not Health.GOOD:
        return f"is {station.health}" + (f" ({station.why})" if station.why else "")
    if station.activity is Activity.IDLE:
        return "is taken by a job that goes first"
    return f"is {station.activity}"
