"""What happens is written down first and told afterwards, in the order of the commits.

Every change of a job goes through here: the journal commits it, then its events and the
job's retained state go to the broker. A broker that is away delays the telling, never the
writing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from labd.core.errors import InfraError, LabdBug, TransportError
from labd.core.jobs import Job, JobSpec, JobState
from labd.core.model import Verdict
from labd.mqtt.link import Bus
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.store.journal.kept_runs import RunRecord, note_removal, pin_job, run_records, unpin_job
from labd.store.journal.rows import Accepted, Change, Duplicate, Outcome, Snapshot
from labd.wire.job_events import Event, EventData, EventType
from labd.wire.messages import JobStatus, ModeSummary
from labd.wire.results import ModeResult
from labd.wire.topics import Topics

log = structlog.get_logger(__name__)

RETAINED_JOBS = 200
"""So many jobs' states are published anew when the broker was away."""


MAX_UNTOLD = 10_000
"""With so much waiting for a broker, mere progress is no longer queued."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something else on its way out."""

    topic: str
    payload: bytes
    retain: bool


class JobLog:
    """The journal, and the outbox behind it.

    Args:
        topics: of this lab.
        now_ns: wall clock, ns since the epoch.
    """

    def __init__(self, topics: Topics, now_ns: Callable[[], int]) -> None:
        self._topics = topics
        self._now_ns = now_ns
        self._outbox: asyncio.Queue[Change | Message | str] = asyncio.Queue()
        self._untold: Counter[str] = Counter()
        self._waiting: dict[str, str] = {}
        self._queue_changes = asyncio.Lock()
        self._opened: AsyncJournal | None = None

    def journal(self, url: str) -> AsyncJournal:
        """The journal to enter before anything else; its changes are told from then on."""
        self._opened = AsyncJournal(url, on_change=self._tell)
        return self._opened

    # ---- changes -------------------------------------------------------------------------

    async def submit(self, spec: JobSpec) -> Accepted | Duplicate:
        """Queue a job; see :meth:`labd.store.journal.journal.Journal.submit`."""
        return await self._journal(Journal.submit, spec, self._now_ns())

    async def cancel(self, job: str, user: str, reason: str) -> Change:
        """Give a job up; see :meth:`labd.store.journal.journal.Journal.cancel`."""
        async with self._queue_changes:
            return await self._journal(Journal.cancel, job, user, self._now_ns(), reason)

    async def lease(self, job: str, station: str) -> bool:
        """Give a job to a station; False if it is no longer queued."""
        async with self._queue_changes:
            if (await self.job(job)).state is not JobState.QUEUED:
                return False
            await self._journal(Journal.lease, job, station, self._now_ns())
            return True

    async def start(self, job: str) -> Job:
        """Begin an attempt."""
        return (await self._journal(Journal.start, job, self._now_ns())).job

    async def requeue(self, job: str, reason: str, outcome: Outcome) -> None:
        """Put a job back into the queue."""
        await self._journal(Journal.requeue, job, reason, self._now_ns(), outcome)

    async def finish(self, job: str, verdict: Verdict, reason: str) -> None:
        """End a job."""
        await self._journal(Journal.finish, job, verdict, reason, self._now_ns())

    async def event(self, job: str, data: EventData) -> None:
        """Append an event that changes no state."""
        await self._journal(Journal.append_event, job, data, self._now_ns())

    async def result(self, job: str, attempt: int, result: ModeResult) -> None:
        """Keep what one mode found."""
        await self._journal(Journal.record_result, job, attempt, result, self._now_ns())

    async def pin(self, job: str, user: str) -> bool:
        """Keep a job's files; see :func:`labd.store.journal.kept_runs.pin_job`."""
        changed = await self._journal(pin_job, job, user, self._now_ns())
        self.publish_states([job])
        return changed

    async def unpin(self, job: str, user: str) -> bool:
        """Let a job's files go; see :func:`labd.store.journal.kept_runs.unpin_job`."""
        changed = await self._journal(unpin_job, job, user)
        self.publish_states([job])
        return changed

    async def note_removal(self, job: str, attempt: int) -> bool:
        """Write down that files go; see :func:`labd.store.journal.kept_runs.note_removal`."""
        may_go = await self._journal(note_removal, job, attempt, self._now_ns())
        self.publish_states([job])
        return may_go

    def set_waiting(self, waiting: dict[str, str]) -> set[str]:
        """Remember why jobs wait; the jobs for which that changed."""
        changed = {job for job in waiting if self._waiting.get(job) != waiting[job]}
        self._waiting = dict(waiting)
        return changed

    # ---- what is known -------------------------------------------------------------------

    async def known(self, job: str) -> Job | None:
        """One job, or ``None``."""
        return await self._journal(Journal.job, job)

    async def job(self, job: str) -> Job:
        """One job that must exist.

        Raises:
            LabdBug: it does not.
        """
        found = await self.known(job)
        if found is None:
            raise LabdBug("no-such-job", f"job {job} vanished from the journal")
        return found

    async def faults(self, job: str) -> int:
        """How many attempts at a job ended by a fault of the bench."""
        return await self._journal(Journal.faults, job)

    async def busy_jobs(self) -> list[Job]:
        """Jobs a daemon before this one was doing."""
        return await self._journal(Journal.busy_jobs)

    async def jobs(self, states: Iterable[JobState]) -> list[Job]:
        """Jobs of these states, oldest first."""
        return await self._journal(Journal.jobs, states)

    async def statuses(
        self, states: Iterable[JobState] | None, user: str | None, limit: int
    ) -> list[JobStatus]:
        """Jobs as their retained messages tell them."""
        found = await self._journal(Journal.snapshots, states, user, limit)
        return [self._status(snapshot) for snapshot in found]

    async def status(self, job: str) -> JobStatus | None:
        """One job as its retained message tells it."""
        found = await self._journal(Journal.snapshot, job)
        return None if found is None else self._status(found)

    async def events(self, job: str, from_seq: int, limit: int) -> list[Event]:
        """A job's events, in order."""
        return await self._journal(Journal.events, job, from_seq, limit)

    async def run_records(self) -> list[RunRecord]:
        """Every attempt as far as keeping its files goes."""
        return await self._journal(run_records)

    # ---- telling -------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send anything else, in order with the rest."""
        self._outbox.put_nowait(Message(topic, payload, retain))

    def publish_states(self, jobs: Iterable[str]) -> None:
        """Publish these jobs' retained states, as they are when their turn comes."""
        for job in jobs:
            self._outbox.put_nowait(job)

    async def publish_recent_states(self) -> None:
        """Publish the retained states of recent jobs anew, after a broker was away."""
        self.publish_states(s.job for s in await self.statuses(None, None, RETAINED_JOBS))

    async def deliver(self, bus: Bus) -> None:
        """Send the outbox, for ever."""
        while True:
            item = await self._outbox.get()
            match item:
                case Message():
                    await _send(bus, item)
                case Change():
                    await self._deliver_change(bus, item)
                case str():
                    await self._deliver_state(bus, item)
            self._outbox.task_done()

    async def flush(self, deadline_s: float) -> bool:
        """Wait until everything told so far was delivered; False if it was not in time."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._outbox.join()
        except TimeoutError:
            return False
        return True

    @property
    def _journal(self) -> AsyncJournal:
        if self._opened is None:
            raise LabdBug("journal", "the job log was used before its journal was opened")
        return self._opened

    def _tell(self, change: Change) -> None:
        small = all(event.type is EventType.PROGRESS for event in change.events)
        if small and self._outbox.qsize() > MAX_UNTOLD:
            return  # the broker is away for long; who missed a step asks for it by number
        self._untold[change.job.spec.job] += 1
        self._outbox.put_nowait(change)

    async def _deliver_change(self, bus: Bus, change: Change) -> None:
        """Send a change's events, then the job's state unless a newer one follows anyway."""
        job = change.job.spec.job
        for event in change.events:
            await _send(bus, Message(self._topics.event(job), event.payload(), retain=False))
        self._untold[job] -= 1
        if self._untold[job]:
            return
        del self._untold[job]
        await self._deliver_state(bus, job)

    async def _deliver_state(self, bus: Bus, job: str) -> None:
        try:
            status = await self.status(job)
        except InfraError as error:
            log.warning("state-not-told", job=job, error=str(error))
            return
        if status is not None:
            await _send(bus, Message(self._topics.job(job), status.payload(), retain=True))

    def _status(self, snapshot: Snapshot) -> JobStatus:
        job = snapshot.job
        return JobStatus(
            job=job.spec.job,
            user=job.spec.user,
            benchmark=job.spec.benchmark,
            modes=job.spec.modes,
            priority=job.spec.priority,
            state=job.state,
            verdict=job.verdict,
            reason=job.reason,
            station=job.station,
            attempt=job.attempt,
            cancel_requested=job.cancel_requested,
            submitted_ns=job.submitted_ns,
            updated_ns=job.updated_ns,
            waiting=self._waiting.get(job.spec.job, "") if job.state is JobState.QUEUED else "",
            simulated=any(each.result.details.simulated for each in snapshot.results),
            next_seq=snapshot.next_seq,
            results=tuple(
                ModeSummary(
                    mode=each.result.mode,
                    attempt=each.attempt,
                    verdict=each.result.verdict,
                    reasons=each.result.reasons,
                    score=each.result.score,
                )
                for each in snapshot.results
            ),
            pinned=snapshot.pinned,
            removed=snapshot.removed,
        )


async def _send(bus: Bus, message: Message) -> None:
    """Hand a message to the broker, however long that takes."""
    while True:
        try:
            await bus.publish(message.topic, message.payload, retain=message.retain)
        except TransportError as error:
            log.warning("publish-delayed", topic=message.topic, error=str(error))
        except LabdBug as error:
            log.warning("publish-impossible", topic=message.topic, error=str(error))
            return
        else:
            return
