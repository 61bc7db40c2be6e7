from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from labd.core.errors import ConfigError, LabdBug
from labd.core.jobs import JobSpec
from labd.core.model import Mode
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.store.journal.rows import Accepted, Change

SPEC = JobSpec("j1", "ann", "kws01", tuple(Mode))


class Gate:
    """Holds the journal's thread until opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def hold(self, _journal: Journal) -> None:
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()


async def test_methods_run_on_one_other_thread(url: str) -> None:
    def here(_journal: Journal) -> str:
        return threading.current_thread().name

    async with AsyncJournal(url) as journal:
        names = await asyncio.gather(*(journal(here) for _ in range(20)))
    assert len(set(names)) == 1
    assert names[0] != threading.current_thread().name


async def test_answers_and_errors_come_back(url: str) -> None:
    async with AsyncJournal(url) as journal:
        assert isinstance(await journal(Journal.submit_job, SPEC, 1), Accepted)
        with pytest.raises(LabdBug, match="has no job"):
            await journal(Journal.lease_job, "nothing", "s1", 2)
        assert (await journal(Journal.lease_job, "j1", "s1", 2)).next_seq == 2


async def test_every_change_is_reported_in_the_order_of_the_commits(url: str) -> None:
    reported: list[Change] = []
    async with AsyncJournal(url, on_change=reported.append) as journal:
        specs = [replace(SPEC, job=f"j{number}") for number in range(50)]
        await asyncio.gather(*(journal(Journal.submit_job, spec, 1) for spec in specs))
        await journal(Journal.submit_job, specs[0], 2)
        await journal(Journal.list_jobs)
        stored = [job.spec.job for job in await journal(Journal.list_jobs)]
    assert [change.job.spec.job for change in reported] == stored
    assert len(reported) == 50


async def test_a_cancelled_task_neither_loses_nor_repeats_its_transaction(url: str) -> None:
    reported: list[Change] = []
    gate = Gate()
    async with AsyncJournal(url, on_change=reported.append) as journal:
        holding = asyncio.create_task(journal(gate.hold))
        submitting = asyncio.create_task(journal(Journal.submit_job, SPEC, 1))
        await asyncio.sleep(0.01)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        gate.open()
        await holding
        found = await journal(Journal.list_events, "j1")
    assert [event.seq for event in found] == [0]
    assert [change.job.spec.job for change in reported] == ["j1"]


async def test_an_error_nobody_waits_for_any_more_is_quiet(url: str) -> None:
    gate = Gate()
    async with AsyncJournal(url) as journal:
        holding = asyncio.create_task(journal(gate.hold))
        failing = asyncio.create_task(journal(Journal.start_attempt, "nothing", 1))
        await asyncio.sleep(0.01)
        failing.cancel()
        await asyncio.wait({failing})
        gate.open()
        await holding


async def test_closing_waits_for_what_was_asked(url: str) -> None:
    async with AsyncJournal(url) as journal:
        asking = asyncio.create_task(journal(Journal.submit_job, SPEC, 1))
        await asyncio.sleep(0)
    await asking
    again = Journal(url)
    assert again.find_job("j1") is not None
    again.close()


async def test_a_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        async with AsyncJournal(f"sqlite:///{tmp_path / 'no' / 'x'}"):
            pass
