"""The MQTT link that the daemon and its clients share.

One connection that comes back by itself, with jittered backoff, its subscriptions and,
through ``on_connect``, whatever the owner has to say again. MQTT 3.1.1: any broker will do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt

from labd.core.errors import LabdBug, TransportError
from labd.mqtt.inbox import Inbox, Message
from labd.wire.broker_url import parse_url

DEADLINE_S = 10.0
KEEPALIVE_S = 15
MAX_PAYLOAD_BYTES = 8_000_000
"""What the embedded broker takes; it hangs up on anyone who sends more."""

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 10.0
_RETRY_S = 0.02
_IN_FLIGHT = 200
_PENDING_CALLS = 10_000  # aiomqtt warns above 10, which a stream of events passes at once
_REFUSED = 0x80

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says, retained, when this client dies without a word."""

    topic: str
    payload: bytes


class MqttLink:
    """A connection to the lab's broker.

    ::

        async with MqttLink(url, "labctl-1") as link, link.subscribe("labd/lab/job/+") as inbox:
            await link.publish(topic, payload)
            async for message in inbox: ...

    Args:
        url: ``mqtt://[user:password@]host[:port]``.
        client_id: unique on the broker: a second client of this id ends the first.
        will: what the broker is to say if this client dies.
        persistent: the broker keeps QoS 1 messages for this id while it is away.

    Callbacks in ``on_connect`` run after every connect, the first included, once the
    subscriptions stand; they may publish.

    Raises:
        ConfigError: ``url`` is malformed.
    """

    def __init__(
        self, url: str, client_id: str, *, will: Will | None = None, persistent: bool = False
    ) -> None:
        self.address = parse_url(url)
        self.on_connect: list[Callable[[], Awaitable[None]]] = []
        self._client_id = client_id
        self._will = will
        self._persistent = persistent
        self._inboxes: list[Inbox] = []
        self._connection: _Connection | None = None
        self._up = asyncio.Event()
        self._connects = 0
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            TransportError: ``no-broker``: nobody listens there; ``broker-refused``.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(first), name=f"mqtt {self.address}")
        try:
            await asyncio.wait({first, self._keeper}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._keeper.cancel()
            raise
        if self._keeper.done():
            self._keeper.result()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect in good order: no last will."""
        keeper = self._keeper
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
            if not keeper.cancelled():
                keeper.result()

    @property
    def connected(self) -> bool:
        """Whether the broker is there just now."""
        return self._up.is_set()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        qos: int = 1,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Hand a message to the broker; returns when it has it (QoS 1).

        Waits for a broker that is away and repeats what it did not confirm, so a message may
        arrive twice. A broker that denies the topic says nothing: only a reply proves arrival.

        Raises:
            TransportError: ``no-broker``: not within the deadline.
            LabdBug: the payload is larger than a broker takes.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise LabdBug("payload", f"{len(payload)} bytes are too many for {topic}")
        await self._insist(
            lambda client: client.publish(topic, payload, qos=qos, retain=retain), deadline_s
        )

    def listen(self, topic_filter: str) -> Inbox:
        """Messages whose topic matches, as long as the link lives; call it before entering.

        Then nothing is missed that the broker kept for a persistent client.
        """
        inbox = Inbox(topic_filter)
        self._inboxes.append(inbox)
        return inbox

    @asynccontextmanager
    async def subscribe(
        self, topic_filter: str, *, deadline_s: float = DEADLINE_S
    ) -> AsyncGenerator[Inbox]:
        """Messages whose topic matches, from the moment the broker has confirmed it.

        Lasts through reconnects; what was said while the connection was down is missing
        (events can be asked for by their numbers), unless the link is persistent.

        Raises:
            TransportError: the broker is away, or refuses the filter.
        """
        inbox = Inbox(topic_filter)
        self._inboxes.append(inbox)
        try:
            codes = await self._insist(
                lambda client: client.subscribe(topic_filter, qos=1), deadline_s
            )
            _check_granted(topic_filter, codes)
            yield inbox
        finally:
            self._inboxes.remove(inbox)
            await self._unsubscribe(topic_filter)

    # ---- one exchange --------------------------------------------------------------------

    async def _insist(
        self, exchange: Callable[[aiomqtt.Client], Coroutine[Any, Any, T]], deadline_s: float
    ) -> T:
        """Do one exchange with the broker, again on the next connection if this one is lost."""
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    await self._up.wait()
                    connection = self._connection
                    if connection is not None:
                        with suppress(aiomqtt.MqttError):
                            return await connection.run(exchange)
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError as error:
            what = f"the broker at {self.address} did not answer within {deadline_s:g} s"
            raise TransportError("no-broker", what, "see whether it still runs") from error

    async def _unsubscribe(self, topic_filter: str) -> None:
        """Spare the broker the work; a lost connection forgets it anyway."""
        connection = self._connection
        wanted = any(inbox.filter == topic_filter for inbox in self._inboxes)
        if connection is not None and not wanted:
            with suppress(aiomqtt.MqttError):
                await connection.run(lambda client: client.unsubscribe(topic_filter))

    # ---- the connection ------------------------------------------------------------------

    async def _keep(self, first: asyncio.Future[None]) -> None:
        """Stay connected until cancelled; whatever ends this ends every inbox."""
        try:
            await self._reconnect_for_ever(first)
        except BaseException as error:
            for inbox in self._inboxes:
                inbox.end(error)
            raise

    async def _reconnect_for_ever(self, first: asyncio.Future[None]) -> None:
        """Give up only if the first attempt fails: then the address is wrong."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            connects = self._connects
            failure = await self._live(first)
            if not first.done():
                raise self._no_broker(failure) from failure
            if self._connects > connects:
                backoff_s = _FIRST_BACKOFF_S
                log.warning("the broker at %s went away: %s", self.address, failure)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)

    async def _live(self, first: asyncio.Future[None]) -> Exception:
        """Connect, serve until the connection is lost, and return why it was."""
        failure: Exception = LabdBug("bus", "a connection ended without a reason")
        try:
            async with self._client() as client, asyncio.TaskGroup() as group:
                self._connection = _Connection(client)
                group.create_task(self._receive(client), name="mqtt receive")
                for topic_filter in {inbox.filter for inbox in self._inboxes}:
                    await client.subscribe(topic_filter, qos=1)
                self._connects += 1
                self._up.set()
                for callback in self.on_connect:
                    await callback()
                if not first.done():
                    first.set_result(None)
        except* (aiomqtt.MqttError, TransportError) as errors:
            failure = _first(errors)
        finally:
            self._up.clear()
            if self._connection is not None:
                self._connection.lose()
                self._connection = None
        return failure

    def _client(self) -> aiomqtt.Client:
        will = self._will
        client = aiomqtt.Client(
            self.address.host,
            self.address.port,
            username=self.address.user,
            password=self.address.password,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=not self._persistent,
            will=will and aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
            timeout=DEADLINE_S,
            keepalive=KEEPALIVE_S,
            max_inflight_messages=_IN_FLIGHT,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        client.pending_calls_threshold = _PENDING_CALLS
        return client

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Sort what arrives into the inboxes, at once: aiomqtt's own queue has no bound."""
        async for arrived in client.messages:
            message = Message(arrived.topic.value, arrived.payload, arrived.retain)
            for inbox in self._inboxes:
                if arrived.topic.matches(inbox.filter) and not inbox.offer(message):
                    log.warning("%s: reader too slow, %d dropped", inbox.filter, inbox.dropped)

    def _no_broker(self, failure: Exception) -> TransportError:
        if isinstance(failure, aiomqtt.MqttCodeError):
            what = f"the broker at {self.address} refuses {self._client_id}: {failure}"
            return TransportError("broker-refused", what, "check user and password in its URL")
        what = f"no broker at {self.address}: {failure}"
        todo = "start one with `labd serve`, or give the URL of the lab's own"
        return TransportError("no-broker", what, todo)


class _Connection:
    """One connection, whose exchanges end when it does: aiomqtt's own wait out their time."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def lose(self) -> None:
        """End every exchange under way."""
        self._lost.set_result(None)

    async def run(self, exchange: Callable[[aiomqtt.Client], Coroutine[Any, Any, T]]) -> T:
        """Do one exchange.

        Raises:
            MqttError: it failed, or the connection was lost meanwhile.
        """
        task = asyncio.create_task(exchange(self._client))
        try:
            await asyncio.wait({task, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise aiomqtt.MqttError("the connection was lost")
        finally:
            task.cancel()


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first single error in a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _check_granted(topic_filter: str, codes: Sequence[Any]) -> None:
    if any(int(getattr(code, "value", code)) >= _REFUSED for code in codes):
        what = f"the broker refuses a subscription to {topic_filter}"
        raise TransportError("subscribe-refused", what, "check this user's rights on the broker")
