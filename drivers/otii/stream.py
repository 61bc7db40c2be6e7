"""An Otii recording's channels as one stream, of which every sample has been vouched for.

Pure. A recording is no stream: its channels are read by data index while they grow. A reply to
such a read carries the time of its first sample, so that a hole in the data moves the next
reply's time: samples are released only when the time of the data after them has confirmed how
many they are, and how many there should be by the host's clock is checked beside that. Current
and voltage are sampled at rates of their own; a sample of current is multiplied by the voltage
last measured before it.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.otii.messages import Block, Change, Floats
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark

# ---- one channel on its time grid --------------------------------------------------------

OFF_GRID = 0.25
"""A time so far between two samples, in intervals, fits neither."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Consecutive samples of one channel, or as many that are missing.

    Args:
        start: position of the first, in intervals since the channel's first sample.
        values: shape (n,); all NaN where they are missing.
        reason: why they are missing, else empty.
    """

    start: int
    values: Floats
    reason: str = ""

    @property
    def end(self) -> int:
        """Position after the last."""
        return self.start + len(self.values)


class Track:
    """Puts an analog channel's blocks on its time grid.

    A block is kept until the time of the data after it says that it was whole.
    """

    def __init__(self, name: str, interval_s: float) -> None:
        self.interval_s = interval_s
        self.origin_s: float | None = None
        self._name = name
        self._waiting: Run | None = None

    @property
    def end(self) -> int:
        """Position after the last sample taken, confirmed or not."""
        return self._waiting.end if self._waiting else 0

    def add(self, block: Block) -> list[Run]:
        """Take the block that follows the one before; return what its time confirms.

        Raises:
            ValueError: its times fit no grid, or run backwards.
        """
        if not len(block.values):
            return []
        if abs(block.interval_s / self.interval_s - 1) > OFF_GRID / 1000:
            raise ValueError(
                f"{self._name} has a sample every {block.interval_s:g} s, not {self.interval_s:g}"
            )
        if self.origin_s is None:
            self.origin_s = block.t_s
        start = self._position(block.t_s)
        runs = self._confirm(start)
        self._waiting = Run(start, block.values)
        return runs

    def finish(self, last_s: float | None) -> list[Run]:
        """The time of the last sample confirms the last block; ``None`` gives it up.

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
            self._waiting = Run(runs[-1].end, np.empty(0))
        return runs

    def _confirm(self, position: int) -> list[Run]:
        waiting = self._waiting
        if waiting is None or not len(waiting.values):
            return []
        if position == waiting.end:
            return [waiting]
        if position <= waiting.start:
            raise ValueError(f"the times of {self._name} run backwards")
        count, came = position - waiting.start, len(waiting.values)
        why = f"{came} samples of {self._name} came where its times have {count}"
        return [_lost(waiting.start, position, why)]

    def _position(self, t_s: float) -> int:
        exact = (t_s - (self.origin_s or 0.0)) / self.interval_s
        position = round(exact)
        if abs(exact - position) > OFF_GRID:
            raise ValueError(f"{self._name} has a sample at {t_s:.6f} s, between two of its times")
        return position


def _lost(start: int, end: int, reason: str) -> Run:
    return Run(start, np.full(end - start, np.nan), reason)


# ---- the host's clock --------------------------------------------------------------------

CELL_NS = 2_000_000_000
LATE_CELLS = 3
LOST_S = 0.1
"""Samples count as missing once so many are, by the host's clock."""
HOST_PPM = 600.0
"""A host's clock slewed by NTP (500 ppm) against the instrument's crystal (100 ppm)."""
EARLY_S = 0.5
DELIVERY_NS = 500_000_000
"""Assumed: what was measured stands in the recording within half a second."""


