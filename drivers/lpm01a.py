"""STMicroelectronics X-NUCLEO-LPM01A (PowerShield): supplies the DUT and measures it.

Host mode of UM2269, ASCII stream, events of the D7 input marked in the stream. The decoder
vouches for every sample it gives out: samples wait until the next time stamp has confirmed
that exactly 1000 came since the last one, and whatever is in doubt becomes a gap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from drivers.acquisition import PumpedAcquisition
from drivers.interfaces import DriverConfig, Line, driver
from drivers.link import LineReader, Link, quoted
from labd.core.errors import (
    DeadlineExceeded,
    InstrumentError,
    JobError,
    LabdBug,
    LabdError,
)
from labd.core.model import (
    Edge,
    Finding,
    Gap,
    Identity,
    Part,
    Samples,
    StreamFormat,
    StreamItem,
)

# ---- pure: the stream --------------------------------------------------------------------

SAMPLES_PER_STAMP = 1000
RECORD_BYTES = 9  # DDDD±EE\r\n
STAMP_WRAP_MS = 1_000_000  # three digits of seconds
STAMP_TOLERANCE_MS = 2
MAX_LINE = 4096
TIMESTAMP_LINE = "d7"

_PROMPT = b"PowerShield > "
_STAMP = re.compile(rb"TimeStamp:[ <>]*(\d{3,})s[ <>]+(\d{3})ms, buff[ <>]+\d{1,3}%")
_EVENT = re.compile(rb"event (\d\d) ris")
_FAULT = re.compile(rb"err(?:or)?\b[ :]*(.*)")
_RECORD = re.compile(rb"\d{4}[+-]\d\d")
_HARMLESS = re.compile(rb"(?:ack .*|pwr (?:on|off)|end)?")
_DIGIT_COLUMNS = (0, 1, 2, 3, 5, 6)
_MANTISSA = np.array([1000.0, 100.0, 10.0, 1.0])
_POWERS = 10.0 ** np.arange(100)


def records_in(block: NDArray[np.uint8]) -> int:
    """How many well-formed sample records ``block``, shape (n, 9), begins with."""
    good = (block[:, 7] == ord("\r")) & (block[:, 8] == ord("\n"))
    good &= (block[:, 4] == ord("+")) | (block[:, 4] == ord("-"))
    for column in _DIGIT_COLUMNS:
        good &= (block[:, column] - np.uint8(ord("0"))) <= np.uint8(9)  # wraps below "0"
    return len(block) if bool(good.all()) else int(np.argmin(good))


def values_of(block: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The numbers of well-formed records: for negative exponents what ``float`` would read."""
    digits = (block[:, :7] - np.uint8(ord("0"))).astype(np.float64)
    mantissa = digits[:, :4] @ _MANTISSA
    scale = _POWERS[(digits[:, 5] * 10 + digits[:, 6]).astype(np.intp)]
    return np.where(block[:, 4] == ord("-"), mantissa / scale, mantissa * scale)


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a sample's number is: joules a period, or amperes at a set voltage."""

    power_factor: float
    is_current: bool

    def samples(self, index: int, values: NDArray[np.float64]) -> Samples:
        """The values as power, and as current where they are current."""
        power = values * self.power_factor
        return Samples(index, power, values if self.is_current else None)


