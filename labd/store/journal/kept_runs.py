"""What the journal knows of runs' files: who pinned them, and which were removed.

Functions of one transaction each, for :class:`.async_journal.AsyncJournal` to run like the
journal's own methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from labd.core.errors import JobError
from labd.core.jobs import JobState
from labd.store.journal import schema as tables
from labd.store.journal.database import transaction
from labd.store.journal.journal import Journal
from labd.store.journal.statements import find_job


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One attempt as far as keeping its files goes.

    Args:
        job: the job.
        attempt: the attempt.
        ended_ns: ``None`` while it runs.
        busy: its job has not ended: another attempt may come or be under way.
        pinned: its job's files are to stay.
        removed: its files were removed, or were about to be.
    """

    job: str
    attempt: int
    ended_ns: int | None
    busy: bool
    pinned: bool
    removed: bool


def pin_job(journal: Journal, job: str, user: str, now_ns: int) -> bool:
    """Keep a job's files whatever the limits say; False if they were pinned already.

    Raises:
        JobError: ``no-such-job``: unknown, or another user's.
    """
    with transaction(journal.engine) as connection:
        _require_own(connection, job, user)
        if _pinned(connection, job):
            return False
        connection.execute(insert(tables.pin).values(job=job, user=user, t_ns=now_ns))
    return True


def unpin_job(journal: Journal, job: str, user: str) -> bool:
    """Let a job's files go when the limits say so; False if they were not pinned.

    Raises:
        JobError: ``no-such-job``: unknown, or another user's.
    """
    with transaction(journal.engine) as connection:
        _require_own(connection, job, user)
        if not _pinned(connection, job):
            return False
        connection.execute(delete(tables.pin).where(tables.pin.c.job == job))
    return True


def note_removal(journal: Journal, job: str, attempt: int, now_ns: int) -> bool:
    """Write down that a run's files go, before they do.

    Returns:
        False when they must stay after all: the job was pinned, or is in progress.
    """
    with transaction(journal.engine) as connection:
        found = _records(connection, job)
        record = next((each for each in found if each.attempt == attempt), None)
        if record is None or record.busy or record.pinned:
            return False
        if not record.removed:
            row = {"job": job, "attempt": attempt, "t_ns": now_ns}
            connection.execute(insert(tables.removed).values(row))
    return True


def run_records(journal: Journal) -> list[RunRecord]:
    """Every attempt there was."""
    with transaction(journal.engine) as connection:
        return _records(connection, None)


def _require_own(connection: Connection, job: str, user: str) -> None:
    known = find_job(connection, job)
    if known is None or known[0].spec.user != user:
        raise JobError("no-such-job", f"you have no job {job}")


def _pinned(connection: Connection, job: str) -> bool:
    query = select(tables.pin.c.job).where(tables.pin.c.job == job)
    return connection.execute(query).first() is not None


def _records(connection: Connection, job: str | None) -> list[RunRecord]:
    run, removed = tables.run, tables.removed
    same_run = (removed.c.job == run.c.job) & (removed.c.attempt == run.c.attempt)
    query = (
        select(
            run.c.job,
            run.c.attempt,
            run.c.ended_ns,
            tables.job.c.state,
            tables.pin.c.t_ns.label("pinned_ns"),
            removed.c.t_ns.label("removed_ns"),
        )
        .join(tables.job, tables.job.c.job == run.c.job)
        .outerjoin(tables.pin, tables.pin.c.job == run.c.job)
        .outerjoin(removed, same_run)
        .order_by(run.c.job, run.c.attempt)
    )
    if job is not None:
        query = query.where(run.c.job == job)
    rows: Sequence[tuple[str, int, int | None, str, int | None, int | None]]
    rows = [tuple(row) for row in connection.execute(query)]
    return [
        RunRecord(
            job=name,
            attempt=attempt,
            ended_ns=ended_ns,
            busy=state != JobState.DONE or ended_ns is None,
            pinned=pinned_ns is not None,
            removed=removed_ns is not None,
        )
        for name, attempt, ended_ns, state, pinned_ns, removed_ns in rows
    ]
