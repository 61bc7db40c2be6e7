"""An instrument that speaks SCPI, over a TCP socket or VISA: one exchange at a time.

A resource string chooses the way: ``socket://host:5025`` and ``TCPIP::host::5025::SOCKET``
are TCP sockets, read here directly; every other VISA resource goes through pyvisa in a
thread of its own. An exchange that did not end well leaves the session out of step: a late
answer may still come. The next exchange then begins with a new connection.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from contextlib import suppress
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from drivers.base.serial_link import Link
from drivers.scpi.codec import (
    Block,
    Damage,
    Reply,
    ReplyDecoder,
    Text,
    error_in,
    switches_in,
    values_in,
)
from drivers.scpi.visa import VisaPort
from labd.core.errors import (
    DeadlineExceeded,
    InfraError,
    InstrumentError,
    TransportError,
    Where,
)
from labd.core.model import Identity
from labd.protocol.lines import quoted

MAX_ERRORS = 32
RECONNECT_PAUSE_S = 0.05
SIMULATED_SERIAL = "SIMULATED"
"""The serial number a fake gives itself, so that its results can never pass for real."""

_SOCKET = re.compile(r"TCPIP\d*::([^:]+)::(\d+)::SOCKET", re.IGNORECASE)
_VISA = re.compile(r"(?:USB|TCPIP|GPIB|ASRL|VXI|PXI|PRLGX-\w+)\d*::.+", re.IGNORECASE)


def socket_of(resource: str) -> str:
    """``socket://host:port`` for a resource that is a TCP socket, else empty."""
    found = _SOCKET.fullmatch(resource)
    if found:
        return f"socket://{found[1]}:{found[2]}"
    return resource if resource.startswith("socket://") else ""


def _known_resource(resource: str) -> str:
    if re.fullmatch(r"socket://[^:/]+:\d+", socket_of(resource)) or (
        not socket_of(resource) and _VISA.fullmatch(resource)
    ):
        return resource
    raise ValueError(
        f"{resource!r} is no instrument's address; examples: 'socket://10.0.0.7:5025', "
        "'TCPIP::10.0.0.7::5025::SOCKET', 'TCPIP::10.0.0.7::inst0::INSTR', "
        "'USB::0x0957::0x0F07::MY50000001::INSTR'"
    )


Resource = Annotated[
    str,
    Field(description="the instrument's address: a TCP socket or a VISA resource name"),
    AfterValidator(_known_resource),
]
VisaBackend = Annotated[
    str,
    Field(
        pattern=r"^[^@]*@\w+$",
        description="which VISA opens a resource that is no socket: '@py', '@ivi', 'x.yaml@sim'",
    ),
]


class Port(Protocol):
    """A way to an instrument."""

    @property
    def is_open(self) -> bool:
        """Whether it is held."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no hardware is behind it."""
        ...

    @property
    def leftovers(self) -> str:
        """What came that nobody asked for; empty is well."""
        ...

    async def open(self, deadline_s: float) -> None:
        """Open it."""
        ...

    async def close(self) -> None:
        """Free it; safe to call twice."""
        ...

    async def reset(self, deadline_s: float) -> None:
        """Open it anew: no answer to an earlier question comes after this."""
        ...

    async def write(self, data: bytes, deadline_s: float) -> None:
        """Hand over one message."""
        ...

    async def reply(self, deadline_s: float, indefinite_bytes: int = 0) -> Reply:
        """The next answer."""
        ...


