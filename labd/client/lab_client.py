"""The client of a lab: repeats requests until a reply comes, and misses no event of a job."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import ValidationError

from labd.core.errors import JobError, TransportError, Where
from labd.core.jobs import JobState
from labd.core.local_time import format_local_time
from labd.mqtt.inbox import Inbox
from labd.mqtt.link import MqttLink
from labd.wire.job_events import EVENT, Event, FinishedEvent
from labd.wire.messages import (
    MAX_LISTED,
    DaemonStatus,
    JobOrder,
    JobStatus,
    Reply,
    StationStatus,
)
from labd.wire.topics import Kind, Topics

if TYPE_CHECKING:
    from labd.wire.frames import Frame

T = TypeVar("T")

REPEAT_S = 2.0
"""Interval between repetitions of a request; requests are idempotent."""

ANSWER_DEADLINE_S = 10.0
REQUEST_LIFETIME_S = 60.0
"""How long a request has an effect: the broker keeps it while the daemon is away. Longer than the
answer deadline by more than two clocks synchronised by NTP differ."""

STATUS_DEADLINE_S = 2.0
"""How long the broker may take to deliver the daemon's retained status."""

SILENCE_S = 10.0
"""Without an event for this long, events are requested: one may have been missed."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, and how many there are of their kind, listed or not."""

    jobs: tuple[JobStatus, ...]
    total: int

    @property
    def is_part(self) -> bool:
        """Whether there are more jobs than these."""
        return len(self.jobs) < self.total


