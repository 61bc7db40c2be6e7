"""Nordic Power Profiler Kit II: measures the DUT's current, and in source mode supplies it.

A serial port on USB that takes opcodes of one byte with arguments, answers only the question
for its metadata, and streams 100 000 samples a second. It tells neither voltage nor time:
the voltage is the one it was set to (source mode) or told (ampere mode).

Undetected loss: the samples carry a counter of six bits and nothing else. By that counter
alone, which is what is left in virtual time, a run of lost or doubled bytes that comes to whole
words and to a multiple of 64 samples is not seen; the host's clock sees it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from drivers.base.acquisition import (
    PumpedAcquisition,
    refuse_left_running,
    refuse_while_acquiring,
)
from drivers.base.closing import closed_on_failure
from drivers.base.interfaces import MonitorConfig
from drivers.base.registry import power_monitor
from drivers.base.serial_link import Link
from drivers.ppk2.calibration import Metadata, current_table, parse_metadata
from drivers.ppk2.stream import RATE_HZ, RULES, Meaning, StreamDecoder
from labd.core.count_monitor import CountMonitor
from labd.core.errors import (
    DeadlineExceeded,
    InstrumentError,
    JobError,
    LabdBug,
    LabdError,
)
from labd.core.host_clock import CRYSTAL_PPM
from labd.core.model import Finding, Identity, StreamFormat, StreamItem, TimeBase
from labd.protocol.lines import quoted

BAUD = 115_200  # means nothing on USB
SUPPLY_MV = range(800, 5001)
LINES = ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7")
MODES = {"ampere": 1, "source": 2}

START = b"\x06"
STOP = b"\x07"
POWER_ON, POWER_OFF = b"\x0c\x01", b"\x0c\x00"
METADATA = b"\x19"
LONGEST_COMMAND = 6
"""Bytes with arguments: so many stops end any command a predecessor left unfinished."""

ASKS = 2
"""How often one answer is asked for; the first may be damaged beyond reading."""

READINGS = 3
"""Of so many answers two have to be the same: they carry no checksum, and one with a digit
lost reads as well as the true one."""

TOLERATED_UNSURE = 500
"""Samples that may be missing unseen: 5 ms, 0.05 % of a window of 10 s."""

QUIET_S = 0.1
STOP_S = 3.0
LINGER_S = 8.0
"""How long the end waits for the host's clock to confirm what had come until then: longer
than a busy host's chunks are put off."""

CLOSE_STEP_S = 3.0

_END = re.compile(rb"END\b")
_PORT_HINT = (
    "check its power; newer firmware has two ports, of which only the first speaks this protocol: "
    "under /dev/serial/by-id use the one whose name ends in if01"
)


def regulator(voltage_mv: int) -> bytes:
    """The command that sets the voltage, big-endian millivolts."""
    return b"\x0d" + voltage_mv.to_bytes(2, "big")


