"""The host's clock as a witness that no samples are missing where a counter cannot tell.

Pure. A PPK2's counter has six bits: a loss of 64 samples, or of any multiple, looks like
none. Samples that came may be late, by what the host was doing, but never early; so how late
they come has a floor, the quickest delivery, and missing samples lift that floor for good.

How small a loss it sees: one of 64 samples is 640 µs. Chunks that come within 300 µs of the
floor, as far as the two clocks' rates are known, vouch for everything before them. So 64 lost
samples are seen where the host reads some chunk within about 100 µs of its quickest in every
two seconds; a host that reads later than that by x may overlook as many samples as fit into x,
if the delay begins together with the loss. In a window of 10 s, 64 samples are 0.0064 %.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.model import TimeMark

PERIOD_NS = 10_000
TURN = 64
TURN_NS = TURN * PERIOD_NS

PROMPT_NS = 300_000
"""A chunk this little above the floor vouches for all samples before it."""

RATE_NS = 1.0
"""How far the period may be off by the host's clock, ns a sample: 100 ppm."""

LEAST_RATE_NS = 0.05
"""How far it may wander however long it has been watched, ns a sample: 5 ppm."""

RATE_CELLS = 120
"""The rate is that of the last minute."""

CELL_SAMPLES = 50_000
"""The quickest chunk of each half second counts for rate and floor."""

FLAT_CELLS = 4
"""Two seconds of chunks, late by the same amount, are no late host: samples are missing."""

HOPELESS_CELLS = 20
"""After ten seconds without one prompt chunk nothing can be said any more."""

BROKEN_CELLS = 2
"""Where the counter broke the host's clock only has to say how many turns are missing."""

