"""The command channel through a board that relays the DUT's UART.

It has what the relaying boards share. How a board treats unsolicited text, and how its channel gets
resynchronised, is in the board's driver.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.base.interfaces import RELAY_DAMAGED
from drivers.base.line_reader import LineReader
from drivers.base.serial_link import Link
from labd.core.errors import InfraError
from labd.protocol.lines import Line, format_quote
from labd.protocol.relay import RelayedReply
from labd.protocol.replies import refuse_restart, refuse_unsolicited

DB_BYTES_RELAYED = 26
"""Payload bytes per ``db`` line that fit the boards' command buffers."""


class RelayChannel:
    """Sends one ``dut`` command at a time; base of a board's command channel.

    Args:
        link: the board's port.
        reader: its lines.
        remedy: what to do when no answer comes.
        waiting: a predecessor left a command open.
    """

    db_bytes = DB_BYTES_RELAYED

    def __init__(self, link: Link, reader: LineReader, remedy: str, *, waiting: bool) -> None:
        self._link = link
        self._reader = reader
        self._remedy = remedy
        self._open_reply = RelayedReply(accepted=True) if waiting else None
        self._in_step = False

    @property
    def is_command_open(self) -> bool:
        """Whether a command is open."""
        return self._open_reply is not None

    async def run_command(self, text: str, deadline_s: float) -> list[Line]:
        """See :class:`drivers.base.interfaces.CommandChannel`.

        Raises:
            InfraError: also ``relay-damaged``, if the board's echo shows that it received
                another command; the reply has been read to its end.
        """
        if not self._in_step:
            raise InfraError(
                "out-of-step",
                f"'{text}' was not sent: answers may belong to earlier commands",
                "resynchronise, or power-cycle the DUT",
                self._link.where,
            )
        refuse_unsolicited(text, self._take_unsolicited_lines(), self._link.where)
        self._in_step = False  # until the answer is complete, whatever interrupts this
        reply = await self._exchange_command(text, deadline_s)
        refuse_unsolicited(text, reply.stray, self._link.where)
        refuse_restart(text, reply.lines, self._link.where)
        self._in_step = True
        if reply.echoes_other_than(text):
            raise InfraError(
                RELAY_DAMAGED,
                f"'{text[:40]}' reached the board as {format_quote(reply.echo or '')}",
                "check the board's USB cable and hub",
                self._link.where,
            )
        return reply.lines

    def feed_late_lines(self, lines: Sequence[Line]) -> None:
        """Feed late lines to the open command, which they may end; ignore them otherwise."""
        for line in lines:
            if self._open_reply is not None:
                self._open_reply.feed(line)
                if self._open_reply.finished:
                    self._open_reply = None

    # ---- for a board's channel -----------------------------------------------------------

    def _take_unsolicited_lines(self) -> list[Line]:
        """Return what the DUT has sent since the last command."""
        return self._reader.take_arrived_lines()

    async def _exchange_command(self, text: str, deadline_s: float) -> RelayedReply:
        reply = await self._start_command(text, deadline_s)
        await self._wait_for_reply_end(f"'{text[:40]}'", reply, deadline_s)
        return reply

    async def _start_command(self, text: str, deadline_s: float) -> RelayedReply:
        """Send a command and wait until the board has accepted it."""
        reply = RelayedReply()
        received: list[Line] = []
        async with self._reader.answer_deadline(
            deadline_s, f"'dut {text[:40]}'", received, self._remedy
        ):
            await self._link.write(f"dut {text}%".encode("ascii"))
            self._open_reply = reply
            while not reply.accepted:
                received.append(await self._reader.read_line())
                reply.feed(received[-1])
        return reply

    async def _wait_for_reply_end(self, what: str, reply: RelayedReply, deadline_s: float) -> None:
        """Wait until the DUT has ended the open command."""
        async with self._reader.answer_deadline(deadline_s, what, reply.lines, self._remedy):
            while not reply.finished:
                reply.feed(await self._reader.read_line())
        self._open_reply = None
