"""Channels of an Otii recording as one stream of confirmed samples, gaps and edges. Pure.

A recording is read channel by channel, by data index, while it grows. Each reply carries the time
of its first sample, so missing data shift the time of the next reply: samples are released once
the time of the data after them has confirmed their number, and the host's clock the length of the
recording. Current and voltage have separate sample rates; a sample of current is multiplied by
the last voltage measured before it.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from drivers.otii.channels import AnalogChannel, ChannelRun, HeldVoltage, RecordingLengthCheck
from drivers.otii.messages import AnalogData, LevelChange
from labd.core.host_clock import mark_between
from labd.core.model import Edge, Gap, Samples, StreamItem

DELIVERY_NS = 500_000_000
"""Assumed: a sample is in the recording within half a second."""

HOLD_S = 0.3
"""How long the newest samples are held back: channels reach the recording separately."""

MARK_NS = 1_000_000_000
NO_VOLTAGE = "no voltage was measured"
NO_CURRENT = "the server gave no value"


class OtiiStream:
    """Current, voltage and a digital line as one stream.

    Args:
        rate_hz: samples of current per second, which is the rate of the stream.
        voltage_rate_hz: samples of voltage per second.
        line: name of the digital channel.
        edge_uncertainty_s: half width of an edge's position.

    Attributes:
        received: sample periods in the recording, confirmed or not.
        edges_seen: falling edges of the line.
    """

    def __init__(
        self,
        rate_hz: float,
        voltage_rate_hz: float,
        line: str,
        edge_uncertainty_s: float,
    ) -> None:
        self.received_samples = 0
        self.edges_seen = 0
        self._current = AnalogChannel("mc", 1.0 / rate_hz)
        self._voltage = AnalogChannel("mv", 1.0 / voltage_rate_hz)
        self._rate_hz = rate_hz
        self._line = line
        self._reach = edge_uncertainty_s * rate_hz
        self._high: bool | None = None
        self._length: RecordingLengthCheck | None = None
        self._marked_ns = 0
        self._runs: deque[ChannelRun] = deque()
        self._volts = HeldVoltage()
        self._released = 0
        self._gaps: deque[tuple[int, int]] = deque()
        self._changes: deque[LevelChange] = deque()

    def note_start(self, before_ns: int, after_ns: int, *, high: bool | None) -> list[StreamItem]:
        """Note the start of the recording, by host times before and after the request.

        ``high`` is the level of the line before it; ``None`` if unknown.
        """
        self._length = RecordingLengthCheck(self._rate_hz, before_ns)
        self._marked_ns = after_ns
        self._high = high
        return [mark_between(0, before_ns, after_ns)]

    def add_current(self, data: AnalogData) -> None:
        """Take the next data of the current.

        Raises:
            ValueError: their times are impossible.
        """
        self._runs.extend(self._current.add_data(data))
        self.received_samples = max(self.received_samples, self._current.end_position)

    def check_length(self, before_ns: int, after_ns: int) -> list[StreamItem]:
        """Check the length of a recording that was read between two host times.

        All its current must have been added.

        Raises:
            ValueError: it has too few or too many samples.
        """
        if self._length and (
            fault := self._length.check_total(self.received_samples, before_ns, after_ns)
        ):
            raise ValueError(fault)
        if after_ns - self._marked_ns < MARK_NS or not self.received_samples:
            return []
        self._marked_ns = after_ns
        return [mark_between(self.received_samples, before_ns - DELIVERY_NS, after_ns)]

    def add_voltage(self, data: AnalogData) -> None:
        """Take the next data of the voltage.

        Raises:
            ValueError: their times are impossible.
        """
        self._take_voltage(self._voltage.add_data(data))

    def add_changes(self, changes: Sequence[LevelChange]) -> None:
        """Take the next changes of the digital line; a repeated level is ignored."""
        for change in changes:
            before, self._high = self._high, change.high
            if before is None or before == change.high:
                continue
            self._changes.append(change)
            self.edges_seen += not change.high

    def release_confirmed(self) -> list[StreamItem]:
        """Return what is confirmed."""
        if self._current.origin_s is None or self._length is None or not self._volts.has_samples:
            return []
        newest_s = self._current.origin_s + self.received_samples / self._rate_hz
        until_s = min(newest_s - HOLD_S, self._volts.until_s)
        end = math.floor((until_s - self._current.origin_s) * self._rate_hz)
        return self._release_until(min(end, self._length.confirmed))

    def finish(
        self, current_s: float | None, voltage_s: float | None, now_ns: int
    ) -> list[StreamItem]:
        """Return the tail of a recording that has ended, as far as it is confirmed.

        Args:
            current_s: time of the last sample of current.
            voltage_s: time of the last sample of voltage.
            now_ns: host time.

        Raises:
            ValueError: these times fit no grid.
        """
        self._take_voltage(self._voltage.finish(voltage_s))
        self._runs.extend(self._current.finish(current_s))
        self.received_samples = max(self.received_samples, self._current.end_position)
        self._volts.mark_complete()
        if self._length is None:
            return []
        self._length.accept_final_total(self._current.end_position, now_ns)
        by_times = self._runs[-1].end_position if self._runs else self._released
        return self._release_until(min(self._length.confirmed, by_times))

    def rest_as_gap(self, reason: str) -> list[StreamItem]:
        """Make a gap of what has not been released."""
        first, end = self._released, self._current.end_position
        self._released = end
        self._runs.clear()
        dropped = len(self._changes)
        self._changes.clear()
        note = f"; {dropped} edges in it dropped" if dropped else ""
        return [Gap(first, end - first, reason + note)] if end > first else []

    def _take_voltage(self, runs: Sequence[ChannelRun]) -> None:
        for run in runs:
            start_s = (self._voltage.origin_s or 0.0) + run.start * self._voltage.interval_s
            self._volts.add_samples(start_s, self._voltage.interval_s, run.values)

    def _release_until(self, end: int) -> list[StreamItem]:
        items: list[StreamItem] = []
        while self._runs and self._runs[0].start < end:
            run = self._runs.popleft()
            if run.end_position > end:
                rest = ChannelRun(end, run.values[end - run.start :], run.reason)
                self._runs.appendleft(rest)
                run = ChannelRun(run.start, run.values[: end - run.start], run.reason)
            items += self._run_to_items(run)
            self._released = run.end_position
        return [*items, *self._release_edges()]

    def _run_to_items(self, run: ChannelRun) -> list[StreamItem]:
        """Return one run as samples and gaps."""
        origin_s = self._current.origin_s or 0.0
        times = origin_s + np.arange(run.start, run.end_position) / self._rate_hz
        volts = self._volts.voltages_at(times)
        missing = np.isnan(run.values) | np.isnan(volts)
        cuts = np.flatnonzero(missing[1:] != missing[:-1]) + 1
        items: list[StreamItem] = []
        for a, b in itertools.pairwise([0, *cuts.tolist(), len(missing)]):
            amps, start = run.values[a:b], run.start + a
            if missing[a]:
                reason = run.reason or (NO_CURRENT if np.isnan(amps[0]) else NO_VOLTAGE)
                self._gaps.append((start, run.start + b))
                items.append(Gap(start, b - a, reason))
            else:
                items.append(Samples(start, amps * volts[a:b], amps, volts[a:b].copy()))
        return items

    def _release_edges(self) -> list[StreamItem]:
        """Return the edges whose position, with its uncertainty, is released and in no gap."""
        items: list[StreamItem] = []
        while self._changes:
            change = self._changes[0]
            index = (change.t_s - (self._current.origin_s or 0.0)) * self._rate_hz
            if index + self._reach >= self._released:
                break
            self._changes.popleft()
            low, high = index - self._reach, index + self._reach
            while self._gaps and self._gaps[0][1] < low - self._rate_hz:
                self._gaps.popleft()
            if index >= 0 and not any(a <= high and low <= b for a, b in self._gaps):
                items.append(Edge(index, self._line, rising=change.high))
        return items
