"""The job log: what a job's status says, and what is published of a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from labd.core.jobs import JobSpec
from labd.core.model import EnergyMethod, Mode, Verdict
from labd.daemon.job_log import RETAINED_JOBS, JobLog
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.rows import AttemptOutcome
from labd.wire.messages import JobStatus, ListJobs
from labd.wire.results import ModeResult
from labd.wire.topics import Topics

SPEC = JobSpec("j1", "ann", "digits01", (Mode.ACCURACY, Mode.PERFORMANCE))
RESULT = ModeResult(mode=Mode.ACCURACY, verdict=Verdict.PASS, score={"top1_pct": 99.0})


@pytest.fixture
async def job_log(tmp_path: Path) -> AsyncIterator[JobLog]:
    ticks = iter(range(1, 10_000))
    async with AsyncJournal(f"sqlite:///{tmp_path / 'labd.sqlite3'}") as journal:
        yield JobLog(Topics("lab"), journal, lambda: next(ticks))


async def status_of(job_log: JobLog, job: str = "j1") -> JobStatus:
    found = await job_log.job_status(job)
    assert found is not None
    return found


async def start(job_log: JobLog) -> int:
    assert await job_log.lease_job("j1", "v1")
    return (await job_log.start_attempt("j1")).attempt


async def test_results_of_an_attempt_that_was_broken_off_are_apart(job_log: JobLog) -> None:
    await job_log.submit_job(SPEC)
    await job_log.store_result("j1", await start(job_log), RESULT)
    assert [each.attempt for each in (await status_of(job_log)).results] == [1]
    await job_log.requeue_job("j1", "cable", AttemptOutcome.FAULT)
    for step in ("queued", "leased", "running"):
        if step == "leased":
            assert await job_log.lease_job("j1", "v1")
        if step == "running":
            await job_log.start_attempt("j1")
        status = await status_of(job_log)
        assert status.state == step
        assert status.results == ()
        assert [each.attempt for each in status.broken_off] == [1]
    await job_log.store_result("j1", 2, RESULT)
    await job_log.finish_job("j1", Verdict.PASS, "")
    status = await status_of(job_log)
    assert [each.attempt for each in status.results] == [2]
    assert [each.attempt for each in status.broken_off] == [1]


async def test_a_status_repeats_what_was_asked_for(job_log: JobLog) -> None:
    spec = JobSpec(
        "j1",
        "ann",
        "digits01",
        (Mode.ENERGY,),
        station="v2",
        firmware="mine",
        voltage_mv=1800,
        energy_method=EnergyMethod.EEMBC,
    )
    await job_log.submit_job(spec)
    status = await status_of(job_log)
    assert (status.wanted_station, status.firmware) == ("v2", "mine")
    assert (status.voltage_mv, status.energy_method) == (1800, "eembc")


async def test_queued_jobs_have_a_position(job_log: JobLog) -> None:
    for job in ("j1", "j2", "j3"):
        await job_log.submit_job(JobSpec(job, "ann", "digits01", (Mode.ACCURACY,)))
    job_log.set_waiting_reasons({"j3": "busy", "j1": "busy"})
    assert (await status_of(job_log, "j1")).position == 2
    assert await job_log.lease_job("j2", "v1")
    listed, total = await job_log.list_job_statuses(ListJobs(limit=2))
    assert ([each.job for each in listed], total) == (["j2", "j3"], 3)
    assert [each.position for each in listed] == [None, 1]


async def test_open_jobs_are_published_again_however_many_ended_since(job_log: JobLog) -> None:
    await job_log.submit_job(SPEC)
    ended = [f"e{number}" for number in range(RETAINED_JOBS + 5)]
    for job in ended:
        await job_log.submit_job(JobSpec(job, "ann", "digits01", (Mode.ACCURACY,)))
        await job_log.cancel_job(job, "ann", "")
    while not job_log._outbox.empty():
        job_log._outbox.get_nowait()
    await job_log.queue_recent_job_states()
    queued = [job_log._outbox.get_nowait() for _ in range(job_log._outbox.qsize())]
    assert set(queued) == {"j1", *ended[5:]}
    assert len(queued) == RETAINED_JOBS + 1
