"""Analog channels of an Otii recording, confirmed by their times and the host's clock. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivers.otii.messages import AnalogData, Floats
from labd.core.host_clock import COUNT_PPM, samples_in_interval

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
    def end_position(self) -> int:
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
    def end_position(self) -> int:
        """Position after the last sample received, confirmed or not."""
        return self._waiting.end_position if self._waiting else 0

    def add_data(self, data: AnalogData) -> list[ChannelRun]:
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
        start = self._grid_position(data.t_s)
        runs = self._confirm_until(start)
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
            runs = [
                _missing_run(waiting.start, waiting.end_position, f"{self._name} was not confirmed")
            ]
        else:
            runs = self._confirm_until(self._grid_position(last_s) + 1)
        if runs:
            self._waiting = ChannelRun(runs[-1].end_position, np.empty(0))
        return runs

    def _confirm_until(self, position: int) -> list[ChannelRun]:
        waiting = self._waiting
        if waiting is None or not len(waiting.values):
            return []
        if position == waiting.end_position:
            return [waiting]
        if position <= waiting.start:
            raise ValueError(f"the times of {self._name} run backwards")
        count, received = position - waiting.start, len(waiting.values)
        reason = f"{received} samples of {self._name} received where its times have {count}"
        return [_missing_run(waiting.start, position, reason)]

    def _grid_position(self, t_s: float) -> int:
        exact = (t_s - (self.origin_s or 0.0)) / self.interval_s
        position = round(exact)
        if abs(exact - position) > OFF_GRID:
            raise ValueError(f"{self._name} has a sample at {t_s:.6f} s, between two of its times")
        return position


def _missing_run(start: int, end: int, reason: str) -> ChannelRun:
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
    def has_samples(self) -> bool:
        """Whether there is any voltage."""
        return bool(len(self._times))

    def add_samples(self, start_s: float, interval_s: float, values: Floats) -> None:
        """Append samples, NaN where they are missing."""
        self._interval_s = interval_s
        times = start_s + np.arange(len(values)) * interval_s
        self._times = np.concatenate([self._times, times])
        self._values = np.concatenate([self._values, values])
        self.until_s = start_s + len(values) * interval_s

    def mark_complete(self) -> None:
        """Wait for no more samples; what is left of the recording uses the last ones."""
        self.until_s = math.inf

    def voltages_at(self, times: Floats) -> Floats:
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


# ---- length of the recording ---------------------------------------------------------------

CELL_NS = 2_000_000_000
LATE_CELLS = 3
LOST_S = 0.1
"""A loss is detected from this length on."""

EARLY_S = 0.5
"""More samples than the time allows, by this duration, are impossible."""


class RecordingLengthCheck:
    """Compares the number of samples in a recording with the time since its start.

    Samples reach the recording with a delay by USB and the server, which has a minimum; lost
    samples raise that minimum permanently. A poll whose delay is within :data:`LOST_S` of the
    minimum confirms the samples it saw; if three cells of 2 s have no such poll, samples are lost.
    A loss shorter than :data:`LOST_S` is not detected here.

    ``before_ns`` is the host time before the recording was started.

    Attributes:
        confirmed: samples confirmed.
    """

    def __init__(self, rate_hz: float, before_ns: int) -> None:
        self.confirmed = 0
        self._rate_hz = rate_hz
        self._start_ns = before_ns
        self._cell_end_ns = before_ns + CELL_NS
        self._last: tuple[float, int] | None = None  # delay and total of the last poll
        self._quickest: tuple[float, int] | None = None  # of the quickest poll in this cell
        self._minimum: tuple[float, int] | None = None  # delay, and when it was measured
        self._late_cells = 0

    def check_total(self, total: int, before_ns: int, after_ns: int) -> str:
        """Take the samples counted between two host times; return what is wrong, if anything."""
        elapsed_ns = after_ns - self._start_ns
        _, most = samples_in_interval(self._rate_hz, 0, elapsed_ns)
        if total > most + EARLY_S * self._rate_hz:
            elapsed_s = elapsed_ns / 1e9
            return (
                f"{total} samples in {elapsed_s:.2f} s are more than {self._rate_hz:g} per second"
            )
        delay_s = (before_ns - self._start_ns) / 1e9 - total / self._rate_hz
        self._last = (delay_s, total)
        if self._minimum is not None and not self._is_late(delay_s, after_ns):
            self.confirmed = max(self.confirmed, total)
        if self._quickest is None or delay_s < self._quickest[0]:
            self._quickest = self._last
        return self._close_cell(after_ns) if after_ns >= self._cell_end_ns else ""

    def accept_final_total(self, total: int, now_ns: int) -> None:
        """Confirm the total of a recording that has ended, if its last poll was not late."""
        if self._last is not None and not self._is_late(self._last[0], now_ns):
            self.confirmed = total

    def _close_cell(self, now_ns: int) -> str:
        if self._quickest is None:
            return ""
        delay_s, total = self._quickest
        self._quickest, self._cell_end_ns = None, now_ns + CELL_NS
        if not self._is_late(delay_s, now_ns):
            if self._minimum is None or delay_s < self._minimum[0]:
                self._minimum = (delay_s, now_ns)
            self.confirmed, self._late_cells = max(self.confirmed, total), 0
            return ""
        self._late_cells += 1
        if self._late_cells < LATE_CELLS:
            return ""
        count = round((delay_s - (self._minimum or (0.0, 0))[0]) * self._rate_hz)
        return f"about {count} samples are missing by the host's clock"

    def _is_late(self, delay_s: float, now_ns: int) -> bool:
        """Whether a poll is later than the minimum delay and the clocks' rates allow."""
        if self._minimum is None:
            return False
        minimum_s, since_ns = self._minimum
        drift_s = COUNT_PPM * 1e-6 * (now_ns - since_ns) / 1e9
        return delay_s - minimum_s - drift_s > LOST_S
