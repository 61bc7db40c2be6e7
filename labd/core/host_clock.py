"""The host's clock beside an instrument's sample count: assumptions, and time marks.

The host's clock is CLOCK_MONOTONIC_RAW (:func:`labd.aio.host_time.host_time_ns`), which
runs at the rate of the machine's timer. CLOCK_MONOTONIC would not do: NTP slews it by up to
500 ppm (adjtimex(2); ntpd refuses more) and may begin to at any moment, so that no rate learned
from it would hold.

Two rates are assumed, for two purposes. To *find* lost samples the clocks are taken for ordinary
crystals (:data:`RATE_PPM`) until their relative rate has been measured. To *refuse* a count as
impossible the worst host is allowed for (:data:`COUNT_PPM`).

A sample is delivered after it was taken, never before; by how much depends on what the host was
doing. The observation with the smallest delivery delay of an interval is therefore the best one:
the clock filter of RFC 5905, section 10. The relative rate of the clocks is the slope of the line
below those minima (Moon, Skelly, Towsley, INFOCOM 1999). :mod:`labd.core.count_monitor` finds
lost samples by the same minima.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.model import Gap, TimeMark

HOST_PPM = 500.0
"""The host's clock is off by less. A timer whose frequency the processor does not state is
calibrated at boot; Linux accepts 500 ppm of error there (arch/x86/kernel/tsc.c,
quick_pit_calibrate). It is also NTP's limit, beyond which no ordinary machine keeps time."""

CRYSTAL_PPM = 100.0
"""A clock of which nothing is stated is off by less: twice the ±50 ppm of an ordinary crystal."""

RATE_PPM = 100.0
"""Assumed relative rate of the host's and an instrument's clock until it has been measured: two
ordinary crystals, ±50 ppm each.

With simulated deliveries detection is the same at 150 ppm. At 300 ppm no loss is reported
falsely, but what is lost is only ``possibly_missing``, and one step lost by an instrument whose
clock is fast goes undetected. Not known: how many hosts are calibrated worse than this."""

RATE_WANDER_PPM = 5.0
"""A measured rate is not taken to be known better: crystals change with temperature."""

COUNT_PPM = HOST_PPM + CRYSTAL_PPM
"""A count is impossible beyond this relative rate."""

USB_DELIVERY_NS = 3_000_000
"""The smallest delivery delay of an instrument on USB is assumed to be below this, in every
:data:`MINIMUM_S`: frames of 1 ms, a few of them buffered, a task of the host woken. Not measured
on an instrument."""

MINIMUM_S = 10.0
"""Some delivery in an interval this long had no more than the smallest delay."""


def samples_in_interval(
    rate_hz: float, shortest_ns: float, longest_ns: float
) -> tuple[float, float]:
    """Return the fewest and the most samples that can have been taken in an interval.

    Args:
        rate_hz: samples per second, by the instrument's clock.
        shortest_ns: the least that the interval can have lasted by the host's clock.
        longest_ns: the most.
    """
    per_ns = rate_hz * 1e-9
    return (
        shortest_ns * per_ns * (1 - COUNT_PPM * 1e-6),
        longest_ns * per_ns * (1 + COUNT_PPM * 1e-6),
    )


def mark_between(index: float, earliest_ns: int, latest_ns: int) -> TimeMark:
    """Return the mark of a sample index that was reached between two times of the host."""
    middle_ns = (earliest_ns + latest_ns) // 2
    return TimeMark(float(index), middle_ns, latest_ns - middle_ns, "host")


def slope_below(points: Sequence[tuple[int, float]]) -> float:
    """Return the slope of the line that lies below all points and closest to them in sum.

    The edge of the lower convex hull over the mean abscissa: the optimum of the linear
    programme of Moon, Skelly and Towsley, "Estimation and Removal of Clock Skew from Network
    Delay Measurements" (INFOCOM 1999). Abscissae ascend; at least two points.
    """
    hull: list[tuple[int, float]] = []
    for x, y in points:
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], (x, y)):
            hull.pop()
        hull.append((x, y))
    mean = sum(x for x, _ in points) / len(points)
    right = next(i for i in range(1, len(hull)) if hull[i][0] >= mean)
    (x0, y0), (x1, y1) = hull[right - 1], hull[right]
    return (y1 - y0) / (x1 - x0)


def _is_above(b: tuple[int, float], a: tuple[int, float], c: tuple[int, float]) -> bool:
    """Whether ``b`` lies on or above the line from ``a`` to ``c``."""
    return (b[0] - a[0]) * (c[1] - a[1]) <= (c[0] - a[0]) * (b[1] - a[1])


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Samples before ``index`` had come at ``t_ns``; the delay is relative to others."""

    index: int
    t_ns: int
    delay_ns: float


class MinimumDelayFilter:
    """Time marks from the arrivals of a stream: one per cell, of its quickest delivery.

    A delivery took at most the assumed smallest delay and the time by which it is slower than
    the quickest of the last :data:`MINIMUM_S`. Its mark waits until the samples before it have
    been confirmed.

    Args:
        rate_hz: samples per second.
        cell_s: length of a cell.
        delivery_ns: upper limit of the smallest delivery delay.
    """

    def __init__(self, rate_hz: float, cell_s: float, delivery_ns: int = USB_DELIVERY_NS) -> None:
        self._period_ns = 1e9 / rate_hz
        self._cell_samples = cell_s * rate_hz
        self._delivery_ns = delivery_ns
        self._best: _Delivery | None = None
        self._minima: deque[float] = deque(maxlen=round(MINIMUM_S / cell_s))
        self._waiting: list[TimeMark] = []

    def add_observation(self, index: int, t_ns: int) -> None:
        """Take an arrival.

        Args:
            index: after the last sample that arrived.
            t_ns: time of the arrival by the host's clock.
        """
        delay_ns = t_ns - index * self._period_ns
        best = self._best
        if best is not None and index // self._cell_samples != best.index // self._cell_samples:
            self._close_cell(best)
            best = None
        if best is None or delay_ns < best.delay_ns:
            self._best = _Delivery(index, t_ns, delay_ns)

    def finished_marks(self, through: int) -> list[TimeMark]:
        """Return the marks up to the index through which samples are confirmed, each once."""
        count = sum(mark.index <= through for mark in self._waiting)
        marks, self._waiting = self._waiting[:count], self._waiting[count:]
        return marks

    def drop_recent(self, gap: Gap) -> None:
        """Forget the arrivals of samples that became a gap."""

        def is_in_unfinished_cell(index: float) -> bool:
            return gap.index < index <= gap.end

        self._waiting = [mark for mark in self._waiting if not is_in_unfinished_cell(mark.index)]
        if self._best is not None and is_in_unfinished_cell(self._best.index):
            self._best = None

    def restart_filter(self) -> None:
        """Forget every arrival: the indices that follow do not continue those before."""
        self._best = None
        self._minima.clear()
        self._waiting.clear()

    def _close_cell(self, best: _Delivery) -> None:
        self._minima.append(best.delay_ns)
        slower_ns = round(best.delay_ns - min(self._minima))
        earliest_ns = best.t_ns - self._delivery_ns - slower_ns
        self._waiting.append(mark_between(best.index, earliest_ns, best.t_ns))
