"""The files of attempts as recorded in the journal: pinned, removed, or still in use.

Each function is one transaction; :class:`.async_journal.AsyncJournal` runs it like a method of
the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from labd.core.errors import JobError
from labd.core.jobs import JobState
from labd.store.journal import tables
from labd.store.journal.database import transaction
from labd.store.journal.journal import Journal
from labd.store.journal.statements import find_job


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a job, and whether its files may be removed.

    Args:
        job: the job.
        attempt: the attempt.
        ended_ns: ``None`` while it runs.
        busy: its job has not ended: another attempt may follow or run.
        pinned: its job's files are kept whatever the limits.
        removed: the removal of its files was recorded; the files may still be there.
    """

    job: str
    attempt: int
    ended_ns: int | None
    busy: bool
    pinned: bool
    removed: bool


def pin_job(journal: Journal, job: str, user: str, now_ns: int) -> bool:
    """Keep a job's files whatever the limits; return False if they were pinned already.

    Raises:
        JobError: ``no-such-job``: unknown, or another user's.
    """
    with transaction(journal.engine) as connection:
        _require_own_job(connection, job, user)
        if _is_pinned(connection, job):
            return False
        connection.execute(insert(tables.pin).values(job=job, user=user, t_ns=now_ns))
    return True


def unpin_job(journal: Journal, job: str, user: str) -> bool:
    """Let the limits apply to a job's files again; return False if they were not pinned.

    Raises:
        JobError: ``no-such-job``: unknown, or another user's.
    """
    with transaction(journal.engine) as connection:
        _require_own_job(connection, job, user)
        if not _is_pinned(connection, job):
            return False
        connection.execute(delete(tables.pin).where(tables.pin.c.job == job))
    return True


def record_removal(journal: Journal, job: str, attempt: int, now_ns: int) -> bool:
    """Record the removal of an attempt's files, before it is done.

    Returns:
        False when they must be kept: the job was pinned, or is in progress.
    """
    with transaction(journal.engine) as connection:
        found = next(
            (each for each in _select_attempts(connection, job) if each.attempt == attempt), None
        )
        if found is None or found.busy or found.pinned:
            return False
        if not found.removed:
            row = {"job": job, "attempt": attempt, "t_ns": now_ns}
            connection.execute(insert(tables.removed).values(row))
    return True


def read_attempts(journal: Journal) -> list[Attempt]:
    """Return every attempt at every job."""
    with transaction(journal.engine) as connection:
        return _select_attempts(connection, None)


def _require_own_job(connection: Connection, job: str, user: str) -> None:
    known = find_job(connection, job)
    if known is None or known[0].spec.user != user:
        raise JobError("no-such-job", f"you have no job {job}")


def _is_pinned(connection: Connection, job: str) -> bool:
    query = select(tables.pin.c.job).where(tables.pin.c.job == job)
    return connection.execute(query).first() is not None


def _select_attempts(connection: Connection, job: str | None) -> list[Attempt]:
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
        Attempt(
            job=name,
            attempt=attempt,
            ended_ns=ended_ns,
            busy=state != JobState.DONE or ended_ns is None,
            pinned=pinned_ns is not None,
            removed=removed_ns is not None,
        )
        for name, attempt, ended_ns, state, pinned_ns, removed_ns in rows
    ]
