"""Where a batch's two timestamps lie in the power trace, and what ties the clocks of a run.

A monitor that marks the DUT's timestamp pin in its own stream needs nobody's help; the I/O
manager's counter then only checks it. A monitor without such an input is led by that counter:
every batch ties the counter to the host's clock, and the monitor's stream is tied to the host's
clock too, so that a counter's tick has a place in the stream, with a stated uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labd.core.clock_sync import Clock, ClockMap, Limits, Mark, tie_edges, tie_marks, unwrap
from labd.core.errors import LabdBug, MeasurementInvalid
from labd.core.model import Edge, StreamFormat, TimeMark
from labd.procedure.batch import COUNTER_MODULUS, PIN_TOLERANCE_S, TimedBatch

HOST = Clock("host", 1e-9, resolution_s=0.0, tolerance_ppm=500.0)
"""The host's monotonic clock, which NTP may slew by 500 ppm."""

TEXT_S = 0.020
"""From the end of a DUT's line to its arrival at the host: relay, USB timer, a busy host."""

COUNTER_RESOLUTION_S = 5e-6
"""Half a tick of the MLCommons board; an Arduino UNO counts in steps of 4 µs."""

BEND_S = 2e-4
"""A bench that warms up bends the relation of two clocks this much at most; it is added to the
map's uncertainty."""

DONE_CHARACTERS = 14
"""Of ``m-infer-done``, sent after the second timestamp."""

START_CHARACTERS = 24
"""Of ``m-infer-start-N`` at most; a DUT that buffers its text may pulse before that is out."""


@dataclass(frozen=True, slots=True)
class Place:
    """A timestamp in the power trace, and how far it may be off."""

    index: float
    uncertainty_s: float


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the clocks of one run are.

    Args:
        kind: of the power monitor.
        stream_format: of its stream.
        baud: of the DUT's UART.
    """

    kind: str
    stream_format: StreamFormat
    baud: int

    def monitor(self, resolution_s: float) -> Clock:
        """The power monitor's sample index as a clock whose stamps are known to ± this."""
        return Clock(
            self.kind,
            1.0 / self.stream_format.sample_rate_hz,
            resolution_s=resolution_s,
            tolerance_ppm=self.stream_format.clock_tolerance_ppm,
        )


def counted_places(
    wiring: Wiring, batches: Sequence[TimedBatch], times: Sequence[TimeMark]
) -> tuple[list[tuple[Place, Place]], list[dict[str, Any]]]:
    """Where the batches' timestamps lie in the stream of a monitor that does not see them.

    Args:
        wiring: the clocks.
        batches: each seen by the counter as one interval, in order.
        times: places in the stream with the host's time.

    Returns:
        start and stop of every batch, and the maps they rest on, for the record.

    Raises:
        MeasurementInvalid: the clocks cannot be tied.
    """
    counter, ticks, host = _counted(wiring, batches)
    by_host = tie_marks(
        counter,
        HOST,
        [Mark(tick, at, half) for tick, (at, half) in zip(ticks, host, strict=True)],
    )
    stream = tie_marks(
        wiring.monitor(0.0),
        HOST,
        [Mark(at.index, at.t_ns, at.uncertainty_ns / 1e9) for at in times],
    )
    indices = stream.to_a(by_host.to_b(ticks))
    doubts = by_host.uncertainty_s(ticks) + stream.uncertainty_s(indices)
    places = [Place(float(i), float(s)) for i, s in zip(indices, doubts, strict=True)]
    pairs = list(zip(places[::2], places[1::2], strict=True))
    return pairs, [by_host.describe(), stream.describe()]


def compare(
    wiring: Wiring,
    batches: Sequence[TimedBatch],
    labelled: Sequence[Sequence[Edge]],
    every: Sequence[Edge],
) -> tuple[ClockMap, str]:
    """Tie the monitor's stream to the I/O manager's counter by the timestamps both saw.

    Args:
        wiring: the clocks.
        batches: those seen by the counter as one interval and by the monitor as two edges.
        labelled: each batch's two edges, known by the command that caused them.
        every: all the timestamps the monitor saw in the run.

    Returns:
        the map, and why it rests on the commands' marks alone, where the edges do no better.

    Raises:
        MeasurementInvalid: the two contradict each other beyond their stated errors.
    """
    counter, ticks, _ = _counted(wiring, batches)
    monitor = wiring.monitor(wiring.stream_format.edge_uncertainty_s)
    seen = [edge.index for edges in labelled for edge in edges]
    coarse = tie_marks(
        monitor,
        counter,
        [Mark(index, tick, PIN_TOLERANCE_S) for index, tick in zip(seen, ticks, strict=True)],
    )
    try:
        seen = [edge.index for edge in every]
        limits = Limits(bend_s=BEND_S)
        return tie_edges(monitor, seen, counter, ticks, near=coarse, limits=limits), ""
    except MeasurementInvalid as error:
        return coarse, error.what


Moment = tuple[int, float]
"""A time of the host, ns, and how far it may be off, s."""


def _counted(
    wiring: Wiring, batches: Sequence[TimedBatch]
) -> tuple[Clock, list[int], list[Moment]]:
    """The counter, its unwrapped ticks, and the host's times of the same moments."""
    timer = next((batch.timer for batch in batches if batch.timer is not None), None)
    if timer is None:
        raise MeasurementInvalid("clock-marks", "the I/O manager's counter saw no batch")
    counter = Clock(
        "io-manager",
        timer.tick_s,
        wraps_at=COUNTER_MODULUS,
        resolution_s=COUNTER_RESOLUTION_S,
        tolerance_ppm=timer.clock_tolerance_ppm,
    )
    host = [moment for batch in batches for moment in _moments(batch, wiring.baud)]
    raw = [tick for batch in batches for tick in batch.ticks or ()]
    if len(raw) != len(host):
        raise LabdBug("clock-batches", "a batch without its interval was to tie clocks")
    return counter, [int(tick) for tick in unwrap(counter, raw, [at for at, _ in host])], host


def _moments(batch: TimedBatch, baud: int) -> tuple[Moment, Moment]:
    """When a batch began and ended by the host.

    The text ``m-infer-start`` is out when the first timestamp comes, or still leaving a DUT
    that buffers it; ``m-infer-done`` follows the second one. Both arrive :data:`TEXT_S` after
    their end at most.
    """
    bit_s = 10 / baud
    start_s = TEXT_S + START_CHARACTERS * bit_s
    done_s = TEXT_S / 2 + DONE_CHARACTERS * bit_s
    start_ns = batch.reply.start_ns - round(start_s / 2 * 1e9)
    return (start_ns, start_s / 2), (batch.reply.done_ns - round(done_s * 1e9), TEXT_S / 2)
