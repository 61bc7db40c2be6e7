"""Replies that an I/O manager relays from the DUT, line by line.

The Arduino UNO io-manager and the MLCommons interface board relay alike: ``dut CMD%`` is answered
by ``m-dut-passthrough(CMD)`` and ``m-ready`` from the board and then, prefixed ``[dut]: ``, by
everything the DUT sends. Of the two ``m-ready`` only the DUT's ends the command.
"""

from __future__ import annotations

from labd.protocol.lines import Line, text_before_ready
from labd.protocol.words import RELAY_ECHO, RELAYED


def split_relayed(text: str) -> tuple[str, str | None]:
    """Return the board's part of a line, and the DUT's part if the line has one."""
    board, prefix, dut = text.partition(RELAYED.rstrip())
    return board.strip(), dut.strip() if prefix else None


class RelayedReply:
    """Reply to one ``dut`` command; ``finished`` once it is complete.

    Args:
        accepted: the board is known to have taken the command. Until it has, text of the DUT
            belongs to something earlier: it is kept in ``stray`` and ends nothing.
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
            self._feed_board(board)
        if dut is not None:
            self._feed_dut(dut, line.t_ns)

    def echoes_other_than(self, command: str) -> bool:
        """Return whether the board's echo shows another command than ``command``.

        An echo that is cut short proves nothing: a DUT that got a short command reports that
        itself.
        """
        return self.echo is None or not command.startswith(self.echo)

    def _feed_board(self, text: str) -> None:
        _, mark, rest = text.partition(RELAY_ECHO)
        if mark:
            whole, bracket, text = rest.rpartition(")")
            self.echo = whole if bracket else rest
        self.accepted |= text_before_ready(text) is not None

    def _feed_dut(self, text: str, t_ns: int) -> None:
        head = text_before_ready(text)
        reply = text if head is None else head
        if reply:
            (self.lines if self.accepted else self.stray).append(Line(reply, t_ns))
        if self.accepted:
            self.finished |= head is not None
