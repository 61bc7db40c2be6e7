"""Transactional outbox: changes are committed to the journal, then published in commit order.

Every change of a job goes through here: the journal commits it, then its events and the
job's retained state go to the broker. A broker that is away delays publishing, never a commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from labd.core.errors import InfraError, LabdBug, TransportError
from labd.core.jobs import FixedImage, Job, JobSpec, JobState
from labd.core.model import Verdict
from labd.daemon.job_status import format_job_status
from labd.mqtt.link import MqttLink
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.attempts import pin_job, record_removal, unpin_job
from labd.store.journal.journal import Journal
from labd.store.journal.publication import read_unpublished, record_published
from labd.store.journal.rows import (
    Accepted,
    AttemptOutcome,
    Change,
    Duplicate,
)
from labd.wire.job_events import (
    Event,
    EventData,
    EventType,
    Finished,
    Queued,
    Requeued,
    Started,
)
from labd.wire.messages import JobOrder, JobStatus, ListJobs
from labd.wire.results import ModeResult
from labd.wire.topics import Topics

log = structlog.get_logger(__name__)

OPEN_STATES = [state for state in JobState if state is not JobState.DONE]

RETAINED_JOBS = 200
"""Number of ended jobs whose retained states are published again after the broker was away."""

MAX_QUEUED = 10_000
"""With more messages than this in the outbox, progress events are not queued any more."""

MARK_INTERVAL_S = 1.0
"""Interval at which the journal records which events have been published."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message that belongs to no change of a job."""

    topic: str
    payload: bytes
    retain: bool


