"""The journal's SQL statements; each runs inside an open transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    RowMapping,
    Select,
    Table,
    case,
    func,
    insert,
    select,
    update,
)

from labd.core.errors import LabdBug
from labd.core.jobs import FixedImage, Job, JobState, JobStep, advance_job
from labd.core.model import Build, Priority, Verdict
from labd.store.journal import tables
from labd.store.journal.database import to_json_values
from labd.store.journal.rows import (
    AttemptResult,
    Change,
    Snapshot,
    read_job,
    read_result,
    to_job_row,
)
from labd.wire.job_events import EventData, Finished, Queued, new_event

_ENDING = {Verdict.CANCELLED: JobStep.CANCEL, Verdict.EXPIRED: JobStep.EXPIRE}
_IDS_PER_QUERY = 500  # databases limit the values of one statement


def find_job(connection: Connection, job_id: str) -> tuple[Job, int] | None:
    """Return a job and the number of its next event, or ``None``."""
    query = select(tables.job).where(tables.job.c.job == job_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else (read_job(row), row["next_seq"])


def require_job(connection: Connection, job_id: str) -> tuple[Job, int]:
    """Return a job that must exist, and the number of its next event.

    Raises:
        LabdBug: it does not exist.
    """
    found = find_job(connection, job_id)
    if found is None:
        raise LabdBug("no-such-job", f"the journal has no job {job_id}")
    return found


def insert_job(connection: Connection, job: Job) -> Change:
    """Insert a new job and its first event."""
    connection.execute(insert(tables.job).values(to_job_row(job) | {"next_seq": 0}))
    spec = job.spec
    data = Queued(user=spec.user, benchmark=spec.benchmark, modes=spec.modes)
    return append_event(connection, job, 0, data)


def insert_images(connection: Connection, job_id: str, images: Iterable[FixedImage]) -> None:
    """Insert the firmware of a new job."""
    for image in images:
        connection.execute(insert(tables.image).values({"job": job_id, **asdict(image)}))


def read_images(
    connection: Connection, job_ids: Sequence[str]
) -> defaultdict[str, list[FixedImage]]:
    """Return the firmware of these jobs, by job."""
    found: defaultdict[str, list[FixedImage]] = defaultdict(list)
    for row in _select_rows_of_jobs(connection, tables.image, job_ids):
        image = FixedImage(row.board, Build(row.build), row.name, row.sha256)
        found[row.job].append(image)
    return found


def append_event(
    connection: Connection,
    job: Job,
    seq: int,
    data: EventData,
    *,
    station: str = "",
) -> Change:
    """Append an event and update the row of its job.

    Args:
        connection: inside a transaction.
        job: after the step; its ``updated_ns`` is the event's time.
        seq: the event's number: the job's ``next_seq`` before it.
        data: of the event.
        station: where it happened, if that is not the job's current station.

    Raises:
        LabdBug: ``data`` does not match its schema, or JSON cannot hold a value.
    """
    event = new_event(
        data,
        job=job.spec.job,
        seq=seq,
        t_ns=job.updated_ns,
        station=station or job.station,
        attempt=job.attempt,
    )
    columns = to_json_values(event)
    del columns["v"]
    connection.execute(insert(tables.event).values(columns))
    row = to_job_row(job) | {"next_seq": seq + 1}
    connection.execute(update(tables.job).where(tables.job.c.job == job.spec.job).values(row))
    return Change(job, (event,), seq + 1)


def finish_job(
    connection: Connection, job: Job, seq: int, verdict: Verdict, reason: str, now_ns: int
) -> Change:
    """End a job and its current attempt; a cancelled one keeps who asked for it and why."""
    if verdict is Verdict.CANCELLED and job.cancel_requested:
        reason = job.reason or reason
    step = _ENDING.get(verdict, JobStep.FINISH)
    after = advance_job(job, step, now_ns, verdict=verdict, reason=reason)
    end_attempt_row(connection, job, verdict, reason, now_ns)
    return append_event(connection, after, seq, Finished(verdict=verdict, reason=reason))


def insert_run(connection: Connection, job: Job) -> None:
    """Insert an attempt that begins."""
    row = {"job": job.spec.job, "attempt": job.attempt, "station": job.station}
    row |= {"started_ns": job.updated_ns, "outcome": "", "reason": "", "dut_fault": ""}
    connection.execute(insert(tables.run).values(row))


def end_attempt_row(
    connection: Connection,
    job: Job,
    outcome: str,
    reason: str,
    now_ns: int,
    *,
    dut_fault: str = "",
) -> None:
    """End a job's current attempt, if there is one."""
    column = tables.run.c
    connection.execute(
        update(tables.run)
        .where(column.job == job.spec.job, column.ended_ns.is_(None))
        .values(ended_ns=now_ns, outcome=outcome, reason=reason, dut_fault=dut_fault)
    )


