"""A simulated Acme 9000: answers commands, and streams samples on request or in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from docs.examples.acme9000 import COUNTER, RATE_HZ, checksum


class SimulatedAcme9000:
    """The instrument's side of the protocol.

    ``lose`` drops that many of the next lines of the stream, as a full buffer does.
    """

    def __init__(self) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.voltage_mv = 0
        self.measuring = False
        self.produced = 0
        self.lose = 0
        self._text = b""

    def receive(self, data: bytes) -> None:
        """Take bytes from the host; they may cut a command anywhere."""
        *commands, self._text = (self._text + data).split(b"\n")
        for command in commands:
            self._execute(command.decode("ascii", "replace").strip())

    def _execute(self, command: str) -> None:
        if command == "*IDN?":
            self.send(b"ACME,9000,0042,1.3\n")
        elif command.startswith("v ") and command[2:].isdecimal():
            self.voltage_mv = int(command[2:])
            self.send(b"ok\n")
        elif command == "run":
            self.measuring, self.produced = True, 0
            self.produce(1e-3, 1)
        elif command == "stop":
            if self.measuring:
                self.measuring = False
                self._stream(f"end {self.produced}")
        elif command:
            self.send(f"error unknown command {command}\n".encode("ascii", "replace"))

    def produce(self, current_a: float, samples: int) -> None:
        """Measure this current for ``samples`` sample periods."""
        for _ in range(samples if self.measuring else 0):
            counter = self.produced % COUNTER
            self.produced += 1
            self._stream(f"s {counter} {current_a:.6g}")

    def edge(self) -> None:
        """The TRIG input falls now."""
        self._stream("t")

    def _stream(self, text: str) -> None:
        if self.lose:
            self.lose -= 1
        else:
            self.send(f"{text}*{checksum(text)}\n".encode("ascii"))

    async def live(self) -> None:
        """Measure 1 mA in real time while running, until cancelled."""
        start = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            if not self.measuring:
                start = time.monotonic()
            self.produce(1e-3, int((time.monotonic() - start) * RATE_HZ) - self.produced)
