"""A Nordic PPK2 to the byte: opcodes in, metadata and 100 000 words a second out.

Samples come when the test says so, or by the wall clock in :meth:`FakePpk2.live`. Currents
are encoded as the instrument would: the range follows with hysteresis, the ADC's value is
what its own coefficients make of the current, rounded with a dither.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labd.fakes import load
from labd.fakes.host import PtyCable

RATE_HZ = 100_000
BLOCK_S = 0.01
TURN = 64
LOGIC_IDLE = 0x01  # D0, the timestamp line, idles high; D1…D7 are not wired and read low

SHUNTS = (1003.3506, 101.5865, 10.3027, 0.9636, 0.0564)
UP_A = (60e-6, 600e-6, 6e-3, 60e-3)
DOWN_A = (40e-6, 400e-6, 4e-3, 40e-3)

ARGUMENTS = {0x0C: 1, 0x0D: 2, 0x11: 1, 0x25: 5}
"""Bytes that follow an opcode; one not named here has none."""


Words = NDArray[np.uint32]
Currents = NDArray[np.float64]


class FakePpk2:
    """``metadata`` are its lines; ``deaf`` is a port of the firmware's that answers nothing.

    ``at_start`` is called when it begins to measure, ``slow_to_stop`` words more come after a
    stop, and with ``streams_on`` it does not stop. ``held`` keeps what it sends, as a host that
    stalls does, until it is set false and the next words come.
    """

    def __init__(self) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.metadata: dict[str, str] = default_metadata()
        self.greeting = b""
        self.deaf = False
        self.at_start: Callable[[], object] = lambda: None
        self.held = False
        self.slow_to_stop = 0
        self.streams_on = False
        self.opcodes: list[bytes] = []
        self.measuring = False
        self.powered = False
        self.mode = 1
        self.voltage_mv = 3300
        self.produced = 0
        self._half = b""
        self._counter = 0
        self._range = 0
        self._backlog = bytearray()
        self._bytes_to_lose = 0
        self._random = np.random.default_rng(2)

    # ---- opcodes ---------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Opcodes and arguments from the host, cut up anyhow."""
        self._half += data
        while self._half:
            size = 1 + ARGUMENTS.get(self._half[0], 0)
            if len(self._half) < size:
                return
            command, self._half = self._half[:size], self._half[size:]
            self.opcodes.append(command)
            if not self.deaf:
                self._execute(command[0], command[1:])

    def _execute(self, opcode: int, arguments: bytes) -> None:
        if opcode == 0x06:  # noqa: PLR2004 - the instrument's own numbers
            self.measuring, self.produced, self._counter = True, 0, 0
            self.at_start()
        elif opcode == 0x07 and self.measuring:  # noqa: PLR2004
            self.produce(self.slow_to_stop)
            self.measuring = self.streams_on
        elif opcode == 0x0C:  # noqa: PLR2004
            self.powered = arguments == b"\x01"
        elif opcode == 0x0D:  # noqa: PLR2004
            self.voltage_mv = int.from_bytes(arguments, "big")
        elif opcode == 0x11:  # noqa: PLR2004
            self.mode = arguments[0]
        elif opcode == 0x19 and not self.measuring:  # noqa: PLR2004
            self.send(self.greeting + self._told())

    def _told(self) -> bytes:
        told = self.metadata | {"VDD": str(self.voltage_mv), "mode": str(self.mode)}
        lines = [f"{key}: {value}" for key, value in told.items()]
        return ("\n".join(lines) + "\nEND").encode()

    # ---- words -----------------------------------------------------------------------------

    def produce(
        self,
        samples: int | Currents,
        logic: NDArray[np.uint8] | int = LOGIC_IDLE,
    ) -> Currents:
        """Stream samples: so many of 1 mA, or these currents; what they were rounded to."""
        if isinstance(samples, int):
            samples = np.full(samples, 1e-3)
        words, rounded = self._encode(samples)
        words |= np.asarray(logic, np.uint32) << np.uint32(24)
        self.stream(words)
        return rounded

    def stream(self, words: Words) -> None:
        """Stream these words, under the counter's values."""
        count = len(words)
        counters = (self._counter + np.arange(count, dtype=np.uint32)) % np.uint32(TURN)
        self._counter = (self._counter + count) % TURN
        self.produced += count
        if self.measuring:
            self._pass_on((words | counters << np.uint32(18)).astype("<u4").tobytes())

    def lose_samples(self, count: int) -> None:
        """Samples the instrument took but had no room for."""
        self._counter = (self._counter + count) % TURN
        self.produced += count

    def lose_bytes(self, count: int) -> None:
        """The next bytes never reach the host."""
        self._bytes_to_lose += count

    def _pass_on(self, data: bytes) -> None:
        lost = min(self._bytes_to_lose, len(data))
        self._bytes_to_lose -= lost
        self._backlog += data[lost:]
        if not self.held:
            self.send(bytes(self._backlog))
            self._backlog.clear()

    def _encode(self, current_a: Currents) -> tuple[Words, Currents]:
        """Words without counter and logic, and the currents they stand for."""
        ranges = self._follow(current_a)
        table = [self._number(name) for name in ("R", "GS", "GI", "O", "S", "I", "UG")]
        shunt, square, gain, offset, slope, bias, user = (row[ranges] for row in table)
        vdd = self.voltage_mv / 1000
        wanted = current_a / user - (slope * vdd + bias)
        # the positive root of square·w² + gain·w = wanted, written so that square may be 0
        w = 2 * wanted / (gain + np.sqrt(np.maximum(gain**2 + 4 * square * wanted, 0)))
        step = 1.8 / 163840 / shunt
        adc = (w / step + offset) / 4 + self._random.uniform(-0.5, 0.5, len(w))
        adc = np.clip(np.rint(adc), 0, 0x3FFF)
        w = (4 * adc - offset) * step
        rounded = user * (w * (square * w + gain) + (slope * vdd + bias))
        return adc.astype(np.uint32) | (ranges.astype(np.uint32) << np.uint32(14)), rounded

    def _follow(self, current_a: Currents) -> NDArray[np.intp]:
        """The range of each sample: up at :data:`UP_A`, down at :data:`DOWN_A`."""
        if not len(current_a):
            return np.empty(0, np.intp)
        least = np.searchsorted(UP_A, current_a)
        most = np.searchsorted(DOWN_A, current_a)
        changes = np.flatnonzero((np.diff(least) != 0) | (np.diff(most) != 0)) + 1
        starts = np.concatenate([[0], changes])
        ranges = np.empty(len(starts), np.intp)
        for number, start in enumerate(starts):
            self._range = int(min(max(self._range, least[start]), most[start]))
            ranges[number] = self._range
        return np.repeat(ranges, np.diff(np.concatenate([starts, [len(current_a)]])))

    def _number(self, name: str) -> Currents:
        return np.array([float(self.metadata[f"{name}{index}"]) for index in range(5)])

    # ---- by hand -----------------------------------------------------------------------------

    async def live(self) -> None:
        """Stream the load of :mod:`labd.fakes.load` while measuring, until cancelled."""
        start: float | None = None
        while True:
            await asyncio.sleep(BLOCK_S)
            if not self.measuring:
                start = None
                continue
            now = time.monotonic()
            start = now if start is None else start
            self.produce_until(now - start)

    def produce_until(self, t_s: float) -> None:
        """Stream the load up to a time since the start; nothing flows while it is off."""
        due = int(t_s * RATE_HZ) - self.produced
        if due <= 0:
            return
        times = (self.produced + np.arange(due)) / RATE_HZ
        current = load.current_a(times) if self.powered else np.zeros(due)
        self.produce(current, load.timestamp_high(times).astype(np.uint8))


def default_metadata() -> dict[str, str]:
    """A calibrated instrument's coefficients; VDD and mode are added when it is asked."""
    told = {"Calibrated": "0"}
    told |= {f"R{index}": f"{shunt:.4f}" for index, shunt in enumerate(SHUNTS)}
    rows = {
        "GS": ("0.0000", "112.7890", "17.2343", "2.3210", "0.1480"),
        "GI": ("1.0000", "0.9776", "0.9896", "1.0012", "0.9805"),
        "O": ("98.4130", "87.2100", "91.5060", "79.8630", "84.0350"),
        "S": ("0.000000048", "0.000000596", "0.000005281", "0.000062577", "0.002940743"),
        "I": ("-0.000000104", "-0.000001443", "0.000036439", "-0.000374119", "-0.009388455"),
        "UG": ("1.00",) * 5,
    }
    for name, row in rows.items():
        told |= {f"{name}{index}": value for index, value in enumerate(row)}
    return told | {"HW": "9173", "IA": "56"}


def plug() -> PtyCable:
    """The fake behind a serial cable."""
    return PtyCable(FakePpk2())
