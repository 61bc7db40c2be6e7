"""Timestamps of the EEMBC io-manager: ``m-lap-us-<n>`` between any other two of its lines."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from drivers.base.interfaces import TimerEdge
from drivers.base.line_reader import LineReader
from drivers.base.serial_link import Link
from labd.protocol.lines import Line
from labd.protocol.words import COUNTER_MODULUS, LAP, RELAYED

_LAP = re.compile(LAP + r"([0-9]{1,10})(?=m-|\s|$)")


class LapLog:
    """The board's own timestamps, taken out of its lines.

    A performance build of the DUT prints the same words, but after the prefix of relayed text:
    those stay in their lines.
    """

    def __init__(self) -> None:
        self.edges: list[TimerEdge] = []
        self.damaged: list[str] = []

    def extract_laps(self, line: Line) -> Line | None:
        """Log the laps in a line and return the rest of it, ``None`` if there is no rest."""
        board, prefix, dut = line.text.partition(RELAYED.rstrip())
        if LAP not in board:
            return line
        laps = [int(lap) for lap in _LAP.findall(board)]
        if len(laps) != board.count(LAP) or any(lap >= COUNTER_MODULUS for lap in laps):
            self.damaged.append(line.text)
        self.edges += [TimerEdge(lap, line.t_ns) for lap in laps if lap < COUNTER_MODULUS]
        rest = _LAP.sub(" ", board).strip() + prefix + dut
        return Line(rest, line.t_ns) if rest else None

    def clear(self) -> None:
        """Forget them all."""
        self.edges.clear()
        self.damaged.clear()


class LapReader(LineReader):
    """Reads the board's lines without its laps, which are logged as they arrive."""

    def __init__(self, link: Link, laps: LapLog) -> None:
        super().__init__(link)
        self._laps = laps
        self._kept: deque[Line] = deque()
        self._reading = False

    async def read_line(self) -> Line:
        """Return the next line that is not a lap."""
        while not self._kept:
            self._reading = True
            try:
                self._keep_other_lines([await super().read_line()])
            finally:
                self._reading = False
        return self._kept.popleft()

    async def read_until_quiet(self, quiet_s: float, deadline_s: float) -> list[Line]:
        """See :meth:`LineReader.read_until_quiet`."""
        self._reading = True
        try:
            self._keep_other_lines(await super().read_until_quiet(quiet_s, deadline_s))
        finally:
            self._reading = False
        return self._take_kept_lines()

    def take_arrived_lines(self) -> list[Line]:
        """See :meth:`LineReader.take_arrived_lines`."""
        self.log_arrived_laps()
        return self._take_kept_lines()

    def log_arrived_laps(self) -> None:
        """Log the laps that have arrived and keep the other lines for the next reader.

        A read in progress logs them itself.
        """
        if not self._reading:
            self._keep_other_lines(super().take_arrived_lines())

    def _keep_other_lines(self, lines: Sequence[Line]) -> None:
        rest = (self._laps.extract_laps(line) for line in lines)
        self._kept.extend(line for line in rest if line is not None)

    def _take_kept_lines(self) -> list[Line]:
        lines = list(self._kept)
        self._kept.clear()
        return lines
