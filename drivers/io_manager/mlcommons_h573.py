"""The MLCommons interface board (STM32H573I-DK): relays the DUT's UART, times its pins.

``dut CMD%`` is answered by ``m-ready`` from the board and then, prefixed ``[dut]: ``, by
everything the DUT says up to its own ``m-ready``. The board listens to the DUT only while
such a command is open. What the DUT said before waits in a queue and is delivered as the
answer to the next command, ``m-ready`` included, and every later answer is then one command
late. Two things keep this driver in step: it opens a command before the DUT is powered, so
that the prologue is read as it comes, and it proves that answers belong to their commands.

While a command is open the board hears nobody but the DUT, for ever: a driver that died then
leaves a board that does not even tell its name. The DUT's next prologue ends the command.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
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
from labd.core.errors import ConfigError, DeadlineExceeded, InstrumentError, LabdBug
from labd.core.model import Finding, Identity
from labd.protocol.lines import Line, before_ready, quoted
from labd.protocol.relay import PREFIX, PassthroughReply, heard_word
from labd.protocol.replies import BOOTED, COUNTER_MODULUS, reply_text

log = logging.getLogger(__name__)

# ---- pure --------------------------------------------------------------------------------

BOARD_NAME = "tinyML Enhanced Interface Board"

_BAUD = re.compile(r"baud is: (\d+)")
_STARTS = "Duty cycle start times"
_STOPS = "Duty cycle stop times"
_DETECTIONS = "Detection Timestamps (ms)"


def parse_dutycycle(lines: Sequence[str]) -> tuple[list[int], list[int]]:
    """Start and stop ticks from the reply to ``print_dutycycle``.

    Raises:
        ValueError: a part is missing or something in it is no number.
    """
    whole = " ".join(lines)
    _, starts_mark, rest = whole.partition(_STARTS)
    starts, stops_mark, stops = rest.partition(_STOPS)
    if not (starts_mark and stops_mark):
        raise ValueError("start or stop times are missing")
    return _ticks(starts), _ticks(stops)


def _ticks(text: str) -> list[int]:
    _, _, numbers = text.partition("(s)")
    ticks = [int(item) for item in numbers.replace(",", " ").split()]
    beyond = [tick for tick in ticks if not 0 <= tick < COUNTER_MODULUS]
    if beyond:
        raise ValueError(f"invalid tick {beyond[0]}")
    return ticks


def parse_detections(lines: Sequence[str]) -> list[int]:
    """Times of the wake words from the reply to ``print_detections``, ms since the clear.

    Raises:
        ValueError: the heading is missing or something below it is no number.
    """
    _, mark, numbers = " ".join(lines).partition(_DETECTIONS)
    if not mark:
        raise ValueError("the detection times are missing")
    return [int(item) for item in numbers.replace(",", " ").split()]


def pair_intervals(starts: Sequence[int], stops: Sequence[int]) -> list[tuple[int, int]]:
    """Pair starts with stops of a 32-bit counter; each pair is as logged, not unwrapped.

    The board logs the two kinds of edges apart, so a lost edge would shift all later pairs.
    They are merged in time and must alternate; only a stop whose start lies before the
    recording, and a start whose stop had not come yet, may stand alone.

    Raises:
        ValueError: an edge was lost.
    """
    if not starts or not stops:
        if len(starts) + len(stops) > 1:
            raise ValueError(f"{len(starts)} starts but {len(stops)} stops")
        return []
    ahead = (stops[0] - starts[0]) % COUNTER_MODULUS
    if ahead >= COUNTER_MODULUS // 2:
        stops = stops[1:]
    pairs = list(zip(starts, stops, strict=False))
    if len(starts) - len(pairs) > 1 or len(stops) > len(pairs):
        raise ValueError(f"{len(starts)} starts but {len(stops)} stops")
    edges = [edge for pair in pairs for edge in pair] + list(starts[len(pairs) :])
    steps = [(b - a) % COUNTER_MODULUS for a, b in itertools.pairwise(edges)]
    if any(step >= COUNTER_MODULUS // 2 for step in steps) or sum(steps) >= COUNTER_MODULUS:
        raise ValueError("starts and stops do not alternate")
    return pairs


# ---- the channel -------------------------------------------------------------------------

QUIET_S = 0.1
QUEUED_ANSWERS = 5  # more do not fit into the board's queue of 100 characters
STEP_TRIES = 3
RESET_S = 10.0
PROBE_S = 0.5
STUCK = (
    "the board waits for its DUT for ever: check the DUT's power and wiring, power-cycle "
    "it, or reset the interface board"
)


class RelayedChannel(PassthroughChannel):
    """DUT commands through the board, which hears its DUT alone while one is open."""

    def __init__(
        self, board: MlcommonsInterface, link: Link, reader: LineReader, *, waiting: bool
    ) -> None:
        """``waiting``: a predecessor left a command open."""
        super().__init__(link, reader, STUCK, waiting=waiting)
        self._board = board

    async def expect_boot(self) -> None:
        """Have the board listen: open a ``dut name`` that only the prologue will end.

        A DUT that is off answers nothing, so a command that ends at once brought what was
        left in the queue; a DUT that answers every time is on, and has booted already.
        """
        self.catch_up(await self._reader.until_quiet(QUIET_S, self._board.answer_s))
        self._in_step = False
        await self._board.probe()
        for _ in range(QUEUED_ANSWERS):
            if self._open_reply is not None:
                return
            await self._open_command("name", self._board.answer_s)
            self.catch_up(await self._reader.until_quiet(QUIET_S, self._board.answer_s))

    async def wait_boot(self, deadline_s: float) -> list[Line]:
        """Read the prologue that ends the command opened by :meth:`expect_boot`."""
        reply = self._open_reply or PassthroughReply()
        if self.waiting:
            with suppress(DeadlineExceeded):  # it may still come while getting in step
                await self._finish("boot", reply, deadline_s)
                await self._reader.until_quiet(QUIET_S, deadline_s)  # answers to probes
                self._in_step = heard_word(BOOTED, reply.lines)
        await self.resynchronise(deadline_s)  # nothing to do after a prologue
        return reply.lines

    async def resynchronise(self, deadline_s: float) -> None:
        """Prove that answers belong to their commands, or reset the board until they do."""
        if self._in_step:
            return
        patience_s = deadline_s + RESET_S + self._board.reset_command_s
        async with self._reader.within(patience_s, "getting in step", [], STUCK):
            await self._end_open_command(deadline_s)
            self.catch_up(await self._reader.until_quiet(QUIET_S, deadline_s))
            await self._get_in_step(deadline_s)

    def forget(self) -> None:
        """The board hears its host: no command is open after all."""
        self._open_reply = None

    async def _end_open_command(self, deadline_s: float) -> None:
        """Wait until the DUT has ended it, unless the board never got it whole."""
        if self._open_reply is None:
            return
        try:
            await self._finish("the open command", self._open_reply, deadline_s)
        except DeadlineExceeded:
            await self._board.probe()
            if self.waiting and not await self._board.reset_by_command():
                raise

    async def _get_in_step(self, deadline_s: float) -> None:
        for _ in range(STEP_TRIES):
            if await self._proves_step(deadline_s):
                self._in_step = True
                return
        await self._board.reset()
        if not await self._proves_step(deadline_s):
            raise InstrumentError(
                "out-of-step",
                "answers do not belong to their commands, even after a reset of the board",
                "power-cycle the interface board and the DUT",
                self._link.where,
            )
        self._in_step = True

    async def _proves_step(self, deadline_s: float) -> bool:
        """Ask in an order that answers one, two or three commands late cannot match."""
        marks = {"name": "m-name-", "profile": "m-model-"}
        for asked in ("name", "profile", "profile", "name"):
            lines = (await self._transact(asked, deadline_s)).lines
            answered = {text for text, mark in marks.items() if heard_word(mark, lines)}
            if answered != {asked} or heard_word(BOOTED, lines):
                return False
        return True


# ---- the board ---------------------------------------------------------------------------

BAUD = 115_200
NAME_S = 2.0
RESET_COMMAND_S = 15.0
SILENT = (
    "check that its SD card is in: without one it answers nothing; else it waits for its DUT: "
    "power-cycle that, or reset the interface board (see `reset_command`)"
)


class MlcommonsInterfaceConfig(IoConfig):
    """An MLCommons interface board on USB."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")
    reset_command: tuple[str, ...] = Field(
        (),
        description="program and arguments that reset this board by its ST-LINK or its USB "
        "power, run when it hears nobody, e.g. ['st-flash', '--serial', '…', 'reset']",
    )


