"""The DUT's own serial port."""

from __future__ import annotations

import logging

from pydantic import Field

from drivers.base.closing import close_on_failure
from drivers.base.identity import make_identity
from drivers.base.interfaces import CommandChannel, DriverConfig
from drivers.base.line_reader import LineReader
from drivers.base.registry import register_dut_port
from drivers.base.serial_link import Link
from labd.core.errors import DeadlineExceeded, InfraError, LabdBug
from labd.core.model import Finding, Identity
from labd.protocol.failure_texts import errors_in
from labd.protocol.lines import Line, text_before_ready
from labd.protocol.replies import has_booted, has_name, refuse_restart, refuse_unsolicited

log = logging.getLogger(__name__)

DB_BYTES_DIRECT = 38
"""Payload bytes per ``db`` line that fit the reference firmware's command buffer."""

RESEND_AFTER_S = 1.0
LATE_S = 1.5 * RESEND_AFTER_S  # answers to repeated questions come RESEND_AFTER_S apart
QUIET_S = 0.05


class DirectChannel:
    """Commands over the DUT's own UART: ``text%`` out, lines up to ``m-ready`` in."""

    db_bytes = DB_BYTES_DIRECT

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reader = LineReader(link)
        self._out_of_step = False

    async def run_command(self, text: str, deadline_s: float) -> list[Line]:
        """See :class:`CommandChannel`."""
        if self._out_of_step:
            raise InfraError(
                "out-of-step",
                f"'{text}' was not sent: an earlier command got no answer",
                "resynchronise, or power-cycle the DUT",
                self._link.where,
            )
        refuse_unsolicited(text, self._reader.take_arrived_lines(), self._link.where)
        reply = await self._exchange_command(text, deadline_s)
        refuse_restart(text, reply, self._link.where)
        return reply

    async def expect_boot(self) -> None:
        """Discard what the DUT has sent so far."""
        self._reader.take_arrived_lines()

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """See :class:`CommandChannel`."""
        received: list[Line] = []
        try:
            async with self._reader.answer_deadline(deadline_s, "boot", received):
                while not has_booted(received):
                    await self._read_until_ready(received)
        except DeadlineExceeded:
            await self.resynchronise(deadline_s)
        self._out_of_step = False
        return received

    async def resynchronise(self, deadline_s: float) -> None:
        """Send ``name`` until a complete answer to it has arrived.

        Never a bare ``%``: the reference firmware would compare a null pointer.
        """
        self._out_of_step = True
        received: list[Line] = []
        remedy = "check the DUT's power, its wiring (TX to RX) and the baud rate"
        async with self._reader.answer_deadline(deadline_s, "name", received, remedy):
            await self._reader.read_until_quiet(QUIET_S, deadline_s)
            await self._link.write(b"name%")
            repeats = 0
            while not await self._wait_for_name(received):
                await self._link.write(b"name%")
                repeats += 1
            log.debug("%s: synchronised after %d repeats", self._link.where.device, repeats)
            if repeats:
                await self._reader.read_until_quiet(LATE_S, deadline_s)
        self._out_of_step = False

    async def _wait_for_name(self, received: list[Line]) -> bool:
        """Wait for the answer; an error, a prologue or silence is none."""
        answer: list[Line] = []
        try:
            async with self._reader.answer_deadline(RESEND_AFTER_S, "name", answer):
                while not (has_name(answer) or errors_in(answer)):
                    await self._read_until_ready(answer)
        except DeadlineExceeded:
            return False
        finally:
            received += answer
        return has_name(answer) and not has_booted(answer)

    async def _exchange_command(self, text: str, deadline_s: float) -> list[Line]:
        received: list[Line] = []
        self._out_of_step = True
        remedy = "check the DUT's power, its wiring and the baud rate, or power-cycle it"
        async with self._reader.answer_deadline(deadline_s, f"'{text[:40]}'", received, remedy):
            await self._link.write(text.encode("ascii") + b"%")
            await self._read_until_ready(received)
        self._out_of_step = False
        return received

    async def _read_until_ready(self, received: list[Line]) -> None:
        """Append lines up to ``m-ready``, and the text before it on its line."""
        while True:
            line = await self._reader.read_line()
            head = text_before_ready(line.text)
            if head is None:
                received.append(line)
                continue
            if head:
                received.append(Line(head, line.t_ns))
            return


FIRST_BAUD = 115200
"""Speed until :meth:`SerialDut.set_baud` is called."""


class SerialDutConfig(DriverConfig):
    """The DUT's own serial port."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)


@register_dut_port(config=SerialDutConfig)
class SerialDut:
    """A DUT on a serial port of this host; an unpowered one is silent."""

    def __init__(self, config: SerialDutConfig) -> None:
        self.config = config
        self._link = Link(config.port, FIRST_BAUD, "serial-dut", is_dialogue=True)
        self._channel: DirectChannel | None = None

    async def open(self) -> Identity:
        """Take the port and discard what arrives. The DUT may be off, so it is not identified."""
        async with close_on_failure(self.close):
            await self._link.open()
            await self._link.read_until_quiet(QUIET_S, deadline_s=2.0)
            self._channel = DirectChannel(self._link)
        return make_identity("serial-dut", "", address=self._link.port)

    @property
    def command_channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        if self._channel is None:
            raise LabdBug("dut-closed", "the DUT's port is not open", where=self._link.where)
        return self._channel

    async def set_baud(self, baud: int) -> None:
        """Reopen the port at another speed if it differs."""
        if baud == self._link.baud:
            return
        was_open = self._link.is_open
        await self.close()
        self._link = Link(self.config.port, baud, "serial-dut", is_dialogue=True)
        if was_open:
            await self.open()

    async def self_check(self) -> list[Finding]:
        """Check that the port is alive; a health check runs the DUT itself."""
        await self._link.read_until_quiet(QUIET_S, deadline_s=2.0)
        return []

    async def close(self) -> None:
        """Free the port; safe to call twice."""
        self._channel = None
        await self._link.close()
