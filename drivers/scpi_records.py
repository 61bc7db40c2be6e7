"""Records polled from an instrument that logs by its own clock: checked, timed, released.

An instrument without time stamps says only how many records there are. The host's clock says
how many there should be: too few means that some were lost or that the log runs slower than
its period tells, too many that several functions share the stream (eembc/energyrunner#24,
where a log of two functions was taken for one and every trace came out stretched). Records
are released only when the count has been right for a while after them.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark

SLACK_S = 0.15
"""How late or early a count may look: latency, and how often the instrument updates it."""

HOST_PPM = 600.0
"""A host clock slewed by NTP (500 ppm) against the instrument's crystal (100 ppm)."""

WINDOW_NS = 10_000_000_000
"""Beside the whole acquisition the count is checked over this long, against small losses."""

CONFIRM_NS = 1_000_000_000
MARK_NS = 1_000_000_000

NO_READING = "no valid reading: an overload, a current at its limit, or none taken"

Values = NDArray[np.float64]
Rows = NDArray[np.float64]
"""Records, shape (n, values a record)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of the host's clock known to lie between two readings of it, ns."""

    before_ns: int
    after_ns: int


class RecordClock:
    """Compares a count of records with the host's clock and ties the two by time marks.

    Args:
        rate_hz: records a second, by the instrument's own period.
        buffer_s: how much the instrument keeps for a host that comes late.

    Attributes:
        fault: what is wrong with the count; empty while nothing is.
        on_time: whether the last count was what the host's clock says.
        confirmed: records that a later count has vouched for.
    """

    def __init__(self, rate_hz: float, buffer_s: float) -> None:
        self.fault = ""
        self.on_time = False
        self.confirmed = 0
        self._rate_hz = rate_hz
        self._buffer_s = buffer_s
        self._origin: tuple[int, Moment] | None = None
        self._anchors: deque[tuple[int, Moment]] = deque()  # of the last WINDOW_NS
        self._passed: deque[tuple[int, int]] = deque()  # counts that were right, and when
        self._candidates: list[_Candidate] = []  # for the next mark
        self._mark_due_ns = 0

    def start(self, when: Moment) -> TimeMark:
        """The log was started at this moment; record 0 begins there."""
        self._origin = (0, when)
        self._mark_due_ns = when.after_ns + MARK_NS
        return _mark(0, when.before_ns, when.after_ns)

    def count(self, total: int, when: Moment, *, drained: bool) -> list[TimeMark]:
        """So many records had come when the instrument was asked at this moment.

        Args:
            total: records since the start.
            when: between asking and the answer.
            drained: whether the instrument had no more than it gave.

        Returns:
            A time mark, once in a while.
        """
        if self._origin is None:
            raise ValueError("records before the start")
        late_s = SLACK_S if drained else max(SLACK_S, self._buffer_s)
        self.on_time = True
        for anchor in (self._origin, *([self._anchors[0]] if self._anchors else [])):
            self._compare(anchor, total, when, late_s)
        if self.fault or not self.on_time:
            return []
        self._confirm(total, when)
        self._propose(total, when, drained=drained)
        if when.after_ns < self._mark_due_ns:
            return []
        self._mark_due_ns = when.after_ns + MARK_NS
        return self._take_mark()

    def finish(self) -> list[TimeMark]:
        """Nothing more comes, and the last count was right."""
        if self.fault or not self._passed:
            return []
        self.confirmed = self._passed[-1][0]
        return self._take_mark()

    def _compare(self, anchor: tuple[int, Moment], total: int, when: Moment, late_s: float) -> None:
        count, then = anchor
        new = total - count
        least_s = (when.before_ns - then.after_ns) * 1e-9 * (1 - HOST_PPM * 1e-6)
        most_s = (when.after_ns - then.before_ns) * 1e-9 * (1 + HOST_PPM * 1e-6)
        if new < (least_s - SLACK_S) * self._rate_hz:
            self.on_time = False
        few = new < (least_s - late_s) * self._rate_hz
        many = new > (most_s + SLACK_S) * self._rate_hz + 1
        if self.fault or not (few or many):
            return
        passed_s = (least_s + most_s) / 2
        share = new / max(1.0, passed_s * self._rate_hz)
        cause = "some were lost, or it logs" if few else "it logs"
        self.fault = (
            f"{new} records in {passed_s:.2f} s at {self._rate_hz:.5g} a second are {share:.2f} "
            f"times what they should be: {cause} another number of values"
        )

    def _confirm(self, total: int, when: Moment) -> None:
        self._passed.append((total, when.after_ns))
        while self._passed[0][1] <= when.after_ns - CONFIRM_NS:
            self.confirmed = self._passed.popleft()[0]
        self._anchors.append((total, when))
        while self._anchors[0][1].after_ns < when.after_ns - WINDOW_NS:
            self._anchors.popleft()

    def _propose(self, total: int, when: Moment, *, drained: bool) -> None:
        """Bound the time at which this count was reached.

        It was not later than the answer. It was a period before the question at the
        earliest if there were no more records; if there may have been, no earlier than a
        count on time can be.
        """
        period_ns = 1e9 / self._rate_hz
        earliest_ns = when.before_ns - period_ns if drained else when.after_ns - SLACK_S * 1e9
        lag_ns = when.after_ns - total * period_ns
        self._candidates.append(_Candidate(total, earliest_ns, when.after_ns, lag_ns))

    def _take_mark(self) -> list[TimeMark]:
        """The mark of the count that lagged least since the last one.

        How seldom the instrument updates its count shows as a spread of the lags; and it
        cannot have counted faster since the start than the clocks' tolerance allows.
        """
        if not self._candidates or self._origin is None:
            return []
        lags_ns = [candidate.lag_ns for candidate in self._candidates]
        best = self._candidates[lags_ns.index(min(lags_ns))]
        fastest_ns = best.total * 1e9 / self._rate_hz * (1 - HOST_PPM * 1e-6)
        earliest_ns = max(
            best.earliest_ns - (max(lags_ns) - min(lags_ns)),
            self._origin[1].before_ns + fastest_ns,
        )
        self._candidates = []
        return [_mark(best.total, math.floor(min(earliest_ns, best.latest_ns)), best.latest_ns)]