def newest_jobs_query(
    states: Iterable[JobState] | None, user: str | None, limit: int | None
) -> Select[Any]:
    """Select the newest ``limit`` jobs in these states and of this user, newest first."""
    column = tables.job.c
    query = select(tables.job).order_by(column.number.desc())
    return _where_state_and_user(query, states, user).limit(limit)


def scheduled_jobs_query(states: Iterable[JobState] | None, user: str | None) -> Select[Any]:
    """Select jobs that run, then queued ones as they are scheduled, then the last ended.

    Queued jobs are scheduled as :func:`labd.core.schedule.plan_assignments` takes them.
    """
    column = tables.job.c
    queued, done = column.state == JobState.QUEUED, column.state == JobState.DONE
    ranks = {priority.value: rank for rank, priority in enumerate(Priority)}
    query = select(tables.job).order_by(
        case((queued, 1), (done, 2), else_=0),
        case((queued, case(ranks, value=column.priority)), else_=0),
        case((done, -column.updated_ns), else_=column.number),  # not the clock, which may step
        column.number,
    )
    return _where_state_and_user(query, states, user)


def count_jobs_query(states: Iterable[JobState] | None, user: str | None) -> Select[Any]:
    """Count the jobs in these states and of this user."""
    query = select(func.count()).select_from(tables.job)
    return _where_state_and_user(query, states, user)


def _where_state_and_user(
    query: Select[Any], states: Iterable[JobState] | None, user: str | None
) -> Select[Any]:
    if states is not None:
        query = query.where(tables.job.c.state.in_(list(states)))
    return query if user is None else query.where(tables.job.c.user == user)


def read_results(connection: Connection, job_ids: Sequence[str]) -> list[AttemptResult]:
    """Return the results of every attempt at these jobs, in the order they were recorded."""
    column = tables.result.c
    found: list[AttemptResult] = []
    for start in range(0, len(job_ids), _IDS_PER_QUERY):
        some = job_ids[start : start + _IDS_PER_QUERY]
        query = select(tables.result).where(column.job.in_(some)).order_by(column.number)
        found += [read_result(row) for row in connection.execute(query).mappings()]
    return found


def read_snapshots(connection: Connection, rows: Sequence[RowMapping]) -> list[Snapshot]:
    """Return job rows with their results, pins and removals."""
    job_ids = [row["job"] for row in rows]
    by_job: defaultdict[str, list[AttemptResult]] = defaultdict(list)
    for result in read_results(connection, job_ids):
        by_job[result.job].append(result)
    pinned = {row.job for row in _select_rows_of_jobs(connection, tables.pin, job_ids)}
    images = read_images(connection, job_ids)
    removed: defaultdict[str, list[int]] = defaultdict(list)
    for row in _select_rows_of_jobs(connection, tables.removed, job_ids):
        removed[row.job].append(row.attempt)
    return [
        Snapshot(
            job=read_job(row),
            next_seq=row["next_seq"],
            results=tuple(by_job[row["job"]]),
            pinned=row["job"] in pinned,
            removed=tuple(sorted(removed[row["job"]])),
            images=tuple(images[row["job"]]),
        )
        for row in rows
    ]


def _select_rows_of_jobs(
    connection: Connection, table: Table, job_ids: Sequence[str]
) -> list[Row[Any]]:
    """Return the rows of a table that belong to these jobs."""
    found: list[Row[Any]] = []
    for start in range(0, len(job_ids), _IDS_PER_QUERY):
        some = job_ids[start : start + _IDS_PER_QUERY]
        found += connection.execute(select(table).where(table.c.job.in_(some)))
    return found
