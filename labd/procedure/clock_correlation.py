"""Clock maps of a run, from the timestamps that two clocks saw of each batch.

Every pair of stamps is labelled by the command that caused it. A monitor that sees the DUT's
timestamp pin needs no map: the I/O manager's counter only checks its clock. For a monitor
without such an input the windows are timed by that counter: each batch relates the counter to
the host clock, the monitor's stream has time marks by the host clock too, and so a tick of the
counter has a position in the stream, with a stated uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.clock_map import Clock, ClockMap, Mark, fit_clock_map, unwrap_counter_stamps
from labd.core.errors import LabdBug, MeasurementInvalid
from labd.core.host_clock import HOST_PPM
from labd.core.model import Edge, StreamFormat, TimeMark
from labd.procedure.batch import COUNTER_MODULUS, PIN_TOLERANCE_S, BatchTiming
from labd.wire.results import ClockMapRecord

HOST = Clock("host", 1e-9, resolution_s=0.0, tolerance_ppm=HOST_PPM)

TEXT_S = 0.020
"""From the end of a DUT's line to its arrival at the host: relay, USB timer, host load."""

COUNTER_RESOLUTION_S = 5e-6
"""Half a tick of the MLCommons board; an Arduino UNO counts in steps of 4 µs."""

DONE_CHARACTERS = 14
"""Of ``m-infer-done``, sent after the second timestamp."""

START_CHARACTERS = 24
"""Of ``m-infer-start-N`` at most; a DUT that buffers its text may pulse before that is out."""


@dataclass(frozen=True, slots=True)
class TracePosition:
    """A timestamp's position in the power trace, sample periods since the acquisition began."""

    index: float
    uncertainty_s: float


@dataclass(frozen=True, slots=True)
class RunClocks:
    """Power monitor of a run, format of its stream, and baud rate of the DUT's UART."""

    kind: str
    stream_format: StreamFormat
    baud: int

    def monitor_clock(self, resolution_s: float) -> Clock:
        """The power monitor's sample index as a clock with stamps of this uncertainty."""
        return Clock(
            self.kind,
            1.0 / self.stream_format.sample_rate_hz,
            resolution_s=resolution_s,
            tolerance_ppm=self.stream_format.clock_tolerance_ppm,
        )


def positions_from_counter(
    clocks: RunClocks, batches: Sequence[BatchTiming], times: Sequence[TimeMark]
) -> tuple[list[tuple[TracePosition, TracePosition]], list[ClockMap]]:
    """Place the batches' timestamps in the stream of a monitor that does not see them.

    Args:
        clocks: of the run.
        batches: in order, each seen by the counter as one interval.
        times: time marks of the stream by the host clock.

    Returns:
        start and stop of every batch, and the clock maps used.

    Raises:
        MeasurementInvalid: no mark, or marks that contradict each other.
    """
    counter, ticks, host = _unwrapped_counter_stamps(clocks, batches)
    by_host = fit_clock_map(
        counter, HOST, [Mark(tick, at, s) for tick, (at, s) in zip(ticks, host, strict=True)]
    )
    stream = fit_clock_map(
        clocks.monitor_clock(0.0),
        HOST,
        [Mark(at.index, at.t_ns, at.uncertainty_ns / 1e9) for at in times],
    )
    indices = stream.to_a(by_host.to_b(ticks))
    uncertainties = by_host.uncertainty_s(ticks) + stream.uncertainty_s(indices)
    positions = [
        TracePosition(float(i), float(s)) for i, s in zip(indices, uncertainties, strict=True)
    ]
    pairs = list(zip(positions[::2], positions[1::2], strict=True))
    return pairs, [by_host, stream]


def compare_clocks(
    clocks: RunClocks, batches: Sequence[BatchTiming], edges: Sequence[Sequence[Edge]]
) -> ClockMap:
    """Map the monitor's stream to the I/O manager's counter by the timestamps both saw.

    Each batch is one interval of the counter and two edges of the monitor.

    Raises:
        MeasurementInvalid: the two contradict each other beyond their uncertainties.
    """
    counter, ticks, _ = _unwrapped_counter_stamps(clocks, batches)
    indices = [edge.index for pair in edges for edge in pair]
    return fit_clock_map(
        clocks.monitor_clock(clocks.stream_format.edge_uncertainty_s),
        counter,
        [Mark(index, tick, PIN_TOLERANCE_S) for index, tick in zip(indices, ticks, strict=True)],
    )


HostTime = tuple[int, float]
"""A time by the host clock, ns, and its uncertainty, s."""


def _unwrapped_counter_stamps(
    clocks: RunClocks, batches: Sequence[BatchTiming]
) -> tuple[Clock, list[int], list[HostTime]]:
    """Return the counter, its unwrapped ticks, and the host's times of the same moments."""
    timer = next((batch.timer for batch in batches if batch.timer is not None), None)
    if timer is None:
        raise MeasurementInvalid("clock-marks", "the I/O manager's counter saw no batch")
    counter = Clock(
        "io-manager",
        timer.tick_s,
        resolution_s=COUNTER_RESOLUTION_S,
        tolerance_ppm=timer.clock_tolerance_ppm,
    )
    host = [time for batch in batches for time in _batch_host_times(batch, clocks.baud)]
    raw = [tick for batch in batches for tick in batch.ticks or ()]
    if len(raw) != len(host):
        raise LabdBug("clock-batches", "a batch without its interval was used to map clocks")
    ticks = unwrap_counter_stamps(counter, COUNTER_MODULUS, raw, [at for at, _ in host])
    return counter, [int(tick) for tick in ticks], host


def _batch_host_times(batch: BatchTiming, baud: int) -> tuple[HostTime, HostTime]:
    """When a batch began and ended by the host clock.

    The text ``m-infer-start`` is out when the first timestamp comes, or still leaving a DUT
    that buffers it; ``m-infer-done`` follows the second one. Both arrive :data:`TEXT_S` after
    their end at most.
    """
    character_s = 10 / baud
    start_s = TEXT_S + START_CHARACTERS * character_s
    done_s = TEXT_S / 2 + DONE_CHARACTERS * character_s
    start_ns = batch.reply.start_ns - round(start_s / 2 * 1e9)
    return (start_ns, start_s / 2), (batch.reply.done_ns - round(done_s * 1e9), TEXT_S / 2)


def to_clock_map_record(clock_map: ClockMap) -> ClockMapRecord:
    """Return a clock map as it stands in the evidence of a result."""
    return ClockMapRecord(
        a=clock_map.a.name,
        b=clock_map.b.name,
        at_a=clock_map.at_a,
        at_b=clock_map.at_b,
        offset_s=clock_map.offset_s,
        offset_error_s=clock_map.offset_error_s,
        rate_ppm=clock_map.rate_ppm,
        rate_error_ppm=clock_map.rate_error_ppm,
        tied_s=clock_map.bound.last_s - clock_map.bound.first_s,
        doubtful=clock_map.outlier_candidates,
        pairs=len(clock_map.residuals_s),
        residual_rms_s=clock_map.residual_rms_s,
        residual_max_s=clock_map.residual_max_s,
    )
