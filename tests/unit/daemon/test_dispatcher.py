"""Jobs, stations and requests that change while the dispatcher waits for the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from labd.core.errors import InfraError, JobError, LabdBug
from labd.core.health import Activity, Health
from labd.core.jobs import Job, JobSpec
from labd.core.model import Build, Finding, Mode
from labd.core.schedule import HeldFirmware
from labd.daemon.dispatcher import Dispatcher
from labd.daemon.job_log import JobLog
from labd.daemon.recovery import requeue_abandoned_jobs
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.wire.job_events import EventType
from labd.wire.topics import Topics
from tests.unit.daemon.stage import Stage, failing, forever


def spec(job: str) -> JobSpec:
    return JobSpec(job, "alice", "digits01", (Mode.ACCURACY,))


class Gate:
    """Holds the caller of a method after its work is done, until the test opens it."""

    def __init__(self, target: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        original: Callable[..., Any] = getattr(target, method)

        async def held(*args: Any) -> Any:
            result = await original(*args)
            self.reached.set()
            await self.opened.wait()
            return result

        monkeypatch.setattr(target, method, held)


class Floor:
    """Stations, their journal and the dispatcher, as tasks."""

    def __init__(self, job_log: JobLog, folder: Path, *names: str) -> None:
        self.job_log = job_log
        self.stages = {name: Stage(job_log, folder, name) for name in names}
        supervisors = {name: stage.supervisor for name, stage in self.stages.items()}
        self.dispatcher = Dispatcher(job_log, supervisors, retry_s=0.01)
        for stage in self.stages.values():
            stage.changed = self.dispatcher.request_planning
        self.dispatching: asyncio.Task[None] | None = None
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for stage in self.stages.values():
            self.tasks.append(asyncio.create_task(stage.supervisor.check_and_run_jobs()))
        await self.until(lambda: all(view.is_free for view in self.dispatcher.station_views()))
        self.dispatching = asyncio.create_task(self.dispatcher.plan_after_changes())
        self.tasks.append(self.dispatching)

    async def submit(self, *jobs: str) -> None:
        for job in jobs:
            await self.job_log.submit_job(spec(job))
        self.dispatcher.request_planning()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.raise_first_failure()
                await asyncio.sleep(0.005)

    async def until_done(self, *jobs: str) -> list[Job]:
        async with asyncio.timeout(5):
            while True:
                self.raise_first_failure()
                found = [await self.job_log.require_job(job) for job in jobs]
                if all(job.verdict for job in found):
                    return found
                await asyncio.sleep(0.005)

    async def until_state(self, job: str, state: str) -> None:
        async with asyncio.timeout(5):
            while (await self.job_log.require_job(job)).state != state:
                self.raise_first_failure()
                await asyncio.sleep(0.005)

    async def types(self, job: str) -> list[EventType]:
        """Types of a job's events, whose numbers have no hole."""
        events = await self.job_log.query_journal(Journal.list_events, job)
        assert [event.seq for event in events] == list(range(len(events)))
        return [event.type for event in events]

    def raise_first_failure(self) -> None:
        for task in self.tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def job_log(tmp_path: Path) -> AsyncIterator[JobLog]:
    async with AsyncJournal(f"sqlite:///{tmp_path / 'j.sqlite3'}") as journal:
        yield JobLog(Topics("lab"), journal, lambda: 1, retry_s=0.01)


@pytest.fixture
async def floor(job_log: JobLog, tmp_path: Path) -> AsyncIterator[Floor]:
    made = Floor(job_log, tmp_path, "s1")
    await made.start()
    yield made
    await made.stop()


