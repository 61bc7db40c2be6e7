"""Addresses of SCPI instruments, the connection that each needs, and the TCP socket.

``socket://host:5025`` and ``TCPIP::host::5025::SOCKET`` are TCP sockets, read directly; every
other VISA resource is opened by pyvisa.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from contextlib import suppress
from typing import Annotated

from pydantic import AfterValidator, Field

from drivers.base.serial_link import Link
from drivers.scpi.codec import ScpiDecoder, ScpiReply
from drivers.scpi.visa import VisaPort
from labd.core.errors import DeadlineExceeded, InfraError, TransportError, Where
from labd.protocol.lines import format_quote

RECONNECT_PAUSE_S = 0.05

_SOCKET = re.compile(r"TCPIP\d*::([^:]+)::(\d+)::SOCKET", re.IGNORECASE)
_VISA = re.compile(r"(?:USB|TCPIP|GPIB|ASRL|VXI|PXI|PRLGX-\w+)\d*::.+", re.IGNORECASE)


def _socket_address(resource: str) -> str:
    """Return ``socket://host:port`` for a TCP socket, else an empty string."""
    found = _SOCKET.fullmatch(resource)
    if found:
        return f"socket://{found[1]}:{found[2]}"
    return resource if resource.startswith("socket://") else ""


def _check_resource(resource: str) -> str:
    address = _socket_address(resource)
    if re.fullmatch(r"socket://[^:/]+:\d+", address) or (not address and _VISA.fullmatch(resource)):
        return resource
    raise ValueError(
        f"{resource!r} is no instrument's address; examples: 'socket://10.0.0.7:5025', "
        "'TCPIP::10.0.0.7::5025::SOCKET', 'TCPIP::10.0.0.7::inst0::INSTR', "
        "'USB::0x0957::0x0F07::MY50000001::INSTR'"
    )


Resource = Annotated[
    str,
    Field(description="the instrument's address: a TCP socket or a VISA resource name"),
    AfterValidator(_check_resource),
]
VisaBackend = Annotated[
    str,
    Field(
        pattern=r"^[^@]*@\w+$",
        description="VISA library for a resource that is no socket: '@py', '@ivi', 'x.yaml@sim'",
    ),
]


def create_port(resource: str, visa: str, device: str) -> SocketPort | VisaPort:
    """Return the closed port to an instrument; ``device`` names its driver in error texts."""
    address = _socket_address(resource)
    if address:
        return SocketPort(address, device)
    return VisaPort(resource, visa, Where(device=f"{device} at {resource}"))


class SocketPort:
    """The raw TCP socket of an instrument at an address ``socket://host:port``."""

    backend = ""  # no VISA library

    def __init__(self, address: str, device: str) -> None:
        self._link = Link(address, 0, device)
        self._decoder = ScpiDecoder()
        self._replies: deque[ScpiReply] = deque()

    @property
    def is_open(self) -> bool:
        """Whether the connection is held."""
        return self._link.is_open

    @property
    def unrequested_response(self) -> str:
        """A response that no query asked for; normally empty."""
        for chunk in self._link.take_arrived_chunks():
            self._replies.extend(self._decoder.feed(chunk.data))
        if self._replies:
            return repr(self._replies[0])
        return (
            format_quote(self._decoder.incomplete_response.decode("latin-1"))
            if self._decoder.incomplete_response
            else ""
        )

    async def open(self, deadline_s: float) -> None:
        """Connect; faults as for :meth:`drivers.base.serial_link.Link.open`."""
        del deadline_s
        await self._link.open()
        self._decoder = ScpiDecoder()
        self._replies.clear()

    async def close(self) -> None:
        """Disconnect; safe to call twice."""
        await self._link.close()

    async def reconnect(self, deadline_s: float) -> None:
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

    async def read_response(self, deadline_s: float, indefinite_bytes: int = 0) -> ScpiReply:
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
            received = format_quote(self._decoder.incomplete_response.decode("latin-1"))
            raise DeadlineExceeded(
                "no-answer",
                f"no answer within {deadline_s:g} s, received {received}",
                "check that the instrument is on, and its display; power-cycle it if it hangs",
                self._link.where,
            ) from exc
        return self._replies.popleft()
