"""A DUT with the replies of the reference firmware and of the published session logs."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from labd.protocol.words import (
    BOOTED,
    COUNTER_MODULUS,
    INFER_DONE,
    INFER_START,
    LAP,
    LOAD_DONE,
    MODEL,
    NAME,
    PROFILE,
    READY,
    RESULTS,
    TIMESTAMP_MODE,
    WARMUP_START,
)
from labd.simulation.cable import PtyCable
from labd.simulation.virtual_time import PS_PER_US, Agenda, LoopAgenda

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
    """The test harness: a command buffer of 80 characters, an input buffer, a µs counter.

    Like a board that does not read its UART while it computes, it loses what it is sent then.

    Args:
        habits: of its firmware.
        agenda: its time; by default nothing takes time.
        energy: pulse a pin for each timestamp instead of printing a lap.
        model: that it claims to run.
        by_chance: answer with twelve probabilities that depend on the input; with
            ``results`` otherwise.

    Attributes:
        results: the output of the last inference.
        hung: ignores the host until this is set false.
        corrupt: changes a command on its way to the DUT.
        after_command: called with a command before its ``m-ready``.
        on_pulse: called at each timestamp of the energy build.
        on_processing: called with the level of the processing pin when it changes.
    """

    us_per_inference = 155_587
    results = (0.0, -0.125, 0.992)

    def __init__(
        self,
        habits: Habits = SEEN["reference"],
        *,
        agenda: Agenda | None = None,
        energy: bool = False,
        model: str = "kws01",
        by_chance: bool = False,
    ) -> None:
        self.agenda = agenda or LoopAgenda(real_time=False)
        self.habits = habits
        self.energy = energy
        self.model = model
        self._by_chance = by_chance
        self.send: Callable[[bytes], None] = lambda _: None
        self.powered = True
        self.hung = False
        self.commands: list[str] = []
        self.input = b""
        self.pulses = 0
        self.corrupt: Callable[[str], str] = lambda text: text
        self.after_command: Callable[[str], None] = lambda _: None
        self.on_pulse: Callable[[], None] = lambda: None
        self.on_processing: Callable[[bool], None] = lambda _: None
        self._buffer = ""
        self.computing = False
        self._expected = 0

    @property
    def now_us(self) -> int:
        """Its microsecond counter, without wrap."""
        return self.habits.first_lap + self.agenda.now_ps() // PS_PER_US

    def boot(self) -> None:
        """Switch on: print the prologue."""
        self.powered, self.computing = True, False
        self._buffer, self.input, self._expected = "", b"", 0
        self._print(f"{TIMESTAMP_MODE}{'energy' if self.energy else 'performance'}")
        self._timestamp()
        self._print(BOOTED)
        self._ready()

    def receive(self, data: bytes) -> None:
        """Take characters from the host; ``%`` ends a command."""
        if not self.powered or self.hung or self.computing:
            return
        for character in data.decode("ascii", "replace"):
            if character == "%":
                text, self._buffer = self.corrupt(self._buffer), ""
                self._execute(text)
            elif len(self._buffer) < COMMAND_SIZE:
                self._buffer += character
            else:
                self._buffer = self._buffer[:-1] + character

    def _execute(self, text: str) -> None:
        self.commands.append(text)
        if self.habits.echo:
            self.send(f"{text}%".encode())
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
            self._print(f"e-[Unknown command: {word}]")
        else:
            handler(arguments)
        if not self.computing:
            self._finish(text)

    def _finish(self, text: str) -> None:
        self.after_command(text)
        self._ready()

    def _name(self, _: list[str]) -> None:
        self._print(f"{NAME}dut-[unspecified]")

    def _profile(self, _: list[str]) -> None:
        self._print(f"{PROFILE}ULPMark for tinyML Firmware V0.0.1]")
        self._print(f"{MODEL}{self.model}]")

    def _on_timestamp(self, _: list[str]) -> None:
        self._timestamp()

    def _db(self, arguments: list[str]) -> None:
        if not arguments:
            self._print("e-[Command 'db' requires a subcommand]")
        elif arguments[0] == "load":
            self._expected, self.input = int(arguments[1]), b""
            self._print(f"m-[Expecting {self._expected} bytes]")
        elif len(arguments[0]) % 2:
            self._print("e-[Insufficent number of hex digits]")
        elif not re.fullmatch("[0-9a-fA-F]*", arguments[0]):
            self._print(f"e-[Invalid hex digit '{arguments[0][:2]}']")
        else:
            self._take(bytes.fromhex(arguments[0]))

    def _take(self, data: bytes) -> None:
        self.input = (self.input + data)[: self._expected]
        if len(self.input) == self._expected:
            self._print(LOAD_DONE)

    def _infer(self, arguments: list[str]) -> None:
        iterations, warmups = int(arguments[0]), int((*arguments, "10")[1])
        if iterations < 1:
            self._print("e-[Inference iterations must be >0]")
            return
        if len(self.input) < self._expected:
            self.send(
                f"Input db has {len(self.input)} elemented, expected {self._expected}\n".encode()
            )
        self._print(f"{WARMUP_START}{warmups}")
        self._print("m-warmup-done")
        self._print(f"{INFER_START}{iterations}")
        self._timestamp()
        self._compute(iterations)

    def _compute(self, iterations: int) -> None:
        self.computing = True
        self.on_processing(True)  # noqa: FBT003 - a level
        duration_ps = iterations * self.us_per_inference * PS_PER_US
        self.agenda.at(self.agenda.now_ps() + duration_ps, self._computed, waits=True)

    def _computed(self, _at_ps: int) -> None:
        if not self.computing:
            return  # restarted meanwhile
        self._timestamp()
        self.on_processing(False)  # noqa: FBT003 - a level
        self._report()

    def _report(self) -> None:
        self.computing = False
        self._print(INFER_DONE)
        self._results([])
        self._finish("infer")

    def _results(self, _: list[str]) -> None:
        if self._by_chance:
            self.results = chance_results(self.input)
        text = ",".join(f"{value:.3f}" for value in self.results)
        self._print(f"{RESULTS}{text}{',' if self.habits.trailing_comma else ''}]")

    def _timestamp(self) -> None:
        if self.energy:
            self.pulses += 1
            self.on_pulse()
            return
        glue = "tick " if self.habits.glued_lap else ""
        self._print(f"{glue}{LAP}{self.now_us % COUNTER_MODULUS}")

    def _ready(self) -> None:
        self._print(f"{self.habits.ready_prefix}{READY}")

    def _print(self, text: str) -> None:
        if self.habits.debug_text and not text.endswith(READY):
            self.send(b"[vendor] heap 1234 free\r\n")
        line = text.encode() + (b"\n" if self.habits.bare_newline else b"\r\n")
        if self.habits.noise:
            line = b"\x00\xff" + line[:3] + b"\x80" + line[3:]
        self.send(line)


def chance_results(data: bytes) -> tuple[float, ...]:
    """Return twelve probabilities in 256ths that add up to 1, as an int8 network prints them.

    The same input gives the same ones.
    """
    draw = random.Random(zlib.crc32(data))  # noqa: S311 - an answer, not a secret
    weights = [draw.random() ** 8 for _ in range(KWS01_OUTPUTS)]
    shares = [round(256 * weight / sum(weights)) for weight in weights]
    shares[shares.index(max(shares))] += 256 - sum(shares)
    return tuple(share / 256 for share in shares)


def plug(*, energy: bool = False) -> PtyCable:
    """Return a kws01 board on its own serial port."""
    dut = SimulatedDut(agenda=LoopAgenda(real_time=True), energy=energy, by_chance=True)
    cable = PtyCable(dut)
    dut.boot()
    return cable
