"""Connection to a SCPI instrument by a raw TCP socket."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from drivers.base.serial_link import Link
from drivers.scpi.codec import ScpiDecoder, ScpiReply
from labd.core.errors import DeadlineExceeded, InfraError, TransportError
from labd.protocol.lines import quoted

RECONNECT_PAUSE_S = 0.05


class SocketPort:
    """The raw TCP socket of an instrument.

    Args:
        address: ``socket://host:port``.
        device: the driver's name, for error texts.
    """

    simulated = False  # a socket does not show what answers

    def __init__(self, address: str, device: str) -> None:
        self._link = Link(address, 0, device)
        self._decoder = ScpiDecoder()
        self._replies: deque[ScpiReply] = deque()

    @property
    def is_open(self) -> bool:
        """Whether the connection is held."""
        return self._link.is_open

    @property
    def leftovers(self) -> str:
        """A response that no query asked for; normally empty."""
        for chunk in self._link.take_arrived():
            self._replies.extend(self._decoder.feed(chunk.data))
        if self._replies:
            return repr(self._replies[0])
        return quoted(self._decoder.rest.decode("latin-1")) if self._decoder.rest else ""

    async def open(self, deadline_s: float) -> None:
        """Connect; faults as for :meth:`drivers.base.serial_link.Link.open`."""
        del deadline_s
        await self._link.open()
        self._decoder = ScpiDecoder()
        self._replies.clear()

    async def close(self) -> None:
        """Disconnect; safe to call twice."""
        await self._link.close()

    async def reset(self, deadline_s: float) -> None:
        """Connect again.

        An instrument with a single control connection may need a moment to notice that the old
        one is gone; until then it closes the new one at once.

        Raises:
            TransportError: it does not keep a connection before the deadline.
        """
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    with suppress(InfraError):
                        await self._link.close()
                    await self.open(deadline_s)
                    with suppress(TransportError):
                        await self._link.read_until_quiet(RECONNECT_PAUSE_S, deadline_s)
                        return
        except TimeoutError as exc:
            raise TransportError(
                "port-lost",
                f"it closes every new connection for {deadline_s:g} s",
                "check that no other program is connected to it; power-cycle it",
                self._link.where,
            ) from exc

    async def write(self, data: bytes, deadline_s: float) -> None:
        """Send one message."""
        await self._link.write(data, deadline_s)

    async def reply(self, deadline_s: float, indefinite_bytes: int = 0) -> ScpiReply:
        """Return the next response.

        Raises:
            TransportError: the connection is lost.
            DeadlineExceeded: no complete response arrived; the error quotes its beginning.
        """
        self._decoder.indefinite_bytes = indefinite_bytes
        try:
            async with asyncio.timeout(deadline_s):
                while not self._replies:
                    chunk = await self._link.read(None)
                    self._replies.extend(self._decoder.feed(chunk.data))
        except TimeoutError as exc:
            received = quoted(self._decoder.rest.decode("latin-1"))
            raise DeadlineExceeded(
                "no-answer",
                f"no answer within {deadline_s:g} s, received {received}",
                "check that the instrument is on, and its display; power-cycle it if it hangs",
                self._link.where,
            ) from exc
        return self._replies.popleft()