class CountWitness:
    """Checks a recording's length against the host's clock.

    The recording is late by what USB and server take, sometimes more, but never less than at
    its best: samples that never came lift that floor for good. What a poll within
    :data:`LOST_S` of the floor has seen is vouched for; three stretches of two seconds without
    one say that some are missing. So a silent loss shorter than that is not seen here.

    Args:
        rate_hz: samples a second.
        before_ns: host's time before the recording was started.
    """

    def __init__(self, rate_hz: float, before_ns: int) -> None:
        self.vouched = 0
        self._rate_hz = rate_hz
        self._start_ns = before_ns
        self._cell_ends_ns = before_ns + CELL_NS
        self._last: tuple[float, int] | None = None  # lag, and the total then
        self._cell: tuple[float, int] | None = None  # the one with the least lag
        self._floor: tuple[float, int] | None = None  # lag, and when
        self._late = 0

    def saw(self, total: int, before_ns: int, after_ns: int) -> str:
        """The recording had ``total`` samples between these times; what is wrong, if anything."""
        elapsed_s = (after_ns - self._start_ns) / 1e9
        early_s = total / self._rate_hz - elapsed_s * (1 + HOST_PPM * 1e-6)
        if early_s > EARLY_S:
            return (
                f"{total} samples after {elapsed_s:.2f} s are more than {self._rate_hz:g} a second"
            )
        lag_s = (before_ns - self._start_ns) / 1e9 - total / self._rate_hz
        self._last = (lag_s, total)
        if self._floor is not None and not self._is_late(lag_s, after_ns):
            self.vouched = max(self.vouched, total)
        if self._cell is None or lag_s < self._cell[0]:
            self._cell = self._last
        return self._close_cell(after_ns) if after_ns >= self._cell_ends_ns else ""

    def finish(self, total: int, now_ns: int) -> None:
        """The recording has ended with so many; the last poll before vouches for them, or not."""
        if self._last is not None and not self._is_late(self._last[0], now_ns):
            self.vouched = total

    def _close_cell(self, now_ns: int) -> str:
        if self._cell is None:
            return ""
        lag_s, total = self._cell
        self._cell, self._cell_ends_ns = None, now_ns + CELL_NS
        if not self._is_late(lag_s, now_ns):
            if self._floor is None or lag_s < self._floor[0]:
                self._floor = (lag_s, now_ns)
            self.vouched, self._late = max(self.vouched, total), 0
            return ""
        self._late += 1
        if self._late < LATE_CELLS:
            return ""
        count = round((lag_s - (self._floor or (0.0, 0))[0]) * self._rate_hz)
        return f"about {count} samples are missing by the host's clock"

    def _is_late(self, lag_s: float, now_ns: int) -> bool:
        """Whether a poll saw less than at the recording's best, rates of the clocks allowed for."""
        if self._floor is None:
            return False
        floor_s, since_ns = self._floor
        drift_s = HOST_PPM * 1e-6 * (now_ns - since_ns) / 1e9
        return lag_s - floor_s - drift_s > LOST_S


# ---- the stream --------------------------------------------------------------------------

HOLD_S = 0.3
"""Channels reach the recording by ways of their own: the slowest is waited for so long."""

MARK_NS = 1_000_000_000
NO_VOLTAGE = "no voltage was measured"
NO_CURRENT = "the server gave no value"


