"""Trace cleanup with a real journal and real folders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from labd.aio.transcript import open_port_transcript
from labd.core.errors import InfraError, JobError
from labd.core.jobs import JobSpec
from labd.core.model import Identity, Mode, Samples, StreamFormat, Verdict
from labd.core.retention import DAY_NS, RetentionLimits
from labd.daemon import trace_cleanup as module
from labd.daemon.job_log import JobLog
from labd.daemon.run_logs import TRANSCRIPT
from labd.daemon.run_recorder import RunEvidence
from labd.daemon.trace_cleanup import TraceCleanup
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.store.journal.rows import AttemptOutcome
from labd.store.run_files import UNKNOWN, find_runs
from labd.store.traces.reader import read_trace
from labd.store.traces.writer import TraceFile
from labd.wire.topics import Topics

FORMAT = StreamFormat(1000.0, 0.0005, 100.0, "energy", 3.0)
WHO = Identity("power", "LPM01A")


class Place:
    """A lab's journal and trace folder on a day of the test's choosing."""

    def __init__(self, folder: Path, journal: AsyncJournal) -> None:
        self.traces = folder / "traces"
        self.day = 0.0
        self.job_log = JobLog(Topics("lab"), journal, self.now_ns)

    def now_ns(self) -> int:
        return int(self.day * DAY_NS)

    def trace(self, job: str, attempt: int = 1) -> TraceFile:
        return TraceFile(self.traces / job / str(attempt) / "energy", FORMAT, WHO)

    async def begin(self, job: str) -> None:
        if await self.job_log.query_journal(Journal.find_job, job) is None:
            await self.job_log.submit_job(JobSpec(job, "ann", "digits01", (Mode.ENERGY,)))
        await self.job_log.lease_job(job, "v1")
        attempt = (await self.job_log.start_attempt(job)).attempt
        with self.trace(job, attempt) as file:
            file.write_items([Samples(0, np.full(1000, 0.5))])

    async def run(self, job: str, day: float) -> None:
        """A job that ended on this day, with its files."""
        self.day = day
        await self.begin(job)
        await self.job_log.finish_job(job, Verdict.PASS, "")

    def there(self) -> list[str]:
        return [f"{run.job}/{run.attempt}" for run in find_runs(self.traces)]

    async def clean_up(self, limits: RetentionLimits) -> list[str]:
        cleanup = TraceCleanup(self.job_log, self.traces, limits, self.now_ns)
        return [f"{each.job}/{each.attempt}" for each in await cleanup.remove_old_runs()]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncJournal(f"sqlite:///{tmp_path / 'labd.sqlite3'}") as journal:
        yield Place(tmp_path, journal)


async def test_old_runs_are_removed_and_their_jobs_list_them(place: Place) -> None:
    await place.run("old", 1)
    await place.run("young", 20)
    assert await place.clean_up(RetentionLimits()) == []
    assert await place.clean_up(RetentionLimits(days=25)) == []
    place.day = 30
    assert await place.clean_up(RetentionLimits(days=15)) == ["old/1"]
    assert place.there() == ["young/1"]
    assert [each.name for each in place.traces.iterdir()] == ["young"]
    status = await place.job_log.job_status("old")
    assert status is not None
    assert status.removed == (1,)
    assert status.verdict is Verdict.PASS
    assert (await place.job_log.job_status("young")).removed == ()  # type: ignore[union-attr]
    assert await place.clean_up(RetentionLimits(days=15)) == []


async def test_logs_are_counted_removed_and_pinned_like_traces(place: Place) -> None:
    for day, job in enumerate(("a", "b")):
        await place.job_log.submit_job(JobSpec(job, "ann", "digits01", (Mode.ACCURACY,)))
        await place.job_log.lease_job(job, "v1")
        await place.job_log.start_attempt(job)
        place.day = day
        async with RunEvidence(place.traces / job / "1").record_run():
            port = open_port_transcript("serial-dut")
            assert port is not None
            port.add_sent(b"name%")
        await place.job_log.finish_job(job, Verdict.FAIL, "")
    sizes = [run.size_bytes for run in find_runs(place.traces)]
    logs = [(place.traces / job / "1" / TRANSCRIPT).stat().st_size for job in "ab"]
    assert sizes == logs
    await place.job_log.pin_files("a", "ann")
    place.day = 100
    assert await place.clean_up(RetentionLimits(days=1)) == ["b/1"]
    assert place.there() == ["a/1"]
    assert not (place.traces / "b").exists()


async def test_the_oldest_go_until_the_rest_fits(place: Place) -> None:
    for day, job in enumerate(["a", "b", "c"]):
        await place.run(job, day)
    size = find_runs(place.traces)[0].size_bytes
    assert size > 4000
    assert await place.clean_up(RetentionLimits(size_bytes=int(1.5 * size))) == ["a/1", "b/1"]
    assert place.there() == ["c/1"]


async def test_a_pinned_job_stays_until_it_is_unpinned(place: Place) -> None:
    await place.run("a", 1)
    place.day = 100
    with pytest.raises(JobError, match="you have no job a"):
        await place.job_log.pin_files("a", "bob")
    assert await place.job_log.pin_files("a", "ann")
    assert not await place.job_log.pin_files("a", "ann")
    status = await place.job_log.job_status("a")
    assert status is not None
    assert status.pinned
    assert await place.clean_up(RetentionLimits(days=1, size_bytes=1)) == []
    assert not await place.job_log.record_removal("a", 1)
    with pytest.raises(JobError, match="you have no job a"):
        await place.job_log.unpin_files("a", "bob")
    assert await place.job_log.unpin_files("a", "ann")
    assert not await place.job_log.unpin_files("a", "ann")
    assert await place.clean_up(RetentionLimits(days=1)) == ["a/1"]


async def test_a_job_in_progress_keeps_every_attempt(place: Place) -> None:
    """Running, or waiting for its next attempt."""
    await place.begin("a")
    place.day = 100
    assert await place.clean_up(RetentionLimits(days=1, size_bytes=1)) == []
    await place.job_log.requeue_job("a", "it broke", AttemptOutcome.FAULT)
    assert await place.clean_up(RetentionLimits(days=1, size_bytes=1)) == []
    await place.begin("a")
    assert await place.clean_up(RetentionLimits(days=1, size_bytes=1)) == []
    place.day = 200
    await place.job_log.finish_job("a", Verdict.PASS, "")
    assert await place.clean_up(RetentionLimits(days=90)) == ["a/1"]
    assert place.there() == ["a/2"]


async def test_a_trace_still_being_written_stays(place: Place) -> None:
    """Its job has ended, its files are not closed yet."""
    await place.run("a", 1)
    place.day = 100
    file = TraceFile(place.traces / "a" / "1" / "again", FORMAT, WHO)
    assert await place.clean_up(RetentionLimits(days=1)) == []
    file.close()
    assert await place.clean_up(RetentionLimits(days=1)) == ["a/1"]


async def test_what_the_journal_does_not_know_is_left_alone(place: Place) -> None:
    place.trace("stranger").close()
    (place.traces / "notes.txt").write_text("mine")
    (place.traces / "stranger" / "plots").mkdir()
    place.day = 1e5
    assert await place.clean_up(RetentionLimits(days=1, size_bytes=1)) == []
    [run] = find_runs(place.traces)
    assert run.protected == UNKNOWN
    assert run.ended_ns > 0


async def test_a_removal_that_was_cut_short_is_finished(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.run("a", 1)
    await place.run("b", 1)
    place.day = 100

    def killed(*_: object) -> None:
        raise OSError("cut short")

    with monkeypatch.context() as patch:
        patch.setattr(module, "remove_run", killed)
        with pytest.raises(InfraError, match="cut short"):
            await place.clean_up(RetentionLimits(days=1))
    assert place.there() == ["a/1", "b/1"]
    (place.traces / "b" / "1").rename(place.traces / "b" / ".going-1")
    assert await place.clean_up(RetentionLimits()) == []
    assert list(place.traces.iterdir()) == []


async def test_a_failing_disk_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    failed_often = asyncio.Event()

    def fail(_: Path) -> None:
        calls.append(1)
        if len(calls) == 3:
            failed_often.set()
        raise OSError("dead disk")

    monkeypatch.setattr(module, "delete_interrupted_removals", fail)
    cleanup = TraceCleanup(
        place.job_log, place.traces, RetentionLimits(), place.now_ns, interval_s=0.0
    )
    running = asyncio.create_task(cleanup.clean_up_periodically())
    await asyncio.wait_for(failed_often.wait(), 5)
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_killed_traces_are_sealed(place: Place) -> None:
    await place.run("a", 1)
    folder = place.traces / "a" / "1"
    meta = folder / "energy.sigmf-meta"
    meta.write_text(meta.read_text().replace('"labd:samples"', '"labd:lost"'))
    (folder / "energy.sigmf-events").write_text("")
    live = place.trace("b")
    damaged = place.traces / "a" / "2"
    damaged.mkdir()
    (damaged / "energy.sigmf-events").write_text("")
    (damaged / "energy.sigmf-meta").write_text("{")
    (damaged / "energy.sigmf-data").write_text("")
    cleanup = TraceCleanup(place.job_log, place.traces, RetentionLimits(), place.now_ns)
    await cleanup.seal_open_traces()
    assert not (folder / "energy.sigmf-events").exists()
    assert read_trace(folder / "energy").meta["global"]["labd:samples"] == 1000
    assert (place.traces / "b" / "1" / "energy.sigmf-events").exists()
    live.close()
