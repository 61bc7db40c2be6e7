"""Which events have been published, as recorded in the journal.

Each function is one transaction; :class:`.async_journal.AsyncJournal` runs it like a method of
the journal.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select, update

from labd.store.journal import tables
from labd.store.journal.database import transaction
from labd.store.journal.journal import Journal
from labd.store.journal.rows import Change, read_event, read_job


def record_published(journal: Journal, marks: Mapping[str, int]) -> None:
    """Record that the events of jobs below these numbers have been published."""
    column = tables.job.c
    with transaction(journal.engine) as connection:
        for job, seq in marks.items():
            connection.execute(
                update(tables.job).where(column.job == job).values(published_seq=seq)
            )


def read_unpublished(journal: Journal) -> list[Change]:
    """Return the events that are not known to have been published, as one change per job."""
    job, event = tables.job.c, tables.event.c
    found: list[Change] = []
    with transaction(journal.engine) as connection:
        query = select(tables.job).where(job.published_seq < job.next_seq).order_by(job.number)
        for row in connection.execute(query).mappings().all():
            pending = select(tables.event).where(
                event.job == row["job"], event.seq >= row["published_seq"]
            )
            events = connection.execute(pending.order_by(event.seq)).mappings()
            found.append(Change(read_job(row), tuple(map(read_event, events)), row["next_seq"]))
    return found
