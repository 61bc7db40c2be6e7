"""plan(): by class, then oldest first; one job per station; a reason for each that waits."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from labd.core.health import Activity, Health
from labd.core.jobs import Job, JobSpec, JobState
from labd.core.model import Build, Mode, Part, Priority
from labd.core.schedule import (
    HeldFirmware,
    StationView,
    plan_assignments,
    why_no_station,
    why_station_unsuitable,
)

ALL = frozenset(Part)
NO_POWER = frozenset({Part.DUT, Part.FLASHER})


def job(
    name: str,
    *modes: Mode,
    station: str = "",
    state: JobState = JobState.QUEUED,
    priority: Priority = Priority.NORMAL,
) -> Job:
    wanted = modes or (Mode.ACCURACY,)
    spec = JobSpec(name, "alice", "digits01", wanted, station=station, priority=priority)
    return Job(spec, state, 1, 1)


def station(
    name: str,
    parts: frozenset[Part] = ALL,
    health: Health = Health.GOOD,
    activity: Activity = Activity.IDLE,
    why: str = "",
    *,
    sees_timestamps: bool = True,
    holds: HeldFirmware | None = None,
) -> StationView:
    return StationView(name, parts, health, activity, why, sees_timestamps, holds)


def test_the_oldest_job_goes_first() -> None:
    planned = plan_assignments([job("old"), job("new")], [station("s1")])
    assert [(a.job, a.station) for a in planned.assignments] == [("old", "s1")]
    assert planned.waiting == {"new": "waiting for a station: s1 is taken by a job that goes first"}


def test_a_higher_priority_class_goes_before_an_older_job() -> None:
    jobs = [
        job("night", priority=Priority.OVERNIGHT),
        job("old"),
        job("new"),
        job("now", priority=Priority.INTERACTIVE),
    ]
    planned = plan_assignments(jobs, [station("s1"), station("s2"), station("s3")])
    assert [a.job for a in planned.assignments] == ["now", "old", "new"]
    assert set(planned.waiting) == {"night"}


def test_a_lower_class_takes_a_station_that_the_higher_cannot_use() -> None:
    jobs = [job("a", priority=Priority.OVERNIGHT), job("e", Mode.ENERGY)]
    planned = plan_assignments(jobs, [station("s1", NO_POWER)])
    assert [a.job for a in planned.assignments] == ["a"]


def test_two_stations_take_two_jobs() -> None:
    planned = plan_assignments([job("a"), job("b"), job("c")], [station("s1"), station("s2")])
    assert {(a.job, a.station) for a in planned.assignments} == {("a", "s1"), ("b", "s2")}
    assert set(planned.waiting) == {"c"}


def test_energy_needs_a_power_monitor() -> None:
    planned = plan_assignments([job("e", Mode.ENERGY)], [station("s1", NO_POWER), station("s2")])
    assert planned.assignments[0].station == "s2"


def test_energy_needs_a_part_that_sees_the_timestamps() -> None:
    blind = station("s1", sees_timestamps=False)
    jobs = [job("e", Mode.ACCURACY, Mode.ENERGY), job("a")]
    planned = plan_assignments(jobs, [blind, station("s2")])
    assert [(a.job, a.station) for a in planned.assignments] == [("e", "s2"), ("a", "s1")]
    planned = plan_assignments(jobs, [blind, station("s2", activity=Activity.RUNNING)])
    assert [(a.job, a.station) for a in planned.assignments] == [("a", "s1")]
    assert planned.waiting == {"e": "waiting for a station: s2 is running"}
    reason = "s1: no way to see the DUT's timestamps, which energy mode needs"
    assert plan_assignments(jobs, [blind]).waiting == {"e": reason}
    assert why_no_station(jobs[0].spec, [blind]) == reason
    assert why_no_station(jobs[1].spec, [blind]) == ""


def test_a_job_behind_one_that_must_wait_still_runs() -> None:
    jobs = [job("e", Mode.ENERGY), job("a")]
    planned = plan_assignments(
        jobs, [station("s1", NO_POWER), station("s2", activity=Activity.RUNNING)]
    )
    assert [a.job for a in planned.assignments] == ["a"]
    assert planned.waiting["e"] == "waiting for a station: s2 is running"


def test_a_bad_station_is_not_used_and_the_reason_is_stated() -> None:
    bad = station("s1", health=Health.BAD, why="port missing")
    planned = plan_assignments([job("a")], [bad])
    assert planned.assignments == ()
    assert planned.waiting["a"] == "waiting for a station: s1 is bad (port missing)"


def test_impossible_jobs_are_explained() -> None:
    assert "no power monitor" in why_no_station(
        job("e", Mode.ENERGY).spec, [station("s", NO_POWER)]
    )
    assert "there is no station 'x'" in why_no_station(job("a", station="x").spec, [station("s")])
    assert why_no_station(job("a").spec, []) == "the lab has no station"
    assert why_no_station(job("a").spec, [station("s")]) == ""


views = st.builds(
    station,
    name=st.uuids().map(str),
    parts=st.frozensets(st.sampled_from(list(Part))),
    health=st.sampled_from(list(Health)),
    activity=st.sampled_from(list(Activity)),
    sees_timestamps=st.booleans(),
)
specs = st.tuples(
    st.lists(st.sampled_from(list(Mode)), min_size=1, unique=True),
    st.sampled_from(list(JobState)),
    st.sampled_from(list(Priority)),
)


@given(st.lists(specs, max_size=12), st.lists(views, max_size=6, unique_by=lambda v: v.name))
def test_every_queued_job_is_assigned_once_or_has_a_reason(
    wanted: list[tuple[list[Mode], JobState, Priority]], stations: list[StationView]
) -> None:
    jobs = [
        job(f"j{i}", *modes, state=state, priority=priority)
        for i, (modes, state, priority) in enumerate(wanted)
    ]
    planned = plan_assignments(jobs, stations)
    placed = [a.job for a in planned.assignments]
    used = [a.station for a in planned.assignments]
    queued = {j.spec.job for j in jobs if j.state is JobState.QUEUED}
    assert len(set(placed)) == len(placed)
    assert len(set(used)) == len(used)
    assert set(placed) | set(planned.waiting) == queued
    assert not set(placed) & set(planned.waiting)
    assert all(planned.waiting.values())
    by_name = {view.name: view for view in stations}
    for assignment in planned.assignments:
        view = by_name[assignment.station]
        spec = next(j.spec for j in jobs if j.spec.job == assignment.job)
        assert view.health is Health.GOOD
        assert view.activity is Activity.IDLE
        assert why_station_unsuitable(spec, view) == ""
    idle = [
        v
        for v in stations
        if v.health is Health.GOOD and v.activity is Activity.IDLE and v.name not in used
    ]
    for name in planned.waiting:
        spec = next(j.spec for j in jobs if j.spec.job == name)
        assert all(why_station_unsuitable(spec, view) for view in idle)


@given(st.lists(specs, max_size=12), st.lists(views, max_size=6, unique_by=lambda v: v.name))
def test_no_job_takes_a_station_from_one_that_goes_first(
    wanted: list[tuple[list[Mode], JobState, Priority]], stations: list[StationView]
) -> None:
    order = list(Priority)
    jobs = {
        f"j{i}": job(f"j{i}", *modes, state=state, priority=priority)
        for i, (modes, state, priority) in enumerate(wanted)
    }
    planned = plan_assignments(jobs.values(), stations)
    numbers = {name: number for number, name in enumerate(jobs)}
    by_name = {view.name: view for view in stations}
    for assignment in planned.assignments:
        taker = jobs[assignment.job].spec
        for name in planned.waiting:
            waiter = jobs[name].spec
            first = (order.index(waiter.priority), numbers[name])
            if first < (order.index(taker.priority), numbers[assignment.job]):
                assert why_station_unsuitable(waiter, by_name[assignment.station])


UNFLASHED = ALL - {Part.FLASHER}
PERFORMANCE = HeldFirmware("digits01", Build.PERFORMANCE)
OTHER = HeldFirmware("ic01", Build.PERFORMANCE)


def test_a_job_goes_to_the_board_that_holds_its_firmware() -> None:
    stations = [station("s1", UNFLASHED, holds=OTHER), station("s2", UNFLASHED, holds=PERFORMANCE)]
    planned = plan_assignments([job("j")], stations)
    assert [(a.job, a.station) for a in planned.assignments] == [("j", "s2")]
    assert planned.wrong_firmware == frozenset()


def test_a_job_waits_for_its_firmware_and_says_what_the_boards_hold() -> None:
    stations = [station("s1", UNFLASHED, holds=OTHER), station("s2", NO_POWER - {Part.FLASHER})]
    planned = plan_assignments([job("e", Mode.ENERGY), job("a", station="s1")], stations)
    assert planned.assignments == ()
    text = "waiting for a station: s1 holds ic01 (performance build), and labd cannot flash it"
    assert planned.waiting == {"e": text, "a": text}
    assert planned.wrong_firmware == {"s1"}


def test_a_board_that_labd_flashes_is_not_restricted() -> None:
    planned = plan_assignments([job("j", Mode.ACCURACY, Mode.ENERGY)], [station("s1")])
    assert [a.job for a in planned.assignments] == ["j"]


def test_a_board_that_no_check_has_identified_may_get_any_job() -> None:
    planned = plan_assignments([job("j")], [station("s1", UNFLASHED)])
    assert [a.job for a in planned.assignments] == ["j"]


def test_both_builds_or_a_named_firmware_need_a_flasher() -> None:
    both = job("b", Mode.ACCURACY, Mode.ENERGY).spec
    named = replace(job("n").spec, firmware="digits01-mine")
    stations = [station("s1", UNFLASHED)]
    assert "submit them as two jobs" in why_no_station(both, stations)
    assert "labd cannot flash its board with digits01-mine" in why_no_station(named, stations)
    assert why_no_station(both, [*stations, station("s2")]) == ""


def test_a_job_that_failed_on_a_station_goes_to_another_one_first() -> None:
    two = [station("s1"), station("s2")]
    planned = plan_assignments([job("j")], two, {"j": {"s1"}})
    assert [a.station for a in planned.assignments] == ["s2"]


def test_it_waits_for_a_busy_one_and_leaves_the_first_to_others() -> None:
    two = [station("s1"), station("s2", activity=Activity.RUNNING)]
    planned = plan_assignments([job("j"), job("k")], two, {"j": {"s1"}})
    assert [(a.job, a.station) for a in planned.assignments] == [("k", "s1")]
    assert planned.waiting == {
        "j": "waiting for a station: s1 had a fault with this job, which goes elsewhere first; "
        "s2 is running"
    }


def test_it_comes_back_when_no_other_one_suits_or_all_had_faults() -> None:
    for two, faulted in (
        ([station("s1"), station("s2", health=Health.BAD)], {"s1"}),
        ([station("s1"), station("s2", NO_POWER)], {"s1"}),
        ([station("s1"), station("s2")], {"s1", "s2"}),
    ):
        planned = plan_assignments([job("j", Mode.ENERGY)], two, {"j": faulted})
        assert [a.station for a in planned.assignments] == ["s1"]


def test_a_board_with_a_variant_of_the_benchmark_gets_its_jobs() -> None:
    held = HeldFirmware(f"{PERFORMANCE.model}-pruned", Build.PERFORMANCE)
    planned = plan_assignments([job("j")], [station("s1", UNFLASHED, holds=held)])
    assert [a.station for a in planned.assignments] == ["s1"]


def test_a_job_goes_to_no_board_that_it_has_no_image_for() -> None:
    stations = [replace(station("s1"), board="a"), replace(station("s2"), board="b")]
    planned = plan_assignments([job("j"), job("k")], stations, {}, {"j": {"b"}, "k": {"b"}})
    assert [(each.job, each.station) for each in planned.assignments] == [("j", "s2")]
    assert planned.waiting == {"k": "waiting for a station: s2 is taken by a job that goes first"}
    gone = plan_assignments([job("j")], stations[:1], {}, {"j": {"b"}})
    assert gone.waiting == {
        "j": "the lab has no station with a board that the job has firmware for"
    }


def test_a_job_retries_where_it_failed_if_the_other_board_has_no_image() -> None:
    stations = [replace(station("s1"), board="a"), replace(station("s2"), board="b")]
    planned = plan_assignments([job("j")], stations, {"j": {"s1"}}, {"j": {"a"}})
    assert [(each.job, each.station) for each in planned.assignments] == [("j", "s1")]


def test_a_board_that_labd_cannot_flash_needs_no_image() -> None:
    stations = [replace(station("s1", UNFLASHED, holds=PERFORMANCE), board="a")]
    planned = plan_assignments([job("j")], stations, {}, {"j": {"b"}})
    assert [(each.job, each.station) for each in planned.assignments] == [("j", "s1")]
