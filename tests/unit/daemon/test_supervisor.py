"""A supervisor that is cancelled, stopped or fails at chosen points of a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labd.core.blame import MAX_FAULTS
from labd.core.errors import DeadlineExceeded, DutError, InfraError, JobError
from labd.core.health import Health
from labd.core.model import Finding, Verdict
from labd.daemon.job_log import JobLog
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.wire.topics import Topics
from tests.unit.daemon.stage import Stage, failing, forever


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with AsyncJournal(f"sqlite:///{tmp_path / 'j.sqlite3'}") as journal:
        yield Stage(JobLog(Topics("lab"), journal, lambda: 1, retry_s=0.01), tmp_path)


@pytest.fixture
async def task(stage: Stage) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(stage.supervisor.check_and_run_jobs())
    yield running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def stopped(task: asyncio.Task[None]) -> None:
    """A shutdown must end the supervisor, soon."""
    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({task})
    assert task.cancelled()


async def test_a_job_that_runs_through_passes(stage: Stage, task: asyncio.Task[None]) -> None:
    await stage.assign()
    assert await stage.ended() == ("done", "pass")
    assert stage.runner.opened == stage.runner.closed


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (JobError("x", "asked for nonsense"), "invalid"),
        (DutError("x", "crashed"), "fail"),
    ],
)
async def test_blame_decides_the_verdict(
    stage: Stage, task: asyncio.Task[None], error: Exception, verdict: str
) -> None:
    stage.runner.run_step = failing(error)
    await stage.assign()
    assert await stage.ended() == ("done", verdict)
    assert stage.supervisor.health is Health.GOOD


async def test_a_fault_of_the_bench_is_retried_and_then_reported(
    stage: Stage, task: asyncio.Task[None]
) -> None:
    stage.runner.run_step = failing(InfraError("x", "cable"))
    await stage.assign()
    for _ in range(MAX_FAULTS - 1):
        assert (await stage.ended())[0] == "queued"
        await stage.again()
    assert await stage.ended() == ("done", "infra")


def silent_dut(code: str = "no-answer") -> InfraError:
    error = DeadlineExceeded(code, "infer 1 0: no answer within 5 s")
    error.dut_suspected = True
    return error


async def test_a_dut_that_hangs_twice_on_a_station_that_passes_its_check_fails(
    stage: Stage, task: asyncio.Task[None]
) -> None:
    stage.runner.run_step = failing(silent_dut())
    await stage.assign()
    assert await stage.ended() == ("queued", "")
    assert stage.supervisor.health is Health.GOOD  # the check came before the ending
    await stage.again()
    assert await stage.ended() == ("done", "fail")
    reason = (await stage.job_log.require_job("j1")).reason
    assert "attempt 1 on s1: infer 1 0: no answer within 5 s; attempt 2 on s1: infer" in reason


async def test_a_dut_that_hangs_goes_to_another_station_before_it_fails(
    stage: Stage, task: asyncio.Task[None]
) -> None:
    stage.alternative = True
    stage.runner.run_step = failing(silent_dut())
    await stage.assign()
    await stage.ended()
    await stage.again()
    assert await stage.ended() == ("queued", "")
    faults = await stage.job_log.query_journal(Journal.list_faults, "j1")
    assert [(fault.attempt, fault.dut_fault) for fault in faults] == [
        (1, "no-answer"),
        (2, "no-answer"),
    ]


async def test_a_station_that_fails_its_check_after_the_fault_keeps_the_blame(
    stage: Stage, task: asyncio.Task[None]
) -> None:
    stage.runner.run_step = failing(silent_dut())
    await stage.assign()
    stage.runner.findings = [Finding("x", "the board is broken")]
    assert await stage.ended() == ("queued", "")
    assert stage.supervisor.health is Health.BAD
    [fault] = await stage.job_log.query_journal(Journal.list_faults, "j1")
    assert fault.dut_fault == ""


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_job_may_be_cancelled_or_stopped_while_the_fault_is_looked_into(
    stage: Stage, task: asyncio.Task[None], *, cancelled: bool
) -> None:
    checking = asyncio.Event()

    async def check() -> None:
        if stage.supervisor.job:
            checking.set()
            await forever()

    stage.runner.run_step, stage.runner.check_step = failing(silent_dut()), check
    await stage.assign()
    await checking.wait()
    if cancelled:
        await stage.job_log.cancel_job("j1", "alice", "")
        assert stage.supervisor.cancel_attempt("j1")
        assert await stage.ended() == ("done", "cancelled")
    else:
        await stopped(task)
        assert await stage.ended() == ("queued", "")
        assert await stage.job_log.query_journal(Journal.list_faults, "j1") == []
    assert stage.runner.opened == stage.runner.closed


async def test_a_defect_of_labd_ends_the_job_and_is_named(
    stage: Stage, task: asyncio.Task[None]
) -> None:
    stage.runner.run_step = failing(KeyError("oops"))
    await stage.assign()
    assert await stage.ended() == ("done", "infra")
    assert (await stage.job_log.require_job("j1")).reason == "a defect of labd: KeyError('oops')"


async def test_a_state_that_cannot_be_published_does_not_stop_the_station(
    stage: Stage, task: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise UnicodeError("surrogates not allowed")

    monkeypatch.setattr(stage.supervisor, "on_change", fail)
    await stage.assign()
    assert await stage.ended() == ("done", "pass")


async def test_cancelling_ends_cancelled(stage: Stage, task: asyncio.Task[None]) -> None:
    stage.runner.run_step = forever
    await stage.assign()
    await stage.runner.running.wait()
    await stage.job_log.cancel_job("j1", "alice", "")
    assert stage.supervisor.cancel_attempt("j1")
    assert await stage.ended() == ("done", "cancelled")
    assert stage.runner.opened == stage.runner.closed


async def test_a_stop_while_running_requeues(stage: Stage, task: asyncio.Task[None]) -> None:
    stage.runner.run_step = forever
    await stage.assign()
    await stage.runner.running.wait()
    await stopped(task)
    assert await stage.ended() == ("queued", "")
    assert await stage.job_log.query_journal(Journal.list_faults, "j1") == []
    assert stage.runner.opened == stage.runner.closed


async def test_a_stop_during_a_cancels_teardown_still_ends(
    stage: Stage, task: asyncio.Task[None]
) -> None:
    slow = asyncio.Event()

    async def close() -> None:
        await slow.wait()

    stage.runner.run_step, stage.runner.close_step = forever, close
    await stage.assign()
    await stage.runner.running.wait()
    await stage.job_log.cancel_job("j1", "alice", "")
    stage.supervisor.cancel_attempt("j1")
    await stage.runner.closing.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    slow.set()
    async with asyncio.timeout(5):
        await asyncio.wait({task})
    assert task.cancelled()
    assert await stage.ended() == ("done", "cancelled")


async def test_a_stop_while_the_ending_is_written_loses_nothing(
    stage: Stage, task: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go = asyncio.Event(), asyncio.Event()
    finish = stage.job_log.finish_job

    async def slow_finish(job: str, verdict: Verdict, reason: str) -> None:
        writing.set()
        await go.wait()
        await finish(job, verdict, reason)

    monkeypatch.setattr(stage.job_log, "finish_job", slow_finish)
    await stage.assign()
    await writing.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    go.set()
    async with asyncio.timeout(5):
        await asyncio.wait({task})
    assert task.cancelled()
    assert await stage.ended() == ("done", "pass")


async def test_a_journal_that_refuses_for_good_does_not_keep_labd_from_ending(
    stage: Stage, task: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise InfraError("journal-full", "the disk is full")

    monkeypatch.setattr(stage.job_log, "finish_job", full)
    monkeypatch.setattr(stage.job_log, "requeue_job", full)
    stage.supervisor.stop_grace_s = 0.2
    stage.runner.run_step = forever
    await stage.assign()
    await stage.runner.running.wait()
    await stopped(task)
    job = await stage.job_log.require_job("j1")
    assert (job.state, job.verdict) == ("running", None)  # the next start queues it again


async def test_a_journal_that_fails_for_a_while_is_waited_for(
    stage: Stage, task: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, failures = stage.job_log.finish_job, [InfraError("journal", "locked")]

    async def failing_finish(job: str, verdict: Verdict, reason: str) -> None:
        if failures:
            raise failures.pop()
        await finish(job, verdict, reason)

    monkeypatch.setattr(stage.job_log, "finish_job", failing_finish)
    await stage.assign()
    assert await stage.ended() == ("done", "pass")


async def test_a_teardown_that_fails_faults_the_station_but_keeps_the_result(
    stage: Stage, task: asyncio.Task[None]
) -> None:
    stage.runner.close_step = failing(InfraError("teardown", "the board stays on"))
    await stage.assign()
    assert await stage.ended() == ("done", "pass")
    async with asyncio.timeout(5):
        while stage.runner.opened < 3:  # the check at the start, the job, the check afterwards
            await asyncio.sleep(0.01)


async def test_a_check_that_finds_a_defect_or_breaks_is_bad(stage: Stage) -> None:
    stage.runner.findings = [Finding("known-answer", "3 of 10 right", "replace it")]
    task = asyncio.create_task(stage.supervisor.check_and_run_jobs())
    async with asyncio.timeout(5):
        while stage.supervisor.health is not Health.BAD:
            await asyncio.sleep(0.01)
    assert stage.supervisor.why == "3 of 10 right (replace it)"
    stage.runner.findings = []
    stage.supervisor.request_check("asked for")
    async with asyncio.timeout(5):
        while stage.supervisor.health is not Health.GOOD:
            await asyncio.sleep(0.01)
    stage.runner.check_health = failing_check  # type: ignore[method-assign]
    stage.supervisor.request_check("asked for")
    async with asyncio.timeout(5):
        while stage.supervisor.health is not Health.BAD:
            await asyncio.sleep(0.01)
    assert "a defect of labd" in stage.supervisor.why
    await stopped(task)


async def failing_check(_bench: Any) -> list[Finding]:
    raise KeyError("x")
