from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from labd.core.errors import JobError, LabdBug
from labd.core.jobs import FixedImage, Job, JobSpec, JobState
from labd.core.model import Build, ClockCheck, Mode, Priority, Verdict, Window
from labd.core.schedule import plan_assignments
from labd.store.journal import tables
from labd.store.journal.attempts import read_attempts
from labd.store.journal.journal import Journal
from labd.store.journal.publication import read_unpublished, record_published
from labd.store.journal.rows import Accepted, AttemptOutcome, Change, Duplicate
from labd.wire.job_events import EventType, Finished, Phase, Progress, Queued
from labd.wire.results import MeasuredWindow, ModeResult

SPEC = JobSpec(
    job="j1",
    user="ann",
    benchmark="kws01",
    modes=(Mode.ENERGY, Mode.ACCURACY),
    station="bench-3",
    firmware="mine",
    priority=Priority.OVERNIGHT,
    voltage_mv=1800,
)
WINDOW = Window(1, "a.bin", 10, 10.0, 1.0, ClockCheck("host", 10.0, 0.1))
RESULT = ModeResult.model_validate(
    {
        "mode": "energy",
        "verdict": "pass",
        "reasons": (),
        "score": {"energy_per_inference_uj": 12.5},
        "windows": (WINDOW,),
        "details": {"simulated": True},
    }
)


def running(journal: Journal, job: str = "j1", station: str = "s1") -> Change:
    journal.submit_job(replace(SPEC, job=job), 1)
    journal.lease_job(job, station, 2)
    return journal.start_attempt(job, 3)


def measured(runtime_s: Any) -> MeasuredWindow:
    return MeasuredWindow.from_window(Mode.ENERGY, replace(WINDOW, runtime_s=runtime_s))


def open_runs(journal: Journal) -> list[str]:
    return [each.job for each in read_attempts(journal) if each.ended_ns is None]


def types(journal: Journal, job: str = "j1") -> list[str]:
    events = journal.list_events(job)
    assert [event.seq for event in events] == list(range(len(events)))
    return [event.type for event in events]


# ---- submit ------------------------------------------------------------------------------


def test_what_is_submitted_comes_back_as_it_was(journal: Journal, url: str) -> None:
    accepted = journal.submit_job(SPEC, 7)
    assert isinstance(accepted, Accepted)
    assert accepted.job == Job(SPEC, JobState.QUEUED, 7, 7)
    assert accepted.next_seq == 1
    (event,) = accepted.events
    assert (event.seq, event.t_ns, event.type) == (0, 7, EventType.QUEUED)
    assert event.data == Queued(user="ann", benchmark="kws01", modes=(Mode.ENERGY, Mode.ACCURACY))
    journal.close()
    again = Journal(url)
    assert again.find_job("j1") == accepted.job
    assert again.list_events("j1") == [event]
    again.close()


def test_submitting_again_changes_nothing(journal: Journal) -> None:
    journal.submit_job(SPEC, 1)
    journal.lease_job("j1", "s1", 2)
    again = journal.submit_job(SPEC, 3)
    assert isinstance(again, Duplicate)
    assert again.events == ()
    assert again.next_seq == 2
    assert again.job.state is JobState.LEASED
    assert types(journal) == ["queued", "leased"]


@pytest.mark.parametrize(
    "other",
    [
        {"user": "bob"},
        {"benchmark": "ic01"},
        {"modes": (Mode.ACCURACY, Mode.ENERGY)},
        {"station": ""},
        {"priority": Priority.NORMAL},
        {"voltage_mv": None},
    ],
)
def test_one_id_is_one_request_of_one_user(journal: Journal, other: dict[str, Any]) -> None:
    journal.submit_job(SPEC, 1)
    with pytest.raises(JobError, match="choose another id") as caught:
        journal.submit_job(replace(SPEC, **other), 2)
    assert caught.value.code == "job-exists"
    assert "ann" not in str(caught.value)
    assert len(journal.list_jobs()) == 1


# ---- cancel ------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(journal: Journal) -> None:
    journal.submit_job(SPEC, 1)
    change = journal.cancel_job("j1", "ann", 2, "typo")
    assert change.job.verdict is Verdict.CANCELLED
    assert change.job.reason == "cancelled by ann: typo"
    assert [event.type for event in change.events] == ["finished"]


