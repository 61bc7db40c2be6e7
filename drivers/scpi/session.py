"""SCPI session: queries, commands and the error queue of one instrument, one exchange at a time.

After an exchange that failed or was cancelled its response may still arrive: the session is out
of step. The next exchange then begins with a new connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from drivers.base.identity import make_identity
from drivers.scpi.codec import (
    ScpiBlock,
    ScpiDamage,
    ScpiText,
    parse_error,
    parse_on_off,
    parse_values,
)
from drivers.scpi.resource import create_port
from labd.core.errors import DeadlineExceeded, InstrumentError, TransportError, Where
from labd.core.model import Identity
from labd.protocol.lines import format_quote

log = logging.getLogger(__name__)

MAX_ERRORS = 32


class ScpiSession:
    """Queries, commands and the error queue of one instrument.

    Every exchange raises :class:`TransportError` if the instrument is missing, busy or lost,
    :class:`DeadlineExceeded` if it does not answer in time, and :class:`InstrumentError` if its
    answer does not have the form that the method returns.

    Args:
        resource: its address, see :data:`drivers.scpi.resource.Resource`.
        visa: VISA library for a resource that is no socket.
        device: the driver's name, for error texts.
        answer_s: longest wait for an answer, seconds.
        error_query: reads the oldest error; empty for an instrument without an error queue.
        identify_query: reads who the instrument is. Without an error queue it is sent after
            every command, so that the command has been executed when its call returns.
    """

    def __init__(
        self,
        resource: str,
        visa: str,
        device: str,
        answer_s: float,
        error_query: str = "SYST:ERR?",
        identify_query: str = "*IDN?",
    ) -> None:
        self.where = Where(device=f"{device} at {resource}")
        self._answer_s = answer_s
        self._error_query = error_query
        self._identify_query = identify_query
        self._identity = ""
        self._port = create_port(resource, visa, device)
        self._one_at_a_time = asyncio.Lock()
        self._in_step = True
        self._loss: TransportError | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is held."""
        return self._port.is_open

    async def open(self) -> None:
        """Connect."""
        self._in_step, self._loss = True, None
        await self._port.open(self._answer_s)

    async def run_with_reconnect(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``, over a new connection if the old one is lost or out of sync.

        Raises:
            InfraError: what connecting, or the second try, raised.
        """
        await self._reconnect_if_lost()
        try:
            await work()
        except TransportError:
            await self._reconnect_if_lost()
            await work()

    async def close(self) -> None:
        """Disconnect; safe to call twice."""
        await self._port.close()

    async def write(self, command: str) -> None:
        """Send a command without reading the error queue."""
        async with self._one_at_a_time:
            await self._ensure_synchronised()
            await self._send_command(command)
            self._in_step = True

    async def ask(self, query: str) -> str:
        """Send a query and return the line that answers it."""
        reply = await self._exchange_query(query)
        if isinstance(reply, ScpiText):
            return reply.text
        raise self._out_of_step_error(query, "a block of bytes instead of a line")

    async def ask_bytes(self, query: str, indefinite_bytes: int = 0) -> bytes:
        """Send a query and return the data of the block, or the bytes of the line, in the answer.

        An indefinite length block has ``indefinite_bytes`` of data.
        """
        reply = await self._exchange_query(query, indefinite_bytes)
        return reply.data if isinstance(reply, ScpiBlock) else reply.text.encode("ascii")

    async def ask_numbers(self, query: str, count: int) -> NDArray[np.float64]:
        """Send a query and return the numbers that answer it, shape (count,)."""
        answer = await self.ask(query)
        try:
            numbers = parse_values(answer.encode("ascii"), "ascii", "big")
        except ValueError:
            numbers = np.empty(0)
        if len(numbers) != count or np.isnan(numbers).any():
            raise self.mismatch_error(f"{count} numbers to '{query}'", format_quote(answer))
        return numbers

    async def ask_states(self, query: str, count: int) -> list[bool]:
        """Send a query and return the on/off states that answer it, ``count`` of them."""
        answer = await self.ask(query)
        try:
            states = parse_on_off(answer)
        except ValueError:
            states = []
        if len(states) != count:
            raise self.mismatch_error(f"{count} states to '{query}'", format_quote(answer))
        return states

    def mismatch_error(self, wanted: str, got: str) -> InstrumentError:
        """Make the error of an instrument whose settings are not those commanded."""
        return InstrumentError(
            "instrument-unlike",
            f"wanted {wanted}, it has {got}",
            "read the instrument's display; power-cycle it",
            self.where,
        )

    async def identify(self, kind: str, expected: str) -> Identity:
        """Read who the instrument of this driver is: maker, model, serial number, firmware.

        Raises:
            InstrumentError: ``other-instrument``; the answer does not contain ``expected``.
        """
        answer = await self.ask(self._identify_query)
        if expected.upper() not in answer.upper():
            raise InstrumentError(
                "other-instrument",
                f"the instrument at this address is {format_quote(answer)}, not {expected!r}",
                "check the address and the instrument's name in stations.toml",
                self.where,
            )
        maker, model, serial, firmware = (part.strip() for part in f"{answer},,,".split(",")[:4])
        name = f"{maker} {model}".strip()
        return make_identity(kind, name, serial, firmware, address=self._port.backend)

    async def read_errors(self) -> list[str]:
        """Read the error queue until it is empty, which confirms that answers are synchronised."""
        if not self._error_query:
            await self._check_identity()
            return []
        found: list[str] = []
        while len(found) < MAX_ERRORS:
            answer = await self.ask(self._error_query)
            try:
                error = parse_error(answer)
            except ValueError as exc:
                raise self._out_of_step_error(self._error_query, format_quote(answer)) from exc
            if not error:
                break
            found.append(error)
        return found

    async def run_commands(self, *commands: str) -> None:
        """Send commands one by one until one is refused.

        Raises:
            InstrumentError: ``command-refused``, with the errors in the queue.
        """
        for command in commands:
            await self.write(command)
            errors = await self.read_errors()
            if errors:
                raise InstrumentError(
                    "command-refused",
                    f"'{command}' refused: {'; '.join(errors)}",
                    "check the instrument's model, its options and stations.toml",
                    self.where,
                )

    # ---- inside --------------------------------------------------------------------------

    async def _reconnect_if_lost(self) -> None:
        if self._loss or not self._in_step:
            log.info("%s: reconnecting", self.where.device)
            await self._port.reconnect(self._answer_s)
            self._in_step, self._loss = True, None

    async def _check_identity(self) -> None:
        answer = await self.ask(self._identify_query)
        if not answer or answer != (self._identity or answer):
            raise self._out_of_step_error(self._identify_query, format_quote(answer))
        self._identity = answer

    async def _exchange_query(self, query: str, size: int = 0) -> ScpiText | ScpiBlock:
        async with self._one_at_a_time:
            await self._ensure_synchronised()
            await self._send_command(query)
            try:
                reply = await self._port.read_response(self._answer_s, size)
            except DeadlineExceeded as exc:
                what = f"'{query}': {exc.what}"
                raise DeadlineExceeded(exc.code, what, exc.remedy, self.where) from exc
            except TransportError as exc:
                self._loss = exc
                raise
            if isinstance(reply, ScpiDamage):
                raise self._out_of_step_error(query, reply.what)
            self._in_step = True
            return reply

    async def _send_command(self, command: str) -> None:
        self._in_step = False  # until the exchange is complete, also if it is cancelled
        try:
            await self._port.write(command.encode("ascii") + b"\n", self._answer_s)
        except TransportError as exc:
            self._loss = exc
            raise

    async def _ensure_synchronised(self) -> None:
        if self._loss:
            raise TransportError(
                self._loss.code, self._loss.what, self._loss.remedy, self.where
            ) from self._loss
        if not self._in_step:
            await self._port.reconnect(self._answer_s)
            self._in_step = True
        if leftovers := self._port.unrequested_response:
            raise self._out_of_step_error("", f"{leftovers}, which no query asked for")

    def _out_of_step_error(self, query: str, what: str) -> InstrumentError:
        self._in_step = False
        return InstrumentError(
            "scpi-out-of-step",
            f"'{query}' was answered by {what}" if query else f"received {what}",
            "check that no other program uses the instrument",
            self.where,
        )
