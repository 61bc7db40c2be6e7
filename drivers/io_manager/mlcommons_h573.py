"""The MLCommons interface board (STM32H573I-DK): relays the DUT's UART, times its pins.

``dut CMD%`` is answered by ``m-ready`` from the board and then, prefixed ``[dut]: ``, by
everything the DUT sends up to its own ``m-ready``. The board reads the DUT only while such a
command is open. Text that the DUT sent earlier waits in a queue and is delivered as the answer to
the next command, ``m-ready`` included; every later answer then comes one command late. Two
measures keep this driver synchronised: it opens a command before the DUT is powered, so that the
prologue is read as it arrives, and it proves that answers belong to their commands.

While a command is open the board reads nothing but the DUT, without a time limit: a driver that
died then leaves a board that does not answer ``name``. The DUT's next prologue ends the command.
Source: github.com/mlcommons/tiny, benchmark/interface.
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
from drivers.io_manager.relay_channel import RelayChannel
from labd.core.errors import ConfigError, DeadlineExceeded, InstrumentError, LabdBug
from labd.core.host_clock import CRYSTAL_PPM
from labd.core.model import Finding, Identity
from labd.protocol.duty_cycle import TICK_S, pair_intervals, parse_duty_cycle
from labd.protocol.lines import Line, format_quote, has_word, text_before_ready
from labd.protocol.relay import RelayedReply
from labd.protocol.replies import format_reply, has_booted
from labd.protocol.words import MODEL, NAME, RELAYED

log = logging.getLogger(__name__)

# ---- the channel -------------------------------------------------------------------------

QUIET_S = 0.1
QUEUED_ANSWERS = 5  # more do not fit into the board's queue of 100 characters
STEP_TRIES = 3
RESET_S = 10.0
PROBE_S = 0.5
DUT_SILENT = (
    "the board waits for its DUT without a time limit: check the DUT's power and wiring, "
    "power-cycle it, or reset the interface board"
)


class MlcommonsChannel(RelayChannel):
    """DUT commands through the board, which reads nothing but the DUT while one is open."""

    def __init__(
        self, board: MlcommonsInterface, link: Link, reader: LineReader, *, waiting: bool
    ) -> None:
        """``is_command_open``: a predecessor left a command open."""
        super().__init__(link, reader, DUT_SILENT, waiting=waiting)
        self._board = board

    async def expect_boot(self) -> None:
        """Have the board read the DUT: open a ``dut name`` that only the prologue will end.

        A DUT that is off answers nothing, so a command that ends at once was answered by the
        queue; a DUT that answers every time is on and has booted already.
        """
        self.feed_late_lines(await self._reader.read_until_quiet(QUIET_S, self._board.answer_s))
        self._in_step = False
        await self._board.probe_if_waiting()
        for _ in range(QUEUED_ANSWERS):
            if self._open_reply is not None:
                return
            await self._start_command("name", self._board.answer_s)
            self.feed_late_lines(await self._reader.read_until_quiet(QUIET_S, self._board.answer_s))

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """Read the prologue that ends the command opened by :meth:`expect_boot`."""
        reply = self._open_reply or RelayedReply()
        if self.is_command_open:
            with suppress(DeadlineExceeded):  # it may still arrive while resynchronising
                await self._wait_for_reply_end("boot", reply, deadline_s)
                await self._reader.read_until_quiet(QUIET_S, deadline_s)  # answers to probes
                self._in_step = has_booted(reply.lines)
        await self.resynchronise(deadline_s)  # nothing to do after a prologue
        return reply.lines

    async def resynchronise(self, deadline_s: float) -> None:
        """Prove that answers belong to their commands, or reset the board until they do."""
        if self._in_step:
            return
        total_s = deadline_s + RESET_S + self._board.reset_command_s
        async with self._reader.answer_deadline(total_s, "resynchronising", [], DUT_SILENT):
            await self._wait_for_open_command(deadline_s)
            self.feed_late_lines(await self._reader.read_until_quiet(QUIET_S, deadline_s))
            await self._prove_synchronised(deadline_s)

    def forget_open_command(self) -> None:
        """Forget the open command: the board answers its host, so none is open."""
        self._open_reply = None

    async def _wait_for_open_command(self, deadline_s: float) -> None:
        """Wait until the DUT has ended it, unless the board did not receive it complete."""
        if self._open_reply is None:
            return
        try:
            await self._wait_for_reply_end("the open command", self._open_reply, deadline_s)
        except DeadlineExceeded:
            await self._board.probe_if_waiting()
            if self.is_command_open and not await self._board.reset_by_command():
                raise

    async def _prove_synchronised(self, deadline_s: float) -> None:
        for _ in range(STEP_TRIES):
            if await self._replies_match_commands(deadline_s):
                self._in_step = True
                return
        await self._board.reset()
        if not await self._replies_match_commands(deadline_s):
            raise InstrumentError(
                "out-of-step",
                "answers do not belong to their commands, even after a reset of the board",
                "power-cycle the interface board and the DUT",
                self._link.where,
            )
        self._in_step = True

    async def _replies_match_commands(self, deadline_s: float) -> bool:
        """Ask in an order that answers one, two or three commands late cannot match."""
        words = {"name": NAME, "profile": MODEL}
        for asked in ("name", "profile", "profile", "name"):
            lines = (await self._exchange_command(asked, deadline_s)).lines
            answered = {text for text, word in words.items() if has_word(word, lines)}
            if answered != {asked} or has_booted(lines):
                return False
        return True


# ---- the board ---------------------------------------------------------------------------

BOARD_NAME = "tinyML Enhanced Interface Board"
_BAUD = re.compile(r"baud is: (\d+)")

BAUD = 115_200
NAME_S = 2.0
RESET_COMMAND_S = 15.0
SILENT = (
    "check that its SD card is in: without one it answers nothing; else it waits for its DUT: "
    "power-cycle the DUT, or reset the interface board (see `reset_command`)"
)


class MlcommonsInterfaceConfig(IoConfig):
    """An MLCommons interface board on USB."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")
    reset_command: tuple[str, ...] = Field(
        (),
        description="program and arguments that reset this board by its ST-LINK or its USB "
        "power, run when it does not answer, e.g. ['st-flash', '--serial', '…', 'reset']",
    )