def test_a_running_job_is_asked_to_stop(journal: Journal) -> None:
    running(journal)
    change = journal.cancel_job("j1", "ann", 4)
    assert change.job.state is JobState.RUNNING
    assert change.job.cancel_requested
    assert [event.type for event in change.events] == ["note"]


def test_a_job_given_up_is_not_tried_again(journal: Journal) -> None:
    running(journal)
    journal.cancel_job("j1", "ann", 4)
    change = journal.requeue_job("j1", "station lost", 5)
    assert change.job.verdict is Verdict.CANCELLED
    assert open_runs(journal) == []


def test_a_cancelled_job_keeps_who_asked_and_why(journal: Journal) -> None:
    for job, station in (("ends", "s1"), ("breaks", "s2")):
        running(journal, job, station)
        asked = journal.cancel_job(job, "ann", 4, "wrong board")
        assert asked.job.reason == "cancelled by ann: wrong board"
    ended = journal.finish_job("ends", Verdict.CANCELLED, "cancelled while it ran", 5)
    broken = journal.requeue_job("breaks", "labd was restarted", 5)
    for change in (ended, broken):
        (event,) = change.events
        assert isinstance(event.data, Finished)
        assert change.job.reason == event.data.reason == "cancelled by ann: wrong board"


def test_cancelling_again_is_harmless(journal: Journal) -> None:
    running(journal)
    journal.submit_job(replace(SPEC, job="j2"), 1)
    for job in ("j1", "j2"):
        journal.cancel_job(job, "ann", 4)
        again = journal.cancel_job(job, "ann", 5)
        assert again.events == ()
        assert again.next_seq == len(journal.list_events(job))


def test_what_cannot_be_cancelled(journal: Journal) -> None:
    running(journal)
    for job, user in (("j1", "bob"), ("nothing", "ann")):
        with pytest.raises(JobError) as caught:
            journal.cancel_job(job, user, 4)
        assert caught.value.code == "no-such-job"
    journal.finish_job("j1", Verdict.PASS, "", 5)
    with pytest.raises(JobError) as caught:
        journal.cancel_job("j1", "ann", 6)
    assert caught.value.code == "job-done"


# ---- the lab's steps ---------------------------------------------------------------------


def test_a_whole_life(journal: Journal) -> None:
    running(journal)
    journal.append_event("j1", Phase(mode=Mode.ENERGY, phase="warmup"), 4)
    journal.requeue_job("j1", "power monitor lost", 5)
    journal.lease_job("j1", "s2", 6)
    assert journal.start_attempt("j1", 7).job.attempt == 2
    journal.record_result("j1", 2, RESULT, 8)
    done = journal.finish_job("j1", Verdict.PASS, "", 9)
    assert types(journal) == [
        *("queued", "leased", "started", "phase", "requeued"),
        *("leased", "started", "result", "finished"),
    ]
    assert done.next_seq == 9
    assert [event.station for event in journal.list_events("j1")] == ["", *["s1"] * 4, *["s2"] * 4]
    assert [event.attempt for event in journal.list_events("j1")] == [0, 0, 1, 1, 1, 1, 2, 2, 2]
    with journal.engine.begin() as connection:
        assert [tuple(row) for row in connection.execute(select(tables.run))] == [
            ("j1", 1, "s1", 3, 5, "fault", "power monitor lost", ""),
            ("j1", 2, "s2", 7, 9, "pass", "", ""),
        ]
    assert journal.busy_jobs() == []


def test_a_step_that_is_not_in_the_table_changes_nothing(journal: Journal) -> None:
    before = running(journal)
    with pytest.raises(LabdBug, match="is running and cannot lease"):
        journal.lease_job("j1", "s9", 9)
    with pytest.raises(LabdBug, match="is running and cannot start"):
        journal.start_attempt("j1", 9)
    assert journal.find_job("j1") == before.job
    assert len(journal.list_events("j1")) == before.next_seq
    with pytest.raises(LabdBug, match="has no job nothing"):
        journal.lease_job("nothing", "s1", 9)


