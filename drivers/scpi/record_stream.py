"""Polled records as a stream of confirmed samples, gaps and edges. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.scpi.record_clock import Moment, RecordClock
from labd.core.model import Edge, Gap, Samples, StreamItem

NO_READING = "no valid reading: an overload, a current at its limit, or none taken"

Records = NDArray[np.float64]
"""Shape (n, values per record)."""


def _lacks_reading(records: Records) -> NDArray[np.bool_]:
    """Return which records lack a reading, shape (n,)."""
    return np.logical_or.reduce(np.isnan(records), axis=1)


class CurrentStepLine:
    """Edges of a digital line, from the current of its pull-up or level shifter.

    The line is low while the current is above the threshold. A record is a mean over its
    period, so the line changed in the record that first shows it or in the one before.

    Args:
        line: its name in the stream.
        threshold_a: current between the two levels.
        hysteresis_a: width of the band around the threshold in which the level does not change.
    """

    _HIGH, _LOW, _HELD, _UNKNOWN = range(4)

    def __init__(self, line: str, threshold_a: float, hysteresis_a: float) -> None:
        self._line = line
        self._upper_a = threshold_a + hysteresis_a / 2
        self._lower_a = threshold_a - hysteresis_a / 2
        self._last = self._UNKNOWN

    def find_edges(self, index: int, current_a: NDArray[np.float64]) -> list[Edge]:
        """Return the edges in the next records.

        Args:
            index: of the first record.
            current_a: shape (n,); NaN makes the level unknown.
        """
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
    """Convert polled records to a stream; a sample is released when its count is confirmed.

    ``line`` reads the timestamp line from the last value of each record, if there is one.
    """

    def __init__(
        self,
        clock: RecordClock,
        samples: Callable[[int, Records], Samples],
        line: CurrentStepLine | None = None,
    ) -> None:
        self.received_samples = 0
        self.edges_seen = 0
        self.clock = clock
        self._samples = samples
        self._line = line
        self._records: list[Records] = []  # from _released on
        self._released = 0
        self._edges: deque[Edge] = deque()

    def add_records(self, records: Records, when: Moment, *, drained: bool) -> list[StreamItem]:
        """Take the records of one poll; return what they confirmed.

        ``drained`` if the instrument had no more.
        """
        if self._line is not None:
            seen = np.where(_lacks_reading(records), np.nan, records[:, -1])
            edges = self._line.find_edges(self.received_samples, seen)
            self._edges.extend(edges)
            self.edges_seen += sum(not edge.rising for edge in edges)
        self._records.append(records)
        self.received_samples += len(records)
        marks = self.clock.add_count(self.received_samples, when, drained=drained)
        return [*self._release_until(self.clock.confirmed), *marks]

    def release_tail(self) -> list[StreamItem]:
        """Return the tail of a log that has ended and was drained."""
        marks = self.clock.confirm_all()
        return [*self._release_until(self.clock.confirmed), *marks]

    def rest_as_gap(self, reason: str) -> list[StreamItem]:
        """Make a gap of what has not been confirmed."""
        index, self._released = self._released, self.received_samples
        lost = self._edges
        self._records, self._edges = [], deque()
        note = f"; {len(lost)} edges in it dropped" if lost else ""
        if self.received_samples == index:
            return []
        return [Gap(index, self.received_samples - index, (self.clock.fault or reason) + note)]

    def _release_until(self, end: int) -> list[StreamItem]:
        """Return the records before ``end``, cut at edges and gaps."""
        count = end - self._released
        if count <= 0:
            return []
        records = np.concatenate(self._records)
        records, self._records = records[:count], [records[count:]]
        first, self._released = self._released, end
        missing = _lacks_reading(records)
        edges: dict[int, list[Edge]] = {}
        while self._edges and self._edges[0].index < end:
            edge = self._edges.popleft()
            edges.setdefault(int(edge.index) - first, []).append(edge)
        cuts = {0, count, *edges, *(np.flatnonzero(missing[1:] != missing[:-1]) + 1).tolist()}
        items: list[StreamItem] = []
        for start, stop in itertools.pairwise(sorted(cuts)):
            items += edges.get(start, [])
            if missing[start]:
                items.append(Gap(first + start, stop - start, NO_READING))
            else:
                items.append(self._samples(first + start, records[start:stop]))
        return items
