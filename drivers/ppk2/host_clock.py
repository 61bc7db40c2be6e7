"""The host's clock as a witness that no samples are missing where a counter cannot tell.

Pure. A PPK2's counter has six bits: a loss of 64 samples, or of any multiple, looks like
none. Samples may come late, by what the host was doing, but never early; so their lateness
has a floor, the quickest delivery, and missing samples lift that floor for good.

* A chunk within 300 µs of the floor, as far as the two clocks' rates are known, vouches for
  everything before it: one turn of the counter is 640 µs.
* When no chunk does for two and a half seconds, the quickest of every half second being late
  by the same whole number of turns, so many samples are missing.
* A host that is merely busy is late by this and that. It is believed after six seconds, and
  how many samples might be missing behind its lateness is remembered (:attr:`HostClock.unsure`).
  Beyond 50 ms it is not believed: what came since it last agreed is in doubt.
* The floor is known as well as the rate is. Where both leave room for a turn more than what
  is assumed, that turn is remembered too.

So one turn is seen from about the third second on where the host reads a chunk within 0.1 ms
of its quickest in every half second, as an idle host does; a host late by x may overlook what
fits into x. On a host restless from the start, a turn lost in the first three seconds may stay
unseen for good. 64 samples are 0.0064 % of a window of 10 s; 50 ms would be 0.5 %, which the
second clock that times a window sees too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from labd.core.model import TimeMark

PERIOD_NS = 10_000
TURN = 64
TURN_NS = TURN * PERIOD_NS

PROMPT_NS = 300_000
"""A chunk this little above the floor vouches for all samples before it."""

CELL_SAMPLES = 50_000
"""The quickest chunk of each half second counts for rate and floor."""

RATE_NS = 1.0
"""How far the period may be off by the host's clock, ns a sample: 100 ppm."""

LEAST_RATE_NS = 0.05
"""How far it may wander however long it has been watched, ns a sample: 5 ppm."""

RATE_CELLS = 120
RATE_SPAN_SAMPLES = 4 * CELL_SAMPLES
"""The rate is that of the last minute, and of two seconds at least."""

FLAT_CELLS = 5
FLAT_NS = 120_000
"""The quickest chunks of calm half seconds differ by less, apart from the clocks' rates."""

WHOLE_TURN_NS = 150_000
"""A step of the floor is missing samples if it is a whole number of turns but for this."""

SURE_NS = TURN_NS - WHOLE_TURN_NS
"""A chunk that cannot be later than this leaves no room for a turn."""

BUSY_CELLS = 12
"""After six seconds of lateness without a pattern the host is taken to be busy …"""

HOPELESS_NS = 50_000_000
HOPELESS_CELLS = 20
"""… but if it was never less late than this in ten seconds, nothing can be said."""

