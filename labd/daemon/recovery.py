"""Jobs that are leased or running in the journal although no station has them."""

from __future__ import annotations

from collections.abc import Collection

from labd.core.jobs import MAX_ATTEMPTS
from labd.core.model import Verdict
from labd.daemon.job_log import JobLog
from labd.store.journal.journal import Journal
from labd.store.journal.rows import AttemptOutcome


async def requeue_abandoned_jobs(
    job_log: JobLog, cause: str, held: Collection[str] = frozenset()
) -> list[str]:
    """Queue leased and running jobs again; end those with too many attempts.

    Args:
        job_log: holds them.
        cause: why they were abandoned, e.g. ``labd was restarted``.
        held: jobs that a station has.

    Returns:
        the jobs that were abandoned.
    """
    busy = await job_log.query_journal(Journal.busy_jobs)
    abandoned = [job for job in busy if job.spec.job not in held]
    for job in abandoned:
        reason = f"{cause} while it was {job.state} on {job.station}"
        if job.attempt < MAX_ATTEMPTS or job.cancel_requested:
            await job_log.requeue_job(job.spec.job, reason, AttemptOutcome.INTERRUPTED)
        else:
            await job_log.finish_job(job.spec.job, Verdict.INFRA, reason)
    return [job.spec.job for job in abandoned]
