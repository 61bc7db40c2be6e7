"""DUT commands through a board that relays its UART: what the relaying boards share.

The Arduino UNO io-manager and the MLCommons interface board speak the same words here.
``dut CMD%`` is answered by ``m-dut-passthrough(CMD)`` and ``m-ready`` from the board and then,
prefixed ``[dut]: ``, by everything the DUT says; of the two ``m-ready`` only the DUT's ends the
command. How a board behaves around that (what it does with text nobody asked for, how it gets
back in step) is its driver's own business.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.interfaces import Line
from drivers.link import LineReader, Link, before_ready, quoted
from labd.core.errors import InfraError

PREFIX = "[dut]: "
DB_BYTES_RELAYED = 26
BOOTED = "m-init-done"
RELAY_DAMAGED = "relay-damaged"

_ECHO = "m-dut-passthrough("

# ---- pure --------------------------------------------------------------------------------


def split_relayed(text: str) -> tuple[str, str | None]:
    """A line's two speakers: the board's text, and the DUT's if there is any of it."""
    board, prefix, dut = text.partition(PREFIX.rstrip())
    return board.strip(), dut.strip() if prefix else None


class PassthroughReply:
    """The answer to one ``dut`` command, line by line; ``finished`` once it is whole.

    Args:
        accepted: the board is known to have taken the command. Until it has, what the DUT
            says belongs to something earlier: it is kept in ``stray`` and ends nothing.
    """

    def __init__(self, *, accepted: bool = False) -> None:
        self.accepted = accepted
        self.finished = False
        self.lines: list[Line] = []
        self.stray: list[Line] = []
        self.echo: str | None = None

    def feed(self, line: Line) -> None:
        """Take the next line from the board."""
        board, dut = split_relayed(line.text)
        if board:
            self._hear_board(board)
        if dut is not None:
            self._hear_dut(dut, line.t_ns)

    def contradicts(self, command: str) -> bool:
        """Whether the board took something else than ``command``, as far as it tells.

        An echo that is cut short proves nothing: the DUT would have got a short command, and
        says so itself.
        """
        return self.echo is None or not command.startswith(self.echo)

    def _hear_board(self, text: str) -> None:
        _, mark, rest = text.partition(_ECHO)
        if mark:
            whole, bracket, text = rest.rpartition(")")
            self.echo = whole if bracket else rest
        self.accepted |= before_ready(text) is not None

    def _hear_dut(self, text: str, t_ns: int) -> None:
        head = before_ready(text)
        said = text if head is None else head
        if said:
            (self.lines if self.accepted else self.stray).append(Line(said, t_ns))
        if self.accepted:
            self.finished |= head is not None


def heard_word(word: str, lines: Sequence[Line]) -> bool:
    """Whether ``word`` stands anywhere in these lines."""
    return any(word in line.text for line in lines)


def reply_text(lines: Sequence[Line]) -> str:
    """Lines as an error message quotes them."""
    return quoted(" / ".join(line.text for line in lines))


# ---- the channel -------------------------------------------------------------------------


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
        """See :class:`drivers.interfaces.CommandChannel`.

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
