"""The power monitor: a Nordic PPK2 in source or ampere mode.

Opcodes as in Nordic's pc-nrfconnect-ppk. Sample k is the mean current of the period from k to
k + 1 times 10 µs after the start, exact from the ledger, then rounded as the instrument would;
its logic bits are the levels at the end of that period, D0 being the timestamp line. Its ADC
and spike problems are not emulated: the mean current of a period decides the range.

What the sources leave open is decided here: while it measures it answers no question; an
opcode it does not know is ignored; when nobody reads, samples are lost.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labd.simulation.instruments.lpm01a.device import Target
from labd.simulation.instruments.ppk2 import words as ppk2_words
from labd.simulation.instruments.ppk2.words import (
    ARGUMENTS,
    LOGIC_SHIFT,
    TURN,
    Currents,
    Encoder,
    Words,
    counted,
)
from labd.simulation.mcu.currents import Ledger
from labd.simulation.virtual_time import PS_PER_S, PS_PER_US

PERIOD_PS = 10 * PS_PER_US
BLOCK = 2000
"""Samples made at a time, at most: 20 ms, in which charge fits into 64 bits up to 0.4 A."""

LEAST = 200
"""Fewer are not worth the while until the acquisition ends."""

OVERRUN_SAMPLES = 5003
"""So many are lost when nobody reads."""

DEFAULT_MV = 3300


class Acquisition:
    """Streams words from ``start_ps`` on; :meth:`advance` writes those that are complete."""

    def __init__(
        self,
        start_ps: int,
        ledger: Ledger,
        encoder: Encoder,
        send: Callable[[bytes], None],
        *,
        level: bool,
        voltage_mv: int,
    ) -> None:
        self._start_ps = start_ps
        self._ledger = ledger
        self._encoder = encoder
        self._send = send
        self._level = level
        self._voltage_v = voltage_mv / 1000
        self._taken = 0
        self._to_lose = 0
        self._changes: list[int] = []

    def lose_samples(self, count: int) -> None:
        """Leave the next ``count`` samples out of the stream; time and counter go on."""
        self._to_lose += count

    def edge(self, at_ps: int) -> None:
        """D0 changes."""
        self._changes.append((at_ps - self._start_ps) // PERIOD_PS)

    def advance(self, now_ps: int, *, least: int = LEAST) -> None:
        """Write the samples complete by ``now_ps``, if there are so many."""
        due = (now_ps - self._start_ps) // PERIOD_PS - self._taken
        if due < least:
            return
        while due > 0:
            count = min(due, BLOCK)
            self._write(count)
            due -= count
        self._ledger.forget_before(self._start_ps + self._taken * PERIOD_PS)

    def _write(self, count: int) -> None:
        words, _ = self._encoder.words(self._means(count), self._voltage_v)
        words |= self._levels(count).astype(np.uint32) << np.uint32(LOGIC_SHIFT)
        lost = min(self._to_lose, count)
        self._to_lose -= lost
        self._send(counted(words[lost:], (self._taken + lost) % TURN))
        self._taken += count

    def _means(self, count: int) -> Currents:
        """Mean current of the next periods, ampere, from exact differences of charge."""
        begin_ps = self._start_ps + self._taken * PERIOD_PS
        changes = np.array(self._ledger.between(begin_ps, begin_ps + count * PERIOD_PS))
        times, charges, currents = changes.T
        ends = np.arange(count + 1, dtype=np.int64) * PERIOD_PS
        which = np.searchsorted(times, ends, side="right") - 1
        total = charges[which] + currents[which] * (ends - times[which])
        return np.diff(total) * (1e-9 / PERIOD_PS)

    def _levels(self, count: int) -> Words:
        """D0 at the ends of the next periods."""
        levels = np.full(count, self._level, np.uint32)
        while self._changes and self._changes[0] < self._taken + count:
            self._level = not self._level
            levels[max(0, self._changes.pop(0) - self._taken) :] = self._level
        return levels


class Ppk2:
    """The instrument between a host's bytes and a target's supply."""

    def __init__(
        self,
        now_ps: Callable[[], int],
        target: Target,
        ledger: Ledger,
        send: Callable[[bytes], None],
        *,
        seed: int = 0,
    ) -> None:
        self._now_ps = now_ps
        self._target = target
        self._ledger = ledger
        self._send = send
        self._seed = seed
        self._lines = ppk2_words.metadata()
        self._voltage_mv = DEFAULT_MV
        self._mode = 1
        self._level = True
        self.acquisition: Acquisition | None = None
        self._handlers: dict[int, Callable[[bytes], None]] = {
            0x06: lambda _: self._start(),
            0x07: lambda _: self._stop(),
            0x0C: lambda argument: self._switch(on=argument == b"\x01"),
            0x0D: lambda voltage: self._regulate(int.from_bytes(voltage, "big")),
            0x11: self._set_mode,
            0x19: lambda _: self._tell(),
            0x20: lambda _: self.restart(),
        }

    @property
    def ends_ps(self) -> int | None:
        """An acquisition has no set length."""
        return None

    def next_stamp_ps(self, not_before_ps: int) -> int:
        """There are no time stamps: 1 s later while it measures, as long as an LPM01A takes."""
        return not_before_ps + (PS_PER_S if self.acquisition else 0)

    def command_size(self, data: bytes | bytearray) -> int:
        """How many bytes the first command in ``data`` has; 0 if it is not whole."""
        size = 1 + ARGUMENTS.get(data[0], 0) if data else 0
        return size if size <= len(data) else 0

    def receive(self, command: bytes) -> None:
        """One opcode with its arguments."""
        handler = self._handlers.get(command[0])
        if handler is not None:
            handler(command[1:])

    def restart(self) -> None:
        """As after plugging it in: nothing measured, the target off."""
        self.acquisition = None
        self._switch(on=False)
        self._voltage_mv, self._mode = DEFAULT_MV, 1

    def advance(self, now_ps: int, _waiting: int) -> None:
        """Stream what is complete by now."""
        if self.acquisition is not None:
            self.acquisition.advance(now_ps)

    def overrun(self) -> None:
        """The host does not read."""
        if self.acquisition is not None:
            self.acquisition.lose_samples(OVERRUN_SAMPLES)

    def edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """D0 changes."""
        self._level = level
        if self.acquisition is not None:
            self.acquisition.edge(at_ps)

    def _set_mode(self, mode: bytes) -> None:
        self._mode = mode[0]

    def _start(self) -> None:
        self._stop()
        self.acquisition = Acquisition(
            self._now_ps(),
            self._ledger,
            Encoder(self._lines, self._seed),
            self._send,
            level=self._level,
            voltage_mv=self._voltage_mv,
        )

    def _stop(self) -> None:
        if self.acquisition is not None:
            self.acquisition.advance(self._now_ps(), least=0)
        self.acquisition = None

    def _switch(self, *, on: bool) -> None:
        if on and not self._target.powered:
            self._target.power_on(self._voltage_mv)
        elif not on and self._target.powered:
            self._target.power_off()

    def _regulate(self, voltage_mv: int) -> None:
        self._voltage_mv = voltage_mv
        if self._target.powered:
            self._target.set_voltage(voltage_mv)

    def _tell(self) -> None:
        if self.acquisition is None:
            lines = self._lines | {"VDD": str(self._voltage_mv), "mode": str(self._mode)}
            self._send(ppk2_words.told(lines))
