"""EEMBC's io-manager, an Arduino UNO: relays the DUT's UART, times its timestamp line.

Its firmware (image ``io-manager_1.0.3.hex``) is closed; its protocol is known from its help text
and from published session logs. It forwards the DUT's text as it arrives, prefixed ``[dut]: ``, so
a boot prologue arrives by itself and nothing waits in a queue. The UART to the DUT always runs
at 9600 baud and is half duplex: if the DUT sends while the board does, the command is corrupted.
With the DUT's timestamp line wired to its pin D3 the board prints ``m-lap-us-<n>``, its own
microsecond counter, between any other two lines.

Opening the port resets an Arduino: its sketch answers after one to two seconds, the text before
that is corrupted, and no command of a predecessor stays open. A board that stopped answering is
reset in the same way. Whether it waits for a dead DUT, as the MLCommons board does, is not
documented; so every wait here has a deadline, and a board that does not answer is reset.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from pydantic import Field

from drivers.base.closing import close_on_failure
from drivers.base.identity import make_identity
from drivers.base.interfaces import CommandChannel, IoConfig, TimerEdge
from drivers.base.line_reader import LineReader
from drivers.base.registry import register_io_manager
from drivers.base.serial_link import Link
from drivers.io_manager.eembc_laps import LapLog, LapReader
from drivers.io_manager.relay_channel import RelayChannel
from labd.core.errors import (
    ConfigError,
    DeadlineExceeded,
    InstrumentError,
    LabdBug,
    LabdError,
)
from labd.core.model import Finding, Identity
from labd.protocol.lines import Line, format_quote, has_word, text_before_ready
from labd.protocol.relay import RelayedReply, split_relayed
from labd.protocol.replies import format_reply, has_booted
from labd.protocol.words import NAME

log = logging.getLogger(__name__)

# ---- the channel -------------------------------------------------------------------------

QUIET_S = 0.1
RESEND_AFTER_S = 1.0
SETTLE_S = 1.5  # answers to repeated questions come RESEND_AFTER_S apart
PROBE_S = 0.5
DUT_SILENT = (
    "check the DUT's power, its level shifters and wiring, and that its UART is at 9600 baud; "
    "power-cycle it"
)


class EembcChannel(RelayChannel):
    """DUT commands through the board, which also forwards unsolicited text."""

    def __init__(self, board: EembcIoManager, link: Link, reader: LineReader) -> None:
        super().__init__(link, reader, DUT_SILENT, waiting=False)
        self._board = board
        self._between: list[Line] = []  # text of the DUT during commands to the board

    async def expect_boot(self) -> None:
        """Discard what the DUT has sent so far; its prologue arrives by itself."""
        self._in_step = False
        self._discard_replies()

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """Read the prologue, which arrives by itself."""
        self._in_step = False
        prologue = RelayedReply(accepted=True)
        try:
            async with self._reader.answer_deadline(deadline_s, "boot", prologue.lines):
                while not (prologue.finished and has_booted(prologue.lines)):
                    prologue.finished = False
                    prologue.feed(await self._reader.read_line())
        except DeadlineExceeded:
            await self.resynchronise(deadline_s)
        self._open_reply, self._in_step = None, True
        return prologue.lines

    async def resynchronise(self, deadline_s: float) -> None:
        """Ask for the DUT's name until a complete answer has arrived.

        The board holds no text back, so an answer that follows silence belongs to the question
        asked after the silence. A board that takes no command is reset, once.
        """
        if self._in_step:
            return
        received: list[Line] = []
        total_s = deadline_s + self._board.config.boot_s + PROBE_S
        async with self._reader.answer_deadline(total_s, "'dut name'", received, DUT_SILENT):
            if not await self._board.is_answering():
                await self._board.reset()
            async with self._reader.answer_deadline(deadline_s, "'dut name'", received, DUT_SILENT):
                await self._ask_name_until_answered(received)
        self._in_step = True

    def add_unsolicited_lines(self, lines: Sequence[Line]) -> None:
        """Take the DUT's text that arrived during a command to the board."""
        self.feed_late_lines(lines)
        self._between += lines

    async def _ask_name_until_answered(self, received: list[Line]) -> None:
        await self._reader.read_until_quiet(QUIET_S, self._board.config.answer_s)
        tries = 1
        while not await self._ask_name_once(received):
            tries += 1
        if tries > 1:  # an answer to an earlier try may still arrive
            await self._reader.read_until_quiet(SETTLE_S, SETTLE_S * (tries + 1))
        self._discard_replies()

    async def _ask_name_once(self, received: list[Line]) -> bool:
        """Ask once; a prologue, an error or an old answer is no answer."""
        reply = RelayedReply()
        try:
            async with self._reader.answer_deadline(RESEND_AFTER_S, "'dut name'", reply.lines):
                await self._link.write(b"dut name%")
                self._open_reply = reply
                while not reply.finished:
                    reply.feed(await self._reader.read_line())
        except DeadlineExceeded:
            return False
        finally:
            received += reply.lines
        return has_word(NAME, reply.lines) and not has_booted(reply.lines)

    def _take_unsolicited_lines(self) -> list[Line]:
        between, self._between = self._between, []
        return between + self._reader.take_arrived_lines()

    def _discard_replies(self) -> None:
        self._take_unsolicited_lines()
        self._open_reply = None


