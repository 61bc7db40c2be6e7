"""The Arduino UNO io-manager of EEMBC: relays the DUT's UART, times its timestamp line.

Its firmware (image ``io-manager_1.0.3.hex``) is closed; what is known of it comes from its
help text and from published session logs. It forwards the DUT's text the moment it comes,
prefixed ``[dut]: ``, so a boot prologue arrives by itself and nothing waits in a queue. The
UART to the DUT runs at 9600 baud, always, and is half duplex: a DUT that talks while the
board sends gets a torn command. With the DUT's timestamp line wired to its pin D3 it prints
``m-lap-us-<n>``, its own microsecond counter, between any other two lines.

Opening the port resets an Arduino: its sketch answers a second or two later, what it says
before is torn, and nothing a predecessor left open survives. That is also the way to reset
a board that stopped answering. Whether it waits for a dead DUT as the MLCommons board does
is in no document, so every wait here ends, and a board that hears nobody is reset.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from pydantic import Field

from drivers.base.closing import closed_on_failure
from drivers.base.interfaces import CommandChannel, IoConfig, TimerEdge
from drivers.base.lines import LineReader
from drivers.base.registry import io_manager
from drivers.base.serial_link import Link
from drivers.io_manager.relay import PassthroughChannel
from labd.core.errors import (
    ConfigError,
    DeadlineExceeded,
    InstrumentError,
    LabdBug,
    LabdError,
)
from labd.core.model import Finding, Identity
from labd.protocol.lines import Line, before_ready, quoted
from labd.protocol.relay import PassthroughReply, heard_word, split_relayed
from labd.protocol.replies import BOOTED, COUNTER_MODULUS, reply_text

log = logging.getLogger(__name__)

# ---- pure --------------------------------------------------------------------------------


_LAP_WORD = "m-lap-us-"
_LAP = re.compile(r"m-lap-us-([0-9]{1,10})(?=m-|\s|$)")
_FALLING = re.compile(r"m-timesta?mp-mode-FALLING")  # the firmware leaves the `a` out


class LapLog:
    """The board's own timestamps, sifted out of its lines.

    A performance build of the DUT prints the same words, but behind the DUT's prefix: those
    stay in their lines.
    """

    def __init__(self) -> None:
        self.edges: list[TimerEdge] = []
        self.damaged: list[str] = []

    def sift(self, line: Line) -> Line | None:
        """Take the board's laps out of a line; ``None`` if nothing else was in it."""
        board, prefix, dut = line.text.partition("[dut]:")
        if _LAP_WORD not in board:
            return line
        laps = [int(lap) for lap in _LAP.findall(board)]
        if len(laps) != board.count(_LAP_WORD) or any(lap >= COUNTER_MODULUS for lap in laps):
            self.damaged.append(line.text)
        self.edges += [TimerEdge(lap, line.t_ns) for lap in laps if lap < COUNTER_MODULUS]
        rest = _LAP.sub(" ", board).strip() + prefix + dut
        return Line(rest, line.t_ns) if rest else None

    def clear(self) -> None:
        """Forget them all."""
        self.edges.clear()
        self.damaged.clear()


class LapReader(LineReader):
    """Lines of the board without its laps, which go into a log as they come."""

    def __init__(self, link: Link, laps: LapLog) -> None:
        super().__init__(link)
        self._laps = laps
        self._kept: deque[Line] = deque()
        self._reading = False

    async def line(self) -> Line:
        """The next line that is no lap."""
        while not self._kept:
            self._reading = True
            try:
                self._keep([await super().line()])
            finally:
                self._reading = False
        return self._kept.popleft()

    async def until_quiet(self, quiet_s: float, deadline_s: float) -> list[Line]:
        """See :meth:`LineReader.until_quiet`."""
        self._reading = True
        try:
            self._keep(await super().until_quiet(quiet_s, deadline_s))
        finally:
            self._reading = False
        return self._take_kept()

    def arrived(self) -> list[Line]:
        """See :meth:`LineReader.arrived`."""
        self.look()
        return self._take_kept()

    def look(self) -> None:
        """Log the laps that have arrived, and keep the other lines for whoever reads them.

        Somebody who is reading at this moment logs them himself.
        """
        if not self._reading:
            self._keep(super().arrived())

    def _keep(self, lines: Sequence[Line]) -> None:
        sifted = (self._laps.sift(line) for line in lines)
        self._kept.extend(line for line in sifted if line is not None)

    def _take_kept(self) -> list[Line]:
        lines = list(self._kept)
        self._kept.clear()
        return lines