MARK_CELLS = 2
DELIVERY_NS = 3_000_000
"""Assumed: the quickest delivery of a chunk by USB takes less than this."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A chunk: the index after its last sample, and when it came."""

    index: int
    t_ns: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Samples the host's clock misses.

    Args:
        count: how many, a multiple of 64.
        since: index from which on they were missing; ``None`` where the counter broke too.
        why: in words.
    """

    count: int
    since: int | None
    why: str


class HostClock:
    """Judges every chunk by when it came; see the module's text.

    ``vouched`` is the index up to which nothing is missing. Indices are those of the wire;
    after a loss they start anew with :meth:`restart`.
    """

    def __init__(self) -> None:
        self.vouched = 0
        self._origin: Arrival | None = None
        self._slope = 0.0  # ns a sample by which the period differs from 10 µs
        self._slack = RATE_NS  # how well that is known
        self._floor: tuple[int, float] | None = None  # index and lag
        self._minima: deque[tuple[int, float]] = deque(maxlen=RATE_CELLS)
        self._cell = _Cell(0)
        self._late: list[_Cell] = []
        self._broken = False
        self._marked = -MARK_CELLS * CELL_SAMPLES
        self._marks: list[TimeMark] = []

    def arrived(self, index: int, t_ns: int) -> Missing | None:
        """Take note of a chunk; what it proves to be missing, if anything.

        Args:
            index: after its last sample.
            t_ns: when it came.
        """
        if self._origin is None:
            self._origin = Arrival(index, t_ns)
        lag = float(t_ns - self._origin.t_ns - (index - self._origin.index) * PERIOD_NS)
        excess = lag - self._highest_floor(index, lag)
        if self._floor is None or excess <= 0:
            self._floor = (index, lag)
        if excess <= PROMPT_NS:
            self.vouched = index
            self._broken = False
            self._late.clear()
        self._cell.take(Arrival(index, t_ns), lag, excess)
        if index - self._cell.start < CELL_SAMPLES:
            return None
        return self._close_cell(index)

    def broke(self, index: int) -> None:
        """The counter broke and runs on from ``index``, give or take turns of 64."""
        self._broken = True
        self._cell = _Cell(index)
        self._late.clear()

    def restart(self, index: int) -> None:
        """A loss has been accounted for: the next chunk is at ``index`` or later."""
        self.vouched = index
        self._origin = self._floor = None
        self._minima.clear()
        self._broken = False
        self._cell = _Cell(index)
        self._late.clear()

    def marks(self) -> list[TimeMark]:
        """The time marks of about every second since the last call."""
        marks, self._marks = self._marks, []
        return marks

    def _highest_floor(self, index: int, lag: float) -> float:
        """The highest that the floor can be at ``index``; ``lag`` itself if there is none."""
        if self._floor is None:
            return lag
        at, floor = self._floor
        return floor + (self._slope + self._slack) * (index - at)

    def _close_cell(self, index: int) -> Missing | None:
        cell, self._cell = self._cell, _Cell(index)
        if cell.least <= PROMPT_NS:
            self._learn_rate(cell)
            self._mark(cell)
            return None
        self._late.append(cell)
        return self._judge_break(index) if self._broken else self._judge_lateness()

    def _judge_break(self, index: int) -> Missing | None:
        """How many turns of the counter the break has hidden, once that is clear enough."""
        if len(self._late) < BROKEN_CELLS:
            return None
        count = TURN * round(min(cell.least for cell in self._late) / TURN_NS)
        if not count:
            self.vouched = index
            self._broken = False
            self._late.clear()
            return None
        return Missing(count, None, f"about {count} of them by the host's clock alone")

    def _judge_lateness(self) -> Missing | None:
        late = [cell.least for cell in self._late]
        recent = late[-FLAT_CELLS:]
        if len(recent) == FLAT_CELLS and max(recent) - min(recent) <= PROMPT_NS:
            first, least = self._late[-FLAT_CELLS], min(recent)
            how = f"every chunk since comes at least {least / 1e6:.2f} ms late"
        elif len(late) >= HOPELESS_CELLS:
            first, least = self._late[-1], min(late)
            how = "and it reads too late to tell how many"
        else:
            return None
        count = TURN * max(1, round(least / TURN_NS))
        why = f"about {count} samples are missing by the host's clock: {how}"
        return Missing(count, first.best.index, why)

    def _learn_rate(self, cell: _Cell) -> None:
        """Fit a line under the cells' quickest chunks; know its slope the better, the longer."""
        self._minima.append((cell.best.index, cell.lag))
        span = self._minima[-1][0] - self._minima[0][0]
        if span >= FLAT_CELLS * CELL_SAMPLES:
            self._slope = min(RATE_NS, max(-RATE_NS, slope_below(self._minima)))
            self._slack = min(self._slack, RATE_NS, max(LEAST_RATE_NS, PROMPT_NS / span))

    def _mark(self, cell: _Cell) -> None:
        """The quickest chunk came between at once and so long after its last sample."""
        if cell.start < self._marked + MARK_CELLS * CELL_SAMPLES:
            return
        self._marked = cell.start
        half_ns = (DELIVERY_NS + max(0, round(cell.least))) // 2
        best = cell.best
        self._marks.append(TimeMark(float(best.index), best.t_ns - half_ns, half_ns, "host"))


class _Cell:
    """The quickest chunk of a stretch."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.best = Arrival(start, 0)
        self.lag = 0.0
        self.least = float("inf")

    def take(self, arrival: Arrival, lag: float, excess: float) -> None:
        if excess < self.least:
            self.best, self.lag, self.least = arrival, lag, excess


def slope_below(points: Sequence[tuple[int, float]]) -> float:
    """Slope of the line that lies below all points and closest to them in sum.

    The edge of the lower convex hull over the mean abscissa: the optimum of the linear
    programme of Moon, Skelly and Towsley, "Estimation and Removal of Clock Skew from Network
    Delay Measurements" (INFOCOM 1999). Abscissae ascend; at least two points.
    """
    hull: list[tuple[int, float]] = []
    for x, y in points:
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    mean = sum(x for x, _ in points) / len(points)
    right = next(i for i in range(1, len(hull)) if hull[i][0] >= mean)
    (x0, y0), (x1, y1) = hull[right - 1], hull[right]
    return (y1 - y0) / (x1 - x0)


def _turns_right(a: tuple[int, float], b: tuple[int, float], c: tuple[int, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) <= (c[0] - a[0]) * (b[1] - a[1])
