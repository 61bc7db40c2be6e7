"""One acquisition of the LPM01A: the samples, marks and summary it streams.

Sample k covers the time from k to k+1 periods after the start. Its value is exact, from the
ledger's integrals, then disturbed and rounded as an instrument would:

* ``current``: the mean over the period, in amperes; ``energy``: the energy of the period, in
  joules. Both are the same integral, so they agree with each other.
* Noise: normal, zero mean, sigma 0.05 % of the reading, drawn for (seed, k) alone. Two runs
  give the same noise; over a window of 10 000 samples it averages to 0.0005 %.
* Four digits. The noise is at least half a step, so rounding does not bias a constant current.

An edge is written where it happened: before the first sample that ends after it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from labd.virtual.clock import periods
from labd.virtual.currents import COULOMB, JOULE, Ledger, Total

STAMP_EVERY = 1000
_NOISE_SIGMA = 0.0005
_SECONDS_SHOWN = 1000


class SampleFormat(Protocol):
    """How samples and marks look on the line."""

    def sample(self, value: float) -> bytes:
        """One sample, in A or J."""
        ...

    def stamp(self, time_ms: int, load_percent: int) -> bytes:
        """The time mark after every thousandth sample."""
        ...

    def event(self, number: int) -> bytes:
        """The mark of an edge on D7."""
        ...

    def power(self, *, on: bool) -> bytes:
        """The target's supply was switched."""
        ...

    def error(self, text: str) -> bytes:
        """The acquisition fails."""
        ...

    def end(self) -> bytes:
        """No more samples follow."""
        ...


class AsciiDecimal:
    """``ascii_dec``: a line for everything; the sample after a stamp has a leading NUL."""

    def __init__(self) -> None:
        self._after_stamp = False

    def sample(self, value: float) -> bytes:
        """``DDDD±EE``."""
        nul, self._after_stamp = (b"\0" if self._after_stamp else b""), False
        return nul + decimal(value) + b"\r\n"

    def stamp(self, time_ms: int, load_percent: int) -> bytes:
        """Three digits of seconds; beyond 999 s they start again and ``>`` replaces the blank."""
        self._after_stamp = True
        seconds, milliseconds = divmod(time_ms, 1000)
        blank = " " if seconds < _SECONDS_SHOWN else ">"
        seconds %= _SECONDS_SHOWN
        text = f"TimeStamp:{blank}{seconds:03d}s {milliseconds:03d}ms, buff {load_percent:02d}%"
        return b"\r\n" + text.encode() + b"\r\n"

    def event(self, number: int) -> bytes:
        """``event NN ris``: so the instrument calls it, whichever edge it was told to mark."""
        return f"event {number % 100:02d} ris\r\n".encode()

    def power(self, *, on: bool) -> bytes:
        """``pwr on`` or ``pwr off``."""
        return b"\r\npwr on\r\n" if on else b"\r\npwr off\r\n"

    def error(self, text: str) -> bytes:
        """``error`` and what happened."""
        return f"\r\nerror {text}\r\n".encode()

    def end(self) -> bytes:
        """``end``."""
        return b"\r\nend\r\n"


def decimal(value: float) -> bytes:
    """Four significant digits and a power of ten: 640.9 µA is ``6409-07``."""
    if value <= 0:
        return b"0000-09"
    text = f"{value:.3e}"
    return f"{text[0]}{text[2:5]}{int(text[6:]) - 3:+03d}".encode()


@dataclass(frozen=True, slots=True)
class Plan:
    """What an acquisition was started with."""

    hz: int
    samples: int | None
    """None: until stopped."""
    energy: bool
    static: bool
    """One sample, refused when the current was not constant."""
    mark_falls: bool


class Acquisition:
    """Streams samples from ``start_ps`` on; :meth:`advance` writes those that are complete."""

    def __init__(
        self,
        plan: Plan,
        start_ps: int,
        ledger: Ledger,
        form: SampleFormat,
        send: Callable[[bytes], None],
        *,
        seed: int,
    ) -> None:
        self.plan = plan
        self._start_ps = start_ps
        self._ledger = ledger
        self._form = form
        self._send = send
        self._seed = seed
        self._taken = 0
        self._events = 0
        self._to_lose = 0
        self._before = ledger.at(start_ps)
        self._changes = ledger.changes
        self._noise: list[float] = []
        self._extremes: tuple[float, float] | None = None
        self.load_percent = 0

    @property
    def end_ps(self) -> int | None:
        """When the last sample is complete, if the length was set."""
        return None if self.plan.samples is None else self._ends(self.plan.samples - 1)

    @property
    def finished(self) -> bool:
        """Whether every sample asked for was taken."""
        return self.plan.samples is not None and self._taken >= self.plan.samples

    @property
    def unsteady(self) -> bool:
        """Whether a static acquisition has seen the current change."""
        return self.plan.static and self._ledger.changes != self._changes

    def lose_samples(self, count: int) -> None:
        """Leave the next ``count`` samples out of the stream; time goes on."""
        self._to_lose += count

    def advance(self, now_ps: int) -> None:
        """Write every sample complete by ``now_ps``."""
        while not self.finished and (end_ps := self._ends(self._taken)) <= now_ps:
            total = self._ledger.at(end_ps)
            self._write(self._disturbed(self._value(self._before, total)))
            self._before = total
            self._taken += 1
            if self._taken % STAMP_EVERY == 0:
                milliseconds = self._taken * 1000 // self.plan.hz
                self._send(self._form.stamp(milliseconds, self.load_percent))
        self._ledger.forget_before(self._ends(self._taken - 1))

    def fall(self, at_ps: int) -> None:
        """A falling edge on D7."""
        self.advance(at_ps)
        if self.plan.mark_falls and not self.finished:
            self._send(self._form.event(self._events))
            self._events += 1

    def power(self, *, on: bool) -> None:
        """Mark the target's supply in the stream."""
        self._send(self._form.power(on=on))

    def fail(self, text: str) -> None:
        """Say why the acquisition ends early."""
        self._send(self._form.error(text))

    def finish(self) -> None:
        """Write the end mark and the summary."""
        low, high = self._extremes or (0.0, 0.0)
        self._send(self._form.end())
        summary = b"summary beg\r\nmin %s\r\nmax %s\r\nsummary end\r\n"
        self._send(b"\r\n" + summary % (decimal(low), decimal(high)))

    def _ends(self, index: int) -> int:
        return self._start_ps + periods(index + 1, self.plan.hz)

    def _value(self, before: Total, after: Total) -> float:
        if self.plan.energy:
            return (after.energy_na_mv_ps - before.energy_na_mv_ps) / JOULE
        return (after.charge_na_ps - before.charge_na_ps) * self.plan.hz / COULOMB

    def _disturbed(self, value: float) -> float:
        place = self._taken % STAMP_EVERY
        if place == 0:
            source = random.Random(self._seed * 1_000_003 + self._taken)  # noqa: S311
            self._noise = [1 + source.gauss(0, _NOISE_SIGMA) for _ in range(STAMP_EVERY)]
        return value * self._noise[place]

    def _write(self, value: float) -> None:
        low, high = self._extremes or (value, value)
        self._extremes = (min(low, value), max(high, value))
        if self._to_lose:
            self._to_lose -= 1
        else:
            self._send(self._form.sample(value))
