"""One acquisition of the LPM01A: the samples, marks and summary it streams.

Sample k covers the time from k to k+1 periods after the start. Its value comes from the load's
exact integrals, then gets noise and is rounded as an instrument would:

* ``current``: the mean over the period, in amperes; ``energy``: the energy of the period, in
  joules. Both are the same integral, so they agree with each other.
* Noise: normal, zero mean, drawn for (seed, k) alone, so that two runs give the same. Sigma is
  0.05 % of the reading up to 1 kHz and, white, grows with the root of the rate: 0.5 % at
  100 kHz. Over a window of 10 s it averages to 0.0005 % at any rate from 1 kHz on.
* ASCII: four digits, rounded to the nearest. The noise is at least half a step, so rounding
  does not bias a constant current.
* Binary: twelve bits times a power of 16, rounded to the nearest; a step is 0.024 to 0.39 % of
  the reading. Noise of s steps leaves of a rounding error's mean at most exp(-2 (pi s)^2)/pi
  steps: nothing at 100 kHz (s >= 1.3), 0.005 % of the reading at 10 kHz (s >= 0.4), but up to
  0.1 % at 1 kHz, where the noise no longer dithers: there ASCII is the better format. Whether
  the instrument rounds or cuts off is not documented; cutting off would cost half a step.

An edge is written where it happened: before the first sample that ends after it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labd.simulation.instruments.lpm01a.formats import (
    AsciiDecimal,
    BinaryHexa,
    SampleFormat,
    format_decimal,
)
from labd.simulation.instruments.synthetic_load import Consumption
from labd.simulation.virtual_time import PS_PER_S, periods_ps

SAMPLES_PER_TIME_STAMP = 1000
_NOISE_SIGMA = 0.0005
_NOISE_HZ = 1000


@dataclass(frozen=True, slots=True)
class AcquisitionPlan:
    """What an acquisition was started with."""

    hz: int
    samples: int | None
    """None: until stopped."""
    energy: bool
    static: bool
    """One sample, refused when the current was not constant."""
    mark_falls: bool
    binary: bool = False

    def make_format(self) -> SampleFormat:
        """Return the format of the stream, at its beginning."""
        return BinaryHexa() if self.binary else AsciiDecimal()


class SampleStream:
    """Sends the samples, marks and summary of one acquisition that begins at ``start_ps``."""

    def __init__(
        self,
        plan: AcquisitionPlan,
        start_ps: int,
        ledger: Consumption,
        send: Callable[[bytes], None],
        *,
        seed: int,
    ) -> None:
        self.plan = plan
        self.format = plan.make_format()
        self.load_percent = 0
        self._start_ps = start_ps
        self._period_ps = periods_ps(1, plan.hz)
        self._ledger = ledger
        self._send = send
        self._seed = seed
        self.taken = 0
        self._events = 0
        self._to_lose = 0
        self._changes = ledger.change_count
        self._sigma = _NOISE_SIGMA * math.sqrt(max(1.0, plan.hz / _NOISE_HZ))
        self._noise = np.empty(0)
        self._extremes: tuple[float, float] | None = None
        ledger.begin_acquisition(start_ps)
        send(self.format.encode_start())

    @property
    def end_ps(self) -> int | None:
        """When the last sample is complete, if the length was set."""
        return None if self.plan.samples is None else self._completion_ps(self.plan.samples)

    def next_time_stamp_ps(self, not_before_ps: int) -> int:
        """Return when the first time stamp at or after ``not_before_ps`` is sent."""
        stamps = self._complete_sample_count(not_before_ps - 1) // SAMPLES_PER_TIME_STAMP + 1
        return self._completion_ps(stamps * SAMPLES_PER_TIME_STAMP)

    @property
    def is_finished(self) -> bool:
        """Whether every sample asked for was taken."""
        return self.plan.samples is not None and self.taken >= self.plan.samples

    @property
    def current_has_changed(self) -> bool:
        """Whether a static acquisition has seen the current change."""
        return self.plan.static and self._ledger.change_count != self._changes

    def lose_samples(self, count: int) -> None:
        """Leave the next samples out of the stream; time goes on."""
        self._to_lose += count

    def write_samples_until(self, now_ps: int) -> None:
        """Write every sample complete by ``now_ps``."""
        while (due := self._complete_sample_count(now_ps) - self.taken) > 0:
            count = min(due, SAMPLES_PER_TIME_STAMP - self.taken % SAMPLES_PER_TIME_STAMP)
            delivered = self._ledger.energies_j if self.plan.energy else self._ledger.currents_a
            values = delivered(self._completion_ps(self.taken), self._period_ps, count)
            self.write_values(values * self._noise_factors(self.taken, count))
        self._ledger.forget_before(self._completion_ps(max(0, self.taken - 1)))

    def write_values(self, values: NDArray[np.float64]) -> None:
        """Write samples of these values, A or J, now, with the time stamps that are due."""
        while len(values):
            part = values[: SAMPLES_PER_TIME_STAMP - self.taken % SAMPLES_PER_TIME_STAMP]
            values = values[len(part) :]
            self._write_samples(part)
            self.taken += len(part)
            if self.taken % SAMPLES_PER_TIME_STAMP == 0:
                milliseconds = self.taken * 1000 // self.plan.hz
                self._send(self.format.encode_time_stamp(milliseconds, self.load_percent))

    def mark_falling_edge(self, at_ps: int) -> None:
        """Mark a falling edge on D7."""
        self.write_samples_until(at_ps)
        self.mark_event()

    def mark_event(self) -> None:
        """Write the mark of an edge here, if marks were asked for."""
        if self.plan.mark_falls and not self.is_finished:
            self._send(self.format.encode_event(self._events))
            self._events += 1

    def write_end_and_summary(self) -> None:
        """Write the end mark and the summary."""
        low, high = self._extremes or (0.0, 0.0)
        self._send(self.format.encode_end())
        summary = b"summary beg\r\nmin %s\r\nmax %s\r\nsummary end\r\n"
        self._send(b"\r\n" + summary % (format_decimal(low), format_decimal(high)))

    def _completion_ps(self, samples: int) -> int:
        """Return when this many samples are complete."""
        return self._start_ps + periods_ps(samples, self.plan.hz)

    def _complete_sample_count(self, now_ps: int) -> int:
        """Return how many samples are complete by then."""
        count = -((self._start_ps - now_ps - 1) * self.plan.hz // PS_PER_S) - 1
        return count if self.plan.samples is None else min(count, self.plan.samples)

    def _noise_factors(self, index: int, count: int) -> NDArray[np.float64]:
        place = index % SAMPLES_PER_TIME_STAMP
        if place == 0 or not len(self._noise):
            source = random.Random(self._seed * 1_000_003 + index - place)  # noqa: S311
            drawn = [source.gauss(0, self._sigma) for _ in range(SAMPLES_PER_TIME_STAMP)]
            self._noise = 1 + np.array(drawn)
        return self._noise[place : place + count]

    def _write_samples(self, values: NDArray[np.float64]) -> None:
        low, high = self._extremes or (math.inf, -math.inf)
        self._extremes = (min(low, float(values.min())), max(high, float(values.max())))
        lost = min(self._to_lose, len(values))
        self._to_lose -= lost
        if lost < len(values):
            self._send(self.format.encode_samples(values[lost:]))
