"""Replies that an I/O manager relays from the DUT, line by line.

The Arduino UNO io-manager and the MLCommons interface board use the same protocol here:
``dut CMD%`` is answered by ``m-dut-passthrough(CMD)`` and ``m-ready`` from the board and then,
prefixed ``[dut]: ``, by everything the DUT sends; of the two ``m-ready`` only the DUT's ends the
command.
"""

from __future__ import annotations

from collections.abc import Sequence

from labd.protocol.lines import Line, before_ready

PREFIX = "[dut]: "

_ECHO = "m-dut-passthrough("


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
