"""Acme 9000, an imaginary power monitor: the complete example of docs/writing-a-driver.md.

Serial port, 115200 baud, text lines. A command is answered by ``ok`` or ``error TEXT``:

========== =====================================================
``*IDN?``  ``ACME,9000,<serial>,<firmware>``
``v 3000`` supply the DUT with 3000 mV; ``v 0`` switches it off
``run``    measure: 1000 lines per second until ``stop``
``stop``   end measuring; the last line is ``end <samples>``
========== =====================================================

While it measures it sends ``s <counter> <ampere>`` per sample, the counter modulo 10000, and
``t`` for a falling edge of its TRIG input, between the samples before and after it. Every line
of the stream ends with ``*`` and the XOR of the characters before it, two hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from pydantic import Field

from drivers.base.acquisition import (
    BackgroundAcquisition,
    refuse_left_running,
    refuse_while_acquiring,
)
from drivers.base.closing import close_in_steps, close_on_failure
from drivers.base.identity import make_identity
from drivers.base.interfaces import MonitorConfig
from drivers.base.line_reader import LineReader
from drivers.base.registry import register_power_monitor
from drivers.base.serial_link import Link
from labd.core.errors import InstrumentError, JobError, LabdBug
from labd.core.model import (
    Edge,
    Finding,
    Gap,
    Identity,
    Samples,
    StreamFormat,
    StreamItem,
    TimeBase,
)
from labd.protocol.lines import Line, LineSplitter, format_quote

RATE_HZ = 1000
COUNTER = 10_000
SUPPLY_MV = range(1800, 3601)
CLOCK_PPM = 50.0
QUIET_S = 0.05
CLOSE_STEP_S = 2.0


class Acme9000Config(MonitorConfig):
    """An Acme 9000 on a serial port."""

    port: str = Field(description="its device, best from /dev/serial/by-id", min_length=1)
    answer_s: float = Field(2.0, gt=0, le=60, description="longest wait for an answer, seconds")


# ---- pure: bytes to samples, gaps and edges ------------------------------------------------


def checksum(text: str) -> str:
    """Return the XOR of the characters, two hexadecimal digits."""
    return f"{reduce(lambda total, character: total ^ ord(character), text, 0):02X}"


class AcmeDecoder:
    """Turn the instrument's stream into samples, gaps and edges.

    A sample is confirmed by its checksum and its counter. A damaged line is dropped; the counter
    of the next sample then shows the gap. An edge counts only between two samples without a gap.

    Args:
        voltage_v: supply voltage, for the power.
    """

    def __init__(self, voltage_v: float) -> None:
        self.received_samples = 0
        self.edges_seen = 0
        self.ended = False
        self._voltage_v = voltage_v
        self._splitter = LineSplitter()
        self._run: list[float] = []
        self._edges: list[Edge] = []
        self._items: list[StreamItem] = []

    def feed(self, data: bytes) -> Sequence[StreamItem]:
        """Return what the bytes confirm."""
        for line in self._splitter.feed(data):
            text, star, check = line.partition("*")
            if star and check == checksum(text):
                self._take_line(*text.split())
        self._flush()
        items, self._items = self._items, []
        return items

    def _take_line(self, kind: str, *values: str) -> None:
        if kind == "s":
            counter, ampere = values
            self._add_gap_or_edges((int(counter) - self.received_samples) % COUNTER)
            self._run.append(float(ampere))
            self.received_samples += 1
        elif kind == "t":
            self.edges_seen += 1
            self._edges.append(Edge(float(self.received_samples), "trig", rising=False))
        elif kind == "end":
            self._add_gap_or_edges(int(values[0]) - self.received_samples)
            self.ended = True

    def _add_gap_or_edges(self, lost: int) -> None:
        """Confirm the pending edges, or drop them and report a gap of ``lost`` samples."""
        edges, self._edges = self._edges, []
        if not lost and not edges:
            return
        self._flush()
        if lost:
            self._items.append(Gap(self.received_samples, lost, "samples missing in the counter"))
            self.received_samples += lost
        else:
            self._items.extend(edges)

    def _flush(self) -> None:
        if self._run:
            current = np.array(self._run)
            start = self.received_samples - len(self._run)
            self._items.append(Samples(start, current * self._voltage_v, current))
            self._run = []


# ---- one acquisition -----------------------------------------------------------------------


class AcmeAcquisition(BackgroundAcquisition):
    """One acquisition; :class:`BackgroundAcquisition` reads it in the background."""

    def __init__(self, link: Link, decoder: AcmeDecoder, answer_s: float) -> None:
        super().__init__(link.where, answer_s, decoder)
        self._link = link
        self._decoder = decoder
        self._started = False

    @property
    def _is_idle(self) -> bool:
        return self._decoder.ended or not self._started

    async def _start_instrument(self) -> None:
        self._started = True
        await self._link.write(b"run\n")
        await self._wait_until(lambda: self.received_samples > 0, "sample")

    async def _read_stream(self) -> None:
        while not self._decoder.ended:
            chunk = await self._link.read(None)
            self._queue_items(self._decoder.feed(chunk.data))

    async def _stop_instrument(self) -> None:
        await self._link.write(b"stop\n")
        await self._wait_until(lambda: self._decoder.ended, "end of the acquisition")

    def _settle_unconfirmed_tail(self, reason: str) -> Sequence[StreamItem]:
        del reason  # every sample given out was confirmed by its own line
        return []


# ---- the instrument ------------------------------------------------------------------------


@register_power_monitor(config=Acme9000Config)
class Acme9000:
    """An Acme 9000."""

    def __init__(self, config: Acme9000Config) -> None:
        self.config = config
        self._link = Link(config.port, 115_200, "acme-9000")
        self._reader = LineReader(self._link)
        self._voltage_mv = 0
        self._acquisition: AcmeAcquisition | None = None

    async def open(self) -> Identity:
        """Take the port, stop what a predecessor left running, switch the DUT off, identify."""
        await self._link.open()
        self._reader, self._voltage_mv, self._acquisition = LineReader(self._link), 0, None
        async with close_on_failure(self.close):
            await self._link.write(b"\nstop\nv 0\n")
            await self._link.read_until_quiet(QUIET_S, self.config.answer_s)
            maker, model, serial, firmware = await self._identify()
            return make_identity(
                "acme-9000", f"{maker} {model}", serial, firmware, address=self._link.port
            )

    @property
    def stream_format(self) -> StreamFormat:
        """What the stream's numbers mean."""
        return StreamFormat(
            sample_rate_hz=float(RATE_HZ),
            edge_uncertainty_s=1.0 / RATE_HZ,
            clock_tolerance_ppm=CLOCK_PPM,
            quantity="current",
            voltage_v=self._voltage_mv / 1000,
            timestamp_line="trig",
        )

    @property
    def can_supply_dut(self) -> bool:
        """The DUT is supplied by this instrument."""
        return True

    async def set_dut_supply(self, voltage_mv: int | None) -> None:
        """Supply the DUT, or switch it off with ``None``.

        Raises:
            JobError: the voltage is out of range.
        """
        if voltage_mv is not None and voltage_mv not in SUPPLY_MV:
            what = f"{voltage_mv} mV asked; the Acme 9000 supplies 1800 to 3600 mV"
            raise JobError("voltage-range", what, "ask for a voltage in this range")
        await self._command(f"v {voltage_mv or 0}")
        self._voltage_mv = voltage_mv or 0

    def acquire(self, time_base: TimeBase = TimeBase.HOST) -> AcmeAcquisition:
        """See :class:`drivers.base.interfaces.PowerMonitor`."""
        del time_base  # every line carries its own count
        refuse_while_acquiring(self._acquisition, "acquire", self._link.where)
        refuse_left_running(self._acquisition, self._link.where)
        if not self._voltage_mv:
            raise LabdBug("no-voltage", "acquire before supply", where=self._link.where)
        decoder = AcmeDecoder(self._voltage_mv / 1000)
        self._acquisition = AcmeAcquisition(self._link, decoder, self.config.answer_s)
        return self._acquisition

    async def self_check(self) -> list[Finding]:
        """Check that it still answers."""
        await self._identify()
        return []

    async def close(self) -> None:
        """Switch the DUT off, stop, free the port."""
        if not self._link.is_open:
            return
        async with close_in_steps(self._link.where, CLOSE_STEP_S, self._link.close) as step:
            if self._acquisition is not None:
                await step("ending the acquisition", self._acquisition.abandon())
            await step("switching the DUT off", self._link.write(b"\nstop\nv 0\n"))
            await step("waiting for silence", self._link.read_until_quiet(QUIET_S, CLOSE_STEP_S))

    async def _identify(self) -> tuple[str, str, str, str]:
        fields = (await self._command("*IDN?")).split(",")
        if len(fields) == 4 and fields[1] == "9000":  # noqa: PLR2004 - maker, model, serial, firmware
            return fields[0], fields[1], fields[2], fields[3]
        raise InstrumentError(
            "not-an-acme-9000",
            f"it answered *IDN? with {format_quote(','.join(fields))}",
            "check `port` in stations.toml",
            self._link.where,
        )

    async def _command(self, text: str) -> str:
        """Send a command and return its answer."""
        refuse_while_acquiring(self._acquisition, text, self._link.where)
        received: list[Line] = []
        async with self._reader.answer_deadline(self.config.answer_s, f"'{text}'", received):
            await self._link.write(f"{text}\n".encode("ascii"))
            answer = await self._reader.read_line()
        if answer.text.startswith("error"):
            raise InstrumentError("refused", f"'{text}': {answer.text}", where=self._link.where)
        return answer.text