class Ppk2Config(MonitorConfig):
    """A Power Profiler Kit II on USB."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    mode: Literal["source", "ampere"] = Field(
        "source", description="whether it supplies the DUT, or measures in another supply's line"
    )
    lines: tuple[str, ...] = Field(
        ("d0",), description="its logic inputs that are wired; others float and chatter"
    )
    timestamp_line: str = Field("d0", description="the one with the DUT's timestamp pin")
    spike_filter: bool = Field(
        default=True,
        description="smooth the three samples after a change of range, as Nordic's software does",
    )
    answer_s: float = Field(2.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @property
    def supply_range_mv(self) -> tuple[int, int]:
        """What it supplies, and what may come in where another supply feeds the DUT."""
        return SUPPLY_MV[0], SUPPLY_MV[-1]

    @field_validator("lines")
    @classmethod
    def _known(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [line for line in lines if line not in LINES]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: the instrument has {', '.join(LINES)}")
        if len(set(lines)) != len(lines):
            raise ValueError("a line is named twice")
        return tuple(sorted(lines))

    @model_validator(mode="after")
    def _timestamp_is_wired(self) -> Ppk2Config:
        if self.timestamp_line not in self.lines:
            raise ValueError(
                f"timestamp_line {self.timestamp_line} is not one of lines, {', '.join(self.lines)}"
            )
        return self


class Ppk2Acquisition(PumpedAcquisition):
    """One acquisition: a context manager, and the stream it yields."""

    def __init__(self, link: Link, decoder: StreamDecoder, answer_s: float) -> None:
        super().__init__(link.where, answer_s, decoder)
        self._link = link
        self._decoder = decoder
        self._started = self._silent = self._settled = False
        self._bytes = 0

    @property
    def unsure(self) -> int:
        """How many samples may be missing unseen, a multiple of the counter's turn."""
        return self._decoder.unsure

    @property
    def _at_rest(self) -> bool:
        return self._silent or not self._started

    async def _begin(self) -> None:
        self._started = True
        await self._link.write(START)
        await self._until(lambda: self._bytes > 0, "sample")

    async def _pump(self) -> None:
        while True:
            chunk = await self._link.read(None)
            self._bytes += len(chunk.data)
            self._take(self._decoder.feed(chunk.data, chunk.t_ns))

    async def _end(self) -> None:
        """Let the host's clock confirm what came, stop, and wait for silence."""
        came, give_up, before = self.received, time.monotonic() + LINGER_S, -1
        while self._decoder.vouched < came and self._bytes != before:
            before = self._bytes
            if time.monotonic() > give_up:
                break
            await self._pause()
        await self._link.write(STOP)
        give_up, before = time.monotonic() + STOP_S, -1
        while self._bytes != before:
            before = self._bytes
            if time.monotonic() > give_up:
                raise InstrumentError(
                    "does-not-stop",
                    f"it still streams {STOP_S:g} s after it was told to stop",
                    "unplug the instrument and plug it in again",
                    self._link.where,
                )
            await self._pause()
        self._silent = True
        self._take(self._settle("it was stopped"))

    async def _pause(self) -> None:
        """Let the pump run for a while."""
        await asyncio.sleep(QUIET_S)
        if self._fault:
            raise self._fault

    def _settle(self, reason: str) -> Sequence[StreamItem]:
        if self._settled:
            return []
        self._settled = True
        return self._decoder.finish(reason, orderly=self._silent)


