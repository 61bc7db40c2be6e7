"""An LPM01A in host mode: samples come when a test says so, or by the wall clock.

Replies, both stream formats and every record of the binary one follow UM2269 chapter 4.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from labd.simulation.cable import Cable, PtyCable
from labd.simulation.instruments.load import current_a, falls_between

PROMPT = "\r\nPowerShield > "
STAMP_EVERY = 1000
TICK_S = 0.005
WORDS = frozenset(
    (
        *("htc", "hrc", "powershield", "version", "status", "help", "echo", "lcd", "temp"),
        *("volt", "freq", "acqtime", "acqmode", "funcmode", "output", "format", "currthres"),
        *("trigsrc", "trigdelay", "eventsrc", "pwr", "pwrend", "targrst", "start", "stop"),
    )
)
_RECORD_END = b"\xff\xff"


def decimal_records(values: NDArray[np.float64]) -> list[bytes]:
    """Samples as ``DDDD±EE`` lines."""
    lines: list[bytes] = []
    for value in values:
        mantissa, power = f"{value:.3e}".split("e")
        lines.append(f"{mantissa.replace('.', '')}{int(power) - 3:+03d}\r\n".encode())
    return lines


def binary_records(values: NDArray[np.float64]) -> bytes:
    """Samples as big-endian words: the most digits that fit twelve bits times 16^-p."""
    with np.errstate(divide="ignore"):
        power = np.clip(np.floor(np.log2(4095.0 / values) / 4), 0, 14)
    return (power.astype(np.uint16) << 12 | np.rint(values * 16.0**power).astype(np.uint16)).astype(
        ">u2"
    ).tobytes()  # fmt: skip


class FakeLpm01a:
    """Acknowledges, streams, stamps.

    ``refuses`` names commands answered with an error, ``refusal`` is its word for that
    (``err`` in the manual); a ``deaf`` one hears nothing but ``psrst``, after which
    ``on_restart`` may pull its cable; ``load`` is the buffer load in its stamps. So many
    samples as ``after_command`` says follow each command during an acquisition, as on a bench
    whose time passes by commands only.
    """

    def __init__(self, rate_hz: int = 1000) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.on_restart: Callable[[], None] = lambda: None
        self.commands: list[str] = []
        self.refuses: set[str] = set()
        self.refusal = "error"
        self.deaf = False
        self.acquiring = False
        self.powered = False
        self.produced = 0
        self.load = 0
        self.after_command = 0
        self.version = "1.0.6"
        self.binary = False
        self.energy = False
        self.voltage_mv = 3300
        self._rate_hz = rate_hz
        self._marks_edges = False
        self._events = 97
        self._line = ""

    # ---- commands ------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Lines from the host."""
        self._line += data.decode("ascii")
        while "\n" in self._line:
            line, _, self._line = self._line.partition("\n")
            if line.strip():
                self._execute(line.strip())

    def _execute(self, command: str) -> None:
        self.commands.append(command)
        if command == "psrst":
            self._restart()
            return
        if self.deaf:
            return
        self._answer(command)
        if self.acquiring and command != "start":
            self.produce(self.after_command)

    def _answer(self, command: str) -> None:
        unknown = command.partition(" ")[0] not in WORDS
        if unknown or command in self.refuses or (command == "stop" and not self.acquiring):
            self._reply(f"{self.refusal} {command}\r\nError detail: not now")
            return
        data = {
            "powershield": " 540619864-1110659081-4784204",
            "version": f": {self.version}",
            "status": " ok",
            "temp degc": " 28.0",
        }.get(command, "")
        self._reply(f"ack {command}{data}")
        self._apply(*command.partition(" ")[::2])

    def _apply(self, word: str, value: str) -> None:
        if word == "pwr" and value != "get":
            self.powered = value.startswith("on")
        elif word == "targrst":
            self.powered = False
        elif word == "freq":
            self._rate_hz = int(value.replace("k", "000"))
        elif word == "format":
            self.binary = value == "bin_hexa"
        elif word == "output":
            self.energy = value == "energy"
        elif word == "volt" and value != "get":
            self.voltage_mv = int(value.removesuffix("m"))
        elif word == "eventsrc":
            self._marks_edges = True
        elif word == "start":
            self.acquiring, self.produced = True, 0
            self.stamp()
        elif word == "stop":
            self.end()

    def _restart(self) -> None:
        self.deaf = self.acquiring = self.powered = self.binary = self.energy = False
        self._line, self._marks_edges, self._rate_hz = "", False, 100
        self.on_restart()

    def _reply(self, text: str) -> None:
        self.send(f"{PROMPT}{text}\r\n\r\n".encode())

    # ---- the stream ----------------------------------------------------------------------

    def stamp(self) -> None:
        """The time stamp of this moment."""
        ms = self.produced * 1000 // self._rate_hz
        if self.binary:
            time = ms % (1 << 31) | (ms >= 1 << 31) << 31
            self.record(0xF3, struct.pack(">IB", time, self.load))
        else:
            mark = ">" if ms >= 1_000_000 else " "  # noqa: PLR2004 - beyond three digits
            seconds, rest = divmod(ms % 1_000_000, 1000)
            text = f"TimeStamp:{mark}{seconds:03d}s {rest:03d}ms, buff {self.load:02d}%"
            self.send(f"\r\n{text}\r\n".encode())

    def produce(self, count: int) -> None:
        """Stream so many samples; sample k reads k mod 9000 + 1000 times 1e-8.

        In binary it reads k mod 3840 + 256 times 16^-5, or 16^-7 where it is an energy.
        """
        for _ in range(count):
            if self.binary:
                power = 0x7000 if self.energy else 0x5000
                self.send((power | 256 + self.produced % 3840).to_bytes(2))
            else:
                nul = b"\0" if self.produced % STAMP_EVERY == 0 else b""
                self.send(nul + b"%04d-08\r\n" % (1000 + self.produced % 9000))
            self._took(1)

    def skip(self, count: int) -> None:
        """Samples the instrument took but the cable lost."""
        for _ in range(count):
            self._took(1)

    def event(self) -> None:
        """An edge on D7, which only the ASCII format marks."""
        if not self.binary:
            self.send(b"event %02d ris\r\n" % self._events)
            self._events = (self._events + 1) % 100

    def record(self, kind: int, payload: bytes = b"") -> None:
        """A record of metadata of the binary format."""
        self.send(bytes((0xF0, kind)) + payload + _RECORD_END)

    def measured_voltage(self, millivolts: int) -> None:
        """What the supply really is."""
        self.record(0xF7, struct.pack(">H", millivolts))

    def temperature(self, celsius: int) -> None:
        """How warm the board is."""
        self.record(0xF8, struct.pack(">h", celsius))

    def inform(self, text: str) -> None:
        """Words for the host."""
        self.record(0xF2, text.encode() + b"\r\n")

    def overcurrent(self) -> None:
        """The DUT drew too much and is off."""
        self.powered = False
        if self.binary:
            self.record(0xF5)
        else:
            self.send(b"\r\nerror Overcurrent\r\n\r\npwr off\r\n")

    def power_down(self) -> None:
        """The DUT is off."""
        self.powered = False
        if self.binary:
            self.record(0xF6)
        else:
            self.send(b"\r\npwr off\r\n")

    def overrun(self) -> None:
        """The host was too slow."""
        if self.binary:
            self.record(0xF1, b"Transmit buffer overrun\r\n")
        else:
            self.send(b"\r\nerror Transmit buffer overrun\r\n")
        self.end()

    def end(self) -> None:
        """The acquisition is over."""
        self.acquiring = False
        if self.binary:
            self.record(0xF4)
        else:
            self.send(b"\r\nend\r\n")
        self.send(b"\r\nsummary beg\r\nmin 1000-08\r\nmax 9999-08\r\nsummary end\r\n")
        self._reply("Acquisition completed")

    def _took(self, count: int) -> None:
        self.produced += count
        if self.produced % STAMP_EVERY == 0:
            self.stamp()

    # ---- by the wall clock ---------------------------------------------------------------

    async def live(self) -> None:
        """Stream what :mod:`.load` draws, in real time, until cancelled."""
        loop = asyncio.get_running_loop()
        began, last = loop.time(), 0
        while True:
            await asyncio.sleep(TICK_S)
            if not self.acquiring or self.produced < last:
                began, last = loop.time() - self.produced / self._rate_hz, self.produced
            if self.acquiring:
                self.stream_to(int((loop.time() - began) * self._rate_hz))
                last = self.produced

    def stream_to(self, end: int) -> None:
        """Stream every sample up to index ``end``, the DUT's edges among them."""
        while self.produced < end:
            stop = min(end, self.produced - self.produced % STAMP_EVERY + STAMP_EVERY)
            index = np.arange(self.produced, stop)
            factor = float(self.powered)
            if self.energy:
                factor *= self.voltage_mv / 1000 / self._rate_hz
            values = current_a((index + 0.5) / self._rate_hz) * factor
            if self.binary:
                self.send(binary_records(values))
            else:
                self._send_lines(decimal_records(values), self._falls(self.produced, stop))
            self._took(stop - self.produced)

    def _falls(self, start: int, stop: int) -> list[int]:
        """Before which of these samples D7 fell, as places among them."""
        if not (self._marks_edges and self.powered):
            return []
        times = falls_between(start / self._rate_hz, stop / self._rate_hz)
        return [int(at * self._rate_hz) - start for at in times]

    def _send_lines(self, lines: Sequence[bytes], falls: Sequence[int]) -> None:
        done = 0
        for place in falls:
            self.send(b"".join(lines[done:place]))
            self.event()
            done = place
        self.send(b"".join(lines[done:]))


def plug() -> Cable:
    """The instrument behind its USB serial port, ready for :meth:`FakeLpm01a.live`."""
    return PtyCable(FakeLpm01a())
