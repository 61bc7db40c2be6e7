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

from labd.simulation.cable import PtyCable
from labd.simulation.instruments import load
from labd.simulation.instruments.ppk2.words import (
    ARGUMENTS,
    LOGIC_SHIFT,
    RATE_HZ,
    TURN,
    Currents,
    Encoder,
    Words,
    counted,
    metadata,
    told,
)

BLOCK_S = 0.01
LOGIC_IDLE = 0x01  # D0, the timestamp line, idles high; D1…D7 are not wired and read low


class FakePpk2:
    """``metadata`` are its lines; ``deaf`` is a port of the firmware's that answers nothing.

    ``at_start`` is called when it begins to measure, ``slow_to_stop`` words more come after a
    stop, and with ``streams_on`` it does not stop. ``held`` keeps what it sends, as a host that
    stalls does, until it is set false and the next words come.
    """

    def __init__(self) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.metadata: dict[str, str] = metadata()
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
        self._encoder = Encoder(self.metadata, seed=2)
        self._counter = 0
        self._backlog = bytearray()
        self._bytes_to_lose = 0

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
            self._encoder = Encoder(self.metadata, seed=2)
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
        return told(self.metadata | {"VDD": str(self.voltage_mv), "mode": str(self.mode)})

    # ---- words -----------------------------------------------------------------------------

    def produce(
        self,
        samples: int | Currents,
        logic: NDArray[np.uint8] | int = LOGIC_IDLE,
    ) -> Currents:
        """Stream samples: so many of 1 mA, or these currents; what they were rounded to."""
        if isinstance(samples, int):
            samples = np.full(samples, 1e-3)
        words, rounded = self._encoder.words(samples, self.voltage_mv / 1000)
        words |= np.asarray(logic, np.uint32) << np.uint32(LOGIC_SHIFT)
        self.stream(words)
        return rounded

    def stream(self, words: Words) -> None:
        """Stream these words, under the counter's values."""
        if self.measuring:
            self._pass_on(counted(words, self._counter))
        self.lose_samples(len(words))

    def lose_samples(self, count: int) -> None:
        """Samples the instrument took but had no room for: counter and time go on."""
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

    # ---- by hand -----------------------------------------------------------------------------

    async def live(self) -> None:
        """Stream the load of :mod:`.load` while measuring, until cancelled."""
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


def plug() -> PtyCable:
    """The fake behind a serial cable."""
    return PtyCable(FakePpk2())
