"""A DUT as the reference firmware and the published logs show it, byte for byte."""

from __future__ import annotations

import asyncio
import random
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from labd.simulation.cable import PtyCable

COMMAND_SIZE = 80
KWS01_OUTPUTS = 12


@dataclass(frozen=True)
class Habits:
    """Deviations seen in published session logs."""

    echo: bool = False
    trailing_comma: bool = False
    debug_text: bool = False
    noise: bool = False
    bare_newline: bool = False
    ready_prefix: str = ""
    glued_lap: bool = False
    first_lap: int = 67_410_227


SEEN = {
    "reference": Habits(),
    "echo": Habits(echo=True),
    "trailing-comma": Habits(trailing_comma=True),
    "debug-text": Habits(debug_text=True),
    "noise": Habits(noise=True),
    "bare-newline": Habits(bare_newline=True),
    "blank-before-ready": Habits(ready_prefix="   "),
    "text-before-ready": Habits(ready_prefix="dut: "),
    "lap-not-at-line-start": Habits(glued_lap=True),
    "wrapping-laps": Habits(first_lap=4_294_809_060),
    "everything": Habits(
        echo=True,
        trailing_comma=True,
        debug_text=True,
        noise=True,
        bare_newline=True,
        ready_prefix=" dut: ",
        glued_lap=True,
        first_lap=4_294_967_295,
    ),
}


class SimulatedDut:
    """The harness: a command buffer of 80 characters, an input buffer, a lap counter."""

    us_per_inference = 155_587
    results = (0.0, -0.125, 0.992)

    def __init__(
        self, habits: Habits = SEEN["reference"], *, energy: bool = False, model: str = "kws01"
    ) -> None:
        self.habits = habits
        self.energy = energy
        self.model = model
        self.send: Callable[[bytes], None] = lambda _: None
        self.powered = True
        self.hung = False
        self.commands: list[str] = []
        self.input = b""
        self.pulses = 0
        self.spoil: Callable[[str], str] = lambda text: text
        self.after_command: Callable[[str], None] = lambda _: None
        self.on_pulse: Callable[[], None] = lambda: None
        self._buffer = ""
        self.computing = False
        self._expected = 0
        self._lap = habits.first_lap

    @property
    def now_us(self) -> int:
        """Its own clock, which an inference moves on and nothing else does."""
        return self._lap

    def boot(self) -> None:
        """Power on: the prologue."""
        self.powered, self._buffer, self.input, self._expected = True, "", b"", 0
        self._say(f"m-timestamp-mode-{'energy' if self.energy else 'performance'}")
        self._timestamp()
        self._say("m-init-done")
        self._ready()

    async def live(self) -> None:
        """Boot, then only answer."""
        self.boot()
        await asyncio.Event().wait()

    def receive(self, data: bytes) -> None:
        """Characters from the host; ``%`` ends a command."""
        if not self.powered or self.hung:
            return
        for character in data.decode("ascii", "replace"):
            if character == "%":
                text, self._buffer = self.spoil(self._buffer), ""
                self._execute(text)
            elif len(self._buffer) < COMMAND_SIZE:
                self._buffer += character
            else:
                self._buffer = self._buffer[:-1] + character

    def _execute(self, text: str) -> None:
        self.commands.append(text)
        if self.habits.echo:
            self._raw(f"{text}%".encode())
        word, *arguments = text.split() or [""]
        handler = {
            "name": self._name,
            "profile": self._profile,
            "timestamp": self._on_timestamp,
            "db": self._db,
            "infer": self._infer,
            "results": self._results,
        }.get(word)
        if handler is None:
            self._say(f"e-[Unknown command: {word}]")
        else:
            handler(arguments)
        if not self.computing:
            self._finish(text)

    def _finish(self, text: str) -> None:
        self.after_command(text)
        self._ready()

    def _name(self, _: list[str]) -> None:
        self._say("m-name-dut-[unspecified]")

    def _profile(self, _: list[str]) -> None:
        self._say("m-profile-[ULPMark for tinyML Firmware V0.0.1]")
        self._say(f"m-model-[{self.model}]")

    def _on_timestamp(self, _: list[str]) -> None:
        self._timestamp()

    def _db(self, arguments: list[str]) -> None:
        if not arguments:
            self._say("e-[Command 'db' requires a subcommand]")
        elif arguments[0] == "load":
            self._expected, self.input = int(arguments[1]), b""
            self._say(f"m-[Expecting {self._expected} bytes]")
        elif len(arguments[0]) % 2:
            self._say("e-[Insufficent number of hex digits]")
        elif not re.fullmatch("[0-9a-fA-F]*", arguments[0]):
            self._say(f"e-[Invalid hex digit '{arguments[0][:2]}']")
        else:
            self._take(bytes.fromhex(arguments[0]))

    def _take(self, data: bytes) -> None:
        self.input = (self.input + data)[: self._expected]
        if len(self.input) == self._expected:
            self._say("m-load-done")

    def _infer(self, arguments: list[str]) -> None:
        iterations, warmups = int(arguments[0]), int((*arguments, "10")[1])
        if iterations < 1:
            self._say("e-[Inference iterations must be >0]")
            return
        if len(self.input) < self._expected:
            self._raw(
                f"Input db has {len(self.input)} elemented, expected {self._expected}\n".encode()
            )
        self._say(f"m-warmup-start-{warmups}")
        self._say("m-warmup-done")
        self._say(f"m-infer-start-{iterations}")
        self._timestamp()
        self._compute(iterations)

    def _compute(self, iterations: int) -> None:
        """Here in no time; only the DUT's own clock moves on."""
        self._lap += iterations * self.us_per_inference
        self._computed()

    def _computed(self) -> None:
        self._timestamp()
        self._say("m-infer-done")
        self._results([])

    def _results(self, _: list[str]) -> None:
        text = ",".join(f"{value:.3f}" for value in self.results)
        self._say(f"m-results-[{text}{',' if self.habits.trailing_comma else ''}]")

    def _timestamp(self) -> None:
        if self.energy:
            self.pulses += 1
            self.on_pulse()
            return
        glue = "tick " if self.habits.glued_lap else ""
        self._say(f"{glue}m-lap-us-{self._lap % 2**32}")

    def _ready(self) -> None:
        self._say(f"{self.habits.ready_prefix}m-ready")

    def _say(self, text: str) -> None:
        if self.habits.debug_text and not text.endswith("m-ready"):
            self._raw(b"[vendor] heap 1234 free\r\n")
        line = text.encode() + (b"\n" if self.habits.bare_newline else b"\r\n")
        if self.habits.noise:
            line = b"\x00\xff" + line[:3] + b"\x80" + line[3:]
        self._raw(line)

    def _raw(self, data: bytes) -> None:
        self.send(data)


