"""The MQTT link of the daemon and its clients, for any MQTT 3.1.1 broker.

After a connection loss it reconnects with jittered backoff, restores its subscriptions and
calls ``on_connect``, where the owner publishes again what the broker may have lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt

from labd.core.errors import LabdBug, TransportError, first_fault
from labd.mqtt.inbox import Inbox, ReceivedMessage
from labd.wire.broker_url import parse_broker_url

DEADLINE_S = 10.0
KEEPALIVE_S = 15
MAX_PAYLOAD_BYTES = 8_000_000
"""Limit of the embedded broker, which disconnects a client that sends more."""

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 10.0
_RETRY_S = 0.02
_IN_FLIGHT = 200
_PENDING_CALLS = 10_000  # aiomqtt warns above 10; a stream of events has more
_REFUSED = 0x80

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Will:
    """Last will: the broker publishes it, retained, when this client disconnects unexpectedly."""

    topic: str
    payload: bytes


class MqttLink:
    """A connection to the lab's broker.

    ::

        async with MqttLink(url, "labctl-1") as link, link.subscribe("labd/lab/job/+") as inbox:
            await link.publish_message(topic, payload)
            async for message in inbox: ...

    Args:
        url: ``mqtt://[user:password@]host[:port]``.
        client_id: unique on the broker, which disconnects an older client of the same id.
        will: last will.
        persistent: the broker keeps QoS 1 messages for this id while it is disconnected.

    ``lost_ns`` is when the connection was lost, ns since the epoch, while there is none.
    ``before_reconnect`` runs before every connect but the first; it raises ConfigError to give the
    client id up, which ends the link. Callbacks in ``on_connect`` run after every connect, also
    the first, once the subscriptions are restored; they may publish.

    Raises:
        ConfigError: ``url`` is malformed.
    """

    def __init__(
        self, url: str, client_id: str, *, will: Will | None = None, persistent: bool = False
    ) -> None:
        self.address = parse_broker_url(url)
        self.on_connect: list[Callable[[], Awaitable[None]]] = []
        self.before_reconnect: Callable[[], Awaitable[None]] | None = None
        self._client_id = client_id
        self._will = will
        self._persistent = persistent
        self._inboxes: list[Inbox] = []
        self._connection: _Connection | None = None
        self._connected = asyncio.Event()
        self._connects = 0
        self._connecting_task: asyncio.Task[None] | None = None
        self.lost_ns: int | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            TransportError: ``no-broker``: nothing listens there; ``broker-refused``.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connecting_task = asyncio.create_task(
            self._stay_connected(first), name=f"mqtt {self.address}"
        )
        try:
            await asyncio.wait({first, self._connecting_task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._connecting_task.cancel()
            raise
        if self._connecting_task.done():
            self._connecting_task.result()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect; the broker does not publish the last will."""
        keeper = self._connecting_task
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
            if not keeper.cancelled():
                keeper.result()

    @property
    def is_connected(self) -> bool:
        """Whether the link is connected now."""
        return self._connected.is_set()

    async def publish_message(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        qos: int = 1,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Publish a message; return when the broker has acknowledged it (QoS 1).

        Waits for a broker that is away and repeats a message that was not acknowledged, so it
        may arrive twice. A broker may drop a denied topic silently: only a reply proves arrival.

        Raises:
            TransportError: ``no-broker``: not acknowledged within the deadline.
            LabdBug: the payload exceeds :data:`MAX_PAYLOAD_BYTES`.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            what = f"{len(payload)} bytes are too many for {topic}: at most {MAX_PAYLOAD_BYTES}"
            raise LabdBug("payload", what)
        await self._exchange_with_broker(
            lambda client: client.publish(topic, payload, qos=qos, retain=retain), deadline_s
        )

    def add_subscription(self, topic_filter: str) -> Inbox:
        """Subscribe for the life of the link; call it before entering the link.

        Then no message is missed that the broker kept for a persistent client.
        """
        inbox = Inbox(topic_filter)
        self._inboxes.append(inbox)
        return inbox

    @asynccontextmanager
    async def subscribe(
        self, topic_filter: str, *, deadline_s: float = DEADLINE_S
    ) -> AsyncGenerator[Inbox]:
        """Subscribe until the context ends; the broker has confirmed it when the body starts.

        It is restored after a reconnect. Messages published while the link was down are
        missing (events can be requested by number), unless the link is persistent.

        Raises:
            TransportError: the broker is away or refuses the filter.
        """
        inbox = Inbox(topic_filter)
        self._inboxes.append(inbox)
        try:
            codes = await self._exchange_with_broker(
                lambda client: client.subscribe(topic_filter, qos=1), deadline_s
            )
            _check_subscription_granted(topic_filter, codes)
            yield inbox
        finally:
            self._inboxes.remove(inbox)
            await self._unsubscribe(topic_filter)

    # ---- one exchange --------------------------------------------------------------------

    async def _exchange_with_broker(
        self, exchange: Callable[[aiomqtt.Client], Coroutine[Any, Any, T]], deadline_s: float
    ) -> T:
        """Do one exchange with the broker; repeat it on the next connection if this one is lost."""
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    await self._connected.wait()
                    connection = self._connection
                    if connection is not None:
                        with suppress(aiomqtt.MqttError):
                            return await connection.run_exchange(exchange)
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError as error:
            what = f"the broker at {self.address} did not answer within {deadline_s:g} s"
            raise TransportError("no-broker", what, "check that it still runs") from error

    async def _unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe, unless another inbox has the same filter or the connection is lost."""
        connection = self._connection
        wanted = any(inbox.topic_filter == topic_filter for inbox in self._inboxes)
        if connection is not None and not wanted:
            with suppress(aiomqtt.MqttError):
                await connection.run_exchange(lambda client: client.unsubscribe(topic_filter))

    # ---- the connection ------------------------------------------------------------------

    async def _stay_connected(self, first: asyncio.Future[None]) -> None:
        """Stay connected until cancelled; end every inbox with the error that ends this."""
        try:
            await self._reconnect_after_losses(first)
        except BaseException as error:
            for inbox in self._inboxes:
                inbox.close_with_error(error)
            raise

    async def _reconnect_after_losses(self, first: asyncio.Future[None]) -> None:
        """Reconnect after every loss; fail only if the first attempt does."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            connects = self._connects
            failure = await self._connect_and_serve(first)
            if not first.done():
                raise self._connect_error(failure) from failure
            if self._connects > connects:
                backoff_s = _FIRST_BACKOFF_S
                log.warning("connection to the broker at %s lost: %s", self.address, failure)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)

    async def _connect_and_serve(self, first: asyncio.Future[None]) -> Exception:
        """Connect, serve until the connection is lost, and return the reason."""
        failure: Exception = LabdBug("bus", "a connection ended without a reason")
        try:
            if self._connects and self.before_reconnect is not None:
                await self.before_reconnect()
            async with self._create_client() as client, asyncio.TaskGroup() as group:
                self._connection = _Connection(client)
                group.create_task(self._sort_into_inboxes(client), name="mqtt receive")
                for topic_filter in {inbox.topic_filter for inbox in self._inboxes}:
                    codes = await client.subscribe(topic_filter, qos=1)
                    _check_subscription_granted(topic_filter, codes)
                self._connects += 1
                self._connected.set()
                self.lost_ns = None
                for callback in self.on_connect:
                    await callback()
                if not first.done():
                    first.set_result(None)
        except* (aiomqtt.MqttError, TransportError) as errors:
            failure = first_fault(errors)
        finally:
            if self._connected.is_set():
                self.lost_ns = time.time_ns()
            self._connected.clear()
            if self._connection is not None:
                self._connection.fail_exchanges()
                self._connection = None
        return failure

    def _create_client(self) -> aiomqtt.Client:
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

    async def _sort_into_inboxes(self, client: aiomqtt.Client) -> None:
        """Sort messages into the inboxes at once: aiomqtt's own queue is unbounded."""
        async for arrived in client.messages:
            message = ReceivedMessage(arrived.topic.value, arrived.payload, arrived.retain)
            for inbox in self._inboxes:
                if arrived.topic.matches(inbox.topic_filter) and not inbox.put_or_drop(message):
                    _log_drop(inbox)

    def _connect_error(self, failure: Exception) -> TransportError:
        if isinstance(failure, TransportError):
            return failure
        if isinstance(failure, aiomqtt.MqttCodeError):
            what = f"the broker at {self.address} refuses {self._client_id}: {failure}"
            return TransportError("broker-refused", what, "check user and password in its URL")
        what = f"no broker at {self.address}: {failure}"
        remedy = "start one with `labd serve`, or give the URL of the lab's broker"
        return TransportError("no-broker", what, remedy)


class _Connection:
    """One connection. Its exchanges end with it; those of aiomqtt would wait for their timeout."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail_exchanges(self) -> None:
        """End every pending exchange."""
        self._lost.set_result(None)

    async def run_exchange(self, exchange: Callable[[aiomqtt.Client], Coroutine[Any, Any, T]]) -> T:
        """Do one exchange.

        Raises:
            MqttError: it failed, or the connection was lost.
        """
        task = asyncio.create_task(exchange(self._client))
        try:
            await asyncio.wait({task, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise aiomqtt.MqttError("the connection was lost")
        finally:
            task.cancel()


def _log_drop(inbox: Inbox) -> None:
    """Log dropped messages: a line each would fill the disk."""
    if number := inbox.drop_lines.count():
        what = "%s: messages arrive faster than they are read: %d dropped, %d since the start"
        log.warning(what, inbox.topic_filter, number, inbox.dropped)


def _check_subscription_granted(topic_filter: str, codes: Sequence[Any]) -> None:
    if any(int(getattr(code, "value", code)) >= _REFUSED for code in codes):
        what = f"the broker refuses a subscription to {topic_filter}"
        raise TransportError("subscribe-refused", what, "check this user's rights on the broker")
