"""A source-measure unit without a maker: measures continuously, in several number formats."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments import synthetic_load

OVERLOAD = 9.9e37
BINARY_DTYPES = {"REAL,32": "f4", "REAL,64": "f8"}

_HARMLESS = re.compile(r"\*RST|\*CLS|SENS:FUNC .*|SENS:RATE .*|FORM:BORD (?:NORM|SWAP)|FORM .*")


class SimulatedScpiMeter:
    """A meter with common SCPI commands.

    Attributes:
        refuses: errors by beginning of a command that gets them.
        rate_factor: readings per period; 1 is correct.
        latency_s: delay from the end of a reading to its appearance.
        update_s: interval at which readings appear; 0 for each at its end.
        memory_s: how long its memory lasts; the oldest readings are overwritten then.
        framing: of numbers: ``line``, ``block`` or ``indefinite`` block.
        lost_readings: readings lost so far.
        fetch_waits: whether ``FETC? n`` answers only when it has n readings.
        dut_current_a: current of the DUT at given times, ampere.
    """

    def __init__(
        self, rate_hz: float = 1000.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.clock = clock
        self.rate_hz = rate_hz
        self.commands: list[str] = []
        self.errors: deque[str] = deque()
        self.refuses: dict[str, str] = {}
        self.name = "ACME INSTRUMENTS,SMU-1,SIMULATED,1.0"
        self.rate_factor = 1.0
        self.latency_s = 0.0
        self.update_s = 0.0
        self.memory_s = 100.0
        self.lost_readings = 0
        self.framing = "line"
        self.fetch_waits = False
        self.dut_current_a = synthetic_load.synthetic_current_a
        self.is_powered = False
        self.volts = 0.0
        self.overwritten = 0
        self.started_s: float | None = None
        self._form = "ASC"
        self._order = ">"
        self._taken = 0
        self._line = b""

    @property
    def is_measuring(self) -> bool:
        """Whether it takes readings."""
        return self.started_s is not None

    def on_connect(self) -> None:
        """A new connection begins with an empty input buffer."""
        self._line = b""

    def receive(self, data: bytes) -> None:
        """Take messages from the host, each ended by a line feed."""
        self._line += data
        while b"\n" in self._line:
            line, _, self._line = self._line.partition(b"\n")
            text = line.decode("ascii").strip()
            self.commands.append(text)
            error = next((e for b, e in self.refuses.items() if text.startswith(b)), "")
            if error:
                self.errors.append(error)
            elif "?" in text:
                self._answer_query(text)
            elif not self._apply_command(text):
                self.errors.append('-113,"Undefined header"')

    def _apply_command(self, text: str) -> bool:
        word, _, argument = text.partition(" ")
        if word == "SOUR:VOLT":
            self.volts = float(argument)
        elif word == "OUTP":
            self.is_powered = argument == "ON"
        elif word == "INIT":
            self.started_s, self._taken = self.clock(), 0
        elif word == "ABOR":
            self.started_s = None
        elif not _HARMLESS.fullmatch(text):
            return False
        if word == "*RST":
            self.is_powered, self.started_s, self._form, self._order = False, None, "ASC", ">"
        elif word == "FORM":
            self._form = argument
        elif word == "FORM:BORD":
            self._order = ">" if argument == "NORM" else "<"
        return True

    # ---- answers -------------------------------------------------------------------------

    def _answer_query(self, text: str) -> None:
        word, _, argument = text.partition(" ")
        if word == "*IDN?":
            self.send(self.name.encode() + b"\n")
        elif word == "SYST:ERR?":
            answer = self.errors.popleft() if self.errors else '0,"No error"'
            self.send(answer.encode() + b"\n")
        elif word == "FETC?" and self.is_measuring:
            self._fetch_readings(int(argument) if argument else None)
        else:
            self.errors.append('-230,"Data corrupt or stale"')

    def _fetch_readings(self, most: int | None) -> None:
        produced = self._produced_count()
        if self.fetch_waits and most and produced - self._taken < most:
            missing_s = (self._taken + most - produced) / (self.rate_hz * self.rate_factor)
            asyncio.get_running_loop().call_later(missing_s / 2 + 1e-4, self._fetch_readings, most)
            return
        oldest = max(0, produced - int(self.memory_s * self.rate_hz))
        self.overwritten += max(0, oldest - self._taken)
        first = max(self._taken, oldest)
        count = produced - first if most is None else min(most, produced - first)
        count = max(0, count)
        self._taken = first + count
        self.send(self._frame_readings(self._make_readings(first, count)))

    def _produced_count(self) -> int:
        since = self.clock() - (self.started_s if self.started_s is not None else self.clock())
        since = max(0.0, since - self.latency_s)
        if self.update_s:
            since = since // self.update_s * self.update_s
        return int(since * self.rate_hz * self.rate_factor) - self.lost_readings

    def _make_readings(self, first: int, count: int) -> NDArray[np.float64]:
        numbers = np.arange(first, first + count, dtype=np.float64)
        times_s = (self.started_s or 0.0) + (numbers + 0.5) / (self.rate_hz * self.rate_factor)
        return self.dut_current_a(times_s) if self.is_powered else np.zeros(count)

    def _frame_readings(self, readings: NDArray[np.float64]) -> bytes:
        if self._form in BINARY_DTYPES:
            data = readings.astype(self._order + BINARY_DTYPES[self._form]).tobytes()
        else:
            data = ",".join(f"{reading:+.8E}" for reading in readings.tolist()).encode()
        if self.framing == "indefinite":
            return b"#0" + data + b"\n"
        if self.framing == "line" and self._form not in BINARY_DTYPES:
            return data + b"\n"
        size = str(len(data))
        return f"#{len(size)}{size}".encode() + data + b"\n"


def serve_scpi_meter_on_tcp() -> TcpCable:
    """Return the instrument on a socket of this machine."""
    return TcpCable(SimulatedScpiMeter())
