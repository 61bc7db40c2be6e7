"""A job that waits too long ends as expired; one that left the queue meanwhile does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from labd.core.jobs import JobSpec
from labd.core.model import Mode
from labd.daemon.job_log import JobLog
from labd.daemon.queue_expiry import QueueExpiry
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.store.journal.rows import AttemptOutcome
from labd.wire.topics import Topics

SPEC = JobSpec("j1", "alice", "digits01", (Mode.ACCURACY,), station="gone")
DAY_S = 86400


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> int:
        return round(self.now_s * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def job_log(tmp_path: Path, clock: Clock) -> AsyncIterator[JobLog]:
    async with AsyncJournal(f"sqlite:///{tmp_path / 'j.sqlite3'}") as journal:
        yield JobLog(Topics("lab"), journal, clock)


@pytest.fixture
def expiry(job_log: JobLog, clock: Clock) -> QueueExpiry:
    return QueueExpiry(job_log, 7 * DAY_S, clock)


async def verdict(job_log: JobLog, job: str = "j1") -> tuple[str, str]:
    found = await job_log.require_job(job)
    return found.verdict or found.state, found.reason


async def test_a_job_expires_with_the_reason_why_it_waited(
    job_log: JobLog, expiry: QueueExpiry, clock: Clock
) -> None:
    await job_log.submit_job(SPEC)
    job_log.set_waiting_reasons({"j1": "there is no station 'gone'"})
    clock.now_s += 7 * DAY_S - 1
    await expiry.expire_jobs()
    assert await verdict(job_log) == ("queued", "")
    clock.now_s += 1
    await expiry.expire_jobs()
    assert await verdict(job_log) == (
        "expired",
        "it was in the queue for 7 d, which is the lab's limit; there is no station 'gone'",
    )
    events = await job_log.query_journal(Journal.list_events, "j1")
    assert [event.type for event in events] == ["queued", "finished"]


async def test_a_jobs_own_limit_counts(job_log: JobLog, expiry: QueueExpiry, clock: Clock) -> None:
    await job_log.submit_job(replace(SPEC, expire_after_s=7200.0))
    await job_log.submit_job(replace(SPEC, job="j2", expire_after_s=30.0 * DAY_S))
    clock.now_s += 7200
    await expiry.expire_jobs()
    assert await verdict(job_log) == (
        "expired",
        "it was in the queue for 2 h, which is its own limit",
    )
    clock.now_s += 20 * DAY_S
    await expiry.expire_jobs()
    assert (await verdict(job_log, "j2"))[0] == "queued"


async def test_a_job_at_work_or_queued_again_has_its_time(
    job_log: JobLog, expiry: QueueExpiry, clock: Clock
) -> None:
    await job_log.submit_job(SPEC)
    await job_log.lease_job("j1", "s1")
    await job_log.start_attempt("j1")
    clock.now_s += 8 * DAY_S
    await expiry.expire_jobs()
    assert (await verdict(job_log))[0] == "running"
    await job_log.requeue_job("j1", "cable", AttemptOutcome.FAULT)
    await expiry.expire_jobs()
    assert (await verdict(job_log))[0] == "queued"


async def test_a_job_that_is_leased_at_that_moment_is_left_alone(
    job_log: JobLog, expiry: QueueExpiry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await job_log.submit_job(SPEC)
    clock.now_s += 8 * DAY_S
    query = job_log.query_journal

    async def lease_after_query(*args: object) -> object:
        found = await query(*args)  # type: ignore[arg-type]
        await job_log.lease_job("j1", "s1")
        return found

    monkeypatch.setattr(job_log, "query_journal", lease_after_query)
    await expiry.expire_jobs()
    assert (await verdict(job_log))[0] == "leased"
