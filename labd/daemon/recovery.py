"""What a starting daemon does about the jobs that a dead one was running."""

from __future__ import annotations

import structlog

from labd.core.jobs import MAX_ATTEMPTS
from labd.core.model import Verdict
from labd.daemon.job_log import JobLog
from labd.store.journal.journal import Journal
from labd.store.journal.rows import AttemptOutcome

log = structlog.get_logger(__name__)


async def requeue_interrupted_jobs(job_log: JobLog) -> None:
    """Put leased and running jobs back into the queue; end those with too many attempts."""
    for job in await job_log.query_journal(Journal.busy_jobs):
        reason = f"labd was restarted while it was {job.state} on {job.station}"
        log.info("job-recovered", job=job.spec.job, reason=reason)
        if job.attempt < MAX_ATTEMPTS or job.cancel_requested:
            await job_log.requeue_job(job.spec.job, reason, AttemptOutcome.INTERRUPTED)
        else:
            await job_log.finish_job(job.spec.job, Verdict.INFRA, reason)
