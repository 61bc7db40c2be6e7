"""Analog channels of an Otii recording: their samples on a time grid, confirmed by times. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivers.otii.messages import AnalogData, Floats

OFF_GRID = 0.25
"""A time this far from a sample of the grid, in sample intervals, fits none."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelRun:
    """Consecutive samples of one channel, present or missing.

    Args:
        start: position of the first, in sample intervals since the channel's first sample.
        values: shape (n,); all NaN if they are missing.
        reason: why they are missing, else empty.
    """

    start: int
    values: Floats
    reason: str = ""

    @property
    def end(self) -> int:
        """Position after the last."""
        return self.start + len(self.values)


class AnalogChannel:
    """Places the data of an analog channel on its time grid.

    Data are confirmed by the time of the data after them: it shows how many samples there were.
    """

    def __init__(self, name: str, interval_s: float) -> None:
        self.interval_s = interval_s
        self.origin_s: float | None = None
        self._name = name
        self._waiting: ChannelRun | None = None

    @property
    def end(self) -> int:
        """Position after the last sample received, confirmed or not."""
        return self._waiting.end if self._waiting else 0

    def add(self, data: AnalogData) -> list[ChannelRun]:
        """Take the next data of the channel; return what their time confirms.

        Raises:
            ValueError: their times fit no grid, or run backwards.
        """
        if not len(data.values):
            return []
        if abs(data.interval_s / self.interval_s - 1) > OFF_GRID / 1000:
            raise ValueError(
                f"{self._name} has a sample every {data.interval_s:g} s, not {self.interval_s:g}"
            )
        if self.origin_s is None:
            self.origin_s = data.t_s
        start = self._position(data.t_s)
        runs = self._confirm(start)
        self._waiting = ChannelRun(start, data.values)
        return runs

    def finish(self, last_s: float | None) -> list[ChannelRun]:
        """Confirm the last data by the time of the last sample; ``None`` confirms nothing.

        Raises:
            ValueError: that time fits no grid.
        """
        waiting = self._waiting
        if waiting is None:
            return []
        if last_s is None:
            runs = [_lost(waiting.start, waiting.end, f"{self._name} was not confirmed")]
        else:
            runs = self._confirm(self._position(last_s) + 1)
        if runs:
            self._waiting = ChannelRun(runs[-1].end, np.empty(0))
        return runs

    def _confirm(self, position: int) -> list[ChannelRun]:
        waiting = self._waiting
        if waiting is None or not len(waiting.values):
            return []
        if position == waiting.end:
            return [waiting]
        if position <= waiting.start:
            raise ValueError(f"the times of {self._name} run backwards")
        count, received = position - waiting.start, len(waiting.values)
        reason = f"{received} samples of {self._name} received where its times have {count}"
        return [_lost(waiting.start, position, reason)]

    def _position(self, t_s: float) -> int:
        exact = (t_s - (self.origin_s or 0.0)) / self.interval_s
        position = round(exact)
        if abs(exact - position) > OFF_GRID:
            raise ValueError(f"{self._name} has a sample at {t_s:.6f} s, between two of its times")
        return position


def _lost(start: int, end: int, reason: str) -> ChannelRun:
    return ChannelRun(start, np.full(end - start, np.nan), reason)


class HeldVoltage:
    """The voltage at any time: that of the last sample before, if it is not too old.

    Attributes:
        until_s: time up to which the voltage is known.
    """

    STALE = 2.0
    """Sample intervals for which a sample of voltage is valid."""

    def __init__(self) -> None:
        self.until_s = 0.0
        self._times = np.empty(0)
        self._values = np.empty(0)
        self._interval_s = 0.0

    @property
    def known(self) -> bool:
        """Whether there is any voltage."""
        return bool(len(self._times))

    def add(self, start_s: float, interval_s: float, values: Floats) -> None:
        """Append samples, NaN where they are missing."""
        self._interval_s = interval_s
        times = start_s + np.arange(len(values)) * interval_s
        self._times = np.concatenate([self._times, times])
        self._values = np.concatenate([self._values, values])
        self.until_s = start_s + len(values) * interval_s

    def finish(self) -> None:
        """Wait for no more samples; what is left of the recording uses the last ones."""
        self.until_s = math.inf

    def at(self, times: Floats) -> Floats:
        """Return the voltage at ascending times, shape of ``times``; NaN where it is not known.

        Samples before the first of these times are dropped.
        """
        if not len(self._times) or not len(times):
            return np.full(len(times), np.nan)
        slack_s = self._interval_s * 1e-3
        places = np.searchsorted(self._times, times + slack_s, side="right") - 1
        held = np.maximum(places, 0)
        age_s = times - self._times[held]
        volts = np.where(
            np.abs(age_s) <= self.STALE * self._interval_s + slack_s, self._values[held], np.nan
        )
        first = int(held[0])
        self._times, self._values = self._times[first:], self._values[first:]
        return volts
