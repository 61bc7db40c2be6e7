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
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.virtual_time import PS_PER_US, Agenda, LoopAgenda

COMMAND_SIZE = 80
KWS01_OUTPUTS = 12


@dataclass(frozen=True)
class FirmwareQuirks:
    """Deviations seen in published session logs."""

    echo: bool = False
    trailing_comma: bool = False
    debug_text: bool = False
    noise: bool = False
    bare_newline: bool = False
    ready_prefix: str = ""
    glued_lap: bool = False
    first_lap: int = 67_410_227


KNOWN_FIRMWARES = {
    "reference": FirmwareQuirks(),
    "echo": FirmwareQuirks(echo=True),
    "trailing-comma": FirmwareQuirks(trailing_comma=True),
    "debug-text": FirmwareQuirks(debug_text=True),
    "noise": FirmwareQuirks(noise=True),
    "bare-newline": FirmwareQuirks(bare_newline=True),
    "blank-before-ready": FirmwareQuirks(ready_prefix="   "),
    "text-before-ready": FirmwareQuirks(ready_prefix="dut: "),
    "lap-not-at-line-start": FirmwareQuirks(glued_lap=True),
    "wrapping-laps": FirmwareQuirks(first_lap=4_294_809_060),
    "everything": FirmwareQuirks(
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
        quirks: of its firmware.
        agenda: its time; by default nothing takes time.
        energy: pulse a pin for each timestamp instead of printing a lap.
        model: that it claims to run.
        random_results: answer with twelve probabilities that depend on the input; with
            ``results`` otherwise.

    Attributes:
        results: the output of the last inference.
        is_hung: ignores the host until this is set false.
        batch_ps: returns the time that a number of inferences takes, ps.
        corrupt_command: changes a command on its way to the DUT.
        reword_line: changes a line on its way to the host; a character is a byte.
        after_command: called with a command before its ``m-ready``.
        on_pulse: called at each timestamp of the energy build.
        on_processing: called with the level of the processing pin when it changes.
    """

    us_per_inference = 155_587
    results = (0.0, -0.125, 0.992)

    def __init__(
        self,
        quirks: FirmwareQuirks = KNOWN_FIRMWARES["reference"],
        *,
        agenda: Agenda | None = None,
        energy: bool = False,
        model: str = "kws01",
        random_results: bool = False,
    ) -> None:
        self.agenda = agenda or LoopAgenda(real_time=False)
        self.quirks = quirks
        self.energy = energy
        self.model = model
        self._random_results = random_results
        self.send: Callable[[bytes], None] = lambda _: None
        self.is_powered = True
        self.is_hung = False
        self.commands: list[str] = []
        self.input = b""
        self.pulses = 0
        self.batch_ps: Callable[[int], int] = lambda number: (
            number * self.us_per_inference * PS_PER_US
        )
        self.corrupt_command: Callable[[str], str] = lambda text: text
        self.reword_line: Callable[[str], str] = lambda text: text
        self.after_command: Callable[[str], None] = lambda _: None
        self.on_pulse: Callable[[], None] = lambda: None
        self.on_processing: Callable[[bool], None] = lambda _: None
        self._buffer = ""
        self.is_computing = False
        self._expected = 0

    @property
    def now_us(self) -> int:
        """Its microsecond counter, without wrap."""
        return self.quirks.first_lap + self.agenda.now_ps() // PS_PER_US

    def boot(self) -> None:
        """Switch on: print the prologue."""
        self.is_powered, self.is_computing = True, False
        self._buffer, self.input, self._expected = "", b"", 0
        self._print_line(f"{TIMESTAMP_MODE}{'energy' if self.energy else 'performance'}")
        self._mark_timestamp()
        self._print_line(BOOTED)
        self._print_ready()

    def receive(self, data: bytes) -> None:
        """Take characters from the host; ``%`` ends a command."""
        if not self.is_powered or self.is_hung or self.is_computing:
            return
        for character in data.decode("ascii", "replace"):
            if character == "%":
                text, self._buffer = self.corrupt_command(self._buffer), ""
                self._execute_command(text)
            elif len(self._buffer) < COMMAND_SIZE:
                self._buffer += character
            else:
                self._buffer = self._buffer[:-1] + character

    def _execute_command(self, text: str) -> None:
        self.commands.append(text)
        if self.quirks.echo:
            self.send(f"{text}%".encode())
        word, *arguments = text.split() or [""]
        handler = {
            "name": self._report_name,
            "profile": self._report_profile,
            "timestamp": self._execute_timestamp,
            "db": self._load_input,
            "infer": self._start_inference,
            "results": self._report_results,
        }.get(word)
        if handler is None:
            self._print_line(f"e-[Unknown command: {word}]")
        else:
            handler(arguments)
        if not self.is_computing:
            self._finish_command(text)

    def _finish_command(self, text: str) -> None:
        self.after_command(text)
        self._print_ready()

    def _report_name(self, _: list[str]) -> None:
        self._print_line(f"{NAME}dut-[simulated]")

    def _report_profile(self, _: list[str]) -> None:
        self._print_line(f"{PROFILE}ULPMark for tinyML Firmware V0.0.1]")
        self._print_line(f"{MODEL}{self.model}]")

    def _execute_timestamp(self, _: list[str]) -> None:
        self._mark_timestamp()

    def _load_input(self, arguments: list[str]) -> None:
        if not arguments:
            self._print_line("e-[Command 'db' requires a subcommand]")
        elif arguments[0] == "load":
            self._expected, self.input = int(arguments[1]), b""
            self._print_line(f"m-[Expecting {self._expected} bytes]")
        elif len(arguments[0]) % 2:
            self._print_line("e-[Insufficent number of hex digits]")
        elif not re.fullmatch("[0-9a-fA-F]*", arguments[0]):
            self._print_line(f"e-[Invalid hex digit '{arguments[0][:2]}']")
        else:
            self._append_input(bytes.fromhex(arguments[0]))

    def _append_input(self, data: bytes) -> None:
        self.input = (self.input + data)[: self._expected]
        if len(self.input) == self._expected:
            self._print_line(LOAD_DONE)

    def _start_inference(self, arguments: list[str]) -> None:
        iterations, warmups = _read_int32(arguments[0]), _read_int32((*arguments, "10")[1])
        if iterations < 1:
            self._print_line("e-[Inference iterations must be >0]")
            return
        if len(self.input) < self._expected:
            self.send(
                f"Input db has {len(self.input)} elemented, expected {self._expected}\n".encode()
            )
        self._print_line(f"{WARMUP_START}{warmups}")
        self._print_line("m-warmup-done")
        self._print_line(f"{INFER_START}{iterations}")
        self._mark_timestamp()
        self._start_computing(iterations)

    def _start_computing(self, iterations: int) -> None:
        self.is_computing = True
        self.on_processing(True)  # noqa: FBT003 - a level
        due_ps = self.agenda.now_ps() + self.batch_ps(iterations)
        self.agenda.schedule(due_ps, self._finish_computing, waits=True)

    def _finish_computing(self, _at_ps: int) -> None:
        if not self.is_computing:
            return  # restarted meanwhile
        self._mark_timestamp()
        self.on_processing(False)  # noqa: FBT003 - a level
        self._report_inference_done()

    def _report_inference_done(self) -> None:
        self.is_computing = False
        self._print_line(INFER_DONE)
        self._report_results([])
        self._finish_command("infer")

    def _report_results(self, _: list[str]) -> None:
        if self._random_results:
            self.results = pseudo_random_results(self.input)
        text = ",".join(f"{value:.3f}" for value in self.results)
        self._print_line(f"{RESULTS}{text}{',' if self.quirks.trailing_comma else ''}]")

    def _mark_timestamp(self) -> None:
        if self.energy:
            self.pulses += 1
            self.on_pulse()
            return
        glue = "tick " if self.quirks.glued_lap else ""
        self._print_line(f"{glue}{LAP}{self.now_us % COUNTER_MODULUS}")

    def _print_ready(self) -> None:
        self._print_line(f"{self.quirks.ready_prefix}{READY}")

    def _print_line(self, text: str) -> None:
        if self.quirks.debug_text and not text.endswith(READY):
            self.send(b"[vendor] heap 1234 free\r\n")
        end = "\n" if self.quirks.bare_newline else "\r\n"
        line = f"{self.reword_line(text)}{end}".encode("latin-1")
        if self.quirks.noise:
            line = b"\x00\xff" + line[:3] + b"\x80" + line[3:]
        self.send(line)


def _read_int32(text: str) -> int:
    """Read a number as ``atoi`` of the reference firmware does: modulo 2^32, with a sign."""
    return (int(text) + 2**31) % 2**32 - 2**31


def pseudo_random_results(data: bytes) -> tuple[float, ...]:
    """Return twelve probabilities in 256ths that add up to 1, as an int8 network prints them.

    The same input gives the same ones.
    """
    draw = random.Random(zlib.crc32(data))  # noqa: S311 - an answer, not a secret
    weights = [draw.random() ** 8 for _ in range(KWS01_OUTPUTS)]
    shares = [round(256 * weight / sum(weights)) for weight in weights]
    shares[shares.index(max(shares))] += 256 - sum(shares)
    return tuple(share / 256 for share in shares)


def serve_reference_dut_on_pty(*, energy: bool = False) -> PtyCable:
    """Return a kws01 board on its own serial port."""
    dut = SimulatedDut(agenda=LoopAgenda(real_time=True), energy=energy, random_results=True)
    cable = PtyCable(dut)
    dut.boot()
    return cable
