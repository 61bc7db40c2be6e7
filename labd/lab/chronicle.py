"""What happens is written down first and told afterwards, in one order for everyone.

Every change goes through here: the journal commits it, then its events and the job's
retained state go to the outbox in the order of the commits. A broker that is away delays
the telling, never the writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from labd.bus.link import Bus
from labd.bus.messages import Event, EventType, JobStatus, ModeSummary
from labd.bus.topics import Topics
from labd.core.errors import LabdBug, TransportError
from labd.core.jobs import Job, JobSpec, JobState
from labd.core.model import Verdict
from labd.store.records import Accepted, Change, Duplicate, Snapshot
from labd.store.threaded import AsyncJournal

log = structlog.get_logger(__name__)

RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way out."""

    topic: str
    payload: bytes
    retain: bool


class Chronicle:
    """The journal and the outbox behind one lock.

    Args:
        journal: where it is written.
        topics: of this lab.
        now_ns: wall clock, ns since the epoch.
    """

    def __init__(self, journal: AsyncJournal, topics: Topics, now_ns: Callable[[], int]) -> None:
        self._journal = journal
        self._topics = topics
        self._now_ns = now_ns
        self._order = asyncio.Lock()
        self._outbox: asyncio.Queue[Outgoing] = asyncio.Queue()
        self._waiting: dict[str, str] = {}

    # ---- changes -------------------------------------------------------------------------

    async def submit(self, spec: JobSpec) -> Accepted | Duplicate:
        """Queue a job; see :meth:`labd.store.journal.Journal.submit`."""
        async with self._order:
            change = await self._journal.submit(spec, self._now_ns())
            await self._tell(change)
            return change

    async def cancel(self, job: str, user: str, reason: str) -> Change:
        """Give a job up; see :meth:`labd.store.journal.Journal.cancel`."""
        return await self._change(self._journal.cancel(job, user, self._now_ns(), reason))

    async def lease(self, job: str, station: str) -> Change | None:
        """Give a job to a station; ``None`` if it is no longer queued."""
        async with self._order:
            known = await self._journal.job(job)
            if known is None or known.state is not JobState.QUEUED:
                return None
            change = await self._journal.lease(job, station, self._now_ns())
            await self._tell(change)
            return change

    async def start(self, job: str) -> Change:
        """Begin an attempt."""
        return await self._change(self._journal.start(job, self._now_ns()))

    async def requeue(self, job: str, reason: str) -> Change:
        """Put a job back into the queue."""
        return await self._change(self._journal.requeue(job, reason, self._now_ns()))

    async def finish(self, job: str, verdict: Verdict, reason: str) -> Change:
        """End a job."""
        return await self._change(self._journal.finish(job, verdict, reason, self._now_ns()))

    async def event(self, job: str, kind: EventType, data: dict[str, Any]) -> Change:
        """Tell something about a job."""
        return await self._change(self._journal.append_event(job, kind, data, self._now_ns()))

    async def result(self, job: str, attempt: int, data: dict[str, Any]) -> Change:
        """Keep what one mode found."""
        return await self._change(self._journal.record_result(job, attempt, data, self._now_ns()))

    async def set_waiting(self, waiting: dict[str, str]) -> None:
        """Publish why jobs wait, where that changed."""
        async with self._order:
            changed = {job for job in waiting if self._waiting.get(job) != waiting[job]}
            self._waiting = dict(waiting)
            for job in sorted(changed):
                await self._tell_state(job)

    # ---- what is known -------------------------------------------------------------------

    async def known(self, job: str) -> Job | None:
        """One job, or ``None``."""
        return await self._journal.job(job)

    async def job(self, job: str) -> Job:
        """One job that must exist.

        Raises:
            LabdBug: it does not.
        """
        found = await self._journal.job(job)
        if found is None:
            raise LabdBug("no-such-job", f"job {job} vanished from the journal")
        return found

    async def jobs(self, states: Iterable[JobState]) -> list[Job]:
        """Jobs of these states, oldest first."""
        return await self._journal.jobs(states)

    async def statuses(
        self, states: Iterable[JobState] | None, user: str | None, limit: int
    ) -> list[JobStatus]:
        """Jobs as their retained messages tell them."""
        return [self.status(s) for s in await self._journal.snapshots(states, user, limit)]

    async def snapshot(self, job: str) -> JobStatus | None:
        """One job as its retained message tells it."""
        found = await self._journal.snapshot(job)
        return None if found is None else self.status(found)

    async def events(self, job: str, from_seq: int, limit: int) -> list[Event]:
        """A job's events, in order."""
        return await self._journal.events(job, from_seq, limit)

    # ---- telling -------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send anything else, in order with the rest."""
        self._outbox.put_nowait(Outgoing(topic, payload, retain))

    async def tell_every_state(self) -> None:
        """Publish the retained state of recent jobs anew, after a broker was away."""
        async with self._order:
            for snapshot in await self._journal.snapshots(limit=200):
                self._put_state(snapshot)

    def status(self, snapshot: Snapshot) -> JobStatus:
        """A job as its retained message tells it."""
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
            waiting=self._waiting.get(job.spec.job, ""),
            simulated=any(r.data["details"].get("simulated", False) for r in snapshot.results),
            next_seq=snapshot.next_seq,
            results=tuple(
                ModeSummary(
                    mode=result.mode,
                    attempt=result.attempt,
                    verdict=Verdict(result.data["verdict"]),
                    reasons=tuple(result.data["reasons"]),
                    score=result.data["score"],
                )
                for result in snapshot.results
            ),
        )

    async def deliver(self, bus: Bus) -> None:
        """Send the outbox, for ever; a message is retried until the broker has it."""
        while True:
            message = await self._outbox.get()
            while True:
                try:
                    await bus.publish(message.topic, message.payload, retain=message.retain)
                    break
                except TransportError as error:
                    log.warning("publish-delayed", topic=message.topic, error=str(error))
                    await asyncio.sleep(RETRY_S)
            self._outbox.task_done()

    async def flush(self, deadline_s: float) -> bool:
        """Wait until everything told so far was delivered; False if it was not in time."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._outbox.join()
        except TimeoutError:
            return False
        return True

    async def _change(self, work: Awaitable[Change]) -> Change:
        async with self._order:
            change = await work
            await self._tell(change)
            return change

    async def _tell(self, change: Change) -> None:
        job = change.job.spec.job
        for event in change.events:
            self.publish(self._topics.event(job), event.payload(), retain=False)
        if change.events:
            await self._tell_state(job)

    async def _tell_state(self, job: str) -> None:
        snapshot = await self._journal.snapshot(job)
        if snapshot is not None:
            self._put_state(snapshot)

    def _put_state(self, snapshot: Snapshot) -> None:
        job: Job = snapshot.job
        payload = self.status(snapshot).payload()
        self.publish(self._topics.job(job.spec.job), payload, retain=True)