@io_manager(config=MlcommonsInterfaceConfig)
class MlcommonsInterface:
    """The board and the DUT behind it."""

    tick_s: ClassVar[float] = 1e-5
    clock_tolerance_ppm: ClassVar[float] = 100.0  # its crystal, and a divider 11 ppm off

    def __init__(self, config: MlcommonsInterfaceConfig) -> None:
        self.config = config
        self._link = Link(config.port, BAUD, "mlcommons-interface")
        self._reader = LineReader(self._link)
        self._channel: RelayedChannel | None = None
        self._dut_baud: int | None = None  # as last asked or set
        self._resets = 0

    @property
    def answer_s(self) -> float:
        """Longest wait for an answer of the board's own."""
        return self.config.answer_s

    @property
    def channel(self) -> CommandChannel:
        """The way to the DUT while the port is open."""
        if self._channel is None:
            raise LabdBug("io-closed", "the board's port is not open", where=self._link.where)
        return self._channel

    @property
    def waiting_for_dut(self) -> bool:
        """See :class:`IoManager`."""
        return self._channel is not None and self._channel.waiting

    async def open(self) -> Identity:
        """Take the port, let late text pass, and ask the board's own name.

        The DUT may be off, so it is not spoken to. A board that says nothing may wait for
        its DUT, left so by a predecessor: then :attr:`waiting_for_dut` is true, and nothing
        else works before :meth:`free`. Any other answer than the name is a fault.
        """
        async with closed_on_failure(self.close):
            await self._link.open()
            self._reader = LineReader(self._link)
            await self._reader.until_quiet(QUIET_S, self.answer_s)
            waiting = not await self._tells_name() and not await self.reset_by_command()
            self._dut_baud = None
            self._channel = RelayedChannel(self, self._link, self._reader, waiting=waiting)
        return self._identity("" if waiting else BOARD_NAME)

    def _identity(self, name: str) -> Identity:
        return Identity("mlcommons-interface", name, simulated=self._link.simulated)

    async def free(self, deadline_s: float) -> Identity:
        """Let a DUT that has just been powered end the command the board waits in.

        Raises:
            InstrumentError: what answers then is not this board.
            DeadlineExceeded: the board stays silent.
        """
        if self._channel is None or not self._channel.waiting:
            return self._identity(BOARD_NAME)
        try:
            async with self._reader.within(deadline_s, "end of an old command", [], SILENT):
                while not await self._tells_name():
                    continue
        except DeadlineExceeded:
            if not await self.reset_by_command():
                raise
        self._channel.forget()
        await self._reader.until_quiet(QUIET_S, self.answer_s)  # answers to earlier tries
        return self._identity(BOARD_NAME)

    async def probe(self) -> None:
        """Ask a board that seems to wait for its DUT whether it does.

        One that does answers once it is free; such late answers are thrown away.
        """
        if self._channel is not None and self._channel.waiting and await self._answers_name():
            self._channel.forget()

    async def set_dut_baud(self, baud: int) -> None:
        """Change the DUT's speed only if it differs: each change wears the board's flash.

        A board that waits for its DUT cannot be asked, but keeps the speed it had.
        """
        if self.waiting_for_dut and baud == self._dut_baud:
            return
        if await self._baud() != baud:
            await self._set_baud(baud)

    async def reset(self) -> None:
        """Reset the board, which empties its queues, by setting the speed it has."""
        self._resets += 1
        log.info("%s: resetting the board", self._link.where.device)
        await self._set_baud(await self._baud())

    @property
    def reset_command_s(self) -> float:
        """How long the reset by ``reset_command`` may take, 0 without one."""
        return RESET_COMMAND_S + RESET_S if self.config.reset_command else 0.0

    async def reset_by_command(self) -> bool:
        """Run the operator's ``reset_command``, if there is one, and wait until the board is back.

        Returns:
            whether the board hears its host again; False without a command.

        Raises:
            ConfigError: there is no such program.
            InstrumentError: it failed.
            DeadlineExceeded: it did not end, or the board stays silent.
        """
        if not self.config.reset_command:
            return False
        self._resets += 1
        log.info("%s: running reset_command", self._link.where.device)
        await self._run(self.config.reset_command)
        await self._wait_restart("reset by 'reset_command'")
        return True

    def timestamps(self) -> list[TimerEdge]:
        """None: the DUT's timestamp line is not connected to this board."""
        return []

    async def clear_intervals(self) -> None:
        """Forget the processing intervals logged so far."""
        await self._own("record_detections")

    async def intervals(self) -> list[tuple[int, int]]:
        """Start and stop ticks of the DUT's processing pin since the last clear.

        The board keeps the first 100 edges of each kind. The counter wraps after 11.9 hours.

        Raises:
            InstrumentError: the reply is damaged, or an edge was lost.
        """
        lines = [line.text for line in await self._own("print_dutycycle")]
        try:
            return pair_intervals(*parse_dutycycle(lines))
        except ValueError as exc:
            raise InstrumentError(
                "intervals",
                f"processing intervals cannot be trusted: {exc}; reply {quoted(' / '.join(lines))}",
                "clear the record and measure again",
                self._link.where,
            ) from exc

    async def self_check(self) -> list[Finding]:
        """Whether the board answers and stays in step by itself."""
        await self._own("checkbaud")
        if not self._resets:
            return []
        text = f"the board had to be reset {self._resets} times to get in step with the DUT"
        todo = "power the DUT only after expect_boot; each reset wears the board's flash"
        return [Finding("io-resets", text, todo, serious=False)]

    async def close(self) -> None:
        """Free the port; safe to call twice. The board has nothing to switch off."""
        self._channel = None
        await self._link.close()

    async def _tells_name(self) -> bool:
        """Whether it says its name; no, when it says nothing at all.

        A predecessor's half command may spoil the first try.
        """
        heard: list[Line] = []
        answered = False
        for _ in range(2):
            try:
                await self._exchange("name", heard, min(NAME_S, self.answer_s))
                answered = True
            except DeadlineExceeded:
                if heard:
                    raise
            if heard_word(BOARD_NAME, heard):
                return True
        if not answered:
            return False
        raise InstrumentError(
            "not-this-board",
            f"'name' answered by {reply_text(heard)}",
            "the ST-LINK ports of many boards look alike: check the port in stations.toml",
            self._link.where,
        )

    async def _baud(self) -> int:
        lines = await self._own("checkbaud")
        found = next((m for line in lines if (m := _BAUD.search(line.text))), None)
        if found is None:
            heard = reply_text(lines)
            what, todo = f"'checkbaud' answered by {heard}", "update the board's firmware"
            raise InstrumentError("checkbaud", what, todo, self._link.where)
        self._dut_baud = int(found[1])
        return self._dut_baud

    async def _set_baud(self, baud: int) -> None:
        """Set the DUT's speed and wait until the board is back from the reset that follows."""
        await self._own(f"setbaud {baud}")
        self._dut_baud = baud
        await self._wait_restart("reset after 'setbaud'")

    async def _wait_restart(self, what: str) -> None:
        todo = "check the board's SD card: without it the firmware halts at start"
        async with self._reader.within(RESET_S, what, [], todo):
            while not await self._answers_name():
                continue

    async def _run(self, command: Sequence[str]) -> None:
        """Run a program to its end; one that does not end is killed."""
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
            said = quoted(output.decode("utf-8", "replace").strip())
            what = f"reset_command {command[0]!r} failed with {child.returncode}: {said}"
            raise InstrumentError("io-reset", what, "try it by hand", where)

    async def _answers_name(self) -> bool:
        """One short try at the name; answers to earlier tries pass by."""
        heard: list[Line] = []
        try:
            await self._exchange("name", heard, PROBE_S)
        except DeadlineExceeded:
            return False
        self._pass_on(await self._reader.until_quiet(QUIET_S, self.answer_s))
        return heard_word(BOARD_NAME, heard)

    async def _own(self, text: str) -> list[Line]:
        """A command of the board's own: the lines before its ``m-ready``.

        It is not sent to a board that waits for its DUT: the answer would come when nobody
        expects it any more.
        """
        await self.probe()
        if self.waiting_for_dut:
            what = f"'{text}' was not sent: the board hears its DUT alone"
            raise DeadlineExceeded("io-waiting", what, STUCK, self._link.where)
        heard: list[Line] = []
        await self._exchange(text, heard, self.answer_s)
        return heard

    async def _exchange(self, text: str, heard: list[Line], deadline_s: float) -> None:
        """Send a command of the board's own and hear it out, up to its ``m-ready``."""
        self._pass_on(self._reader.arrived())
        async with self._reader.within(deadline_s, f"'{text}'", heard, STUCK):
            await self._link.write(f"{text}%".encode("ascii"))
            while True:
                line = await self._reader.line()
                head = before_ready(line.text)
                if PREFIX.rstrip() in line.text:
                    self._pass_on([line])
                    continue
                if head is None or head:
                    heard.append(line if head is None else Line(head, line.t_ns))
                if head is not None:
                    return

    def _pass_on(self, lines: Sequence[Line]) -> None:
        """Late text of the DUT ends the command it belongs to, no other."""
        if self._channel is not None:
            self._channel.catch_up(lines)