# ---- the channel -------------------------------------------------------------------------

QUIET_S = 0.1
RESEND_AFTER_S = 1.0
SETTLE_S = 1.5  # answers to questions asked a second apart come a second apart
PROBE_S = 0.5
STUCK = (
    "check the DUT's power, its level shifters and wiring, and that its UART is at 9600 baud; "
    "power-cycle it"
)


class EembcChannel(PassthroughChannel):
    """DUT commands through the board, which also forwards what nobody asked for."""

    def __init__(self, board: EembcIoManager, link: Link, reader: LineReader) -> None:
        super().__init__(link, reader, STUCK, waiting=False)
        self._board = board
        self._overheard: list[Line] = []

    async def expect_boot(self) -> None:
        """Throw away what the DUT said before; its prologue comes by itself."""
        self._in_step = False
        self._forget()

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """Read the prologue, which comes by itself."""
        self._in_step = False
        heard = PassthroughReply(accepted=True)
        try:
            async with self._reader.within(deadline_s, "boot", heard.lines):
                while not (heard.finished and heard_word(BOOTED, heard.lines)):
                    heard.finished = False
                    heard.feed(await self._reader.line())
        except DeadlineExceeded:
            await self.resynchronise(deadline_s)
        self._open_reply, self._in_step = None, True
        return heard.lines

    async def resynchronise(self, deadline_s: float) -> None:
        """Ask for the DUT's name until an answer to that has come whole.

        The board keeps no text back, so that an answer that follows silence belongs to the
        question after it. A board that takes no command is reset, once.
        """
        if self._in_step:
            return
        heard: list[Line] = []
        patience_s = deadline_s + self._board.config.boot_s + PROBE_S
        async with self._reader.within(patience_s, "'dut name'", heard, STUCK):
            if not await self._board.answers():
                await self._board.reset()
            async with self._reader.within(deadline_s, "'dut name'", heard, STUCK):
                await self._ask_until_named(heard)
        self._in_step = True

    def overhear(self, lines: Sequence[Line]) -> None:
        """The DUT's text that came while the board itself was spoken to."""
        self.catch_up(lines)
        self._overheard += lines

    async def _ask_until_named(self, heard: list[Line]) -> None:
        await self._reader.until_quiet(QUIET_S, self._board.config.answer_s)
        tries = 1
        while not await self._hears_name(heard):
            tries += 1
        if tries > 1:  # an answer to an earlier try may still be under way
            await self._reader.until_quiet(SETTLE_S, SETTLE_S * (tries + 1))
        self._forget()

    async def _hears_name(self, heard: list[Line]) -> bool:
        """One question; a prologue, a torn command or an old answer is no answer to it."""
        reply = PassthroughReply()
        try:
            async with self._reader.within(RESEND_AFTER_S, "'dut name'", reply.lines):
                await self._link.write(b"dut name%")
                self._open_reply = reply
                while not reply.finished:
                    reply.feed(await self._reader.line())
        except DeadlineExceeded:
            return False
        finally:
            heard += reply.lines
        return heard_word("m-name-", reply.lines) and not heard_word(BOOTED, reply.lines)

    def _unasked(self) -> list[Line]:
        overheard, self._overheard = self._overheard, []
        return overheard + self._reader.arrived()

    def _forget(self) -> None:
        self._unasked()
        self._open_reply = None


# ---- the board ---------------------------------------------------------------------------

BAUD = 115_200
DUT_BAUD = 9600
CLOSE_S = 0.5
DTR_LOW_S = 0.1
OTHER_NAMES = ("tinyML Enhanced Interface Board", "m-name-dut-")