# ---- the board ---------------------------------------------------------------------------

BAUD = 115_200
DUT_BAUD = 9600
CLOSE_S = 0.5
DTR_LOW_S = 0.1
OTHER_NAMES = ("tinyML Enhanced Interface Board", f"{NAME}dut-")
_FALLING = re.compile(r"m-timesta?mp-mode-FALLING")  # the firmware leaves the `a` out


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
        """Whether pin D3 is wired."""
        return self.timestamp_wire


@register_io_manager(config=EembcIoManagerConfig)
class EembcIoManager:
    """The board and the DUT behind it."""

    tick_s: ClassVar[float] = 1e-6
    clock_tolerance_ppm: ClassVar[float] = 5000.0
    """An UNO R3 runs its processor from a ceramic resonator of ±0.5 %."""

    def __init__(self, config: EembcIoManagerConfig) -> None:
        self.config = config
        self._identity: Identity | None = None
        self._link = Link(config.port, BAUD, "eembc-io-manager", is_dialogue=True)
        self._laps = LapLog()
        self._reader = LapReader(self._link, self._laps)
        self._channel: EembcChannel | None = None
        self._resets = 0

    @property
    def command_channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        if self._channel is None:
            raise LabdBug("io-closed", "the board's port is not open", where=self._link.where)
        return self._channel

    @property
    def waiting_for_dut(self) -> bool:
        """Never: opening the port resets the board, and it forwards text at any time."""
        return False

    async def wait_until_free(self, deadline_s: float) -> Identity:  # noqa: ARG002 - the protocol's
        """Nothing to do: see :attr:`waiting_for_dut`."""
        if self._identity is None:
            raise LabdBug("io-closed", "the board was not opened", where=self._link.where)
        return self._identity

    async def open(self) -> Identity:
        """Take the port, wait until the sketch answers, and set up its timer.

        The DUT may be off, so it is not asked. The board is identified by its answer to ``tm``,
        a command that no other board has.

        Raises:
            InstrumentError: something else answers.
            DeadlineExceeded: nothing answers.
        """
        async with close_on_failure(self.close):
            await self._link.open()
            self._renew_reader()
            name = await self._wait_for_sketch()
            version = await self._run_board_command("version")
            await self._set_up_timer()
            self._channel = EembcChannel(self, self._link, self._reader)
        self._identity = make_identity(
            "eembc-io-manager",
            name=" ".join(line.text for line in name),
            firmware=" ".join(line.text for line in version),
            address=self._link.port,
        )
        return self._identity

    async def set_dut_baud(self, baud: int) -> None:
        """Check the speed: the board always uses 9600 baud.

        Raises:
            ConfigError: another speed is needed.
        """
        if baud != DUT_BAUD:
            raise ConfigError(
                "io-baud",
                f"the DUT's UART needs {baud} baud; the io-manager supports {DUT_BAUD} only",
                f"give the station a separate `dut` port for this mode, or, if its firmware "
                f"uses {DUT_BAUD}, set it in the station's `baud` table",
                self._link.where,
            )

    def logged_timestamps(self) -> list[TimerEdge]:
        """Return the falling edges of the DUT's timestamp line since :meth:`clear_intervals`.

        Raises:
            InstrumentError: one of them was damaged in transmission.
        """
        self._reader.log_arrived_laps()
        if self._laps.damaged:
            raise InstrumentError(
                "timestamp-damaged",
                f"a timestamp of the board cannot be read: {format_quote(self._laps.damaged[0])}",
                "measure again; check its USB cable if it happens often",
                self._link.where,
            )
        return list(self._laps.edges)

    async def clear_intervals(self) -> None:
        """Forget the timestamps so far."""
        self._reader.log_arrived_laps()
        self._laps.clear()

    async def read_intervals(self) -> list[tuple[int, int]]:
        """Return pairs of timestamps since the last clear, in µs modulo 2^32 (71.6 minutes).

        Raises:
            ConfigError: the timestamp line is not wired to the board.
            InstrumentError: one was damaged, or one is unpaired.
        """
        if not self.config.times_timestamps:
            raise ConfigError(
                "io-no-timer",
                "the DUT's timestamp line is not wired to this board",
                "wire it to pin D3 and set timestamp_wire, or leave processing_wire out",
                self._link.where,
            )
        ticks = [edge.ticks for edge in self.logged_timestamps()]
        if len(ticks) % 2:
            raise InstrumentError(
                "intervals",
                f"{len(ticks)} timestamps do not pair: one was lost or duplicated",
                "check the wire from the DUT's timestamp pin to D3, and measure again",
                self._link.where,
            )
        return list(zip(ticks[::2], ticks[1::2], strict=True))

    async def self_check(self) -> list[Finding]:
        """Check that the board answers, and report resets that it needed."""
        await self._run_board_command("version")
        if not self._resets:
            return []
        text = f"the board had to be reset {self._resets} times to answer"
        return [Finding("io-resets", text, "check its USB cable and supply", serious=False)]

    async def close(self) -> None:
        """Stop its timer and free the port; safe to call twice.

        A timer that cannot be stopped does no harm: the next open resets the board.
        """
        self._channel = None
        if not self._link.is_open:
            return
        try:
            if self.config.times_timestamps:
                with suppress(LabdError):
                    await self._run_board_command("disable-timer", CLOSE_S)
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
        await self._wait_for_sketch()
        await self._set_up_timer()

    async def is_answering(self) -> bool:
        """Return whether the board answers its host."""
        try:
            await self._run_board_command("name", PROBE_S)
        except DeadlineExceeded:
            return False
        return True

    # ---- steps ---------------------------------------------------------------------------

    def _renew_reader(self) -> None:
        self._laps = LapLog()
        self._reader = LapReader(self._link, self._laps)

    async def _wait_for_sketch(self) -> list[Line]:
        """Try until it answers, then ask for its name.

        The first answer may belong to a predecessor's half command, or to an earlier try.
        """
        await self._reader.read_until_quiet(QUIET_S, self.config.answer_s)
        remedy = "check that it is powered and has the io-manager image"
        async with self._reader.answer_deadline(self.config.boot_s, "'name'", [], remedy):
            while not await self.is_answering():
                continue
        self._forward_dut_lines(await self._reader.read_until_quiet(QUIET_S, self.config.answer_s))
        name = await self._run_board_command("name")
        if any(has_word(other, name) for other in OTHER_NAMES):
            raise self._wrong_board_error("name", name)
        return name

    async def _set_up_timer(self) -> None:
        """Count falling edges only: its default, both edges, would count each pulse twice."""
        lines = await self._run_board_command("tm 0")
        if not any(_FALLING.search(line.text) for line in lines):
            raise self._wrong_board_error("tm 0", lines)
        if self.config.times_timestamps:
            await self._run_board_command("enable-timer")
            self._laps.clear()

    def _wrong_board_error(self, asked: str, answer: Sequence[Line]) -> InstrumentError:
        return InstrumentError(
            "not-this-board",
            f"'{asked}' was answered by {format_reply(answer)}",
            "this is not an EEMBC io-manager: check the port in stations.toml",
            self._link.where,
        )

    async def _run_board_command(self, text: str, deadline_s: float | None = None) -> list[Line]:
        """Send a command to the board itself and return the lines before ``m-ready``."""
        self._forward_dut_lines(self._reader.take_arrived_lines())
        answer: list[Line] = []
        remedy = "check its USB cable; unplug it and plug it in again"
        limit_s = deadline_s or self.config.answer_s
        async with self._reader.answer_deadline(limit_s, f"'{text}'", answer, remedy):
            await self._link.write(f"{text}%".encode("ascii"))
            while True:
                line = await self._reader.read_line()
                board, dut = split_relayed(line.text)
                if dut is not None:
                    self._forward_dut_lines([line])
                head = text_before_ready(board)
                own = board if head is None else head
                if own:
                    answer.append(Line(own, line.t_ns))
                if head is not None:
                    return answer

    def _forward_dut_lines(self, lines: Sequence[Line]) -> None:
        """Pass the DUT's text, which may come at any time, to its channel."""
        if self._channel is not None:
            self._channel.add_unsolicited_lines(lines)