class StreamDecoder:
    """Turn the bytes after ``start`` into samples that can be vouched for, gaps and edges.

    Samples and edges since the last time stamp wait for the next one. It confirms them when
    exactly 1000 samples came, every line was whole, no event is missing and its time is one
    stamp period later. Otherwise they are dropped and the stretch becomes a gap whose length
    follows from the stamps' times; the first stamp after a doubt must be confirmed by the
    next one before anything counts again. The end of the acquisition confirms a tail whose
    lines are all whole.

    An event's place in the stream is its only time (± one sample). The instrument calls
    every event ``ris``; with ``eventsrc d7 fal`` the edges fall.

    Args:
        rate_hz: samples a second.
        quantity: what the samples' numbers are.
    """

    def __init__(self, rate_hz: int, quantity: Quantity) -> None:
        self.started = False
        self.completed = False
        self.fault = ""
        self.received = 0
        self.edges_seen = 0
        self._period_ms = SAMPLES_PER_STAMP * 1000 // rate_hz
        self._quantity = quantity
        self._buffer = b""
        self._in_summary = False
        self._anchor = (0, 0)  # index and ms of the last confirmed stamp; time starts at zero
        self._base = (0, 0)  # the same of the last stamp, where this block begins
        self._count = 0  # lines of samples, whole or not, since then
        self._blocks: list[NDArray[np.float64]] = []
        self._edges: list[int] = []  # positions in this block
        self._doubt = ""  # why this block cannot be trusted
        self._gap_reason = ""  # why nothing since the anchor can be
        self._edges_dropped = 0
        self._last_event: int | None = None
        self._out: list[StreamItem] = []

    def feed(self, data: bytes) -> list[StreamItem]:
        """Take more bytes; return what they confirmed, in order."""
        self._buffer += data.replace(b"\0", b"")
        position = 0
        while not self.completed and (step := self._step(position)):
            position += step
        self._buffer = self._buffer[position:]
        out, self._out = self._out, []
        return out

    def finish(self, reason: str) -> list[StreamItem]:
        """Give up on an acquisition that did not end by itself: its tail is a gap."""
        if not self.completed:
            self._distrust(reason)
            self._complete()
        out, self._out = self._out, []
        return out

    def _step(self, position: int) -> int:
        """Decode what stands at ``position``; how many bytes it was, 0 when it is not whole."""
        buffer = self._buffer
        whole = min((len(buffer) - position) // RECORD_BYTES, SAMPLES_PER_STAMP)
        if whole and buffer[position : position + 1].isdigit():
            block = np.frombuffer(buffer, np.uint8, whole * RECORD_BYTES, position)
            block = block.reshape(whole, RECORD_BYTES)
            if run := records_in(block):
                self._on_samples(values_of(block[:run]))
                return run * RECORD_BYTES
        end = buffer.find(b"\n", position, position + MAX_LINE)
        if end >= 0:
            self._on_line(buffer[position:end])
            return end + 1 - position
        if len(buffer) - position < MAX_LINE:
            return 0
        self._on_line(buffer[position : position + MAX_LINE])
        return MAX_LINE

    def _on_line(self, raw: bytes) -> None:
        line = raw.strip(b"\r")
        while line.startswith(_PROMPT):
            line = line[len(_PROMPT) :]
        if line == b"Acquisition completed":
            self._complete()
        elif self._in_summary or line == b"summary beg":
            self._in_summary = line != b"summary end"
        elif stamp := _STAMP.fullmatch(line):
            self._on_stamp((int(stamp[1]) * 1000 + int(stamp[2])) % STAMP_WRAP_MS)
        elif event := _EVENT.fullmatch(line):
            self._on_event(int(event[1]))
        elif fault := _FAULT.match(line):
            self.fault = fault[1].decode("ascii", "replace")
            self._distrust(f"the instrument reported: {self.fault}")
        elif _HARMLESS.fullmatch(line):
            self.started |= line.startswith(b"ack start")
        else:
            self._count += 1
            self._distrust(f"a damaged line: {quoted(line.decode('ascii', 'replace'))}")

    def _on_samples(self, values: NDArray[np.float64]) -> None:
        self._count += len(values)
        self.received += len(values)
        if self._count > SAMPLES_PER_STAMP:
            self._distrust("a time stamp is missing")
        if not self._doubt:
            self._blocks.append(values)

    def _on_event(self, number: int) -> None:
        self.edges_seen += 1
        last, self._last_event = self._last_event, number
        if last is not None and number != (last + 1) % 100:
            self._distrust(f"event {number:02d} after {last:02d}: one is missing")
        if self._doubt:
            self._edges_dropped += 1
        else:
            self._edges.append(self._count)

    def _on_stamp(self, now_ms: int) -> None:
        index, then_ms = self._base
        if self._count == 0 and now_ms == then_ms and not self._doubt:
            return  # the one before the first sample
        if self._count != SAMPLES_PER_STAMP:
            self._distrust(f"{self._count} samples between time stamps instead of 1000")
        if not self._is_one_period(then_ms, now_ms):
            self._distrust(f"time stamps {then_ms} ms and {now_ms} ms in succession")
        if self._doubt:
            self._gap_reason = self._gap_reason or self._doubt
            self._base = (self._index_at(now_ms), now_ms)
        else:
            self._release()
            self._anchor = self._base = (index + SAMPLES_PER_STAMP, now_ms)
            self.received = max(self.received, self._base[0])
        self._count, self._doubt = 0, ""

    def _is_one_period(self, then_ms: int, now_ms: int) -> bool:
        error_ms = (now_ms - then_ms - self._period_ms) % STAMP_WRAP_MS
        return min(error_ms, STAMP_WRAP_MS - error_ms) <= STAMP_TOLERANCE_MS

    def _index_at(self, now_ms: int) -> int:
        """The sample index at a stamp after a doubt, from the last confirmed one."""
        index, then_ms = self._anchor
        elapsed_ms = (now_ms - then_ms) % STAMP_WRAP_MS
        return index + round(elapsed_ms / self._period_ms) * SAMPLES_PER_STAMP

    def _distrust(self, reason: str) -> None:
        """Drop the block that has not been confirmed yet."""
        self._doubt = self._doubt or reason
        self._edges_dropped += len(self._edges)
        self._blocks.clear()
        self._edges.clear()

    def _release(self) -> None:
        """Give out this block, after the gap before it if there is one."""
        start = self._base[0]
        if self._gap_reason:
            self._emit_gap(start)
        values = np.concatenate(self._blocks) if self._blocks else np.empty(0)
        done = 0
        for place in self._edges:
            if place > done:
                self._out.append(self._quantity.samples(start + done, values[done:place]))
            self._out.append(Edge(float(start + place), TIMESTAMP_LINE, rising=False))
            done = place
        if done < len(values):
            self._out.append(self._quantity.samples(start + done, values[done:]))
        self._blocks.clear()
        self._edges.clear()

    def _emit_gap(self, end: int) -> None:
        index = self._anchor[0]
        dropped = f"; {self._edges_dropped} edges in it dropped" if self._edges_dropped else ""
        if end > index:
            self._out.append(Gap(index, end - index, self._gap_reason + dropped))
        self._gap_reason, self._edges_dropped = "", 0

    def _complete(self) -> None:
        """The instrument's own word that nothing more comes settles the tail."""
        self.completed = True
        self._gap_reason = self._gap_reason or self._doubt
        if self._gap_reason:
            self._emit_gap(self._base[0] + self._count)
        else:
            self._release()


# ---- pure: replies -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the instrument made of a command."""

    accepted: bool
    data: str


def answer_in(line: str, command: str) -> Answer | None:
    """The answer to ``command`` if this line holds it."""
    found = re.search(rf"\b(ack|error|err) {re.escape(command)}(?!\w)[:\s]*(.*)", line)
    return Answer(found[1] == "ack", found[2].strip()) if found else None


def parse_number(text: str) -> float:
    """A reply's number, such as ``3292-03``.

    Raises:
        ValueError: it is none.
    """
    if not _RECORD.fullmatch(text.encode("ascii", "replace")):
        raise ValueError(text)
    return float(f"{text[:4]}e{text[4:]}")


def frequency_word(rate_hz: int) -> str:
    """The way the instrument writes a sample rate: ``1k``."""
    return f"{rate_hz // 1000}k"


# ---- the instrument ----------------------------------------------------------------------

BAUD = 3_686_400
RATES_HZ = (1000, 2000, 5000)
SHORT_RATES_HZ = (10_000, 20_000)
SUPPLY_MV = range(1800, 3301)
CALIBRATION_S = 15.0
STOP_S = 10.0
QUIET_S = 0.25
# UM2269 states no clock tolerance; twice the ±50 ppm of an ordinary crystal.
CLOCK_TOLERANCE_PPM = 100.0
CLOSE_STEP_S = 4.0  # three of them and the port's own 2 s, whatever ``answer_s`` says
SLOWEST_HZ = 1000
"""Two edges of ±1 ms in a window of 10 s: 0.02 %."""


class Lpm01aConfig(DriverConfig):
    """An X-NUCLEO-LPM01A on USB."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    rate_hz: int = Field(1000, description="samples a second, 1000 as in the official settings")
    output: Literal["energy", "current"] = Field(
        "energy", description="energy integrated over each sample period, or current"
    )
    answer_s: float = Field(5.0, gt=0, le=60, description="longest wait for an answer, seconds")

    @field_validator("rate_hz")
    @classmethod
    def _sustainable(cls, rate_hz: int) -> int:
        if rate_hz < SLOWEST_HZ:
            raise ValueError(
                f"at {rate_hz} Hz a window's edges, known to one sample, are too vague; "
                f"use at least {SLOWEST_HZ} Hz"
            )
        if rate_hz in SHORT_RATES_HZ:
            raise ValueError(
                f"at {rate_hz} Hz the instrument's ASCII stream lasts one second at most; "
                "5000 Hz is the fastest without a limit"
            )
        if rate_hz not in RATES_HZ:
            raise ValueError(f"{rate_hz} Hz is none of {', '.join(map(str, RATES_HZ))} Hz")
        return rate_hz


class Lpm01aAcquisition(PumpedAcquisition):
    """One acquisition of the instrument."""

    def __init__(self, link: Link, decoder: StreamDecoder, answer_s: float) -> None:
        super().__init__(link.where, answer_s)
        self._link = link
        self._decoder = decoder

    @property
    def received(self) -> int:
        """Sample periods seen on the wire so far, confirmed or not."""
        return self._decoder.received

    @property
    def edges_seen(self) -> int:
        """Edges seen on the wire so far, confirmed or not."""
        return self._decoder.edges_seen

    @property
    def _at_rest(self) -> bool:
        refused = bool(self._decoder.fault) and not self._decoder.started
        return refused or self._decoder.completed

    async def _begin(self) -> None:
        await self._link.write(b"start\r\n")
        await self._until(lambda: self._decoder.started or bool(self._decoder.fault), "start")
        if not self._decoder.started:
            raise self._stopped("did not start")

    async def _pump(self) -> None:
        while not self._decoder.completed:
            chunk = await self._link.read(None)
            self._take(self._decoder.feed(chunk.data))

    async def _end(self) -> None:
        if not self._decoder.completed:
            await self._link.write(b"stop\r\n")
            await self._until(lambda: self._decoder.completed, "'Acquisition completed'", STOP_S)

    def _settle(self, reason: str) -> list[StreamItem]:
        return self._decoder.finish(reason)

    def _stop_reason(self) -> str:
        return self._decoder.fault or "no reason given"


@driver(part=Part.POWER, config=Lpm01aConfig)
class Lpm01a:
    """The instrument in host mode."""

    def __init__(self, config: Lpm01aConfig) -> None:
        self.config = config
        self._link = Link(config.port, BAUD, "lpm01a")
        self._reader = LineReader(self._link)
        self._findings: list[Finding] = []
        self._voltage_mv: int | None = None
        self._can_switch_off = True
        self._silenced = False  # a predecessor's acquisition streams no more
        self._acquisition: Lpm01aAcquisition | None = None

    async def open(self) -> Identity:
        """Take the port, end what a predecessor left running, set up, switch the DUT off.

        When that fails the instrument is closed as after use: a predecessor may have left
        the DUT powered.
        """
        await self._link.open()
        self._reader = LineReader(self._link)
        self._findings, self._voltage_mv, self._acquisition = [], None, None
        self._can_switch_off, self._silenced = True, False
        try:
            await self._silence(self.config.answer_s)
            await self._command("htc")
            serial = await self._command("powershield")
            firmware = await self._command("version")
            await self._set_up(firmware)
        except BaseException as exc:
            try:
                await self.close()
            except LabdError as fault:
                exc.add_note(f"closing it again failed too: {fault}")
            raise
        return Identity("lpm01a", "X-NUCLEO-LPM01A", serial, firmware, self._link.simulated)

    @property
    def format(self) -> StreamFormat:
        """What the stream's numbers mean."""
        rate_hz = float(self.config.rate_hz)
        return StreamFormat(
            sample_rate_hz=rate_hz,
            edge_uncertainty_s=1.0 / rate_hz,
            clock_tolerance_ppm=CLOCK_TOLERANCE_PPM,
            quantity=self.config.output,
            voltage_v=self._voltage_mv / 1000 if self._voltage_mv else None,
            timestamp_line=TIMESTAMP_LINE,
        )

    @property
    def supplies(self) -> bool:
        """The instrument feeds the DUT."""
        return True

    async def supply(self, voltage_mv: int | None) -> None:
        """Power the DUT at this voltage, or switch it off with ``None``.

        Raises:
            JobError: the instrument cannot supply this voltage.
            InstrumentError: it refuses, as firmware before 1.0.6 does to switch off.
        """
        if voltage_mv is None:
            await self._command("pwr off")
            return
        if voltage_mv not in SUPPLY_MV:
            what = f"{voltage_mv} mV asked; the LPM01A supplies 1800 to 3300 mV"
            raise JobError("voltage-range", what, "ask for less", self._link.where)
        if voltage_mv != self._voltage_mv:
            await self._command(f"volt {voltage_mv}m", CALIBRATION_S)
            self._voltage_mv = voltage_mv
        await self._command("pwr on nostatus")

    def acquire(self) -> Lpm01aAcquisition:
        """See :class:`drivers.interfaces.PowerMonitor`."""
        self._refuse_while_acquiring("acquire")
        if self._left_running:
            raise InstrumentError(
                "acquisition-left-running",
                "the acquisition before was broken off and may still stream",
                "close and open the instrument: that stops it",
                self._link.where,
            )
        decoder = StreamDecoder(self.config.rate_hz, self._quantity())
        self._acquisition = Lpm01aAcquisition(self._link, decoder, self.config.answer_s)
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """What setting up found, and the instrument's own status."""
        status = await self._command("status")
        if not status or status == "ok":
            return list(self._findings)
        return [*self._findings, Finding("lpm01a-status", f"the instrument says: {status}")]

    async def close(self) -> None:
        """Switch the DUT off, stop, give the instrument back, free the port.

        The DUT's power first: it may be switched while the instrument acquires, and must be
        off even if a caller has no patience for the rest. Every step is tried with its own
        deadline, 14 s in all; the first fault is raised when all is done.
        """
        if not self._link.is_open:
            return
        problem: LabdError | None = None
        steps = {
            "switching the DUT off": self._switch_off,
            "stopping the acquisition": self._break_off,
            "giving the instrument back": self._release,
        }
        try:
            if self._acquisition:
                await self._acquisition.abandon()
            for what, step in steps.items():
                try:
                    async with self._reader.within(CLOSE_STEP_S, what, []):
                        await step()
                except LabdError as fault:
                    problem = problem or fault
        finally:
            await self._link.close()
        if problem:
            raise problem

    # ---- steps ---------------------------------------------------------------------------

    async def _silence(self, patience_s: float) -> None:
        """End an acquisition; a predecessor's half command may spoil the first try."""
        for last_try in (False, True):
            await self._link.write(b"stop\r\n")
            try:
                await self._reader.until_quiet(QUIET_S, patience_s)
            except DeadlineExceeded:
                if last_try:
                    raise
            else:
                self._silenced = True
                return

    async def _set_up(self, firmware: str) -> None:
        rate, output = frequency_word(self.config.rate_hz), self.config.output
        for command in (
            "acqtime inf",
            "trigsrc sw",
            "trigdelay 0",
            "acqmode dyn",
            f"freq {rate}",
            "format ascii_dec",
            f"output {output}",
        ):
            await self._command(command)
        update = f"update its firmware from {firmware} to 1.0.6 or later"
        if not await self._accepts("eventsrc d7 fal"):
            self._note("no-edge-marks", "the instrument cannot mark edges on D7", update)
        self._can_switch_off = await self._accepts("pwr off")
        if not self._can_switch_off:
            self._note("no-power-off", "the instrument cannot switch the DUT off", update)

    def _note(self, code: str, text: str, todo: str) -> None:
        self._findings.append(Finding(code, text, todo))

    async def _accepts(self, command: str) -> bool:
        try:
            await self._command(command)
        except InstrumentError:
            return False
        return True

    async def _break_off(self) -> None:
        """End an acquisition whose end was not heard, its own or a predecessor's."""
        if self._left_running or not self._silenced:
            await self._silence(min(self.config.answer_s, CLOSE_STEP_S / 2))

    @property
    def _left_running(self) -> bool:
        return self._acquisition is not None and self._acquisition.left_running

    async def _switch_off(self) -> None:
        if self._can_switch_off:
            await self._command("pwr off")

    async def _release(self) -> None:
        await self._command("hrc")

    async def _command(self, text: str, deadline_s: float | None = None) -> str:
        """Send one command, wait for its ack, return the data behind it."""
        self._refuse_while_acquiring(text)
        self._reader.arrived()
        heard: list[Line] = []
        todo = "check that this port is an LPM01A, and its display"
        limit_s = deadline_s or self.config.answer_s
        async with self._reader.within(limit_s, f"'{text}'", heard, todo):
            await self._link.write(text.encode("ascii") + b"\r\n")
            while not heard or (answer := answer_in(heard[-1].text, text)) is None:
                heard.append(await self._reader.line())
        if not answer.accepted:
            heard += await self._reader.until_quiet(QUIET_S, self.config.answer_s)
            raise InstrumentError(
                "command-refused",
                f"'{text}' refused: {quoted(' / '.join(line.text for line in heard))}",
                "check the instrument's firmware version and stations.toml",
                self._link.where,
            )
        return answer.data

    def _refuse_while_acquiring(self, what: str) -> None:
        if self._acquisition and self._acquisition.running:
            raise LabdBug("acquiring", f"'{what}' during an acquisition", where=self._link.where)

    def _quantity(self) -> Quantity:
        if self.config.output == "energy":
            return Quantity(power_factor=float(self.config.rate_hz), is_current=False)
        if self._voltage_mv is None:
            raise LabdBug("no-voltage", "acquire before supply", where=self._link.where)
        return Quantity(power_factor=self._voltage_mv / 1000, is_current=True)