class JobLog:
    """The journal and its outbox.

    Args:
        topics: of this lab.
        journal: open; its changes are published.
        now_ns: wall clock, ns since the epoch.
        retry_s: pause before a change is repeated that the journal could not store.
    """

    def __init__(
        self,
        topics: Topics,
        journal: AsyncJournal,
        now_ns: Callable[[], int],
        retry_s: float = 1.0,
    ) -> None:
        self._topics = topics
        self._journal = journal
        self._now_ns = now_ns
        self._retry_s = retry_s
        self._outbox: asyncio.Queue[Change | OutgoingMessage | str] = asyncio.Queue()
        self._unpublished: Counter[str] = Counter()
        self._published: dict[str, int] = {}
        self._waiting: dict[str, str] = {}
        self._positions: dict[str, int] = {}
        self._queue_changes = asyncio.Lock()
        journal.on_change = self._queue_change

    # ---- changes -------------------------------------------------------------------------

    async def repeat_until_stored(self, change: Callable[[], Awaitable[None]], job: str) -> None:
        """Make a change of a job; repeat it until the journal accepts it.

        Raises:
            LabdBug: the journal refuses it for good.
        """
        while True:
            try:
                await change()
            except InfraError as error:
                log.warning("journal-failed", job=job, error=str(error))
                await asyncio.sleep(self._retry_s)
            else:
                return

    async def submit_job(
        self, spec: JobSpec, images: Iterable[FixedImage] = ()
    ) -> Accepted | Duplicate:
        """Queue a job; see :meth:`Journal.submit_job`."""
        return await self._journal(Journal.submit_job, spec, self._now_ns(), images)

    async def cancel_job(self, job: str, user: str, reason: str) -> Change:
        """Cancel a job; see :meth:`Journal.cancel_job`."""
        async with self._queue_changes:
            return await self._journal(Journal.cancel_job, job, user, self._now_ns(), reason)

    async def expire_job(self, job: Job, reason: str) -> None:
        """End a queued job that waited too long, unless it has left the queue meanwhile."""
        async with self._queue_changes:
            now = await self.require_job(job.spec.job)
            if now == job:
                await self.finish_job(job.spec.job, Verdict.EXPIRED, reason)

    def waiting_reason(self, job: str) -> str:
        """Return why a queued job waits; empty before the first plan."""
        return self._waiting.get(job, "")

    async def lease_job(self, job: str, station: str) -> bool:
        """Lease a job to a station; return False if it is no longer queued."""
        async with self._queue_changes:
            if (await self.require_job(job)).state is not JobState.QUEUED:
                return False
            await self._journal(Journal.lease_job, job, station, self._now_ns())
            return True

    async def start_attempt(self, job: str) -> Job:
        """Start an attempt."""
        return (await self._journal(Journal.start_attempt, job, self._now_ns())).job

    async def requeue_job(
        self, job: str, reason: str, outcome: AttemptOutcome, dut_fault: str = ""
    ) -> None:
        """Put a job back into the queue; see :meth:`Journal.requeue_job`."""
        await self._journal(Journal.requeue_job, job, reason, self._now_ns(), outcome, dut_fault)

    async def finish_job(self, job: str, verdict: Verdict, reason: str) -> None:
        """End a job with a verdict."""
        await self._journal(Journal.finish_job, job, verdict, reason, self._now_ns())

    async def append_event(self, job: str, data: EventData) -> None:
        """Append an event that changes no state."""
        await self._journal(Journal.append_event, job, data, self._now_ns())

    async def store_result(self, job: str, attempt: int, result: ModeResult) -> None:
        """Store the result of one mode."""
        await self._journal(Journal.record_result, job, attempt, result, self._now_ns())

    async def pin_files(self, job: str, user: str) -> bool:
        """Keep a job's files; see :func:`pin_job`."""
        changed = await self._journal(pin_job, job, user, self._now_ns())
        self.queue_job_states([job])
        return changed

    async def unpin_files(self, job: str, user: str) -> bool:
        """Release a job's files; see :func:`unpin_job`."""
        changed = await self._journal(unpin_job, job, user)
        self.queue_job_states([job])
        return changed

    async def record_removal(self, job: str, attempt: int) -> bool:
        """Record that an attempt's files will be removed; see :func:`record_removal`."""
        removable = await self._journal(record_removal, job, attempt, self._now_ns())
        self.queue_job_states([job])
        return removable

    def set_waiting_reasons(self, waiting: dict[str, str]) -> set[str]:
        """Store why each job waits, in the order of the queue; return those where it changed."""
        changed = {job for job in waiting if self._waiting.get(job) != waiting[job]}
        self._waiting = dict(waiting)
        self._positions = {job: place for place, job in enumerate(waiting, 1)}
        return changed

    # ---- queries -------------------------------------------------------------------------

    async def query_journal(
        self, query: Callable[Concatenate[Journal, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query of the journal, e.g. ``query_journal(Journal.list_jobs, states)``."""
        return await self._journal(query, *args, **kwargs)

    async def require_job(self, job: str) -> Job:
        """Return a job that must exist.

        Raises:
            LabdBug: it does not.
        """
        found = await self._journal(Journal.find_job, job)
        if found is None:
            raise LabdBug("no-such-job", f"job {job} is missing in the journal")
        return found

    async def list_job_statuses(self, request: ListJobs) -> tuple[list[JobStatus], int]:
        """Return the jobs that a request lists, and how many match it."""
        newest = request.order is JobOrder.NEWEST
        query = Journal.newest_snapshots if newest else Journal.scheduled_snapshots
        states, user = request.states, request.user
        found = await self._journal(query, states, user, request.limit, request.skip)
        total = await self._journal(Journal.count_jobs, states, user)
        statuses = [format_job_status(each, self._waiting) for each in found]
        return [self._with_position(each) for each in statuses], total

    async def job_status(self, job: str) -> JobStatus | None:
        """Return one job's status, with its position in the queue."""
        found = await self._retained_job_status(job)
        return None if found is None else self._with_position(found)

    # ---- outbox --------------------------------------------------------------------------

    def queue_message(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Put another message into the outbox."""
        self._outbox.put_nowait(OutgoingMessage(topic, payload, retain))

    def queue_job_states(self, jobs: Iterable[str]) -> None:
        """Put retained job states into the outbox; they are read when they are sent."""
        for job in jobs:
            self._outbox.put_nowait(job)

    async def queue_recent_job_states(self) -> None:
        """Publish the retained states of all open jobs again, and of the newest ended ones."""
        ended = await self._journal(Journal.list_jobs, [JobState.DONE], None, RETAINED_JOBS)
        waiting_or_busy = await self._journal(Journal.list_jobs, OPEN_STATES)
        self.queue_job_states(job.spec.job for job in (*ended, *waiting_or_busy))

    async def queue_unpublished_events(self) -> None:
        """Publish what an earlier daemon committed and may not have published.

        Some of it may have been published: an event may arrive twice.
        """
        try:
            unpublished = await self._journal(read_unpublished)
        except InfraError as error:  # an event of another version: clients can still ask for it
            log.warning("events-not-published", error=str(error))
            return
        for change in unpublished:
            self._unpublished[change.job.spec.job] += 1
            self._outbox.put_nowait(change)

    async def publish_outbox(self, link: MqttLink) -> None:
        """Publish the outbox until cancelled."""
        while True:
            item = await self._outbox.get()
            try:
                await self._publish_item(link, item)
            except Exception:  # the top of one message: it must not end the lab
                log.exception("labd-bug", item=item)
            finally:
                self._outbox.task_done()

    async def _publish_item(self, link: MqttLink, item: Change | OutgoingMessage | str) -> None:
        match item:
            case OutgoingMessage(topic, payload, retain):
                await _publish_until_accepted(link, topic, payload, retain=retain)
            case Change():
                await self._publish_change(link, item)
            case str():
                await self._publish_job_state(link, item)

    async def record_published_events(self) -> None:
        """Record periodically which events have been published, until cancelled."""
        while True:
            await asyncio.sleep(MARK_INTERVAL_S)
            await self.record_published_now()

    async def record_published_now(self) -> None:
        """Record which events have been published."""
        marks, self._published = self._published, {}
        if not marks:
            return
        try:
            await self._journal(record_published, marks)
        except InfraError as error:
            log.warning("journal-failed", error=str(error))
            self._published = marks | self._published

    async def wait_until_published(self, deadline_s: float) -> bool:
        """Wait until the outbox is empty; return False after the deadline."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._outbox.join()
        except TimeoutError:
            return False
        return True

    def _queue_change(self, change: Change) -> None:
        for event in change.events:
            _log_step(change.job, event)
        only_progress = all(event.type is EventType.PROGRESS for event in change.events)
        if only_progress and self._outbox.qsize() > MAX_QUEUED:
            return  # clients ask for missing events by number
        self._unpublished[change.job.spec.job] += 1
        self._outbox.put_nowait(change)

    async def _publish_change(self, link: MqttLink, change: Change) -> None:
        """Publish a change's events, then the job's state unless a later change follows."""
        job = change.job.spec.job
        for event in change.events:
            await _publish_until_accepted(
                link, self._topics.event_topic(job), event.to_json_bytes(), retain=False
            )
        self._published[job] = change.next_seq
        self._unpublished[job] -= 1
        if self._unpublished[job]:
            return
        del self._unpublished[job]
        await self._publish_job_state(link, job)

    async def _publish_job_state(self, link: MqttLink, job: str) -> None:
        try:
            status = await self._retained_job_status(job)
        except InfraError as error:
            log.warning("state-not-published", job=job, error=str(error))
            return
        if status is not None:
            await _publish_until_accepted(
                link, self._topics.job_topic(job), status.to_json_bytes(), retain=True
            )

    async def _retained_job_status(self, job: str) -> JobStatus | None:
        """Return one job as its retained message."""
        found = await self._journal(Journal.find_snapshot, job)
        return None if found is None else format_job_status(found, self._waiting)

    def _with_position(self, status: JobStatus) -> JobStatus:
        """Add the position of a queued job, which changes too often for a retained message."""
        if status.state is not JobState.QUEUED:
            return status
        return status.model_copy(update={"position": self._positions.get(status.job)})


def _log_step(job: Job, event: Event) -> None:
    """Log a job's acceptance, the start and the end of each attempt, and the verdict."""
    spec, data = job.spec, event.data
    match data:
        case Queued():
            modes = " ".join(spec.modes)
            log.info(
                "job-accepted", job=spec.job, user=spec.user, benchmark=spec.benchmark, modes=modes
            )
        case Started():
            log.info("job-started", job=spec.job, station=event.station, attempt=event.attempt)
        case Requeued(reason=reason):
            log.warning("job-requeued", job=spec.job, station=event.station, reason=reason)
        case Finished(verdict=verdict, reason=reason):
            log.info(
                "job-ended", job=spec.job, verdict=verdict, station=event.station, reason=reason
            )
        case _:
            return


async def _publish_until_accepted(
    link: MqttLink, topic: str, payload: bytes, *, retain: bool
) -> None:
    """Publish a message; repeat until the broker has it."""
    while True:
        try:
            await link.publish_message(topic, payload, retain=retain)
        except TransportError as error:
            log.warning("publish-delayed", topic=topic, error=str(error))
        except LabdBug as error:
            log.warning("publish-impossible", topic=topic, error=str(error))
            return
        else:
            return
