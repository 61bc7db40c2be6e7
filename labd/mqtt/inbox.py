"""Bounded queue of a subscription's messages; it counts what it drops."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Self

from labd.aio.line_limit import LineLimit
from labd.core.errors import ConfigError, TransportError

MAX_MESSAGES = 10_000
MAX_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A received message; ``retained`` if it was published before the subscription."""

    topic: str
    payload: bytes
    retained: bool


class Inbox:
    """Asynchronous iterator over the messages of one subscription, for one reader.

    With a slow reader further messages are dropped and counted. MQTT has acknowledged them
    already; but a client repeats a request that got no reply, and a watcher sees the hole in the
    event numbers and requests the missing ones.

    Args:
        topic_filter: of the subscription.
        max_messages: limit of the queue.
        max_bytes: limit of the queued payloads.
    """

    def __init__(
        self, topic_filter: str, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.topic_filter = topic_filter
        self.dropped = 0
        self.drop_lines = LineLimit()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[ReceivedMessage] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._end: BaseException | None = None

    def put_or_drop(self, message: ReceivedMessage) -> bool:
        """Queue a message, or count it as dropped; return whether it was queued."""
        size = len(message.payload)
        if len(self._waiting) >= self._max_messages or self._bytes + size > self._max_bytes:
            self.dropped += 1
            return False
        self._waiting.append(message)
        self._bytes += size
        self._changed.set()
        return True

    def close_with_error(self, why: BaseException) -> None:
        """Raise ``why`` in the reader after the queued messages."""
        self._end = why
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedMessage:
        """Return the next message.

        Raises:
            TransportError: the link is closed and the queue empty.
            ConfigError: the link gave its client id up to another program.
        """
        while not self._waiting:
            if isinstance(self._end, ConfigError):
                raise self._end
            if self._end is not None:
                raise TransportError(
                    "bus-closed", "the link to the broker is closed"
                ) from self._end
            self._changed.clear()
            await self._changed.wait()
        message = self._waiting.popleft()
        self._bytes -= len(message.payload)
        return message