BROKEN_CELLS = 2
"""Where the counter broke the host's clock only has to say how many turns are missing: it
waits until so many half seconds in a row allow one number and no other."""

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

    ``vouched`` is the index up to which nothing is missing; ``unsure`` is by how many samples,
    in turns of the counter, indices may be off all the same: behind the host's own lateness,
    and behind clocks whose rates were not known well enough. Indices are those of the wire;
    after a loss they start anew with :meth:`restart`.
    """

    def __init__(self) -> None:
        self.vouched = 0
        self.unsure = 0
        self._origin: Arrival | None = None
        self._slope = 0.0  # ns a sample by which the period differs from 10 µs
        self._slack = RATE_NS  # how well that is known
        self._floor: tuple[int, float] | None = None  # index and lag
        self._minima: deque[tuple[int, float]] = deque(maxlen=RATE_CELLS)
        self._cell = _Cell(0)
        self._unvouched = _Cell(0)  # since a chunk last vouched
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
        highest, width = self._floor_at(index, lag)
        excess = lag - highest
        decided = not self._broken or excess + width <= SURE_NS
        if self._floor is None or (excess <= 0 and decided):
            self._floor = (index, lag)
        if excess <= PROMPT_NS and decided:
            if self._late and _most_turns(excess + width):
                self._floor = (index, lag)
                self._minima.clear()  # a rate from both sides of a loss would be wrong
                self._trust(index, excess + width)
            self._believe(index)
        else:
            self._unvouched.take(Arrival(index, t_ns), lag, excess, width)
        self._cell.take(Arrival(index, t_ns), lag, excess, width)
        if index - self._cell.start < CELL_SAMPLES:
            return None
        return self._close_cell(index)

    def settle(self, index: int) -> Missing | None:
        """Judge the last chunks, up to ``index``: nothing more comes."""
        if self.vouched >= index or self._unvouched.least >= HOPELESS_NS:
            return None
        if self._broken:
            cells = [cell for cell in (*self._late[-1:], self._cell) if cell.least < HOPELESS_NS]
            turns = _agreed_turns(cells)
            return self._decide_break(index, cells) if turns is None else self._missed(index, turns)
        self._trust(index, self._unvouched.most)
        return None

    def broke(self, index: int) -> None:
        """The counter broke and runs on from ``index``, give or take turns of 64.

        Where the host was not calm until then, a turn lost before may have gone unseen.
        """
        if not self._was_calm():
            self.unsure += TURN
        self._broken = True
        self._cell, self._unvouched = _Cell(index), _Cell(index)
        self._late.clear()

    def _was_calm(self) -> bool:
        """Whether the quickest chunks of successive half seconds leave a turn no room."""
        return all(
            abs(lag - before) <= FLAT_NS + RATE_NS * (index - earlier)
            for (earlier, before), (index, lag) in pairwise(self._minima)
        )

    def restart(self, index: int) -> None:
        """A loss has been accounted for: the next chunk is at ``index`` or later."""
        self.vouched = index
        self._origin = self._floor = None
        self._minima.clear()
        self._broken = False
        self._cell, self._unvouched = _Cell(index), _Cell(index)
        self._late.clear()

    def marks(self) -> list[TimeMark]:
        """The time marks of about every second since the last call."""
        marks, self._marks = self._marks, []
        return marks

    def _floor_at(self, index: int, lag: float) -> tuple[float, float]:
        """The highest that the floor can be at ``index``, and how much lower it can be.

        ``lag`` itself if there is none.
        """
        if self._floor is None:
            return lag, 0.0
        at, floor = self._floor
        return floor + (self._slope + self._slack) * (index - at), 2 * self._slack * (index - at)

    def _close_cell(self, index: int) -> Missing | None:
        cell, self._cell = self._cell, _Cell(index)
        if self._broken:
            self._late.append(cell)
            return self._judge_break(index)
        if cell.least <= PROMPT_NS:
            self._learn_rate(cell)
            self._mark(cell)
            return None
        self._late.append(cell)
        return self._judge_lateness()

    def _judge_break(self, index: int) -> Missing | None:
        """How many turns of the counter the break has hidden, once that is clear enough."""
        turns = _agreed_turns(self._late[-BROKEN_CELLS:])
        if turns is not None:
            return self._missed(index, turns)
        return self._decide_break(index, self._late) if len(self._late) >= BUSY_CELLS else None

    def _decide_break(self, index: int, cells: Sequence[_Cell]) -> Missing | None:
        """Take the likeliest number of turns, and remember how wrong that may be."""
        quickest = min(cells, key=_least)
        turns = max(0, round(quickest.least / TURN_NS))
        self.unsure += TURN * max(turns, _most_turns(quickest.most) - turns)
        return self._missed(index, turns)

    def _missed(self, index: int, turns: int) -> Missing | None:
        count = TURN * turns
        if count:
            return Missing(count, None, f"about {count} of them by the host's clock alone")
        self._believe(index)
        return None

    def _judge_lateness(self) -> Missing | None:
        recent = self._late[-FLAT_CELLS:]
        turns = self._step_turns(recent) if len(recent) == FLAT_CELLS else 0
        if turns:
            how = f"every chunk since comes {turns * TURN_NS / 1e6:.2f} ms late"
            return _missing(turns, recent[0], how)
        quickest = min(recent, key=_least)
        if len(self._late) >= BUSY_CELLS and quickest.least < HOPELESS_NS:
            self._floor = (quickest.best.index, quickest.lag)
            self._minima.clear()
            self._trust(self._late[-1].best.index, quickest.most)
        elif len(self._late) >= HOPELESS_CELLS:
            turns = max(1, round(quickest.least / TURN_NS))
            self.unsure += TURN * turns  # its lateness may be nothing else
            return _missing(turns, self._late[-1], "it reads far too late")
        return None

    def _step_turns(self, cells: Sequence[_Cell]) -> int:
        """By how many turns the floor has stepped up; 0 if it is not a step of whole turns."""
        before = [self._level(index, lag) for index, lag in list(self._minima)[-FLAT_CELLS + 1 :]]
        after = [self._level(cell.best.index, cell.lag) for cell in cells]
        if len(before) < FLAT_CELLS - 1 or max(map(_spread, (before, after))) > FLAT_NS:
            return 0
        step = min(after) - min(before)
        turns = max(0, round(step / TURN_NS))
        return turns if abs(step - turns * TURN_NS) <= WHOLE_TURN_NS else 0

    def _level(self, index: int, lag: float) -> float:
        """A lag without what the clocks' different rates have made of it."""
        return lag - self._slope * index

    def _trust(self, index: int, late_ns: float) -> None:
        """Take the host to be busy, and remember how many turns its lateness has room for."""
        self.unsure += TURN * _most_turns(late_ns)
        self._believe(index)

    def _believe(self, index: int) -> None:
        """Nothing is missing before ``index``."""
        self.vouched = index
        self._broken = False
        self._unvouched = _Cell(index)
        self._late.clear()

    def _learn_rate(self, cell: _Cell) -> None:
        """Fit a line under the cells' quickest chunks; know its slope the better, the longer."""
        self._minima.append((cell.best.index, cell.lag))
        span = self._minima[-1][0] - self._minima[0][0]
        if span >= RATE_SPAN_SAMPLES:
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
        self.least = self.most = math.inf  # by how much it was late, between these

    def take(self, arrival: Arrival, lag: float, excess: float, width: float) -> None:
        if excess < self.least:
            self.best, self.lag, self.least, self.most = arrival, lag, excess, excess + width


def _least(cell: _Cell) -> float:
    return cell.least


def _most_turns(late_ns: float) -> int:
    """How many turns of the counter such a lateness has room for."""
    return max(0, int((late_ns + WHOLE_TURN_NS) // TURN_NS))


def _agreed_turns(cells: Sequence[_Cell]) -> int | None:
    """The one number of turns by which a prompt host's quickest chunks are all late.

    ``None`` if there are several such numbers or none, too few cells to tell a prompt host
    from a busy one, or chunks late by this and that.
    """
    if len(cells) < BROKEN_CELLS or _spread([cell.least for cell in cells]) > FLAT_NS:
        return None
    fewest = max(math.ceil((cell.least - PROMPT_NS) / TURN_NS) for cell in cells)
    most = min(_most_turns(cell.most) for cell in cells)
    return most if max(0, fewest) == most else None


def _missing(turns: int, since: _Cell, how: str) -> Missing:
    why = f"about {turns * TURN} samples are missing by the host's clock: {how}"
    return Missing(turns * TURN, since.best.index, why)


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


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
