"""The job table: what it allows happens, everything else raises and changes nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.errors import LabdBug
from labd.core.jobs import TRANSITIONS, Job, JobSpec, JobState, JobStep, advance_job
from labd.core.model import Mode, Verdict

SPEC = JobSpec("j1", "alice", "digits01", (Mode.ACCURACY,))


def job_in(state: JobState) -> Job:
    verdict = Verdict.PASS if state is JobState.DONE else None
    station = "" if state is JobState.QUEUED else "s1"
    return Job(SPEC, state, 1, 1, station=station, verdict=verdict)


def take(job: Job, step: JobStep) -> Job:
    verdict = Verdict.PASS if step is JobStep.FINISH else None
    return advance_job(job, step, 9, station="s2", verdict=verdict, reason="why")


@pytest.mark.parametrize(("state", "step"), list(itertools.product(JobState, JobStep)))
def test_a_step_is_in_the_table_or_raises(state: JobState, step: JobStep) -> None:
    job = job_in(state)
    if (state, step) in TRANSITIONS:
        after = take(job, step)
        assert after.state is TRANSITIONS[state, step]
        assert (after.verdict is not None) == (after.state is JobState.DONE)
    else:
        with pytest.raises(LabdBug, match=f"is {state} and cannot {step}"):
            take(job, step)
    assert job == job_in(state)


def test_done_is_the_end() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is JobState.DONE]


def test_only_starting_counts_an_attempt() -> None:
    job = take(take(job_in(JobState.QUEUED), JobStep.LEASE), JobStep.START)
    assert job.attempt == 1
    again = take(take(take(job, JobStep.REQUEUE), JobStep.LEASE), JobStep.START)
    assert again.attempt == 2


def test_a_requeued_job_belongs_to_no_station() -> None:
    assert take(job_in(JobState.RUNNING), JobStep.REQUEUE).station == ""


def test_a_lease_names_its_station() -> None:
    with pytest.raises(LabdBug, match="names its station"):
        advance_job(job_in(JobState.QUEUED), JobStep.LEASE, 9)


def test_an_ending_has_a_verdict_and_nothing_else_has() -> None:
    with pytest.raises(LabdBug):
        advance_job(job_in(JobState.RUNNING), JobStep.FINISH, 9)
    with pytest.raises(LabdBug):
        advance_job(job_in(JobState.QUEUED), JobStep.LEASE, 9, station="s", verdict=Verdict.PASS)


@pytest.mark.parametrize(
    ("step", "verdict"),
    [(JobStep.CANCEL, Verdict.CANCELLED), (JobStep.EXPIRE, Verdict.EXPIRED)],
)
def test_cancelling_and_expiring_have_their_own_verdicts(step: JobStep, verdict: Verdict) -> None:
    assert take(job_in(JobState.QUEUED), step).verdict is verdict


@given(st.lists(st.sampled_from(list(JobStep)), max_size=30))
def test_any_walk_stays_consistent(steps: list[JobStep]) -> None:
    job = job_in(JobState.QUEUED)
    for step in steps:
        try:
            job = take(job, step)
        except LabdBug:
            continue
        assert (job.state is JobState.QUEUED) == (
            job.station == "" and job.verdict is None
        ) or job.state is JobState.DONE