class OtiiStream:
    """Current, voltage and a digital line as one stream.

    ``received`` counts the sample periods seen in the recording, confirmed or not;
    ``edges_seen`` the falls of the line.

    Args:
        rate_hz: samples of current a second: the stream's own.
        voltage_rate_hz: samples of voltage a second.
        line: the digital channel's name.
        edge_uncertainty_s: half width of an edge's place.
    """

    def __init__(
        self,
        rate_hz: float,
        voltage_rate_hz: float,
        line: str,
        edge_uncertainty_s: float,
    ) -> None:
        self.received = 0
        self.edges_seen = 0
        self.current = Track("mc", 1.0 / rate_hz)
        self.voltage = Track("mv", 1.0 / voltage_rate_hz)
        self._rate_hz = rate_hz
        self._line = line
        self._reach = edge_uncertainty_s * rate_hz
        self._high: bool | None = None
        self._witness: CountWitness | None = None
        self._marked_ns = 0
        self._runs: deque[Run] = deque()
        self._volts = VoltageLine()
        self._released = 0
        self._gaps: deque[tuple[int, int]] = deque()
        self._changes: deque[tuple[Change, bool]] = deque()  # with the level before

    def start(self, before_ns: int, after_ns: int, *, high: bool | None) -> list[StreamItem]:
        """The recording was started between these times of the host.

        Args:
            before_ns: before it was asked for.
            after_ns: when that was answered.
            high: the line's level before; ``None`` if that is not known.
        """
        self._witness = CountWitness(self._rate_hz, before_ns)
        self._marked_ns = after_ns
        self._high = high
        return [_mark(0, before_ns, after_ns)]

    def add_current(self, block: Block) -> None:
        """More current.

        Raises:
            ValueError: its times cannot be trusted.
        """
        self._runs.extend(self.current.add(block))
        self.received = max(self.received, self.current.end)

    def check(self, before_ns: int, after_ns: int) -> list[StreamItem]:
        """All current that the recording had between these times has been added.

        Raises:
            ValueError: it is more or less than it should be.
        """
        problem = self._witness.saw(self.received, before_ns, after_ns) if self._witness else ""
        if problem:
            raise ValueError(problem)
        if after_ns - self._marked_ns < MARK_NS or not self.received:
            return []
        self._marked_ns = after_ns
        return [_mark(self.received, before_ns - DELIVERY_NS, after_ns)]

    def add_voltage(self, block: Block) -> None:
        """More voltage.

        Raises:
            ValueError: its times cannot be trusted.
        """
        self._take_voltage(self.voltage.add(block))

    def add_changes(self, changes: Sequence[Change]) -> None:
        """More changes of the digital line; a level that is repeated is none."""
        for change in changes:
            before, self._high = self._high, change.high
            if before is None or before == change.high:
                continue
            self._changes.append((change, before))
            self.edges_seen += not change.high

    def release(self) -> list[StreamItem]:
        """What is confirmed by now."""
        if self.current.origin_s is None or self._witness is None or not self._volts.known:
            return []
        newest_s = self.current.origin_s + self.received / self._rate_hz
        until_s = min(newest_s - HOLD_S, self._volts.until_s)
        end = math.floor((until_s - self.current.origin_s) * self._rate_hz)
        return self._give_out(min(end, self._witness.vouched))

    def finish(
        self, current_s: float | None, voltage_s: float | None, now_ns: int
    ) -> list[StreamItem]:
        """The recording has ended: the times of its last samples confirm the tail.

        Raises:
            ValueError: these times fit no grid.
        """
        self._take_voltage(self.voltage.finish(voltage_s))
        self._runs.extend(self.current.finish(current_s))
        self.received = max(self.received, self.current.end)
        self._volts.hold_on()
        if self._witness is not None:
            self._witness.finish(self.current.end, now_ns)
            return self._give_out(min(self._witness.vouched, self._confirmed))
        return []

    def settle(self, reason: str) -> list[StreamItem]:
        """Give up what has not been released, edges and all."""
        first, end = self._released, self.current.end
        self._released = end
        self._runs.clear()
        dropped = len(self._changes)
        self._changes.clear()
        note = f"; {dropped} edges in it dropped" if dropped else ""
        return [Gap(first, end - first, reason + note)] if end > first else []

    @property
    def _confirmed(self) -> int:
        return self._runs[-1].end if self._runs else self._released

    def _take_voltage(self, runs: Sequence[Run]) -> None:
        for run in runs:
            start_s = (self.voltage.origin_s or 0.0) + run.start * self.voltage.interval_s
            self._volts.add(start_s, self.voltage.interval_s, run.values)

    def _give_out(self, end: int) -> list[StreamItem]:
        items: list[StreamItem] = []
        while self._runs and self._runs[0].start < end:
            run = self._runs.popleft()
            if run.end > end:
                rest = Run(end, run.values[end - run.start :], run.reason)
                self._runs.appendleft(rest)
                run = Run(run.start, run.values[: end - run.start], run.reason)
            items += self._items(run)
            self._released = run.end
        return [*items, *self._edges()]

    def _items(self, run: Run) -> list[StreamItem]:
        """One run as samples and gaps."""
        origin_s = self.current.origin_s or 0.0
        times = origin_s + np.arange(run.start, run.end) / self._rate_hz
        volts = self._volts.at(times)
        missing = np.isnan(run.values) | np.isnan(volts)
        cuts = np.flatnonzero(missing[1:] != missing[:-1]) + 1
        places = [0, *cuts.tolist(), len(missing)]
        items: list[StreamItem] = []
        for a, b in itertools.pairwise(places):
            amps, start = run.values[a:b], run.start + a
            if missing[a]:
                why = run.reason or (NO_CURRENT if np.isnan(amps[0]) else NO_VOLTAGE)
                self._gaps.append((start, run.start + b))
                items.append(Gap(start, b - a, why))
            else:
                items.append(Samples(start, amps * volts[a:b], amps, volts[a:b].copy()))
        return items

    def _edges(self) -> list[StreamItem]:
        """Changes whose place, give or take, has been released and touches no gap."""
        items: list[StreamItem] = []
        while self._changes:
            change, _ = self._changes[0]
            index = (change.t_s - (self.current.origin_s or 0.0)) * self._rate_hz
            if index + self._reach >= self._released:
                break
            self._changes.popleft()
            low, high = index - self._reach, index + self._reach
            while self._gaps and self._gaps[0][1] < low - self._rate_hz:
                self._gaps.popleft()
            if index >= 0 and not any(a <= high and low <= b for a, b in self._gaps):
                items.append(Edge(index, self._line, rising=change.high))
        return items


class VoltageLine:
    """The voltage at any time: the one last measured before it, or at most :data:`STALE` after.

    ``until_s`` is the time up to which it is known.
    """

    STALE = 2.0
    """In intervals: how long a sample of voltage stands for what follows it."""

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
        """More samples, NaN where there are none."""
        self._interval_s = interval_s
        times = start_s + np.arange(len(values)) * interval_s
        self._times = np.concatenate([self._times, times])
        self._values = np.concatenate([self._values, values])
        self.until_s = start_s + len(values) * interval_s

    def hold_on(self) -> None:
        """Nothing more comes: the last sample stands for what is left."""
        self.until_s = math.inf

    def at(self, times: Floats) -> Floats:
        """The voltage at ascending times, shape as ``times``; NaN where it is not known.

        Samples before the first of these times are forgotten.
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


def _mark(index: int, earliest_ns: int, latest_ns: int) -> TimeMark:
    middle_ns = (earliest_ns + latest_ns) // 2
    return TimeMark(float(index), middle_ns, latest_ns - middle_ns, "host")