class SocketPort:
    """An instrument's raw TCP socket.

    Args:
        address: ``socket://host:port``.
        device: the driver's name, for error texts.
    """

    def __init__(self, address: str, device: str) -> None:
        self._link = Link(address, 0, device)
        self._decoder = ReplyDecoder()
        self._replies: deque[Reply] = deque()

    @property
    def is_open(self) -> bool:
        """Whether the connection is held."""
        return self._link.is_open

    @property
    def simulated(self) -> bool:
        """A socket does not say what is behind it."""
        return False

    @property
    def leftovers(self) -> str:
        """What came that nobody asked for."""
        for chunk in self._link.take_arrived():
            self._replies.extend(self._decoder.feed(chunk.data))
        if self._replies:
            return repr(self._replies[0])
        return quoted(self._decoder.rest.decode("latin-1")) if self._decoder.rest else ""

    async def open(self, deadline_s: float) -> None:
        """Connect; faults as for :meth:`drivers.base.serial_link.Link.open`."""
        del deadline_s
        await self._link.open()
        self._decoder = ReplyDecoder()
        self._replies.clear()

    async def close(self) -> None:
        """Hang up; safe to call twice."""
        await self._link.close()

    async def reset(self, deadline_s: float) -> None:
        """Connect anew.

        An instrument with a single control connection may need a moment to notice that
        the old one is gone, and hangs up on the new one until then.

        Raises:
            TransportError: it does not take the connection within the deadline.
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
                f"it hangs up on every new connection for {deadline_s:g} s",
                "check that no other program is connected to it; power-cycle it",
                self._link.where,
            ) from exc

    async def write(self, data: bytes, deadline_s: float) -> None:
        """Hand over one message."""
        await self._link.write(data, deadline_s)

    async def reply(self, deadline_s: float, indefinite_bytes: int = 0) -> Reply:
        """The next answer.

        Raises:
            TransportError: the connection is gone.
            DeadlineExceeded: no whole answer came; the error quotes its beginning.
        """
        self._decoder.indefinite_bytes = indefinite_bytes
        try:
            async with asyncio.timeout(deadline_s):
                while not self._replies:
                    chunk = await self._link.read(None)
                    self._replies.extend(self._decoder.feed(chunk.data))
        except TimeoutError as exc:
            heard = quoted(self._decoder.rest.decode("latin-1"))
            raise DeadlineExceeded(
                "no-answer",
                f"no answer within {deadline_s:g} s, heard {heard}",
                "check that the instrument is on, and its display; power-cycle it if it hangs",
                self._link.where,
            ) from exc
        return self._replies.popleft()


class ScpiSession:
    """Questions, answers and the error queue of one instrument.

    Args:
        resource: where it is; see :data:`Resource`.
        visa: the VISA backend for a resource that is no socket.
        device: the driver's name, for error texts.
        answer_s: longest wait for an answer, seconds.
        error_query: what reads the oldest error; empty for an instrument without a queue.
        same_query: a query that is always answered by the same line; asked where there is no
            error queue to ask, so that a command has been obeyed when its call returns.
    """

    def __init__(
        self,
        resource: str,
        visa: str,
        device: str,
        answer_s: float,
        error_query: str = "SYST:ERR?",
        same_query: str = "*IDN?",
    ) -> None:
        self.where = Where(device=f"{device} at {resource}")
        self._answer_s = answer_s
        self._error_query = error_query
        self._same_query = same_query
        self._same_answer = ""
        address = socket_of(resource)
        self._port: Port = (
            SocketPort(address, device) if address else VisaPort(resource, visa, self.where)
        )
        self._one_at_a_time = asyncio.Lock()
        self._in_step = True
        self._loss: TransportError | None = None

    @property
    def is_open(self) -> bool:
        """Whether the instrument is held."""
        return self._port.is_open

    @property
    def simulated(self) -> bool:
        """Whether no hardware is behind it, as far as the way there tells."""
        return self._port.simulated

    async def open(self) -> None:
        """Take the instrument.

        Raises:
            TransportError: it is missing, busy or goes away.
            DeadlineExceeded: the system or VISA does not open it.
        """
        self._in_step, self._loss = True, None
        await self._port.open(self._answer_s)

    async def reconnect(self) -> None:
        """Get a lost or confused connection back, to leave the instrument as it should be.

        Raises:
            TransportError: the instrument is gone.
            DeadlineExceeded: the system or VISA does not open it.
        """
        if self._loss or not self._in_step:
            await self._port.reset(self._answer_s)
            self._in_step, self._loss = True, None

    async def close(self) -> None:
        """Free the instrument; safe to call twice."""
        await self._port.close()

    async def write(self, command: str) -> None:
        """Send a command that has no answer, without asking whether it was understood.

        Raises:
            TransportError: the instrument is gone.
            DeadlineExceeded: it takes nothing.
        """
        async with self._one_at_a_time:
            await self._get_in_step()
            await self._send(command)
            self._in_step = True

    async def ask(self, query: str, deadline_s: float | None = None) -> str:
        """The line that answers a query.

        Raises:
            TransportError: the instrument is gone.
            InstrumentError: what came is no line.
            DeadlineExceeded: nothing came.
        """
        reply = await self._exchange(query, deadline_s or self._answer_s, 0)
        if isinstance(reply, Text):
            return reply.text
        raise self._out_of_step(query, "a block of bytes instead of a line")

    async def ask_bytes(self, query: str, indefinite_bytes: int = 0) -> bytes:
        """The block that answers a query, or a line's bytes where a line answers.

        Args:
            query: what to send.
            indefinite_bytes: length of the data should the block not tell its own.

        Raises:
            TransportError: the instrument is gone.
            InstrumentError: what came is damaged.
            DeadlineExceeded: nothing came.
        """
        reply = await self._exchange(query, self._answer_s, indefinite_bytes)
        return reply.data if isinstance(reply, Block) else reply.text.encode("ascii")

    async def ask_numbers(self, query: str, count: int) -> NDArray[np.float64]:
        """The numbers that answer a query, shape (count,).

        Raises:
            TransportError: the instrument is gone.
            InstrumentError: there are fewer or more, or something else.
            DeadlineExceeded: nothing came.
        """
        answer = await self.ask(query)
        try:
            numbers = values_in(answer.encode("ascii"), "ascii", "big")
        except ValueError:
            numbers = np.empty(0)
        if len(numbers) != count or np.isnan(numbers).any():
            raise self.unlike(f"{count} numbers to '{query}'", quoted(answer))
        return numbers

    async def ask_switches(self, query: str, count: int) -> list[bool]:
        """The states, on or off, that answer a query.

        Raises:
            TransportError: the instrument is gone.
            InstrumentError: there are fewer or more, or something else.
            DeadlineExceeded: nothing came.
        """
        answer = await self.ask(query)
        try:
            states = switches_in(answer)
        except ValueError:
            states = []
        if len(states) != count:
            raise self.unlike(f"{count} states to '{query}'", quoted(answer))
        return states

    def unlike(self, wanted: str, got: str) -> InstrumentError:
        """The fault of an instrument that is not as it was told to be."""
        return InstrumentError(
            "instrument-unlike",
            f"wanted {wanted}, it has {got}",
            "read the instrument's display; power-cycle it",
            self.where,
        )

    async def errors(self) -> list[str]:
        """Empty the instrument's error queue; see that its answers are in step.

        Raises:
            TransportError: the instrument is gone.
            InstrumentError: this is not how an error queue answers.
            DeadlineExceeded: it does not answer.
        """
        if not self._error_query:
            await self._ask_the_same()
            return []
        found: list[str] = []
        while len(found) < MAX_ERRORS:
            answer = await self.ask(self._error_query)
            try:
                error = error_in(answer)
            except ValueError as exc:
                raise self._out_of_step(self._error_query, quoted(answer)) from exc
            if not error:
                break
            found.append(error)
        return found

    async def run(self, *commands: str) -> None:
        """Send commands one by one until one is refused.

        Raises:
            InstrumentError: ``command-refused``, with all that the error queue says.
        """
        for command in commands:
            await self.write(command)
            errors = await self.errors()
            if errors:
                raise InstrumentError(
                    "command-refused",
                    f"'{command}' refused: {'; '.join(errors)}",
                    "check the instrument's model, its options and stations.toml",
                    self.where,
                )

    # ---- inside --------------------------------------------------------------------------

    async def _ask_the_same(self) -> None:
        answer = await self.ask(self._same_query)
        if not answer or answer != (self._same_answer or answer):
            raise self._out_of_step(self._same_query, quoted(answer))
        self._same_answer = answer

    async def _exchange(self, query: str, deadline_s: float, size: int) -> Text | Block:
        async with self._one_at_a_time:
            await self._get_in_step()
            await self._send(query)
            try:
                reply = await self._port.reply(deadline_s, size)
            except DeadlineExceeded as exc:
                what = f"'{query}': {exc.what}"
                raise DeadlineExceeded(exc.code, what, exc.remedy, self.where) from exc
            except TransportError as exc:
                self._loss = exc
                raise
            if isinstance(reply, Damage):
                raise self._out_of_step(query, reply.what)
            self._in_step = True
            return reply

    async def _send(self, command: str) -> None:
        self._in_step = False  # until all is done: a cancellation leaves it so
        try:
            await self._port.write(command.encode("ascii") + b"\n", self._answer_s)
        except TransportError as exc:
            self._loss = exc
            raise

    async def _get_in_step(self) -> None:
        if self._loss:
            raise TransportError(
                self._loss.code, self._loss.what, self._loss.remedy, self.where
            ) from self._loss
        if not self._in_step:
            await self._port.reset(self._answer_s)
            self._in_step = True
        if leftovers := self._port.leftovers:
            raise self._out_of_step("", f"{leftovers}, which nobody asked for")

    def _out_of_step(self, query: str, what: str) -> InstrumentError:
        self._in_step = False
        return InstrumentError(
            "scpi-out-of-step",
            f"'{query}' was answered by {what}" if query else f"there came {what}",
            "check that nothing else talks to the instrument",
            self.where,
        )


def identity_of(kind: str, answer: str, *, simulated: bool) -> Identity:
    """Who an answer to ``*IDN?`` (maker, model, serial number, firmware) says it is."""
    maker, model, serial, firmware = ([*answer.split(","), "", "", ""])[:4]
    return Identity(
        kind,
        f"{maker.strip()} {model.strip()}".strip(),
        serial.strip(),
        firmware.strip(),
        simulated or serial.strip() == SIMULATED_SERIAL,
    )