class EembcIoManagerConfig(IoConfig):
    """An Arduino UNO with EEMBC's io-manager image."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    timestamp_wire: bool = Field(
        default=False, description="the DUT's timestamp line is also wired to the UNO's pin D3"
    )
    boot_s: float = Field(
        5.0, gt=0, le=30, description="longest wait for its sketch after the port opened, seconds"
    )
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @property
    def times_timestamps(self) -> bool:
        """Whether the pin it counts is wired."""
        return self.timestamp_wire


@io_manager(config=EembcIoManagerConfig)
class EembcIoManager:
    """The board and the DUT behind it."""

    tick_s: ClassVar[float] = 1e-6
    clock_tolerance_ppm: ClassVar[float] = 5000.0
    """An UNO R3 runs its processor from a ceramic resonator of ±0.5 %."""

    def __init__(self, config: EembcIoManagerConfig) -> None:
        self.config = config
        self._identity: Identity | None = None
        self._link = Link(config.port, BAUD, "eembc-io-manager")
        self._laps = LapLog()
        self._reader = LapReader(self._link, self._laps)
        self._channel: EembcChannel | None = None
        self._resets = 0

    @property
    def channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        if self._channel is None:
            raise LabdBug("io-closed", "the board's port is not open", where=self._link.where)
        return self._channel

    @property
    def waiting_for_dut(self) -> bool:
        """Never: opening the port resets it, and it forwards the DUT's text at any time."""
        return False

    async def free(self, deadline_s: float) -> Identity:  # noqa: ARG002 - the protocol's
        """Nothing to do: see :attr:`waiting_for_dut`."""
        if self._identity is None:
            raise LabdBug("io-closed", "the board was not opened", where=self._link.where)
        return self._identity

    async def open(self) -> Identity:
        """Take the port, wait until the sketch answers, and set its timer up.

        The DUT may be off, so it is not spoken to. That this is the right board shows in its
        answer to ``tm``, which no other board has.

        Raises:
            InstrumentError: something else answers.
            DeadlineExceeded: nothing answers.
        """
        async with closed_on_failure(self.close):
            await self._link.open()
            self._start_over()
            name = await self._wait_sketch()
            version = await self._own("version")
            await self._set_up_timer()
            self._channel = EembcChannel(self, self._link, self._reader)
        self._identity = Identity(
            "eembc-io-manager",
            name=" ".join(line.text for line in name),
            firmware=" ".join(line.text for line in version),
            simulated=self._link.simulated,
        )
        return self._identity

    async def set_dut_baud(self, baud: int) -> None:
        """Nothing to set: the board speaks to its DUT at 9600 baud.

        Raises:
            ConfigError: another speed is wanted.
        """
        if baud != DUT_BAUD:
            raise ConfigError(
                "io-baud",
                f"{baud} baud to the DUT wanted; the io-manager speaks {DUT_BAUD} only",
                f"give the station a `dut` port of its own for this mode, or, if its firmware "
                f"speaks {DUT_BAUD}, say so in the station's `baud` table",
                self._link.where,
            )

    def timestamps(self) -> list[TimerEdge]:
        """The falls of the DUT's timestamp line since :meth:`clear_intervals`.

        Raises:
            InstrumentError: one of them was damaged on its way.
        """
        self._reader.look()
        if self._laps.damaged:
            raise InstrumentError(
                "timestamp-damaged",
                f"a timestamp of the board cannot be read: {quoted(self._laps.damaged[0])}",
                "measure again; check its USB cable if it happens often",
                self._link.where,
            )
        return list(self._laps.edges)

    async def clear_intervals(self) -> None:
        """Forget the timestamps so far."""
        self._reader.look()
        self._laps.clear()

    async def intervals(self) -> list[tuple[int, int]]:
        """Pairs of timestamps since the last clear, ticks modulo 2^32 (71.6 minutes).

        Raises:
            ConfigError: the timestamp line is not wired to the board.
            InstrumentError: one was damaged, or has no partner.
        """
        if not self.config.times_timestamps:
            raise ConfigError(
                "io-no-timer",
                "the DUT's timestamp line is not wired to this board",
                "wire it to pin D3 and set timestamp_wire, or leave processing_wire out",
                self._link.where,
            )
        ticks = [edge.ticks for edge in self.timestamps()]
        if len(ticks) % 2:
            raise InstrumentError(
                "intervals",
                f"{len(ticks)} timestamps do not pair: one was lost or came twice",
                "check the wire from the DUT's timestamp pin to D3, and measure again",
                self._link.where,
            )
        return list(zip(ticks[::2], ticks[1::2], strict=True))

    async def self_check(self) -> list[Finding]:
        """Whether the board answers, and did so by itself."""
        await self._own("version")
        if not self._resets:
            return []
        text = f"the board had to be reset {self._resets} times to answer"
        return [Finding("io-resets", text, "check its USB cable and supply", serious=False)]

    async def close(self) -> None:
        """Stop its timer and free the port; safe to call twice.

        A timer that cannot be stopped does no harm: the next to open the port resets it.
        """
        self._channel = None
        if not self._link.is_open:
            return
        try:
            if self.config.times_timestamps:
                with suppress(LabdError):
                    await self._own("disable-timer", CLOSE_S)
        finally:
            await self._link.close()

    async def reset(self) -> None:
        """Reset the board, as opening its port does, and set it up again.

        Raises:
            TransportError: the port does not open again.
            DeadlineExceeded: the sketch does not answer.
        """
        self._resets += 1
        log.info("%s: resetting the board", self._link.where.device)
        await self._link.close()
        await asyncio.sleep(DTR_LOW_S)
        await self._link.open()
        await self._wait_sketch()
        await self._set_up_timer()

    async def answers(self) -> bool:
        """Whether the board hears its host now."""
        try:
            await self._own("name", PROBE_S)
        except DeadlineExceeded:
            return False
        return True

    # ---- steps ---------------------------------------------------------------------------

    def _start_over(self) -> None:
        self._laps = LapLog()
        self._reader = LapReader(self._link, self._laps)

    async def _wait_sketch(self) -> list[Line]:
        """Try until it answers, then ask for its name.

        The first answer may be to a predecessor's half command, or to an earlier try.
        """
        await self._reader.until_quiet(QUIET_S, self.config.answer_s)
        todo = "check that it is powered and that the io-manager image is in it"
        async with self._reader.within(self.config.boot_s, "'name'", [], todo):
            while not await self.answers():
                continue
        self._overhear(await self._reader.until_quiet(QUIET_S, self.config.answer_s))
        name = await self._own("name")
        if any(heard_word(other, name) for other in OTHER_NAMES):
            raise self._not_this_board("name", name)
        return name

    async def _set_up_timer(self) -> None:
        """Falling edges only: on changes, its default, each pulse would count twice."""
        lines = await self._own("tm 0")
        if not any(_FALLING.search(line.text) for line in lines):
            raise self._not_this_board("tm 0", lines)
        if self.config.times_timestamps:
            await self._own("enable-timer")
            self._laps.clear()

    def _not_this_board(self, asked: str, heard: Sequence[Line]) -> InstrumentError:
        return InstrumentError(
            "not-this-board",
            f"'{asked}' answered by {reply_text(heard)}",
            "this is no EEMBC io-manager: check the port in stations.toml",
            self._link.where,
        )

    async def _own(self, text: str, deadline_s: float | None = None) -> list[Line]:
        """A command of the board's own: its lines before its ``m-ready``."""
        self._overhear(self._reader.arrived())
        heard: list[Line] = []
        todo = "check its USB cable; unplug it and plug it in again"
        limit_s = deadline_s or self.config.answer_s
        async with self._reader.within(limit_s, f"'{text}'", heard, todo):
            await self._link.write(f"{text}%".encode("ascii"))
            while True:
                line = await self._reader.line()
                board, dut = split_relayed(line.text)
                if dut is not None:
                    self._overhear([line])
                head = before_ready(board)
                said = board if head is None else head
                if said:
                    heard.append(Line(said, line.t_ns))
                if head is not None:
                    return heard

    def _overhear(self, lines: Sequence[Line]) -> None:
        """The DUT may speak at any time; it is not to be missed."""
        if self._channel is not None:
            self._channel.overhear(lines)
