"""The journal: every job, attempt, event and result.

Each public method is one transaction. It takes a job one step through
:func:`labd.core.jobs.advance_job` and appends the event of that step, so that a job and its events
agree at any moment, also after a power failure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, Select, insert, select

from labd.core.blame import Fault
from labd.core.errors import JobError, LabdBug
from labd.core.jobs import FixedImage, Job, JobSpec, JobState, JobStep, advance_job
from labd.core.model import Verdict
from labd.store.journal import tables
from labd.store.journal.database import open_engine, to_json_values, transaction
from labd.store.journal.rows import (
    Accepted,
    AttemptOutcome,
    Change,
    Duplicate,
    Snapshot,
    read_event,
    read_job,
)
from labd.store.journal.statements import (
    append_event,
    count_jobs_query,
    end_attempt_row,
    find_job,
    finish_job,
    insert_images,
    insert_job,
    insert_run,
    newest_jobs_query,
    read_images,
    read_snapshots,
    require_job,
    scheduled_jobs_query,
)
from labd.wire.job_events import (
    Event,
    EventData,
    Leased,
    Note,
    Phase,
    Progress,
    Requeued,
    Started,
)
from labd.wire.results import MeasuredWindow, ModeResult

_STATELESS = (Phase, Progress, MeasuredWindow, Note)
"""Data of the events that change no state."""

_BUSY = (JobState.LEASED, JobState.RUNNING)


class Journal:
    """The lab's jobs in a database; for one thread at a time.

    Args:
        url: SQLAlchemy URL, e.g. ``sqlite:////srv/lab/labd.sqlite3``; created when new.

    Raises:
        ConfigError: the database cannot be opened, or was written by a newer labd.

    Every method may raise InfraError if the database fails; nothing is changed then.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)

    @property
    def engine(self) -> Engine:
        """The database, for the other modules of the journal."""
        return self._engine

    def close(self) -> None:
        """Close the database; safe to call twice."""
        self._engine.dispose()

    # ---- requests ------------------------------------------------------------------------

    def submit_job(
        self, spec: JobSpec, now_ns: int, images: Iterable[FixedImage] = ()
    ) -> Accepted | Duplicate:
        """Queue a job with its firmware; the same request of the same user changes nothing.

        Raises:
            JobError: ``job-exists``: the id belongs to another request or another user's job.
        """
        with transaction(self._engine) as connection:
            known = find_job(connection, spec.job)
            if known is None:
                queued = Job(spec, JobState.QUEUED, now_ns, now_ns)
                change = insert_job(connection, queued)
                insert_images(connection, spec.job, images)
                return Accepted(change.job, change.events, change.next_seq)
            job, next_seq = known
            if job.spec == spec:
                return Duplicate(job, (), next_seq)
        raise JobError(
            "job-exists",
            f"job id {spec.job} belongs to another request",
            "choose another id, such as one with a random part",
        )

    def cancel_job(self, job_id: str, user: str, now_ns: int, reason: str = "") -> Change:
        """Cancel a job: at once while it is queued, else by a request to its attempt.

        Repeating it has no effect.

        Raises:
            JobError: ``no-such-job`` (unknown, or another user's), ``job-done``.
        """
        with transaction(self._engine) as connection:
            known = find_job(connection, job_id)
            if known is None or known[0].spec.user != user:
                raise JobError("no-such-job", f"you have no job {job_id}")
            job, next_seq = known
            if job.cancel_requested or job.verdict is Verdict.CANCELLED:
                return Change(job, (), next_seq)
            if job.state is JobState.DONE:
                raise JobError("job-done", f"job {job_id} has ended: {job.verdict}")
            why = f"cancelled by {user}" + (f": {reason}" if reason else "")
            if job.state is JobState.QUEUED:
                return finish_job(connection, job, next_seq, Verdict.CANCELLED, why, now_ns)
            asked = replace(job, cancel_requested=True, reason=why, updated_ns=now_ns)
            return append_event(connection, asked, next_seq, Note(text=why))

    # ---- steps ---------------------------------------------------------------------------

    def lease_job(self, job_id: str, station: str, now_ns: int) -> Change:
        """Lease a queued job to a station.

        Raises:
            LabdBug: it is not queued, or the station has a job.
        """
        with transaction(self._engine) as connection:
            job, next_seq = require_job(connection, job_id)
            after = advance_job(job, JobStep.LEASE, now_ns, station=station)
            return append_event(connection, after, next_seq, Leased())

    def start_attempt(self, job_id: str, now_ns: int) -> Change:
        """Begin the next attempt at a leased job.

        Raises:
            LabdBug: it is not leased.
        """
        with transaction(self._engine) as connection:
            job, next_seq = require_job(connection, job_id)
            after = advance_job(job, JobStep.START, now_ns)
            insert_run(connection, after)
            return append_event(connection, after, next_seq, Started())

    def requeue_job(
        self,
        job_id: str,
        reason: str,
        now_ns: int,
        outcome: AttemptOutcome = AttemptOutcome.FAULT,
        dut_fault: str = "",
    ) -> Change:
        """Queue a leased or running job again; one that was cancelled ends instead.

        Args:
            job_id: the job.
            reason: why, for people.
            now_ns: wall clock.
            outcome: of the attempt: a fault of the bench, or an interruption.
            dut_fault: see :class:`labd.core.blame.Fault`.

        Raises:
            LabdBug: it is neither leased nor running.
        """
        with transaction(self._engine) as connection:
            job, next_seq = require_job(connection, job_id)
            if job.cancel_requested:
                return finish_job(connection, job, next_seq, Verdict.CANCELLED, reason, now_ns)
            after = advance_job(job, JobStep.REQUEUE, now_ns, reason=reason)
            end_attempt_row(connection, job, outcome, reason, now_ns, dut_fault=dut_fault)
            data = Requeued(reason=reason)
            return append_event(connection, after, next_seq, data, station=job.station)

    def finish_job(self, job_id: str, verdict: Verdict, reason: str, now_ns: int) -> Change:
        """End a job.

        Raises:
            LabdBug: it has ended, or its state has no such ending.
        """
        with transaction(self._engine) as connection:
            job, next_seq = require_job(connection, job_id)
            return finish_job(connection, job, next_seq, verdict, reason, now_ns)

    def append_event(self, job_id: str, data: EventData, now_ns: int) -> Change:
        """Append an event that changes no state: phase, progress, window, note.

        Raises:
            LabdBug: the job is unknown or done, ``data`` are another event's, or not JSON.
        """
        with transaction(self._engine) as connection:
            job, next_seq = require_job(connection, job_id)
            if not isinstance(data, _STATELESS) or job.state is JobState.DONE:
                what = f"job {job_id} is {job.state} and takes no {type(data).__name__}"
                raise LabdBug("event", what)
            after = replace(job, updated_ns=now_ns)
            return append_event(connection, after, next_seq, data)

    def record_result(self, job_id: str, attempt: int, result: ModeResult, now_ns: int) -> Change:
        """Record the result of one mode of the current attempt.

        Args:
            job_id: the job.
            attempt: the attempt it belongs to.
            result: recorded whole; its event holds everything but the windows.
            now_ns: wall clock.

        Raises:
            LabdBug: this attempt is not running, or has a result for this mode already.
        """
        with transaction(self._engine) as connection:
            job, next_seq = require_job(connection, job_id)
            if job.state is not JobState.RUNNING or job.attempt != attempt:
                raise LabdBug("result", f"{job_id} is {job.state}, not running attempt {attempt}")
            row = {"job": job_id, "attempt": attempt, "mode": result.mode, "t_ns": now_ns}
            connection.execute(insert(tables.result).values(row | {"data": to_json_values(result)}))
            after = replace(job, updated_ns=now_ns)
            return append_event(connection, after, next_seq, result.without_windows())

    # ---- queries -------------------------------------------------------------------------

    def journal_id(self) -> str:
        """Return the id of this journal, which was made with it."""
        with transaction(self._engine) as connection:
            return connection.execute(select(tables.schema.c.journal)).scalar_one()

    def find_job(self, job_id: str) -> Job | None:
        """Return one job, or ``None``."""
        with transaction(self._engine) as connection:
            found = find_job(connection, job_id)
        return found[0] if found else None

    def list_jobs(
        self,
        states: Iterable[JobState] | None = None,
        user: str | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return the newest ``limit`` jobs in these states and of this user, oldest first."""
        query = newest_jobs_query(states, user, limit)
        with transaction(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [read_job(row) for row in reversed(rows)]

    def newest_snapshots(
        self,
        states: Iterable[JobState] | None = None,
        user: str | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> list[Snapshot]:
        """Return jobs as :meth:`list_jobs` does, with their results and next event numbers."""
        return self._select_snapshots(newest_jobs_query(states, user, limit).offset(skip))[::-1]

    def scheduled_snapshots(
        self,
        states: Iterable[JobState] | None = None,
        user: str | None = None,
        limit: int | None = None,
        skip: int = 0,
    ) -> list[Snapshot]:
        """Return jobs that run, then queued ones as they are scheduled, then the last ended."""
        return self._select_snapshots(scheduled_jobs_query(states, user).limit(limit).offset(skip))

    def count_jobs(self, states: Iterable[JobState] | None = None, user: str | None = None) -> int:
        """Return the number of jobs in these states and of this user."""
        with transaction(self._engine) as connection:
            return connection.execute(count_jobs_query(states, user)).scalar_one()

    def find_snapshot(self, job_id: str) -> Snapshot | None:
        """Return one job with its results and next event number, or ``None``."""
        found = self._select_snapshots(select(tables.job).where(tables.job.c.job == job_id))
        return found[0] if found else None

    def busy_jobs(self) -> list[Job]:
        """Return the leased and running jobs: those to recover after a restart."""
        return self.list_jobs(_BUSY)

    def list_faults(self, job_id: str) -> list[Fault]:
        """Return the attempts at a job that ended with a fault, in order."""
        column = tables.run.c
        query = select(column.attempt, column.station, column.dut_fault, column.reason).where(
            column.job == job_id, column.outcome == AttemptOutcome.FAULT
        )
        with transaction(self._engine) as connection:
            rows = connection.execute(query.order_by(column.attempt))
            return [Fault(row.attempt, row.station, row.dut_fault, row.reason) for row in rows]

    def fault_stations(self) -> dict[str, set[str]]:
        """Return where attempts at the queued jobs ended with a fault, by job."""
        run = tables.run.c
        query = (
            select(run.job, run.station)
            .join(tables.job, tables.job.c.job == run.job)
            .where(tables.job.c.state == JobState.QUEUED, run.outcome == AttemptOutcome.FAULT)
        )
        found: defaultdict[str, set[str]] = defaultdict(set)
        with transaction(self._engine) as connection:
            for job, station in connection.execute(query):
                found[job].add(station)
        return found

    def list_images(self, job_id: str) -> list[FixedImage]:
        """Return the firmware that a job was accepted with."""
        with transaction(self._engine) as connection:
            return read_images(connection, [job_id])[job_id]

    def image_boards(self) -> dict[str, set[str]]:
        """Return the boards that the queued jobs were accepted with images for, by job."""
        image = tables.image.c
        query = (
            select(image.job, image.board)
            .join(tables.job, tables.job.c.job == image.job)
            .where(tables.job.c.state == JobState.QUEUED)
        )
        found: defaultdict[str, set[str]] = defaultdict(set)
        with transaction(self._engine) as connection:
            for job, board in connection.execute(query):
                found[job].add(board)
        return found

    def needed_images(self) -> set[str]:
        """Return the SHA-256 of every image that a job needs which has not ended."""
        query = select(tables.image.c.sha256).join(
            tables.job, tables.job.c.job == tables.image.c.job
        )
        with transaction(self._engine) as connection:
            rows = connection.execute(query.where(tables.job.c.state != JobState.DONE))
            return {row.sha256 for row in rows}

    def list_events(self, job_id: str, from_seq: int = 0, limit: int | None = None) -> list[Event]:
        """Return a job's events from number ``from_seq`` on, in order."""
        column = tables.event.c
        query = select(tables.event).where(column.job == job_id, column.seq >= from_seq)
        query = query.order_by(column.seq).limit(limit)
        with transaction(self._engine) as connection:
            return [read_event(row) for row in connection.execute(query).mappings()]

    def _select_snapshots(self, query: Select[Any]) -> list[Snapshot]:
        with transaction(self._engine) as connection:
            return read_snapshots(connection, connection.execute(query).mappings().all())
