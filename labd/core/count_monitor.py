"""Lost samples that no counter shows, found by the host's clock.

An instrument delivers samples late by what the host was doing, never early: the delivery delay
has a minimum, and lost samples raise that minimum for good.

* A delivery at most ``on_time_ns`` above the minimum, as far as the clocks' rates are known,
  confirms all samples before it.
* When there is none for :data:`LOSS_CELLS` cells, and the quickest delivery of each cell is late by
  the same whole number of steps, that many samples are lost.
* Irregular delay is attributed to host load after :data:`BUSY_CELLS` cells; the samples that it
  could hide are added to :attr:`CountMonitor.possibly_missing`. Beyond ``too_late_ns`` it is not:
  the samples since the last confirmation are given up.
* The minimum is known as well as the clocks' relative rate. Where both leave room for a step more
  than is assumed, that step is added to ``possibly_missing`` too.

With a PPK2's rules (a step is one counter wrap, 64 samples or 640 µs) a loss of one step is found
from about the third second on, if the host reads one delivery per half second within 0.1 ms of
the minimum, as an idle host does; the cell in which the loss lies is not needed if more than half
of it came after the loss. If the delay is irregular from the start, the loss of one step
in the first 3 s may go undetected: 64 samples are 0.0064 % of a window of 10 s. A delay of 50 ms
could hide 0.5 % of it, which the second clock that times a window detects.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from labd.core.host_clock import RATE_PPM, RATE_WANDER_PPM, slope_below

CELL_S = 0.5
"""Length of a cell, of which the quickest delivery counts."""

LOSS_CELLS = 5
"""Cells in a row that show a loss."""

BUSY_CELLS = 12
"""Cells in a row after which irregular delay is attributed to host load."""

TOO_LATE_CELLS = 20
"""Cells in a row after which the samples of a host that is too late are given up."""

RATE_CELLS = 120
"""The relative rate is that of the last cells, at most this many …"""

RATE_SPAN_CELLS = 4
"""… and at least over this many."""

BROKEN_CELLS = 2
"""After a break in the instrument's counter, the number of lost steps is known once this many
cells in a row allow one number and no other."""


@dataclass(frozen=True, slots=True)
class CountRules:
    """Delivery delays of one kind of instrument, and what a loss looks like in them.

    Args:
        rate_hz: samples per second.
        step: samples that are lost are a multiple of this.
        on_time_ns: a delivery at most this much slower than the quickest is on time.
        steady_ns: the quickest deliveries of successive cells differ by less on a calm host,
            apart from the clocks' rates.
        margin_ns: the minimum delay rises by a whole number of steps ± this when samples are
            lost.
        too_late_ns: a host whose quickest delivery is later than this confirms nothing.
    """

    rate_hz: float
    step: int
    on_time_ns: float
    steady_ns: float
    margin_ns: float
    too_late_ns: float

    @property
    def period_ns(self) -> float:
        """Nominal sample period."""
        return 1e9 / self.rate_hz

    @property
    def step_ns(self) -> float:
        """Duration of one step."""
        return self.step * self.period_ns

    def max_lost_steps(self, late_ns: float) -> int:
        """Return how many lost steps a lateness has room for."""
        return max(0, int((late_ns + self.margin_ns) // self.step_ns))


@dataclass(frozen=True, slots=True)
class Lost:
    """Samples that are lost by the host's clock.

    Args:
        count: a multiple of the step.
        since: index from which on they are missing; ``None`` where the instrument's own counter
            shows the place.
        why: for a gap's reason.
    """

    count: int
    since: int | None
    why: str


class CountMonitor:
    """Checks a sample count by the time of every delivery.

    Indices continue those of the wire; after a loss they start anew with :meth:`restart_at`.

    Args:
        rules: of the instrument.

    Attributes:
        confirmed: index up to which no samples are missing.
        possibly_missing: upper limit of undetected lost samples, a multiple of the step.
    """

    def __init__(self, rules: CountRules) -> None:
        self.confirmed = 0
        self.possibly_missing = 0
        self._rules = rules
        self._period_ns = rules.period_ns
        self._cell_samples = round(CELL_S * rules.rate_hz)
        self._widest_ns = RATE_PPM * 1e-6 * rules.period_ns  # per sample
        self._slope = 0.0  # ns per sample by which the period differs from the nominal one
        self._slack = self._widest_ns  # how well that is known
        self._origin: tuple[int, int] | None = None  # index and time of the first delivery
        self._minimum: tuple[int, float] | None = None  # index and delay
        self._minima: deque[tuple[int, float]] = deque(maxlen=RATE_CELLS)  # of the cells on time
        self._cell = _Cell(0)
        self._unconfirmed = _Cell(0)  # since the last confirmation
        self._late: list[_Cell] = []
        self._broken = False

    def observe_delivery(self, index: int, t_ns: int) -> Lost | None:
        """Take a delivery; return what it proves to be lost, if anything.

        Args:
            index: after its last sample.
            t_ns: when it came, or when it was asked for, by the host's clock.
        """
        if self._origin is None:
            self._origin = (index, t_ns)
        first, began_ns = self._origin
        delay = t_ns - began_ns - (index - first) * self._period_ns
        least, most = self._lateness_ns(index, delay)
        rules = self._rules
        decided = not self._broken or most <= rules.step_ns - rules.margin_ns
        if self._minimum is None or (least <= 0 and decided):
            self._minimum = (index, delay)
        if least <= rules.on_time_ns and decided:
            if self._late and rules.max_lost_steps(most):
                self._accept_delay_as_minimum(index, delay, index, most)
            self._confirm_samples(index)
        else:
            self._unconfirmed.add_delivery(index, delay, least, most, least)
        level = self._minimum_level_ns(index, delay)  # the minimum may have moved in the cell
        self._cell.add_delivery(index, delay, least, most, level)
        return self._close_cell(index) if index - self._cell.start >= self._cell_samples else None

    def settle_at_end(self, index: int) -> Lost | None:
        """Judge the last deliveries, up to ``index``: nothing more comes."""
        too_late = self._rules.too_late_ns
        if self.confirmed >= index or self._unconfirmed.least >= too_late:
            return None
        if self._broken:
            cells = [cell for cell in (*self._late[-1:], self._cell) if cell.least < too_late]
            steps = self._agreed_steps(cells)
            return (
                self._likeliest_break_steps(index, cells)
                if steps is None
                else self._record_loss(index, steps)
            )
        self._add_possibly_missing(self._unconfirmed.most)
        self._confirm_samples(index)
        return None

    def on_counter_break(self, index: int) -> None:
        """Record a break of the instrument's counter, which continues at ``index`` ± whole steps.

        If the latency was irregular until then, a step lost before may be undetected.
        """
        if not self._was_host_calm():
            self.possibly_missing += self._rules.step
        self._broken = True
        self._begin_cells(index)

    def restart_at(self, index: int) -> None:
        """Restart after a loss was reported: the next delivery is at ``index`` or later."""
        self.confirmed = index
        self._origin = self._minimum = None
        self._minima.clear()
        self._broken = False
        self._begin_cells(index)

    # ---- delays --------------------------------------------------------------------------

    def _lateness_ns(self, index: int, delay: float) -> tuple[float, float]:
        """Return the least and greatest lateness of a delivery, ns."""
        if self._minimum is None:
            return 0.0, 0.0
        at, minimum = self._minimum
        least = delay - minimum - (self._slope + self._slack) * (index - at)
        return least, least + 2 * self._slack * (index - at)

    def _learn_rate(self, cell: _Cell) -> None:
        """Fit a line below the cells' quickest deliveries, the better the longer they span."""
        self._minima.append((cell.index, cell.delay))
        span = cell.index - self._minima[0][0]
        if span >= RATE_SPAN_CELLS * self._cell_samples:
            widest = self._widest_ns
            self._slope = min(widest, max(-widest, slope_below(self._minima)))
            least = RATE_WANDER_PPM * 1e-6 * self._period_ns
            self._slack = min(self._slack, max(least, self._rules.on_time_ns / span))

    def _was_host_calm(self) -> bool:
        """Whether the quickest deliveries of successive cells leave no room for a step."""
        return all(
            abs(delay - before) <= self._rules.steady_ns + self._widest_ns * (index - earlier)
            for (earlier, before), (index, delay) in pairwise(self._minima)
        )

    # ---- cells ---------------------------------------------------------------------------

    def _begin_cells(self, index: int) -> None:
        self._cell, self._unconfirmed = _Cell(index), _Cell(index)
        self._late.clear()

    def _close_cell(self, index: int) -> Lost | None:
        cell, self._cell = self._cell, _Cell(index)
        if not self._broken and cell.least <= self._rules.on_time_ns:
            self._learn_rate(cell)
            return None
        self._late.append(cell)
        return self._resolve_counter_break(index) if self._broken else self._resolve_delay()

    def _resolve_counter_break(self, index: int) -> Lost | None:
        """Find how many steps a break of the counter has hidden, once that is clear enough."""
        steps = self._agreed_steps(self._late[-BROKEN_CELLS:])
        if steps is not None:
            return self._record_loss(index, steps)
        enough = len(self._late) >= BUSY_CELLS
        return self._likeliest_break_steps(index, self._late) if enough else None

    def _resolve_delay(self) -> Lost | None:
        """Find lost steps, attribute the delay to host load, or give the samples up."""
        rules, late = self._rules, self._late
        recent = late[-LOSS_CELLS:]
        steps = self._steps_of_minimum_rise(recent) if len(recent) == LOSS_CELLS else 0
        if steps:
            how = f"every chunk since comes {steps * rules.step_ns / 1e6:.2f} ms late"
            return self._loss_since_cell(recent[0], steps, how)
        quickest = min(recent, key=_least_delay_ns)
        if len(late) >= BUSY_CELLS and quickest.least < rules.too_late_ns:
            self._accept_delay_as_minimum(
                quickest.index, quickest.delay, late[-1].index, quickest.most
            )
        elif len(late) >= TOO_LATE_CELLS:
            steps = max(1, round(quickest.least / rules.step_ns))
            self.possibly_missing += rules.step * steps  # it may be nothing but late
            return self._loss_since_cell(late[-1], steps, "the host reads too late to tell")
        return None

    def _steps_of_minimum_rise(self, cells: Sequence[_Cell]) -> int:
        """Return by how many steps the minimum delay has risen; 0 if not by a whole number."""
        rules = self._rules
        minima = list(self._minima)
        if self._late[0].start - self.confirmed > self._cell_samples / 2:
            minima = minima[:-1]  # of less than half a cell: the loss cut it short
        before = [self._minimum_level_ns(*point) for point in minima[1 - len(cells) :]]
        after = [self._minimum_level_ns(cell.index, cell.delay) for cell in cells]
        steady = max(map(_delay_spread_ns, (before, after))) <= rules.steady_ns if before else False
        if len(before) < len(cells) - 1 or not steady:
            return 0
        rise = min(after) - min(before)
        steps = max(0, round(rise / rules.step_ns))
        return steps if abs(rise - steps * rules.step_ns) <= rules.margin_ns else 0

    def _minimum_level_ns(self, index: int, delay: float) -> float:
        """Return a delay without the part caused by the clocks' relative rate."""
        return delay - self._slope * index

    def _agreed_steps(self, cells: Sequence[_Cell]) -> int | None:
        """Return the one possible number of steps by which a calm host's deliveries are late.

        ``None`` if several numbers are possible or none, if there are too few cells to know
        that the host is calm, or if it is not.
        """
        rules = self._rules
        if (
            len(cells) < BROKEN_CELLS
            or _delay_spread_ns([c.least for c in cells]) > rules.steady_ns
        ):
            return None
        fewest = max(math.ceil((cell.least - rules.on_time_ns) / rules.step_ns) for cell in cells)
        most = min(rules.max_lost_steps(cell.most) for cell in cells)
        return most if max(0, fewest) == most else None

    # ---- verdicts ------------------------------------------------------------------------

    def _confirm_samples(self, index: int) -> None:
        self.confirmed = index
        self._broken = False
        self._unconfirmed = _Cell(index)
        self._late.clear()

    def _add_possibly_missing(self, late_ns: float) -> None:
        self.possibly_missing += self._rules.step * self._rules.max_lost_steps(late_ns)

    def _accept_delay_as_minimum(self, at: int, delay: float, index: int, late_ns: float) -> None:
        """Take the delay at one index for the minimum, and what is before another for complete."""
        self._minimum = (at, delay)
        self._minima.clear()  # a rate from both sides of a loss would be wrong
        self._add_possibly_missing(late_ns)
        self._confirm_samples(index)

    def _likeliest_break_steps(self, index: int, cells: Sequence[_Cell]) -> Lost | None:
        """Take the likeliest number of steps, and remember how wrong that may be."""
        quickest = min(cells, key=_least_delay_ns)
        steps = max(0, round(quickest.least / self._rules.step_ns))
        most = self._rules.max_lost_steps(quickest.most)
        self.possibly_missing += self._rules.step * max(steps, most - steps)
        return self._record_loss(index, steps)

    def _record_loss(self, index: int, steps: int) -> Lost | None:
        count = self._rules.step * steps
        if count:
            return Lost(count, None, f"about {count} of them by the host's clock alone")
        self._confirm_samples(index)
        return None

    def _loss_since_cell(self, cell: _Cell, steps: int, how: str) -> Lost:
        count = self._rules.step * steps
        why = f"about {count} samples are missing by the host's clock: {how}"
        return Lost(count, cell.index, why)


class _Cell:
    """The quickest delivery of a stretch: its index, its delay, and the limits of its lateness."""

    __slots__ = ("delay", "index", "least", "most", "rank", "start")

    def __init__(self, start: int) -> None:
        self.start = self.index = start
        self.delay = 0.0
        self.rank = self.least = self.most = math.inf

    def add_delivery(
        self, index: int, delay: float, least: float, most: float, rank: float
    ) -> None:
        """Keep the delivery of the lowest rank; ranks of one stretch have one reference, ns."""
        if rank < self.rank:
            self.index, self.delay, self.least, self.most = index, delay, least, most
            self.rank = rank


def _least_delay_ns(cell: _Cell) -> float:
    return cell.least


def _delay_spread_ns(values: Sequence[float]) -> float:
    return max(values) - min(values)
