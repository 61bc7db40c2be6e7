"""A lab's client: asks, repeats until answered, and follows jobs without missing an event."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labd.core.errors import JobError, TransportError
from labd.mqtt.inbox import Inbox
from labd.mqtt.link import MqttLink
from labd.wire.job_events import EVENT, Event, FinishedEvent
from labd.wire.messages import JobStatus, Reply, StationStatus
from labd.wire.topics import Topics

if TYPE_CHECKING:
    from labd.wire.frames import Frame

REPEAT_S = 2.0
"""A request without an answer is sent again after this; asking twice is harmless."""

ANSWER_DEADLINE_S = 10.0
PATIENCE_S = 120.0
"""A lab may be away this long while its jobs are watched."""

LOOK_AGAIN_S = 10.0
"""When a job is silent this long, its events are asked for: one may have been missed."""


class LabClient:
    """One user's connection to one lab; use as an async context manager.

    Args:
        broker: ``mqtt://[user:password@]host:port``.
        lab: the lab's name.
        user: who asks; the broker's ACL may insist.

    Raises:
        TransportError: no broker there, or no lab answers.
        JobError: the lab refused a request; the text is the lab's own.
    """

    def __init__(self, broker: str, lab: str, user: str) -> None:
        self._name = f"labctl-{secrets.token_hex(6)}"
        self._link = MqttLink(broker, self._name)
        self._topics = Topics(lab)
        self.user = user
        self._lab = lab
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect and listen for answers."""
        await self._link.__aenter__()
        listening = asyncio.Event()
        self._reader = asyncio.create_task(self._read(listening), name="labctl replies")
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

    async def ask(self, verb: str, **fields: Any) -> Reply:
        """Ask the lab something and return its answer.

        Raises:
            JobError: the lab refused; its text.
            TransportError: nobody answered.
        """
        import json  # noqa: PLC0415 - not for --help

        request = secrets.token_hex(8)
        body = {key: value for key, value in fields.items() if value is not None}
        payload = json.dumps({"v": 1, "client": self._name, "request": request, **body}).encode()
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        try:
            reply = await self._repeat(self._topics.command(self.user, verb), payload, answer)
        finally:
            del self._waiting[request]
        if not reply.ok:
            raise JobError(reply.code, reply.text)
        return reply

    async def jobs(self, **fields: Any) -> list[JobStatus]:
        """Jobs, oldest first."""
        reply = await self.ask("jobs", **fields)
        return [JobStatus.model_validate(one) for one in _list(reply)]

    async def job(self, job: str) -> JobStatus:
        """One job.

        Raises:
            JobError: there is none of that id.
        """
        [status] = await self.jobs(job=job)
        return status

    async def stations(self) -> list[StationStatus]:
        """Every station."""
        return [StationStatus.model_validate(one) for one in _list(await self.ask("stations"))]

    async def events(self, job: str, from_seq: int = 0) -> list[Event]:
        """What happened to a job so far, all of it."""
        events: list[Event] = []
        while True:
            reply = await self.ask("events", job=job, from_seq=from_seq + len(events))
            page = [EVENT.validate_python(one) for one in _list(reply)]
            if not page:
                return events
            events += page

    async def follow(self, job: str) -> AsyncIterator[Event]:
        """Yield every event of a job, each once and in order, until it has finished."""
        async with self._link.subscribe(self._topics.event(job)) as inbox:
            expected = 0
            catch_up = True
            while True:
                if catch_up:
                    for event in await self._patiently(job, expected):
                        expected = event.seq + 1
                        yield event
                        if isinstance(event, FinishedEvent):
                            return
                event = await _next_event(inbox)
                catch_up = event is None or event.seq > expected
                if event is None or event.seq != expected:
                    continue
                expected += 1
                yield event
                if isinstance(event, FinishedEvent):
                    return

    async def frames(self, job: str) -> AsyncIterator[Frame]:
        """Yield what a job's traces look like while they are written, for ever.

        Frames are thrown away where something is slow: their numbers tell.
        """
        from labd.wire.frames import decode_frame  # noqa: PLC0415 - NumPy, not for --help

        async with self._link.subscribe(self._topics.trace(job)) as inbox:
            async for message in inbox:
                yield decode_frame(message.payload)

    async def _patiently(self, job: str, from_seq: int) -> list[Event]:
        """A job's events, waiting for a lab that is away: it may be being restarted."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self.events(job, from_seq)
            except TransportError:
                if time.monotonic() > deadline:
                    raise

    async def _repeat(self, topic: str, payload: bytes, answer: asyncio.Future[Reply]) -> Reply:
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                while True:
                    await self._link.publish(topic, payload)
                    done, _ = await asyncio.wait({answer}, timeout=REPEAT_S)
                    if done:
                        return answer.result()
        except TimeoutError:
            raise TransportError(
                "no-answer",
                f"lab {self._lab!r} at {self._link.address} did not answer in "
                f"{ANSWER_DEADLINE_S:g} s",
                "is labd serve running, is --lab right, may this user publish?",
            ) from None

    async def _read(self, listening: asyncio.Event) -> None:
        async with self._link.subscribe(self._topics.reply(self.user, self._name)) as inbox:
            listening.set()
            async for message in inbox:
                reply = Reply.model_validate_json(message.payload)
                answer = self._waiting.get(reply.request or "")
                if answer is not None and not answer.done():
                    answer.set_result(reply)


async def _next_event(inbox: Inbox) -> Event | None:
    """The next live event, or ``None`` after a silence."""
    try:
        async with asyncio.timeout(LOOK_AGAIN_S):
            message = await anext(inbox)
    except TimeoutError:
        return None
    return EVENT.validate_json(message.payload)


def _list(reply: Reply) -> list[Any]:
    return reply.result if isinstance(reply.result, list) else []