@power_monitor(config=Ppk2Config)
class Ppk2:
    """The instrument."""

    def __init__(self, config: Ppk2Config) -> None:
        self.config = config
        self._link = Link(config.port, BAUD, "ppk2")
        self._metadata: Metadata | None = None
        self._voltage_mv: int | None = None
        self._acquisition: Ppk2Acquisition | None = None

    async def open(self) -> Identity:
        """Take the port, end what a predecessor left running, switch the DUT off, ask.

        When that fails the instrument is closed as after use: a predecessor may have left
        the DUT powered.
        """
        await self._link.open()
        self._metadata, self._voltage_mv, self._acquisition = None, None, None
        async with closed_on_failure(self.close):
            await self._link.write(STOP * LONGEST_COMMAND + POWER_OFF)
            await self._link.read_until_quiet(QUIET_S, self.config.answer_s)
            metadata = await self._agreed()
            self._refuse_implausible(metadata)
            self._metadata = metadata
            await self._command(bytes((0x11, MODES[self.config.mode])))
        return self._identity(self._metadata)

    @property
    def format(self) -> StreamFormat:
        """What the stream's numbers mean.

        A line is looked at once a sample period: an edge at index k came within the period
        that ends with sample k or the one that begins with it.
        """
        return StreamFormat(
            sample_rate_hz=float(RATE_HZ),
            edge_uncertainty_s=1.0 / RATE_HZ,
            clock_tolerance_ppm=CRYSTAL_PPM,
            quantity="current",
            voltage_v=self._voltage_mv / 1000 if self._voltage_mv else None,
            timestamp_line=self.config.timestamp_line,
        )

    @property
    def supplies(self) -> bool:
        """The DUT's power goes through it in both modes: it has a switch in the line."""
        return True

    async def supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        In ampere mode another supply must give this voltage; the instrument only closes its
        switch, and the voltage is taken at its word.

        Raises:
            JobError: the instrument cannot supply this voltage.
        """
        if voltage_mv is None:
            await self._command(POWER_OFF)
            return
        if voltage_mv not in SUPPLY_MV:
            what = f"{voltage_mv} mV asked; the PPK2 is for 800 to 5000 mV"
            raise JobError("voltage-range", what, "ask for one in there", self._link.where)
        await self._command(regulator(voltage_mv) + POWER_ON)
        self._voltage_mv = voltage_mv

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> Ppk2Acquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_while_acquiring(self._acquisition, "acquire", self._link.where)
        refuse_left_running(self._acquisition, self._link.where)
        clock = CountMonitor(RULES) if time_base is TimeBase.HOST else None
        decoder = StreamDecoder(self._meaning(), clock)
        self._acquisition = Ppk2Acquisition(self._link, decoder, self.config.answer_s)
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Whether its calibration is whole and what it was, and how late this host has read."""
        refuse_while_acquiring(self._acquisition, "self_check", self._link.where)
        findings = self._calibration(await self._agreed())
        if self._acquisition and (unsure := self._acquisition.unsure):
            text = (
                f"this host read the last acquisition so late that {unsure} samples could be "
                "missing unseen, had they been lost in multiples of 64"
            )
            serious = unsure > TOLERATED_UNSURE
            findings.append(
                Finding("ppk2-late-host", text, "give the host less to do", serious=serious)
            )
        return findings

    def _calibration(self, now: Metadata) -> list[Finding]:
        """What is wrong with the coefficients in use; ``now`` is what it tells at present."""
        used = self._metadata or now
        findings: list[Finding] = []
        if changes := used.differences(now):
            text = f"it was opened with another calibration than it tells now: {'; '.join(changes)}"
            findings.append(Finding("ppk2-calibration-changed", text, "open the station again"))
        if used.missing:
            text = (
                f"the instrument's answer has no line for {', '.join(used.missing)}: what stands "
                "in for it is a guess"
            )
            todo = "read the instrument with Nordic's Power Profiler; update its firmware"
            findings.append(Finding("ppk2-calibration-missing", text, todo))
        if unusable := [key for key in used.typical if key not in used.missing]:
            text = (
                f"the instrument tells no usable {', '.join(unusable)}: Nordic's typical values "
                "stand in, its currents may be off by some percent"
            )
            todo = "calibrate it with Nordic's Power Profiler"
            findings.append(Finding("ppk2-calibration", text, todo, serious=False))
        return findings

    async def close(self) -> None:
        """Switch the DUT off, stop, free the port.

        The DUT's power first: it may be switched while the instrument streams, and must be
        off even if a caller has no patience for the rest. Every step is tried with its own
        deadline; the first fault is raised when all is done.
        """
        if not self._link.is_open:
            return
        problem: LabdError | None = None
        steps: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("switching the DUT off", lambda: self._link.write(POWER_OFF + STOP)),
            ("silence after the stop", self._quiet),
            ("confirming it", self._confirm_off),
        ]
        try:
            if self._acquisition:
                await self._acquisition.abandon()
            for what, step in steps:
                try:
                    async with asyncio.timeout(CLOSE_STEP_S):
                        await step()
                except TimeoutError:
                    problem = problem or self._no_answer(what, CLOSE_STEP_S, b"")
                except LabdError as fault:
                    problem = problem or fault
        finally:
            await self._link.close()
        if problem:
            raise problem

    # ---- steps ---------------------------------------------------------------------------

    async def _quiet(self) -> None:
        await self._link.read_until_quiet(QUIET_S, CLOSE_STEP_S)

    async def _confirm_off(self) -> None:
        """It answers after the last command, so it has taken that."""
        await self._ask()

    async def _command(self, command: bytes) -> None:
        """Send a command; commands have no answer, so one is asked for behind it.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: nothing answers.
        """
        refuse_while_acquiring(self._acquisition, "a command", self._link.where)
        await self._link.write(command)
        await self._ask()

    async def _agreed(self) -> Metadata:
        """The instrument's metadata as two answers tell it; three where a line is missing.

        Raises:
            TransportError: the port went away.
            InstrumentError: no two answers are the same, or they are none of a PPK2.
            DeadlineExceeded: there is no answer.
        """
        answers: list[Metadata] = []
        for _ in range(READINGS):
            answer = await self._ask()
            if not answer.missing and any(not answer.differences(a) for a in answers):
                return answer
            answers.append(answer)
        first, *others = answers
        changes = dict.fromkeys(c for other in others for c in first.differences(other))
        if not changes:
            return first
        raise InstrumentError(
            "metadata-unsteady",
            f"it tells another calibration every time it is asked: {'; '.join(changes)}",
            "try another cable and another port, without a hub; " + _PORT_HINT,
            self._link.where,
        )

    def _refuse_implausible(self, metadata: Metadata) -> None:
        if wrong := metadata.implausible():
            raise InstrumentError(
                "calibration-implausible",
                f"its calibration cannot be true: {'; '.join(wrong)}",
                "calibrate it with Nordic's Power Profiler; its memory may have been overwritten",
                self._link.where,
            )

    async def _ask(self) -> Metadata:
        """What the instrument answers; asked anew where that cannot be read.

        Raises:
            TransportError: the port went away.
            InstrumentError: the answer is none of a PPK2.
            DeadlineExceeded: there is no answer.
        """
        heard = bytearray()
        for _ in range(ASKS):
            self._link.take_arrived()
            heard.clear()
            await self._link.write(METADATA)
            try:
                async with asyncio.timeout(self.config.answer_s):
                    while not _END.search(heard):
                        heard += (await self._link.read(None)).data
            except TimeoutError:
                continue
            metadata = parse_metadata(heard.decode("latin-1"))
            if metadata is not None:
                return metadata
        if _END.search(heard):
            raise InstrumentError(
                "not-a-ppk2",
                f"the answer has no calibration in it: {quoted(heard.decode('ascii', 'replace'))}",
                _PORT_HINT,
                self._link.where,
            )
        raise self._no_answer("its metadata", self.config.answer_s, bytes(heard))

    def _no_answer(self, what: str, deadline_s: float, heard: bytes) -> DeadlineExceeded:
        words = quoted(heard.decode("ascii", "replace"))
        return DeadlineExceeded(
            "no-answer",
            f"{what}: no answer within {deadline_s:g} s, heard {words}",
            _PORT_HINT,
            self._link.where,
        )

    def _identity(self, metadata: Metadata) -> Identity:
        facts = metadata.facts
        mode = "source meter" if self.config.mode == "source" else "ampere meter, voltage as told"
        spikes = "spike filter" if self.config.spike_filter else "no spike filter"
        typical = ", typical calibration values" if metadata.typical else ""
        return Identity(
            "ppk2",
            f"Nordic PPK2, {mode}, {spikes}{typical}",
            firmware=f"HW {facts.get('HW', '?')}, IA {facts.get('IA', '?')}",
            simulated=self._link.simulated,
        )

    def _meaning(self) -> Meaning:
        if self._voltage_mv is None or self._metadata is None:
            raise LabdBug("no-voltage", "acquire before supply", where=self._link.where)
        voltage_v = self._voltage_mv / 1000
        return Meaning(
            current_table(self._metadata.coefficients, voltage_v),
            voltage_v,
            self.config.spike_filter,
            tuple(LINES.index(line) for line in self.config.lines),
            LINES.index(self.config.timestamp_line),
        )
