"""A Nordic PPK2 in source or ampere mode.

Opcodes as in Nordic's pc-nrfconnect-ppk. Sample k is the mean current of the period from k to
k + 1 times 10 µs after the start, rounded as the instrument would; its logic bits are the
levels at the end of that period, D0 being the timestamp line. Its ADC and spike problems are
not simulated: the mean current of a period decides the range.

Decided here, because the sources leave it open: while it measures it answers no question; it
ignores an opcode that it does not know; when nobody reads, samples are lost.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.ppk2.encoder import (
    ARGUMENT_BYTES,
    COUNTER_MODULUS,
    LOGIC_SHIFT,
    Currents,
    Encoder,
    add_counters,
    calibration_lines,
    format_metadata,
)
from labd.simulation.instruments.synthetic_load import Load, SyntheticLoad
from labd.simulation.instruments.wall_clock_streaming import advance_by_wall_clock
from labd.simulation.virtual_time import PS_PER_S, PS_PER_US, Agenda, LoopAgenda

PERIOD_PS = 10 * PS_PER_US
MAX_BLOCK_SAMPLES = 2000
"""Samples made at a time, at most."""

MIN_MESSAGE_SAMPLES = 200
"""Samples sent at a time, at least, until the acquisition ends."""

OVERRUN_SAMPLES = 5003
"""Samples lost when nobody reads."""

DEFAULT_MV = 3300
LOGIC_IDLE = 0x01
"""D0, the timestamp line, idles high; D1 to D7 are not wired and read low."""


class SimulatedPpk2:
    """The instrument between a host's opcodes and the load at its output.

    Args:
        agenda: its clock; by default it stands still.
        load: at its output; by default a made-up board.
        seed: of its dither.

    Attributes:
        metadata: lines of its answer to the metadata command.
        greeting: bytes before each answer.
        answers_nothing: answers nothing, like the second port of newer firmware.
        at_start: called when it begins to measure.
        late_samples: samples that still come after a stop.
        ignores_stop: measures on after a stop.
        opcodes: every command so far.
        taken: samples of this acquisition so far, lost ones included.
    """

    def __init__(
        self, agenda: Agenda | None = None, load: Load | None = None, *, seed: int = 2
    ) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.agenda = agenda or LoopAgenda(real_time=False)
        self.load = load or SyntheticLoad()
        self.metadata = calibration_lines()
        self.greeting = b""
        self.answers_nothing = False
        self.at_start: Callable[[], object] = lambda: None
        self.late_samples = 0
        self.ignores_stop = False
        self.opcodes: list[bytes] = []
        self.is_acquiring = False
        self.mode = 1
        self.voltage_mv = DEFAULT_MV
        self._seed = seed
        self._received = b""
        self._encoder = Encoder(self.metadata, seed)
        self._start_ps = 0
        self.taken = 0
        self._to_lose = 0
        self._level = self._line_level = True
        self._changes: list[int] = []  # samples at which D0 changes
        self._handlers: dict[int, Callable[[bytes], None]] = {
            0x06: lambda _: self._start_measuring(),
            0x07: lambda _: self._stop_measuring(),
            0x0C: lambda argument: self._switch_output(on=argument == b"\x01"),
            0x0D: lambda voltage: self._set_output_voltage(int.from_bytes(voltage, "big")),
            0x11: self._set_mode,
            0x19: lambda _: self._send_metadata(),
            0x20: lambda _: self.restart(),
        }

    # ---- opcodes ---------------------------------------------------------------------------

    def first_command_size(self, data: bytes | bytearray) -> int:
        """Return the length of the first command in ``data``; 0 if it is not whole."""
        size = 1 + ARGUMENT_BYTES.get(data[0], 0) if data else 0
        return size if size <= len(data) else 0

    def receive(self, data: bytes) -> None:
        """Take opcodes and arguments from the host, in pieces of any size."""
        self._received += data
        while size := self.first_command_size(self._received):
            command, self._received = self._received[:size], self._received[size:]
            self.opcodes.append(command)
            handler = self._handlers.get(command[0])
            if handler is not None and not self.answers_nothing:
                handler(command[1:])

    def restart(self) -> None:
        """Start as after plugging it in: not measuring, the output off."""
        self._received, self.is_acquiring = b"", False
        self._switch_output(on=False)
        self.voltage_mv, self.mode = DEFAULT_MV, 1

    def _set_mode(self, mode: bytes) -> None:
        self.mode = mode[0]

    def _start_measuring(self) -> None:
        self._stop_measuring()
        self.is_acquiring = True
        self._start_ps = self.agenda.now_ps()
        self.taken = self._to_lose = 0
        self._level, self._changes = self._line_level, []
        self._encoder = Encoder(self.metadata, self._seed)
        self.load.ledger.begin_acquisition(self._start_ps)
        self.at_start()

    def _stop_measuring(self) -> None:
        if self.is_acquiring:
            self._stream_samples(
                max(0, self._due_sample_count(self.agenda.now_ps())) + self.late_samples
            )
            self.is_acquiring = self.ignores_stop

    def _switch_output(self, *, on: bool) -> None:
        if on and not self.load.is_powered:
            self.load.power_on(self.voltage_mv)
        elif not on and self.load.is_powered:
            self.load.power_off()

    def _set_output_voltage(self, voltage_mv: int) -> None:
        self.voltage_mv = voltage_mv
        if self.load.is_powered:
            self.load.set_voltage(voltage_mv)

    def _send_metadata(self) -> None:
        if not self.is_acquiring:
            lines = self.metadata | {"VDD": str(self.voltage_mv), "mode": str(self.mode)}
            self.send(self.greeting + format_metadata(lines))

    @property
    def is_powered(self) -> bool:
        """Whether its output is on."""
        return self.load.is_powered

    # ---- samples ---------------------------------------------------------------------------

    @property
    def acquisition_end_ps(self) -> int | None:
        """None: an acquisition has no set length."""
        return None

    def next_time_stamp_ps(self, not_before_ps: int) -> int:
        """Return 1 s later while it measures: a PPK2 sends no time stamps."""
        return not_before_ps + (PS_PER_S if self.is_acquiring else 0)

    def advance_to(self, now_ps: int, waiting: int = 0) -> None:
        """Send the samples complete by now, if they are worth a message."""
        del waiting  # it has no indication of its buffer's load
        if self.is_acquiring and (due := self._due_sample_count(now_ps)) >= MIN_MESSAGE_SAMPLES:
            self._stream_samples(due)

    def on_timestamp_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """Take an edge of D0."""
        self._line_level = level
        if self.is_acquiring:
            self._changes.append((at_ps - self._start_ps) // PERIOD_PS)

    def lose_samples(self, count: int) -> None:
        """Leave the next samples out of the stream; time and counter go on."""
        self._to_lose += count

    def on_overrun(self) -> None:
        """Lose samples because the host does not read."""
        self.lose_samples(OVERRUN_SAMPLES)

    def stream_currents(
        self, current_a: Currents, logic: NDArray[np.uint8] | int = LOGIC_IDLE
    ) -> Currents:
        """Stream samples of these currents now; return what they were rounded to, A."""
        words, rounded = self._encoder.encode_currents(current_a, self.voltage_mv / 1000)
        words |= np.asarray(logic, np.uint32) << np.uint32(LOGIC_SHIFT)
        lost = min(self._to_lose, len(words))
        self._to_lose -= lost
        if self.is_acquiring:
            self.send(add_counters(words[lost:], (self.taken + lost) % COUNTER_MODULUS))
        self.taken += len(words)
        return rounded

    def _due_sample_count(self, now_ps: int) -> int:
        return (now_ps - self._start_ps) // PERIOD_PS - self.taken

    def _stream_samples(self, due: int) -> None:
        while due > 0:
            count = min(due, MAX_BLOCK_SAMPLES)
            begin_ps = self._start_ps + self.taken * PERIOD_PS
            currents = self.load.ledger.currents_a(begin_ps, PERIOD_PS, count)
            self.stream_currents(currents, self._d0_levels(count))
            due -= count
        self.load.ledger.forget_before(self._start_ps + self.taken * PERIOD_PS)

    def _d0_levels(self, count: int) -> NDArray[np.uint8]:
        """Return D0 at the ends of the next periods."""
        levels = np.full(count, self._level, np.uint8)
        while self._changes and self._changes[0] < self.taken + count:
            self._level = not self._level
            levels[max(0, self._changes.pop(0) - self.taken) :] = self._level
        return levels

    async def stream_by_wall_clock(self) -> None:
        """Stream by the wall clock until cancelled."""
        await advance_by_wall_clock(self, self.agenda, self.load)


def serve_ppk2_on_pty() -> PtyCable:
    """Return the instrument on its serial port."""
    return PtyCable(SimulatedPpk2(LoopAgenda(real_time=True)))
