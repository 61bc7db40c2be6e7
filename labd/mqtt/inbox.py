"""Where a subscription's messages wait to be read: bounded, and honest about what it drops."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Self

from labd.core.errors import TransportError

MAX_MESSAGES = 10_000
MAX_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``retained`` when it was said before the subscription began."""

    topic: str
    payload: bytes
    retained: bool


class Inbox:
    """An asynchronous iterator over the messages of one subscription, for one reader.

    When its reader is too slow, further messages are dropped and counted: MQTT has
    acknowledged them already, so a client repeats a command that got no reply, and a watcher
    sees the hole in the event numbers and asks for the rest.

    Args:
        topic_filter: what was subscribed.
    """

    def __init__(
        self, topic_filter: str, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.filter = topic_filter
        self.dropped = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._end: BaseException | None = None

    def offer(self, message: Message) -> bool:
        """Put a message in, or count it as dropped; whether it went in."""
        size = len(message.payload)
        if len(self._waiting) >= self._max_messages or self._bytes + size > self._max_bytes:
            self.dropped += 1
            return False
        self._waiting.append(message)
        self._bytes += size
        self._news.set()
        return True

    def end(self, why: BaseException) -> None:
        """Let the reader have what is there, then raise ``why``."""
        self._end = why
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message.

        Raises:
            TransportError: the link is closed and nothing is left.
        """
        while not self._waiting:
            if self._end is not None:
                raise TransportError(
                    "bus-closed", "the link to the broker is closed"
                ) from self._end
            self._news.clear()
            await self._news.wait()
        message = self._waiting.popleft()
        self._bytes -= len(message.payload)
        return message