class LabClient:
    """One user's connection to one lab; use as an async context manager.

    Args:
        broker: ``mqtt://[user:password@]host:port``.
        lab: the lab's name.
        user: of the requests; the broker's access list may restrict it.
        patience_s: how long the broker or the lab may be away while jobs are followed; ``None``:
            for ever.

    Raises:
        TransportError: the broker or the lab did not answer.
        JobError: the lab refused a request; the text is the lab's.
    """

    def __init__(self, broker: str, lab: str, user: str, patience_s: float | None = None) -> None:
        self._name = f"labctl-{secrets.token_hex(6)}"
        self._link = MqttLink(broker, self._name)
        self._topics = Topics(lab)
        self.user = user
        self._lab = lab
        self.patience_s = patience_s
        self._unanswered_ns: int | None = None
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect and subscribe to the replies."""
        await self._link.__aenter__()
        listening = asyncio.Event()
        self._reader = asyncio.create_task(self._receive_replies(listening), name="labctl replies")
        ready = asyncio.create_task(listening.wait())
        await asyncio.wait({ready, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._reader.done():
            await self._link.__aexit__(None, None, None)
            await self._reader
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._link.__aexit__(kind, error, traceback)

    async def send_request(
        self, verb: str, *, lifetime_s: float = REQUEST_LIFETIME_S, **fields: Any
    ) -> Reply:
        """Send a request and return its reply.

        Args:
            verb: of the request.
            lifetime_s: a lab that receives it later refuses it.
            fields: its keys; those that are ``None`` are left out.

        Raises:
            JobError: the lab refused it.
            TransportError: no reply came; the text says what becomes of the request.
        """
        request = secrets.token_hex(8)
        expires_ns = time.time_ns() + round(lifetime_s * 1e9)
        head = {"v": 1, "client": self._name, "request": request, "expires_ns": expires_ns}
        body = {key: value for key, value in fields.items() if value is not None}
        payload = json.dumps(head | body).encode()
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        try:
            reply = await self._repeat_until_answered(
                self._topics.command_topic(self.user, verb), payload, answer
            )
        except TimeoutError:
            raise await self._explain_missing_reply(verb, fields.get("job"), expires_ns) from None
        finally:
            del self._waiting[request]
        if not reply.ok:
            raise JobError(reply.code, reply.text)
        return reply

    async def list_jobs(self, **fields: Any) -> list[JobStatus]:
        """Return jobs, oldest first."""
        reply = await self.send_request("jobs", **fields)
        return [JobStatus.model_validate(one) for one in _result_list(reply)]

    async def list_schedule(
        self, states: Sequence[JobState], user: str | None, limit: int | None
    ) -> JobPage:
        """Return jobs that run, then queued ones as they are scheduled, then the last ended.

        Args:
            states: only jobs in these states.
            user: only jobs of this user.
            limit: how many at most; ``None`` for all.
        """
        jobs: dict[str, JobStatus] = {}
        skip = 0
        while True:
            most = MAX_LISTED if limit is None else min(limit - skip, MAX_LISTED)
            keys: dict[str, Any] = {"states": states, "user": user, "order": JobOrder.SCHEDULE}
            reply = await self.send_request("jobs", limit=most, skip=skip, **keys)
            listed = [JobStatus.model_validate(one) for one in _result_list(reply)]
            jobs |= {each.job: each for each in listed}  # the queue may move between two requests
            skip += len(listed)
            if len(listed) < most or skip == limit:
                return JobPage(tuple(jobs.values()), reply.total or len(jobs))

    async def find_job(self, job: str) -> JobStatus:
        """Return one job.

        Raises:
            JobError: there is no job of this id.
        """
        [status] = await self.list_jobs(job=job)
        return status

    async def list_stations(self) -> list[StationStatus]:
        """Return every station."""
        return [
            StationStatus.model_validate(one)
            for one in _result_list(await self.send_request("stations"))
        ]

    async def list_events(self, job: str, from_seq: int = 0) -> list[Event]:
        """Return the events of a job so far, from number ``from_seq`` on."""
        events: list[Event] = []
        while True:
            page = _result_list(await self.send_request("events", job=job, from_seq=from_seq))
            if not page:
                return events
            events += filter(None, map(_parse_event, page))
            from_seq = int(page[-1]["seq"]) + 1

    async def follow_events(self, job: str) -> AsyncIterator[Event]:
        """Yield every event of a job, each once and in order, until it has finished.

        Raises:
            TransportError: the broker or the lab was away for longer than ``patience_s``.
        """
        async with self._link.subscribe(self._topics.event_topic(job)) as inbox:
            expected = 0
            events = await self.wait_out_outages(partial(self.list_events, job))
            while True:
                for event in events:
                    expected = event.seq + 1
                    yield event
                    if isinstance(event, FinishedEvent):
                        return
                live = await _next_event(inbox)
                if live is None or live.seq > expected:
                    events = await self.wait_out_outages(partial(self.list_events, job, expected))
                else:
                    events = [live] if live.seq == expected else []

    async def follow_trace_frames(self, job: str) -> AsyncIterator[Frame]:
        """Yield the frames of a job's traces while they are written, until cancelled.

        Frames are dropped if the broker or the reader is slow; their numbers show it.
        """
        from labd.wire.frames import decode_frame  # noqa: PLC0415 - NumPy

        async with self._link.subscribe(self._topics.trace_topic(job)) as inbox:
            async for message in inbox:
                yield decode_frame(message.payload)

    async def wait_out_outages(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the lab, again and again while the broker or the lab is away.

        Raises:
            TransportError: it was away for longer than ``patience_s``.
        """
        started_ns, started = time.time_ns(), time.monotonic()
        while True:
            try:
                found = await ask()
            except TransportError:
                away_s = time.monotonic() - started
                if self.patience_s is not None and away_s >= self.patience_s:
                    raise
                self._unanswered_ns = self._unanswered_ns or started_ns
            else:
                self._unanswered_ns = None
                return found

    def describe_outage(self) -> str:
        """Say what is waited for and since when; empty while broker and lab answer."""
        if self._link.lost_ns is not None:
            return f"waiting for the broker since {format_local_time(self._link.lost_ns)}"
        if self._unanswered_ns is not None:
            return f"waiting for the lab since {format_local_time(self._unanswered_ns)}"
        return ""

    async def _repeat_until_answered(
        self, topic: str, payload: bytes, answer: asyncio.Future[Reply]
    ) -> Reply:
        """Send a request until it is answered.

        Raises:
            TimeoutError: it was not, within :data:`ANSWER_DEADLINE_S`.
        """
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            while True:
                await self._link.publish_message(topic, payload)
                done, _ = await asyncio.wait({answer}, timeout=REPEAT_S)
                if done:
                    return answer.result()

    async def _explain_missing_reply(
        self, verb: str, job: str | None, expires_ns: int
    ) -> TransportError:
        """Make the error of a request without a reply, by what the daemon last reported."""
        lab = f"lab {self._lab!r} at {self._link.address}"
        daemon = await self._read_daemon_status()
        if daemon is None:
            what = f"{lab} did not answer, and the broker knows no daemon of it"
            remedy = "check --lab, and whether `labd serve` runs"
        elif daemon.state == "offline":
            what = f"the daemon of {lab} is offline; it ran on host {daemon.host}"
            remedy = "start `labd serve` there"
        else:
            what = (
                f"the daemon of {lab} is online on host {daemon.host}, but does not answer user "
                f"{self.user}"
            )
            remedy = (
                f"check that the broker lets {self._link.address.user or 'anonymous clients'} "
                f"publish to {self._topics.command_topic(self.user, verb)} and read "
                f"{self._topics.reply_topic(self.user, self._name)}"
            )
        if job is not None:
            remedy += (
                f"; the request may still take effect until {format_local_time(expires_ns)}; "
                f"it is safe to send it again for job {job}"
            )
        return TransportError("no-answer", what, remedy, Where(job=job or ""))

    async def _read_daemon_status(self) -> DaemonStatus | None:
        """Return the retained status of the lab's daemon, if the broker delivers one."""
        found: DaemonStatus | None = None
        try:
            async with (
                self._link.subscribe(self._topics.subscription_filter(Kind.DAEMON)) as inbox,
                asyncio.timeout(STATUS_DEADLINE_S),
            ):
                async for message in inbox:
                    with suppress(ValidationError):  # cleared, or of another program
                        found = DaemonStatus.model_validate_json(message.payload)
                    if found is not None and found.state == "online":
                        break
        except TimeoutError:  # the broker reports no end of the retained messages
            return found
        return found

    async def _receive_replies(self, listening: asyncio.Event) -> None:
        async with self._link.subscribe(self._topics.reply_topic(self.user, self._name)) as inbox:
            listening.set()
            async for message in inbox:
                try:
                    reply = Reply.model_validate_json(message.payload)
                except ValidationError:  # not of this lab: the request is repeated
                    continue
                answer = self._waiting.get(reply.request or "")
                if answer is not None and not answer.done():
                    answer.set_result(reply)


async def _next_event(inbox: Inbox) -> Event | None:
    """Return the next live event, or ``None`` after :data:`SILENCE_S`."""
    try:
        async with asyncio.timeout(SILENCE_S):
            message = await anext(inbox)
    except TimeoutError:
        return None
    return _parse_event(message.payload)


def _parse_event(data: object) -> Event | None:
    """Return an event; ``None`` for a type that only a newer labd knows."""
    try:
        return EVENT.validate_json(data) if isinstance(data, bytes) else EVENT.validate_python(data)
    except ValidationError:
        return None


def _result_list(reply: Reply) -> list[Any]:
    return reply.result if isinstance(reply.result, list) else []