async def test_a_check_that_starts_while_a_job_is_leased_sends_it_back(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = floor.stages["s1"]
    gate = Gate(floor.job_log, "lease_job", monkeypatch)
    await floor.submit("j1", "j2")
    await gate.reached.wait()
    checked = asyncio.Event()
    stage.runner.check_step = checked.wait  # type: ignore[assignment]
    stage.supervisor.request_check("its bench was restarted")
    await floor.until(lambda: stage.supervisor.activity is Activity.CHECKING)
    gate.opened.set()
    await floor.until_state("j1", "queued")
    assert stage.supervisor.job == ""
    checked.set()
    jobs = await floor.until_done("j1", "j2")
    assert [(job.verdict, job.attempt) for job in jobs] == [("pass", 1), ("pass", 1)]
    types = await floor.types("j1")
    assert types[:3] == [EventType.QUEUED, EventType.LEASED, EventType.REQUEUED]
    assert types.count(EventType.STARTED) == 1
    assert await floor.job_log.query_journal(Journal.list_faults, "j1") == []


async def test_a_check_that_fails_meanwhile_leaves_the_job_in_the_queue(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = floor.stages["s1"]
    gate = Gate(floor.job_log, "lease_job", monkeypatch)
    await floor.submit("j1")
    await gate.reached.wait()
    stage.runner.findings = [Finding("x", "no answer")]
    stage.supervisor.request_check("its bench was restarted")
    await floor.until(lambda: stage.supervisor.health is Health.BAD)
    gate.opened.set()
    async with asyncio.timeout(5):
        while (status := await floor.job_log.job_status("j1")) is None or not status.waiting:
            await asyncio.sleep(0.005)
    assert (status.state, status.station) == ("queued", "")
    assert "s1 is bad (no answer)" in status.waiting
    stage.runner.findings = []
    stage.supervisor.request_check("its bench was restarted")
    [job] = await floor.until_done("j1")
    assert (job.verdict, job.attempt) == ("pass", 1)


async def test_a_refused_assignment_is_queued_again_once_the_journal_can(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(floor.job_log, "lease_job", monkeypatch)
    requeue, failures = floor.job_log.requeue_job, [InfraError("journal", "full")] * 3

    async def failing_requeue(*args: Any) -> None:
        if failures:
            raise failures.pop()
        await requeue(*args)

    monkeypatch.setattr(floor.job_log, "requeue_job", failing_requeue)
    await floor.submit("j1")
    await gate.reached.wait()
    stage, checked = floor.stages["s1"], asyncio.Event()
    stage.runner.check_step = checked.wait  # type: ignore[assignment]
    stage.supervisor.request_check("its bench was restarted")
    gate.opened.set()
    await floor.until_state("j1", "queued")
    checked.set()
    [job] = await floor.until_done("j1")
    assert (job.verdict, job.attempt, failures) == ("pass", 1, [])


async def test_a_job_that_is_cancelled_while_it_is_leased_never_runs(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(floor.job_log, "lease_job", monkeypatch)
    await floor.submit("j1")
    await gate.reached.wait()
    await floor.job_log.cancel_job("j1", "alice", "")
    assert not floor.dispatcher.cancel_running_attempt("j1")
    gate.opened.set()
    [job] = await floor.until_done("j1")
    assert job.verdict == "cancelled"
    assert not floor.stages["s1"].runner.running.is_set()


async def test_a_job_that_is_cancelled_before_its_lease_is_not_leased(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(floor.job_log, "query_journal", monkeypatch)
    await floor.submit("j1")
    await gate.reached.wait()
    await floor.job_log.cancel_job("j1", "alice", "")
    gate.opened.set()
    [job] = await floor.until_done("j1")
    await asyncio.sleep(0.05)
    assert job.verdict == "cancelled"
    assert await floor.types("j1") == [EventType.QUEUED, EventType.FINISHED]


async def test_a_stop_while_a_job_is_leased_keeps_it(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(floor.job_log, "lease_job", monkeypatch)
    await floor.submit("j1")
    await gate.reached.wait()
    await floor.stop()
    assert (await floor.job_log.require_job("j1")).state == "leased"
    assert await requeue_abandoned_jobs(floor.job_log, "labd was stopped") == ["j1"]
    job = await floor.job_log.require_job("j1")
    assert (job.state, job.reason) == ("queued", "labd was stopped while it was leased on s1")
    assert await floor.types("j1") == [EventType.QUEUED, EventType.LEASED, EventType.REQUEUED]


async def test_a_defect_in_one_assignment_costs_one_job(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = floor.stages["s1"].supervisor
    assign = type(supervisor).assign_job

    def broken(self: Any, wanted: JobSpec) -> bool:
        if wanted.job == "j1":
            raise KeyError("oops")
        return assign(self, wanted)

    monkeypatch.setattr(type(supervisor), "assign_job", broken)
    await floor.submit("j1", "j2", "j3")
    jobs = await floor.until_done("j2", "j3")
    assert [job.verdict for job in jobs] == ["pass", "pass"]
    status = await floor.job_log.job_status("j1")
    assert status is not None
    assert status.state == "queued"
    assert "a defect of labd prevents its start: KeyError('oops')" in status.waiting
    await floor.job_log.cancel_job("j1", "alice", "")


async def test_a_job_that_no_station_has_is_queued_again_when_it_blocks_another(
    floor: Floor,
) -> None:
    """The database refuses a second job on a station; the first must not stay there for ever."""
    await floor.job_log.submit_job(spec("lost"))
    assert await floor.job_log.lease_job("lost", "s1")
    await floor.submit("j1")
    jobs = await floor.until_done("lost", "j1")
    assert [(job.verdict, job.attempt) for job in jobs] == [("pass", 1), ("pass", 1)]


async def test_planning_that_fails_is_repeated(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, failures = floor.job_log.query_journal, [KeyError("x"), InfraError("journal", "locked")]

    async def failing_query(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await query(*args)

    monkeypatch.setattr(floor.job_log, "query_journal", failing_query)
    await floor.submit("j1")
    [job] = await floor.until_done("j1")
    assert job.verdict == "pass"


async def test_a_job_that_changed_stations_is_cancelled_on_the_new_one(
    job_log: JobLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old station still ends its attempt while the new one begins."""
    floor = Floor(job_log, tmp_path, "s1", "s2")
    await floor.start()
    try:
        first, second = floor.stages["s1"], floor.stages["s2"]
        first.runner.run_step, second.runner.run_step = failing(InfraError("x", "cable")), forever
        gate = Gate(job_log, "requeue_job", monkeypatch)
        await floor.submit("j1")
        await gate.reached.wait()
        floor.dispatcher.request_planning()
        await second.runner.running.wait()
        assert first.supervisor.job == second.supervisor.job == "j1"
        await job_log.cancel_job("j1", "alice", "")
        assert floor.dispatcher.cancel_running_attempt("j1")
        gate.opened.set()
        [job] = await floor.until_done("j1")
        assert job.verdict == "cancelled"
    finally:
        await floor.stop()


async def test_an_attempt_whose_start_the_journal_refuses_ends_its_job_alone(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = floor.job_log.start_attempt

    async def refusing(job: str) -> Job:
        if job == "j1":
            raise LabdBug("journal-rule", "refused")
        return await start(job)

    monkeypatch.setattr(floor.job_log, "start_attempt", refusing)
    await floor.submit("j1", "j2")
    jobs = await floor.until_done("j1", "j2")
    assert [job.verdict for job in jobs] == ["infra", "pass"]
    assert "a defect of labd" in jobs[0].reason


async def test_an_ending_that_the_journal_refuses_becomes_a_plain_one(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = floor.job_log.finish_job

    async def refusing(job: str, verdict: Any, reason: str) -> None:
        if job == "j1" and not reason:
            raise LabdBug("journal-data", "cannot store it")
        await finish(job, verdict, reason)

    monkeypatch.setattr(floor.job_log, "finish_job", refusing)
    await floor.submit("j1", "j2")
    jobs = await floor.until_done("j1", "j2")
    assert [job.verdict for job in jobs] == ["infra", "pass"]


async def test_a_message_that_cannot_be_published_does_not_stop_the_others(
    job_log: JobLog,
) -> None:
    published: list[str] = []

    class Link:
        async def publish_message(self, topic: str, _payload: bytes, **_options: bool) -> None:
            if topic == "broken":
                raise ValueError(topic)
            published.append(topic)

    for topic in ("broken", "fine"):
        job_log.queue_message(topic, b"", retain=False)
    publishing = asyncio.create_task(job_log.publish_outbox(Link()))  # type: ignore[arg-type]
    assert await job_log.wait_until_published(5)
    publishing.cancel()
    assert published == ["fine"]


async def test_a_board_is_read_again_for_a_job_that_needs_another_firmware(floor: Floor) -> None:
    stage = floor.stages["s1"]
    stage.supervisor.recheck_s = 0.02
    stage.runner.bench.held_firmware = HeldFirmware("ic01", Build.PERFORMANCE)
    stage.supervisor.request_check("its bench was restarted")
    await floor.until(lambda: stage.supervisor.holds is not None)
    await floor.submit("j1")
    checks = stage.runner.opened
    await floor.until(lambda: stage.runner.opened >= checks + 3)
    status = await floor.job_log.job_status("j1")
    assert status is not None
    assert "s1 holds ic01 (performance build), and labd cannot flash it" in status.waiting
    stage.runner.bench.held_firmware = HeldFirmware("digits01", Build.PERFORMANCE)
    [job] = await floor.until_done("j1")
    assert (job.verdict, job.attempt) == ("pass", 1)
    checks = stage.runner.opened
    await asyncio.sleep(0.1)
    assert stage.runner.opened == checks


async def test_a_board_that_changed_since_its_check_is_read_again(floor: Floor) -> None:
    stage = floor.stages["s1"]
    stage.runner.bench.held_firmware = HeldFirmware("digits01", Build.PERFORMANCE)
    stage.supervisor.request_check("its bench was restarted")
    await floor.until(lambda: stage.supervisor.holds is not None)
    stage.runner.run_step = failing(JobError("wrong-model", "the board runs ic01"))
    stage.runner.bench.held_firmware = HeldFirmware("ic01", Build.PERFORMANCE)
    await floor.submit("j1", "j2")
    [job] = await floor.until_done("j1")
    assert job.verdict == "invalid"
    await floor.until(lambda: stage.supervisor.holds == stage.runner.bench.held_firmware)
    assert (await floor.job_log.require_job("j2")).state == "queued"