@register_io_manager(config=MlcommonsInterfaceConfig)
class MlcommonsInterface:
    """The board and the DUT behind it."""

    tick_s: ClassVar[float] = TICK_S
    clock_tolerance_ppm: ClassVar[float] = CRYSTAL_PPM  # includes a divider 11 ppm off

    def __init__(self, config: MlcommonsInterfaceConfig) -> None:
        self.config = config
        self._link = Link(config.port, BAUD, "mlcommons-interface", is_dialogue=True)
        self._reader = LineReader(self._link)
        self._channel: MlcommonsChannel | None = None
        self._name = ""  # as last answered
        self._dut_baud: int | None = None  # as last read or set
        self._resets = 0

    @property
    def answer_s(self) -> float:
        """Longest wait for the board's own answers."""
        return self.config.answer_s

    @property
    def command_channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        if self._channel is None:
            raise LabdBug("io-closed", "the board's port is not open", where=self._link.where)
        return self._channel

    @property
    def waiting_for_dut(self) -> bool:
        """See :class:`IoManager`."""
        return self._channel is not None and self._channel.is_command_open

    async def open(self) -> Identity:
        """Take the port, discard late text, and ask for the board's name.

        The DUT may be off, so it is not asked. A silent board may be waiting for its DUT because a
        predecessor died: then :attr:`waiting_for_dut` is true, and nothing else works before
        :meth:`wait_until_free`.

        Raises:
            InstrumentError: the answer is not this board's name.
        """
        async with close_on_failure(self.close):
            await self._link.open()
            self._reader = LineReader(self._link)
            await self._reader.read_until_quiet(QUIET_S, self.answer_s)
            self._name = ""
            waiting = not await self._has_expected_name() and not await self.reset_by_command()
            self._dut_baud = None
            self._channel = MlcommonsChannel(self, self._link, self._reader, waiting=waiting)
        return self._make_identity()

    def _make_identity(self) -> Identity:
        return make_identity("mlcommons-interface", self._name, address=self._link.port)

    async def wait_until_free(self, deadline_s: float) -> Identity:
        """Let a DUT that has just been powered end the command that the board waits for.

        Raises:
            InstrumentError: what answers then is not this board.
            DeadlineExceeded: the board stays silent.
        """
        if self._channel is None or not self._channel.is_command_open:
            return self._make_identity()
        try:
            async with self._reader.answer_deadline(
                deadline_s, "end of an old command", [], SILENT
            ):
                while not await self._has_expected_name():
                    continue
        except DeadlineExceeded:
            if not await self.reset_by_command():
                raise
        self._channel.forget_open_command()
        await self._reader.read_until_quiet(QUIET_S, self.answer_s)  # answers to earlier tries
        return self._make_identity()

    async def probe_if_waiting(self) -> None:
        """Ask a board that seems to wait for its DUT for its name.

        If it does wait, it answers once it is free; such late answers are discarded.
        """
        if (
            self._channel is not None
            and self._channel.is_command_open
            and await self._answers_probe()
        ):
            self._channel.forget_open_command()

    async def set_dut_baud(self, baud: int) -> None:
        """Set the DUT's speed if it differs: each change wears the board's flash.

        A board that waits for its DUT cannot be asked; it keeps its speed.
        """
        if self.waiting_for_dut and baud == self._dut_baud:
            return
        if await self._read_dut_baud() != baud:
            await self._write_dut_baud(baud)

    async def reset(self) -> None:
        """Reset the board, which empties its queues, by setting the speed it has."""
        self._resets += 1
        log.info("%s: resetting the board", self._link.where.device)
        await self._write_dut_baud(await self._read_dut_baud())

    @property
    def reset_command_s(self) -> float:
        """Longest duration of the reset by ``reset_command``, 0 without one."""
        return RESET_COMMAND_S + RESET_S if self.config.reset_command else 0.0

    async def reset_by_command(self) -> bool:
        """Run the operator's ``reset_command`` and wait until the board is back.

        Returns:
            whether the board answers its host again; False without a command.

        Raises:
            ConfigError: the program cannot be run.
            InstrumentError: it failed.
            DeadlineExceeded: it did not end, or the board stays silent.
        """
        if not self.config.reset_command:
            return False
        self._resets += 1
        log.info("%s: running reset_command", self._link.where.device)
        await self._run_program(self.config.reset_command)
        await self._wait_for_restart("reset by 'reset_command'")
        return True

    def logged_timestamps(self) -> list[TimerEdge]:
        """None: the DUT's timestamp line is not connected to this board."""
        return []

    async def clear_intervals(self) -> None:
        """Forget the processing intervals logged so far."""
        await self._run_board_command("record_detections")

    async def read_intervals(self) -> list[tuple[int, int]]:
        """Return the start and stop ticks of the DUT's processing pin since the last clear.

        The board keeps the first 100 edges of each kind.

        Raises:
            InstrumentError: the reply is damaged, or an edge was lost.
        """
        lines = [line.text for line in await self._run_board_command("print_dutycycle")]
        try:
            return pair_intervals(*parse_duty_cycle(lines))
        except ValueError as exc:
            raise InstrumentError(
                "intervals",
                f"the processing pin's log is damaged: {exc}; "
                f"reply {format_quote(' / '.join(lines))}",
                "clear the record and measure again",
                self._link.where,
            ) from exc

    async def self_check(self) -> list[Finding]:
        """Check that the board answers, and report resets that it needed."""
        await self._run_board_command("checkbaud")
        if not self._resets:
            return []
        text = f"the board had to be reset {self._resets} times to resynchronise with the DUT"
        remedy = "power the DUT only after expect_boot; each reset wears the board's flash"
        return [Finding("io-resets", text, remedy, serious=False)]

    async def close(self) -> None:
        """Free the port; safe to call twice. The board has nothing to switch off."""
        self._channel = None
        await self._link.close()

    async def _has_expected_name(self) -> bool:
        """Return whether the board reports its name; false if it is silent.

        A predecessor's half command may corrupt the first try.
        """
        received: list[Line] = []
        answered = False
        for _ in range(2):
            try:
                await self._exchange_board_command("name", received, min(NAME_S, self.answer_s))
                answered = True
            except DeadlineExceeded:
                if received:
                    raise
            if self._keep_name(received):
                return True
        if not answered:
            return False
        raise InstrumentError(
            "not-this-board",
            f"'name' was answered by {format_reply(received)}",
            "the ST-LINK ports of many boards look alike: check the port in stations.toml",
            self._link.where,
        )

    async def _read_dut_baud(self) -> int:
        lines = await self._run_board_command("checkbaud")
        found = next((m for line in lines if (m := _BAUD.search(line.text))), None)
        if found is None:
            what = f"'checkbaud' was answered by {format_reply(lines)}"
            remedy = "update the board's firmware"
            raise InstrumentError("checkbaud", what, remedy, self._link.where)
        self._dut_baud = int(found[1])
        return self._dut_baud

    async def _write_dut_baud(self, baud: int) -> None:
        """Set the DUT's speed and wait until the board is back from the reset that follows."""
        await self._run_board_command(f"setbaud {baud}")
        self._dut_baud = baud
        await self._wait_for_restart("reset after 'setbaud'")

    async def _wait_for_restart(self, what: str) -> None:
        remedy = "check the board's SD card: without it the firmware halts at start"
        async with self._reader.answer_deadline(RESET_S, what, [], remedy):
            while not await self._answers_probe():
                continue

    async def _run_program(self, command: Sequence[str]) -> None:
        """Run a program to its end; kill it after RESET_COMMAND_S."""
        where = self._link.where
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as exc:
            what = f"reset_command {command[0]!r} cannot be run: {exc.strerror}"
            raise ConfigError("io-reset", what, "correct it in stations.toml", where) from exc
        try:
            async with asyncio.timeout(RESET_COMMAND_S):
                output, _ = await child.communicate()
        except TimeoutError as exc:
            what = f"reset_command {command[0]!r} did not end within {RESET_COMMAND_S:g} s"
            raise DeadlineExceeded("io-reset", what, "try it by hand", where) from exc
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            text = format_quote(output.decode("utf-8", "replace").strip())
            what = f"reset_command {command[0]!r} failed with {child.returncode}: {text}"
            raise InstrumentError("io-reset", what, "try it by hand", where)

    async def _answers_probe(self) -> bool:
        """Ask for the name once, briefly; discard answers to earlier tries."""
        received: list[Line] = []
        try:
            await self._exchange_board_command("name", received, PROBE_S)
        except DeadlineExceeded:
            return False
        self._forward_dut_lines(await self._reader.read_until_quiet(QUIET_S, self.answer_s))
        return self._keep_name(received)

    def _keep_name(self, received: list[Line]) -> bool:
        """Keep the board's name for its identity; return whether the lines contain it."""
        named = [line.text for line in received if BOARD_NAME in line.text]
        self._name = named[0] if named else self._name
        return bool(named)

    async def _run_board_command(self, text: str) -> list[Line]:
        """Send a command to the board itself and return the lines before its ``m-ready``.

        It is not sent to a board that waits for its DUT: the answer would come too late.
        """
        await self.probe_if_waiting()
        if self.waiting_for_dut:
            what = f"'{text}' was not sent: the board waits for its DUT"
            raise DeadlineExceeded("io-waiting", what, DUT_SILENT, self._link.where)
        received: list[Line] = []
        await self._exchange_board_command(text, received, self.answer_s)
        return received

    async def _exchange_board_command(
        self, text: str, received: list[Line], deadline_s: float
    ) -> None:
        """Send a command to the board itself and append the lines up to its ``m-ready``."""
        self._forward_dut_lines(self._reader.take_arrived_lines())
        async with self._reader.answer_deadline(deadline_s, f"'{text}'", received, DUT_SILENT):
            await self._link.write(f"{text}%".encode("ascii"))
            while True:
                line = await self._reader.read_line()
                head = text_before_ready(line.text)
                if RELAYED.rstrip() in line.text:
                    self._forward_dut_lines([line])
                    continue
                if head is None or head:
                    received.append(line if head is None else Line(head, line.t_ns))
                if head is not None:
                    return

    def _forward_dut_lines(self, lines: Sequence[Line]) -> None:
        """Pass late text of the DUT to the command that it belongs to."""
        if self._channel is not None:
            self._channel.feed_late_lines(lines)