def test_a_station_does_one_job_at_a_time(journal: Journal) -> None:
    running(journal)
    journal.submit_job(replace(SPEC, job="j2"), 4)
    with pytest.raises(LabdBug, match="refused a change"):
        journal.lease_job("j2", "s1", 5)
    assert types(journal, "j2") == ["queued"]
    assert journal.lease_job("j2", "s2", 5).job.station == "s2"
    journal.finish_job("j1", Verdict.PASS, "", 6)
    journal.submit_job(replace(SPEC, job="j3"), 7)
    journal.lease_job("j3", "s1", 8)


def test_nothing_follows_the_end(journal: Journal) -> None:
    running(journal)
    journal.finish_job("j1", Verdict.INVALID, "gap in window 1", 4)
    progress = Progress(mode=Mode.ENERGY, done=1, total=5, unit="windows")
    with pytest.raises(LabdBug, match="is done and takes no Progress"):
        journal.append_event("j1", progress, 5)
    with pytest.raises(LabdBug, match="cannot finish"):
        journal.finish_job("j1", Verdict.PASS, "", 5)
    assert types(journal)[-1] == "finished"


def test_only_a_step_appends_a_step(journal: Journal) -> None:
    running(journal)
    with pytest.raises(LabdBug, match="takes no Finished"):
        journal.append_event("j1", Finished(verdict=Verdict.PASS), 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_json_cannot_hold_is_refused_whole(journal: Journal, value: object) -> None:
    before = running(journal)
    result = RESULT.model_copy(update={"score": {"value": value}})
    with pytest.raises(LabdBug, match="the journal cannot store it"):
        journal.append_event("j1", measured(value), 4)
    with pytest.raises(LabdBug, match="the journal cannot store it"):
        journal.record_result("j1", 1, result, 4)
    assert journal.find_job("j1") == before.job
    snapshot = journal.find_snapshot("j1")
    assert snapshot is not None
    assert snapshot.results == ()


# ---- results -----------------------------------------------------------------------------


def test_a_result_is_kept_whole_and_reported_short(journal: Journal) -> None:
    running(journal)
    change = journal.record_result("j1", 1, RESULT, 4)
    assert json.loads(change.events[0].to_json_bytes())["data"] == {
        "mode": "energy",
        "verdict": "pass",
        "reasons": [],
        "score": {"energy_per_inference_uj": 12.5},
        "details": RESULT.details.model_dump(mode="json"),
    }
    snapshot = journal.find_snapshot("j1")
    assert snapshot is not None
    (kept,) = snapshot.results
    assert (kept.job, kept.attempt, kept.result.mode, kept.t_ns) == ("j1", 1, Mode.ENERGY, 4)
    assert kept.result == RESULT
    assert kept.result.windows == (WINDOW,)
    assert snapshot.next_seq == change.next_seq


def test_results_belong_to_the_running_attempt(journal: Journal) -> None:
    running(journal)
    with pytest.raises(LabdBug, match="not running attempt 2"):
        journal.record_result("j1", 2, RESULT, 4)
    journal.record_result("j1", 1, RESULT, 4)
    with pytest.raises(LabdBug, match="refused a change"):
        journal.record_result("j1", 1, RESULT, 5)
    journal.finish_job("j1", Verdict.PASS, "", 6)
    with pytest.raises(LabdBug, match="is done"):
        journal.record_result("j1", 1, RESULT.model_copy(update={"mode": Mode.ACCURACY}), 7)
    assert types(journal) == ["queued", "leased", "started", "result", "finished"]


# ---- questions ---------------------------------------------------------------------------


def test_jobs_come_as_accepted_whatever_the_clock_and_the_limit_keeps_the_newest(
    journal: Journal,
) -> None:
    for job, now in (("c", 5), ("a", 5), ("b", 1)):  # the clock stepped back
        journal.submit_job(replace(SPEC, job=job), now)
    assert [job.spec.job for job in journal.list_jobs()] == ["c", "a", "b"]
    assert [job.spec.job for job in journal.list_jobs(limit=2)] == ["a", "b"]
    assert [each.job.spec.job for each in journal.newest_snapshots(limit=2)] == ["a", "b"]


def test_jobs_by_state_and_user(journal: Journal) -> None:
    running(journal)
    journal.submit_job(replace(SPEC, job="j2", user="bob"), 1)
    assert [job.spec.job for job in journal.list_jobs([JobState.QUEUED])] == ["j2"]
    assert [job.spec.job for job in journal.list_jobs(user="ann")] == ["j1"]
    assert journal.list_jobs([]) == []
    assert [job.spec.job for job in journal.busy_jobs()] == ["j1"]
    assert open_runs(journal) == ["j1"]
    assert journal.find_job("nothing") is None
    assert journal.find_snapshot("nothing") is None


def test_events_from_a_number_on(journal: Journal) -> None:
    running(journal)
    assert [event.seq for event in journal.list_events("j1", 1)] == [1, 2]
    assert [event.seq for event in journal.list_events("j1", 0, 2)] == [0, 1]
    assert journal.list_events("j1", 3) == []
    assert journal.list_events("nothing") == []


def test_more_jobs_than_one_statement_takes(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labd.store.journal.statements._IDS_PER_QUERY", 2)
    for number in range(5):
        running(journal, f"j{number}", f"s{number}")
        journal.record_result(f"j{number}", 1, RESULT, 4)
    found = journal.newest_snapshots()
    assert [[result.job for result in each.results] for each in found] == [
        [f"j{number}"] for number in range(5)
    ]


def test_only_the_benchs_faults_are_counted(journal: Journal) -> None:
    running(journal)
    journal.requeue_job("j1", "cable", 5)
    journal.lease_job("j1", "s1", 6)
    journal.start_attempt("j1", 7)
    journal.requeue_job("j1", "labd was stopped", 8, AttemptOutcome.INTERRUPTED)
    assert len(journal.list_faults("j1")) == 1


def test_the_schedule_lists_what_runs_then_what_is_next_then_what_ended_last(
    journal: Journal,
) -> None:
    for now, (job, priority) in enumerate(
        [
            ("night", Priority.OVERNIGHT),
            ("first", Priority.NORMAL),
            ("second", Priority.NORMAL),
            ("now", Priority.INTERACTIVE),
            ("ended-late", Priority.NORMAL),
            ("ended-early", Priority.NORMAL),
            ("runs", Priority.OVERNIGHT),
        ]
    ):
        user = "bob" if job == "second" else "ann"
        journal.submit_job(replace(SPEC, job=job, user=user, priority=priority), now)
    for now, job in enumerate(["ended-early", "ended-late", "runs"], 20):
        journal.lease_job(job, "s1", now)
        journal.start_attempt(job, now)
        if job != "runs":
            journal.finish_job(job, Verdict.PASS, "", now)
    listed = [each.job.spec.job for each in journal.scheduled_snapshots()]
    queued = ["now", "first", "second", "night"]
    assert listed == ["runs", *queued, "ended-late", "ended-early"]
    page = journal.scheduled_snapshots([JobState.QUEUED], None, 2, 1)
    assert [each.job.spec.job for each in page] == ["first", "second"]
    mine = journal.scheduled_snapshots([JobState.QUEUED], "ann")
    assert [each.job.spec.job for each in mine] == ["now", "first", "night"]
    planned = plan_assignments(journal.list_jobs([JobState.QUEUED]), [])
    assert list(planned.waiting) == queued
    assert journal.count_jobs() == 7
    assert journal.count_jobs([JobState.QUEUED], "ann") == 3


def test_events_that_are_not_known_to_be_published_come_back(journal: Journal) -> None:
    running(journal)
    running(journal, "j2", "s2")
    record_published(journal, {"j1": 1, "j2": 3})
    [change] = read_unpublished(journal)
    assert (change.job.spec.job, change.next_seq) == ("j1", 3)
    assert [event.type for event in change.events] == ["leased", "started"]
    journal.finish_job("j2", Verdict.PASS, "", 9)
    assert [each.job.spec.job for each in read_unpublished(journal)] == ["j1", "j2"]
    record_published(journal, {"j1": 3, "j2": 4})
    assert read_unpublished(journal) == []


def test_the_boards_that_queued_jobs_have_images_for(journal: Journal) -> None:
    images = [FixedImage("b1", build, "x.elf", "0" * 64) for build in Build]
    journal.submit_job(replace(SPEC, job="two"), 1, [*images, replace(images[0], board="b2")])
    journal.submit_job(replace(SPEC, job="none"), 2)
    journal.submit_job(replace(SPEC, job="leased"), 3, images)
    journal.lease_job("leased", "s1", 4)
    assert journal.image_boards() == {"two": {"b1", "b2"}}
