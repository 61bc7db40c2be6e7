"""Nordic Power Profiler Kit II: measures the DUT's current, and in source mode supplies it.

A serial port on USB that takes opcodes of one byte with arguments, answers only the request
for its metadata, and streams 100 000 samples per second. It reports neither voltage nor time:
the voltage is the one that was set (source mode) or stated (ampere mode).

Undetected loss: the samples carry a counter of six bits and nothing else. That counter alone,
which is all there is in virtual time, does not show lost or doubled bytes that make whole words
and a multiple of 64 samples; the host's clock does.
"""

from __future__ import annotations

import asyncio
import re

from drivers.base.acquisition import refuse_left_running, refuse_while_acquiring
from drivers.base.closing import close_in_steps, close_on_failure
from drivers.base.identity import make_identity
from drivers.base.registry import register_power_monitor
from drivers.base.serial_link import Link
from drivers.ppk2.acquisition import QUIET_S, STOP, STOP_S, Ppk2Acquisition
from drivers.ppk2.calibration import Ppk2Metadata, current_table, parse_metadata
from drivers.ppk2.config import LINES, SUPPLY_MV, Ppk2Config
from drivers.ppk2.converter import WordMeaning
from drivers.ppk2.stream import RATE_HZ, RULES, StreamDecoder
from labd.core.count_monitor import CountMonitor
from labd.core.errors import DeadlineExceeded, InstrumentError, JobError, LabdBug
from labd.core.host_clock import CRYSTAL_PPM
from labd.core.model import Finding, Identity, StreamFormat, TimeBase
from labd.protocol.lines import format_quote

BAUD = 115_200  # means nothing on USB
MODES = {"ampere": 1, "source": 2}

POWER_ON, POWER_OFF = b"\x0c\x01", b"\x0c\x00"
METADATA = b"\x19"
LONGEST_COMMAND = 6
"""Bytes with arguments: as many stops end any command that a predecessor left unfinished."""

ASKS = 2
"""Requests for one answer; the first answer may be unreadable."""

READINGS = 3
"""Two of this many answers have to agree: they carry no checksum, and one that lost a digit is
as readable as the true one."""

TOLERATED_MISSING = 500
"""Tolerated undetected lost samples: 5 ms, 0.05 % of a window of 10 s."""

CLOSE_STEP_S = 3.0

_END = re.compile(rb"END\b")
_PORT_HINT = (
    "check its power; newer firmware has two ports, of which only the first speaks this protocol: "
    "under /dev/serial/by-id use the one whose name ends in if01"
)


def set_voltage_command(voltage_mv: int) -> bytes:
    """Return the command that sets the voltage, big-endian millivolts."""
    return b"\x0d" + voltage_mv.to_bytes(2, "big")


