"""The command channel through a board that relays the DUT's UART.

What the relaying boards share; how a board treats unsolicited text and how it gets back in
step is its driver's business.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.base.interfaces import RELAY_DAMAGED
from drivers.base.lines import LineReader
from drivers.base.serial_link import Link
from labd.core.errors import InfraError
from labd.protocol.lines import Line, quoted
from labd.protocol.relay import PassthroughReply, heard_word
from labd.protocol.replies import BOOTED, reply_text

DB_BYTES_RELAYED = 26
"""Payload bytes per ``db`` line that the boards' command buffers hold."""


class PassthroughChannel:
    """One ``dut`` command at a time; what a board's driver builds its channel on.

    Args:
        link: the board's port.
        reader: its lines.
        stuck: what to do when no answer comes.
        waiting: a predecessor left a command open.
    """

    db_bytes = DB_BYTES_RELAYED

    def __init__(self, link: Link, reader: LineReader, stuck: str, *, waiting: bool) -> None:
        self._link = link
        self._reader = reader
        self._stuck = stuck
        self._open_reply = PassthroughReply(accepted=True) if waiting else None
        self._in_step = False

    @property
    def waiting(self) -> bool:
        """Whether a command is open."""
        return self._open_reply is not None

    async def command(self, text: str, deadline_s: float) -> list[Line]:
        """See :class:`drivers.base.interfaces.CommandChannel`.

        Raises:
            InfraError: also ``relay-damaged``, when the board's echo shows that it took
                another command than was sent; the reply has been heard out.
        """
        if not self._in_step:
            raise InfraError(
                "out-of-step",
                f"'{text}' was not sent: answers may belong to earlier commands",
                "resynchronise, or power-cycle the DUT",
                self._link.where,
            )
        self._refuse_restart(text, self._unasked())
        self._in_step = False  # until the answer is whole, whatever interrupts this
        reply = await self._transact(text, deadline_s)
        self._refuse_restart(text, [*reply.stray, *reply.lines])
        self._in_step = True
        if reply.contradicts(text):
            raise InfraError(
                RELAY_DAMAGED,
                f"'{text[:40]}' reached the board as {quoted(reply.echo or '')}",
                "check the board's USB cable and hub",
                self._link.where,
            )
        return reply.lines

    def catch_up(self, lines: Sequence[Line]) -> None:
        """Late lines may end the command that is still open; nothing else comes of them."""
        for line in lines:
            if self._open_reply is not None:
                self._open_reply.feed(line)
                if self._open_reply.finished:
                    self._open_reply = None

    # ---- for a board's channel -----------------------------------------------------------

    def _unasked(self) -> list[Line]:
        """What the DUT was heard to say since the last command, without being asked."""
        return self._reader.arrived()

    async def _transact(self, text: str, deadline_s: float) -> PassthroughReply:
        reply = await self._open_command(text, deadline_s)
        await self._finish(f"'{text[:40]}'", reply, deadline_s)
        return reply

    async def _open_command(self, text: str, deadline_s: float) -> PassthroughReply:
        """Send a command and wait until the board has taken it."""
        reply = PassthroughReply()
        heard: list[Line] = []
        async with self._reader.within(deadline_s, f"'dut {text[:40]}'", heard, self._stuck):
            await self._link.write(f"dut {text}%".encode("ascii"))
            self._open_reply = reply
            while not reply.accepted:
                heard.append(await self._reader.line())
                reply.feed(heard[-1])
        return reply

    async def _finish(self, what: str, reply: PassthroughReply, deadline_s: float) -> None:
        """Wait until the DUT has ended the open command."""
        async with self._reader.within(deadline_s, what, reply.lines, self._stuck):
            while not reply.finished:
                reply.feed(await self._reader.line())
        self._open_reply = None

    def _refuse_restart(self, text: str, lines: Sequence[Line]) -> None:
        if heard_word(BOOTED, lines):
            raise InfraError(
                "dut-restarted",
                f"the DUT restarted by itself around '{text[:40]}': its input is gone; "
                f"heard {reply_text(lines)}",
                "check its supply; a crash if every station sees it",
                self._link.where,
            )
