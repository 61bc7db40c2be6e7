"""Random lives of random jobs: the journal against the rules of the core."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from labd.core.errors import JobError, LabdBug
from labd.core.jobs import TRANSITIONS, Job, JobSpec, JobState, JobStep
from labd.core.model import Mode, Verdict
from labd.store.journal.attempts import read_attempts
from labd.store.journal.journal import Journal
from labd.wire.job_events import EventType, Note

jobs = st.sampled_from(["a", "b", "c"])
stations = st.sampled_from(["s1", "s2"])
BUSY = (JobState.LEASED, JobState.RUNNING)


class Lives(RuleBasedStateMachine):
    """Keeps its own account of every job beside the journal's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'labd.sqlite3'}"
        self.journal = Journal(self.url)
        self.expected: dict[str, JobState] = {}
        self.reported: dict[str, int] = {}
        self.now = 0

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()

    def tick(self) -> int:
        self.now += 1
        return self.now

    def step(self, job: str, step: JobStep, station: str = "") -> None:
        before = self.journal.find_job(job)
        allowed = before is not None and (before.state, step) in TRANSITIONS
        if step is JobStep.LEASE and any(each.station == station for each in self.busy()):
            allowed = False
        try:
            change = {
                JobStep.LEASE: lambda: self.journal.lease_job(job, station, self.tick()),
                JobStep.START: lambda: self.journal.start_attempt(job, self.tick()),
                JobStep.REQUEUE: lambda: self.journal.requeue_job(job, "lost", self.tick()),
                JobStep.FINISH: lambda: self.journal.finish_job(
                    job, Verdict.FAIL, "x", self.tick()
                ),
                JobStep.EXPIRE: lambda: self.journal.finish_job(
                    job, Verdict.EXPIRED, "x", self.tick()
                ),
            }[step]()
        except LabdBug:
            gives_up = before is not None and before.cancel_requested and step is JobStep.REQUEUE
            assert not allowed, (before, step)
            assert not gives_up or before.state not in BUSY
            assert self.journal.find_job(job) == before
            return
        assert allowed, (before, step)
        assert before is not None
        after = TRANSITIONS[before.state, step]
        if before.cancel_requested and step is JobStep.REQUEUE:
            after = JobState.DONE
        self.expected[job] = after
        self.reported[job] += len(change.events)
        assert change.next_seq == self.reported[job]

    def busy(self) -> list[Job]:
        return [each for each in self.journal.list_jobs() if each.state in BUSY]

    @rule(job=jobs, modes=st.sampled_from([(Mode.ENERGY,), tuple(Mode)]))
    def submit(self, job: str, modes: tuple[Mode, ...]) -> None:
        before = self.journal.find_job(job)
        try:
            change = self.journal.submit_job(JobSpec(job, "ann", "kws01", modes), self.tick())
        except JobError:
            assert before is not None
            assert before.spec.modes != modes
            return
        self.expected.setdefault(job, JobState.QUEUED)
        self.reported[job] = self.reported.get(job, 0) + len(change.events)

    @rule(job=jobs, station=stations)
    def lease(self, job: str, station: str) -> None:
        self.step(job, JobStep.LEASE, station)

    @rule(job=jobs)
    def start(self, job: str) -> None:
        self.step(job, JobStep.START)

    @rule(job=jobs)
    def requeue(self, job: str) -> None:
        self.step(job, JobStep.REQUEUE)

    @rule(job=jobs, step=st.sampled_from([JobStep.FINISH, JobStep.EXPIRE]))
    def finish(self, job: str, step: JobStep) -> None:
        self.step(job, step)

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        try:
            change = self.journal.cancel_job(job, "ann", self.tick())
        except JobError:
            assert self.expected.get(job, JobState.DONE) is JobState.DONE
            return
        if self.expected[job] is JobState.QUEUED:
            self.expected[job] = JobState.DONE
        self.reported[job] += len(change.events)

    @rule(job=jobs)
    def note(self, job: str) -> None:
        try:
            self.journal.append_event(job, Note(text="hello"), self.tick())
        except LabdBug:
            assert self.expected.get(job, JobState.DONE) is JobState.DONE
            return
        self.reported[job] += 1

    @rule()
    def die_and_restart(self) -> None:
        """A new journal on the same file, opened while the old one still has it open."""
        old = self.journal
        self.journal = Journal(self.url)
        old.close()

    @invariant()
    def states_are_as_the_table_says(self) -> None:
        found = {job.spec.job: job.state for job in self.journal.list_jobs()}
        assert found == self.expected

    @invariant()
    def events_have_no_hole_and_end_with_the_end(self) -> None:
        for job, state in self.expected.items():
            events = self.journal.list_events(job)
            assert [event.seq for event in events] == list(range(self.reported[job]))
            finished = [event.seq for event in events if event.type is EventType.FINISHED]
            assert finished == ([len(events) - 1] if state is JobState.DONE else [])

    @invariant()
    def runs_are_open_exactly_while_jobs_run(self) -> None:
        running = {job.spec.job for job in self.busy() if job.state is JobState.RUNNING}
        every = read_attempts(self.journal)
        assert {run.job for run in every if run.ended_ns is None} == running
        places = [job.station for job in self.busy()]
        assert len(places) == len(set(places))


Lives.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestLives = Lives.TestCase