@register_power_monitor(config=Ppk2Config)
class Ppk2:
    """The instrument.

    Args:
        config: its table in stations.toml.
        stop_s: longest wait for silence after an acquisition is stopped.
        close_step_s: longest time of each step of :meth:`close`.
    """

    def __init__(
        self, config: Ppk2Config, stop_s: float = STOP_S, close_step_s: float = CLOSE_STEP_S
    ) -> None:
        self.config = config
        self._stop_s, self._close_step_s = stop_s, close_step_s
        self._link = Link(config.port, BAUD, "ppk2")
        self._metadata: Ppk2Metadata | None = None
        self._voltage_mv: int | None = None
        self._acquisition: Ppk2Acquisition | None = None

    async def open(self) -> Identity:
        """Take the port, stop what a predecessor left running, switch the DUT off, identify.

        When that fails the instrument is closed as after use: a predecessor may have left
        the DUT powered.
        """
        await self._link.open()
        self._metadata, self._voltage_mv, self._acquisition = None, None, None
        async with close_on_failure(self.close):
            await self._link.write(STOP * LONGEST_COMMAND + POWER_OFF)
            await self._link.read_until_quiet(QUIET_S, self.config.answer_s)
            metadata = await self._read_agreed_metadata()
            self._refuse_implausible(metadata)
            self._metadata = metadata
            await self._send_command(bytes((0x11, MODES[self.config.mode])))
        return self._make_identity(self._metadata)

    @property
    def stream_format(self) -> StreamFormat:
        """What the stream's numbers mean.

        A line is read once per sample period: an edge at index k came in the period that ends
        with sample k or in the one that begins with it.
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
    def can_supply_dut(self) -> bool:
        """The DUT's power goes through its switch in both modes."""
        return True

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        In ampere mode another supply must give this voltage; the instrument only closes its
        switch, and the stated voltage is assumed.

        Raises:
            JobError: the instrument cannot supply this voltage.
        """
        if voltage_mv is None:
            await self._send_command(POWER_OFF)
            return
        if voltage_mv not in SUPPLY_MV:
            what = f"{voltage_mv} mV asked; the PPK2 is for 800 to 5000 mV"
            remedy = "ask for a voltage in this range"
            raise JobError("voltage-range", what, remedy, self._link.where)
        await self._send_command(set_voltage_command(voltage_mv) + POWER_ON)
        self._voltage_mv = voltage_mv

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> Ppk2Acquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        refuse_while_acquiring(self._acquisition, "acquire", self._link.where)
        refuse_left_running(self._acquisition, self._link.where)
        clock = CountMonitor(RULES) if time_base is TimeBase.HOST else None
        decoder = StreamDecoder(self._make_word_meaning(), clock)
        self._acquisition = Ppk2Acquisition(self._link, decoder, self.config.answer_s, self._stop_s)
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Check the calibration, and how late the host read the last acquisition."""
        refuse_while_acquiring(self._acquisition, "self_check", self._link.where)
        findings = self._check_calibration(await self._read_agreed_metadata())
        if self._acquisition and (missing := self._acquisition.possibly_missing):
            text = (
                f"this host read the last acquisition so late that {missing} samples may be "
                "missing undetected, if they were lost in multiples of 64"
            )
            serious = missing > TOLERATED_MISSING
            findings.append(
                Finding("ppk2-late-host", text, "give the host less to do", serious=serious)
            )
        return findings

    def _check_calibration(self, now: Ppk2Metadata) -> list[Finding]:
        """Return what is wrong with the coefficients in use; ``now`` are the present ones."""
        used = self._metadata or now
        findings: list[Finding] = []
        if changes := used.differences_from(now):
            text = f"its calibration has changed since it was opened: {'; '.join(changes)}"
            findings.append(Finding("ppk2-calibration-changed", text, "open the station again"))
        if used.missing:
            text = (
                f"the instrument's answer has no line for {', '.join(used.missing)}: the values "
                "used instead are guesses"
            )
            remedy = "read the instrument with Nordic's Power Profiler; update its firmware"
            findings.append(Finding("ppk2-calibration-missing", text, remedy))
        if unusable := [key for key in used.typical if key not in used.missing]:
            text = (
                f"the instrument has no usable {', '.join(unusable)}: Nordic's typical values are "
                "used, its currents may be off by some percent"
            )
            remedy = "calibrate it with Nordic's Power Profiler"
            findings.append(Finding("ppk2-calibration", text, remedy, serious=False))
        return findings

    async def close(self) -> None:
        """Switch the DUT off, stop, free the port.

        The DUT's power first: it may be switched while the instrument streams, and must be
        off even if a caller cuts the rest short. Every step is tried with its own deadline; the
        first fault is raised at the end.
        """
        if not self._link.is_open:
            return
        async with close_in_steps(self._link.where, self._close_step_s, self._link.close) as step:
            if self._acquisition:
                await self._acquisition.abandon()
            await step("switching the DUT off", self._link.write(POWER_OFF + STOP))
            await step(
                "silence after the stop", self._link.read_until_quiet(QUIET_S, self._close_step_s)
            )
            await step("confirming it", self._read_metadata())

    # ---- steps ---------------------------------------------------------------------------

    async def _send_command(self, command: bytes) -> None:
        """Send a command and confirm it by an answer to a request after it: it has none itself.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: nothing answers.
        """
        refuse_while_acquiring(self._acquisition, "a command", self._link.where)
        await self._link.write(command)
        await self._read_metadata()

    async def _read_agreed_metadata(self) -> Ppk2Metadata:
        """Return the metadata on which two answers agree; three where a line is missing.

        Raises:
            TransportError: the port went away.
            InstrumentError: no two answers agree, or they are not a PPK2's.
            DeadlineExceeded: there is no answer.
        """
        answers: list[Ppk2Metadata] = []
        for _ in range(READINGS):
            answer = await self._read_metadata()
            if not answer.missing and any(not answer.differences_from(a) for a in answers):
                return answer
            answers.append(answer)
        first, *others = answers
        changes = dict.fromkeys(c for other in others for c in first.differences_from(other))
        if not changes:
            return first
        raise InstrumentError(
            "metadata-unsteady",
            f"it reports another calibration every time: {'; '.join(changes)}",
            "try another cable and another port, without a hub; " + _PORT_HINT,
            self._link.where,
        )

    def _refuse_implausible(self, metadata: Ppk2Metadata) -> None:
        if wrong := metadata.implausible_coefficients():
            raise InstrumentError(
                "calibration-implausible",
                f"its calibration is implausible: {'; '.join(wrong)}",
                "calibrate it with Nordic's Power Profiler; its memory may have been overwritten",
                self._link.where,
            )

    async def _read_metadata(self) -> Ppk2Metadata:
        """Ask for the metadata, again if the answer is unreadable.

        Raises:
            TransportError: the port went away.
            InstrumentError: the answer is not a PPK2's.
            DeadlineExceeded: there is no answer.
        """
        received = bytearray()
        for _ in range(ASKS):
            self._link.take_arrived_chunks()
            received.clear()
            await self._link.write(METADATA)
            try:
                async with asyncio.timeout(self.config.answer_s):
                    while not _END.search(received):
                        received += (await self._link.read(None)).data
            except TimeoutError:
                continue
            metadata = parse_metadata(received.decode("latin-1"))
            if metadata is not None:
                return metadata
        if _END.search(received):
            words = format_quote(received.decode("ascii", "replace"))
            raise InstrumentError(
                "not-a-ppk2",
                f"the answer has no calibration in it: {words}",
                _PORT_HINT,
                self._link.where,
            )
        raise self._no_answer_error("its metadata", self.config.answer_s, bytes(received))

    def _no_answer_error(self, what: str, deadline_s: float, received: bytes) -> DeadlineExceeded:
        words = format_quote(received.decode("ascii", "replace"))
        return DeadlineExceeded(
            "no-answer",
            f"{what}: no answer within {deadline_s:g} s, received {words}",
            _PORT_HINT,
            self._link.where,
        )

    def _make_identity(self, metadata: Ppk2Metadata) -> Identity:
        facts = metadata.facts
        mode = "source meter" if self.config.mode == "source" else "ampere meter, voltage as stated"
        spikes = "spike filter" if self.config.spike_filter else "no spike filter"
        typical = ", typical calibration values" if metadata.typical else ""
        return make_identity(
            "ppk2",
            f"Nordic PPK2, {mode}, {spikes}{typical}",
            firmware=f"HW {facts.get('HW', '?')}, IA {facts.get('IA', '?')}",
            address=self._link.port,
        )

    def _make_word_meaning(self) -> WordMeaning:
        if self._voltage_mv is None or self._metadata is None:
            raise LabdBug("no-voltage", "acquire before supply", where=self._link.where)
        voltage_v = self._voltage_mv / 1000
        return WordMeaning(
            current_table(self._metadata.coefficients, voltage_v),
            voltage_v,
            self.config.spike_filter,
            tuple(LINES.index(line) for line in self.config.lines),
            LINES.index(self.config.timestamp_line),
        )