class HandDut(SimulatedDut):
    """A kws01 board to run jobs on by hand: it takes its time, and answers by its input.

    Its clock is the host's. What is sent to it while it computes is lost, as on a board that
    does not read its UART then. Its answers are chance: twelve probabilities in 256ths as an
    int8 network prints them, the same for the same input. ``on_batch`` is told the start and
    the stop of each batch, µs of its clock: its processing pin.
    """

    def __init__(self, *, energy: bool = False) -> None:
        super().__init__(energy=energy)
        self.on_batch: Callable[[int, int], None] = lambda _start, _stop: None
        self._born_ns = time.monotonic_ns()

    def receive(self, data: bytes) -> None:
        """Characters from the host."""
        if not self.computing:
            super().receive(data)

    def _timestamp(self) -> None:
        self._lap = self.habits.first_lap + (time.monotonic_ns() - self._born_ns) // 1000
        super()._timestamp()

    def _compute(self, iterations: int) -> None:
        self.computing = True
        seconds = iterations * self.us_per_inference / 1e6
        asyncio.get_running_loop().call_later(seconds, self._woke, self.now_us)

    def _woke(self, start_us: int) -> None:
        self.computing = False
        self._computed()
        self.on_batch(start_us, self.now_us)
        self._finish("infer")

    def _results(self, _: list[str]) -> None:
        self.results = chance_results(self.input)
        super()._results(_)


def chance_results(data: bytes) -> tuple[float, ...]:
    """Twelve probabilities in 256ths that add up to 1, the same for the same input."""
    draw = random.Random(zlib.crc32(data))  # noqa: S311 - an answer, not a secret
    weights = [draw.random() ** 8 for _ in range(KWS01_OUTPUTS)]
    shares = [round(256 * weight / sum(weights)) for weight in weights]
    shares[shares.index(max(shares))] += 256 - sum(shares)
    return tuple(share / 256 for share in shares)


def plug(*, energy: bool = False) -> PtyCable:
    """A kws01 board on its own serial port."""
    return PtyCable(HandDut(energy=energy))
