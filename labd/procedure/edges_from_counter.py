"""Edges from the I/O manager's counter, for a power monitor that sees no timestamps."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import replace

from drivers.base.interfaces import PowerMonitor
from labd.core.errors import InstrumentError, JobError, MeasurementInvalid
from labd.core.model import Edge, TimeBase
from labd.core.suite import MIN_WINDOW_S
from labd.core.windows import performance_window
from labd.procedure.batch import (
    PROBE_DEADLINE_S,
    BatchTiming,
    check_by_best_clock,
    check_by_host_clock,
    run_timed_batch,
)
from labd.procedure.capture import Capture, Position
from labd.procedure.clock_correlation import positions_from_counter
from labd.procedure.edge_source import EdgeSource, MeasuredBatch, run_clocks
from labd.procedure.mode_run import ModeRun


class CounterEdges(EdgeSource):
    """Edges converted from the counter to the power trace at the end of the run.

    Raises:
        JobError: there is no such counter, or the station does not follow the host clock.
    """

    planned_window_s = 3 * MIN_WINDOW_S  # longer, since edges are uncertain by milliseconds

    def __init__(self, run: ModeRun, files: Sequence[str]) -> None:
        if run.bench.batch_timer(run.ready.build) is None:
            raise JobError(
                "no-timestamps",
                "the power monitor has no input for the DUT's timestamps and no I/O manager "
                "times them",
                "wire the DUT's processing pin to the I/O manager and set processing_wire, or "
                "use a monitor with digital inputs",
            )
        if run.bench.time_base is not TimeBase.HOST:
            raise JobError(
                "no-timestamps",
                "the power monitor has no input for the DUT's timestamps, and an emulated "
                "bench does not follow the host clock",
                "use an emulated monitor that sees them",
            )
        super().__init__(run, files)
        self._marks: list[BatchTiming] = []
        self._measured: list[MeasuredBatch] = []

    @property
    def pending_ranges(self) -> list[tuple[int, int]]:
        """Sample ranges of all batches: they are evaluated at the end of the run."""
        return [(each.start, each.stop) for each in self._measured]

    async def measure_probe_s(self, monitor: PowerMonitor, inferences: int) -> float:  # noqa: ARG002
        """Measure how many seconds a number of inferences takes."""
        timing = await run_timed_batch(self.run, inferences, 1, PROBE_DEADLINE_S)
        seconds = check_by_best_clock(self.run, timing).seconds
        if seconds is None:
            raise _not_one_pulse_error(timing)
        return seconds

    async def make_sync_mark(self, capture: Capture) -> None:
        """Run a batch of one inference, as a mark at the end of the clock maps."""
        await capture.wait_until_quiet()
        timing = await run_timed_batch(self.run, 1, 0, PROBE_DEADLINE_S)
        if timing.ticks is None:
            raise _not_one_pulse_error(timing)
        self._marks.append(timing)
        await capture.wait_until_quiet()

    async def wait_for_batch_end(self, capture: Capture, before: Position) -> int:  # noqa: ARG002
        """Wait until the batch must be received; return the sample index after it."""
        await capture.wait_until_quiet()
        return (await capture.wait_until_quiet()).received

    async def add_batch(self, capture: Capture, measured: MeasuredBatch) -> None:
        """Add a batch; keep only the samples around it.

        Positions from the counter are uncertain: the range has a sample, and so the run of
        samples that holds it, of margin at both ends.

        Its window is evaluated at the end of the run; the plan takes its length by the counter.
        """
        self.read_idle_power(capture, measured.start - capture.quiet_samples, measured.start)
        measured = replace(measured, start=measured.start - 1, stop=measured.stop + 1)
        self._measured.append(measured)
        seconds = check_by_best_clock(self.run, measured.timing).seconds
        if seconds is not None:
            check = check_by_host_clock(self.run, measured.timing.reply)
            self.plan.add_window(performance_window(measured.batch, round(seconds * 1e6), check))
        capture.drop_before(measured.stop, self.pending_ranges)

    async def evaluate_remaining(self, capture: Capture) -> None:
        """Fit the clock maps and evaluate every batch."""
        counted = [each for each in self._measured if each.timing.ticks]
        first, *rest = self._marks
        batches = [first, *(each.timing for each in counted), *rest]
        try:
            pairs, self.clocks = await asyncio.to_thread(
                positions_from_counter,
                run_clocks(self.run, capture),
                batches,
                capture.marks,
            )
        except MeasurementInvalid as error:
            self.problems.append(f"clocks: {error.what}")
            pairs = []
        known = dict(zip([each.batch.number for each in counted], pairs[1:], strict=False))
        for measured in self._measured:
            positions = known.get(measured.batch.number, ())
            check = check_by_host_clock(self.run, measured.timing.reply)
            edges = [Edge(at.index, "io-manager", rising=False) for at in positions]
            uncertainty_s = max((at.uncertainty_s for at in positions), default=0.0)
            idle_uw = statistics.fmean(self.idle_uw) if self.idle_uw else None
            await self.evaluate_window(capture, measured, edges, check, uncertainty_s, idle_uw)


def _not_one_pulse_error(timing: BatchTiming) -> InstrumentError:
    return InstrumentError(
        "timestamp-wire",
        f"{timing.reply.command}: the I/O manager saw {timing.fault}",
        "check the wire from the DUT's processing or timestamp pin to the I/O manager",
    )