@dataclass(frozen=True, slots=True)
class _Candidate:
    total: int
    earliest_ns: float
    latest_ns: int
    lag_ns: float


def _mark(index: int, earliest_ns: int, latest_ns: int) -> TimeMark:
    middle_ns = (earliest_ns + latest_ns) // 2
    return TimeMark(float(index), middle_ns, latest_ns - middle_ns, "host")


def _missing(rows: Rows) -> NDArray[np.bool_]:
    """Which rows lack a reading, shape (n,)."""
    return np.logical_or.reduce(np.isnan(rows), axis=1)


class StepLine:
    """Edges of a digital line from the current that its pull-up or level shifter draws.

    The line is low while the current is above the threshold. A record is a mean over its
    period, so a change lies in the record that first shows it or in the one before.

    Args:
        line: its name in the stream.
        threshold_a: current between the line's two states.
        hysteresis_a: width of the band around it in which the line stays what it was.
    """

    _HIGH, _LOW, _HELD, _UNKNOWN = range(4)

    def __init__(self, line: str, threshold_a: float, hysteresis_a: float) -> None:
        self._line = line
        self._upper_a = threshold_a + hysteresis_a / 2
        self._lower_a = threshold_a - hysteresis_a / 2
        self._last = self._UNKNOWN

    def edges(self, index: int, current_a: Values) -> list[Edge]:
        """The edges in the records from ``index`` on, shape (n,); NaN makes it unknown."""
        states = np.full(len(current_a) + 1, self._HELD)
        states[0] = self._last
        states[1:][current_a > self._upper_a] = self._LOW
        states[1:][current_a < self._lower_a] = self._HIGH
        states[1:][np.isnan(current_a)] = self._UNKNOWN
        places = np.where(states == self._HELD, 0, np.arange(len(states)))
        states = states[np.maximum.accumulate(places)]
        self._last = int(states[-1])
        known = (states[1:] < self._HELD) & (states[:-1] < self._HELD)
        at = np.flatnonzero(known & (states[1:] != states[:-1]))
        return [
            Edge(float(index + place), self._line, bool(states[place + 1] == self._HIGH))
            for place in at.tolist()
        ]


class RecordStream:
    """Turns polled records into a stream whose every sample has been vouched for.

    Args:
        clock: checks the count.
        samples: makes samples of the rows from an index on, shape (n, values a record).
        line: reads the timestamp line from each row's last value, if there is one.
    """

    def __init__(
        self,
        clock: RecordClock,
        samples: Callable[[int, Rows], Samples],
        line: StepLine | None = None,
    ) -> None:
        self.received = 0
        self.edges_seen = 0
        self._clock = clock
        self._samples = samples
        self._line = line
        self._rows: list[Rows] = []  # from _released on
        self._released = 0
        self._edges: deque[Edge] = deque()

    @property
    def fault(self) -> str:
        """What is wrong with the count of records."""
        return self._clock.fault

    @property
    def on_time(self) -> bool:
        """Whether the last count was what the host's clock says."""
        return self._clock.on_time

    def start(self, when: Moment) -> list[StreamItem]:
        """The log was started at this moment."""
        return [self._clock.start(when)]

    def add(self, rows: Rows, when: Moment, *, drained: bool) -> list[StreamItem]:
        """More records, asked for at this moment; return what they confirmed."""
        if self._line is not None:
            seen = np.where(_missing(rows), np.nan, rows[:, -1])
            edges = self._line.edges(self.received, seen)
            self._edges.extend(edges)
            self.edges_seen += sum(not edge.rising for edge in edges)
        self._rows.append(rows)
        self.received += len(rows)
        marks = self._clock.count(self.received, when, drained=drained)
        return [*self._release(self._clock.confirmed), *marks]

    def complete(self) -> list[StreamItem]:
        """The log has ended and was drained: return its tail."""
        marks = self._clock.finish()
        return [*self._release(self._clock.confirmed), *marks]

    def settle(self, reason: str) -> list[StreamItem]:
        """Give up what has not been confirmed."""
        index, self._released = self._released, self.received
        lost = self._edges
        self._rows, self._edges = [], deque()
        note = f"; {len(lost)} edges in it dropped" if lost else ""
        if self.received == index:
            return []
        return [Gap(index, self.received - index, (self.fault or reason) + note)]

    def _release(self, end: int) -> list[StreamItem]:
        """Give out the records before ``end``, cut where edges and gaps are."""
        count = end - self._released
        if count <= 0:
            return []
        rows = np.concatenate(self._rows)
        rows, self._rows = rows[:count], [rows[count:]]
        first, self._released = self._released, end
        missing = _missing(rows)
        edges: dict[int, list[Edge]] = {}
        while self._edges and self._edges[0].index < end:
            edge = self._edges.popleft()
            edges.setdefault(int(edge.index) - first, []).append(edge)
        cuts = {0, count, *edges, *(np.flatnonzero(missing[1:] != missing[:-1]) + 1).tolist()}
        items: list[StreamItem] = []
        places = sorted(cuts)
        for start, stop in itertools.pairwise(places):
            items += edges.get(start, [])
            if missing[start]:
                items.append(Gap(first + start, stop - start, NO_READING))
            else:
                items.append(self._samples(first + start, rows[start:stop]))
        return items
