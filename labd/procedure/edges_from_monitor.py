"""Edges from a power monitor that sees the DUT's timestamp pin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from drivers.base.interfaces import PowerMonitor
from labd.core.errors import DutError, InstrumentError, MeasurementInvalid
from labd.core.model import Edge
from labd.core.windows import is_surely_long_enough
from labd.procedure.batch import PROBE_DEADLINE_S, BatchTiming, check_by_best_clock
from labd.procedure.capture import Capture, Position, start_capture
from labd.procedure.clock_correlation import compare_clocks
from labd.procedure.edge_source import EdgeSource, MeasuredBatch, run_clocks
from labd.procedure.mode_run import ModeRun

IDLE_AFTER_S = 0.015
IDLE_S = 0.012
"""Delay after a sync mark and length of the idle power reading: the reply to the mark has been
sent by then, and the next command is sent later."""


class MonitorEdges(EdgeSource):
    """Edges in the power monitor's stream; a batch is evaluated once it is confirmed."""

    def __init__(self, run: ModeRun, files: Sequence[str]) -> None:
        super().__init__(run, files)
        self._pending: list[MeasuredBatch] = []
        self._syncs: list[tuple[int, int]] = []
        self._counted: list[tuple[BatchTiming, Sequence[Edge]]] = []

    @property
    def pending_ranges(self) -> list[tuple[int, int]]:
        """Sample ranges of batches to be evaluated and of idle power readings."""
        return [*((each.start, each.stop) for each in self._pending), *self._syncs]

    async def measure_probe_s(self, monitor: PowerMonitor, inferences: int) -> float:
        """Measure how many seconds a number of inferences takes."""
        async with start_capture(self.run, monitor, "") as capture:
            start = await capture.wait_until_quiet()
            reply = await self.run.ready.dut.run_inferences(inferences, 1, PROBE_DEADLINE_S)
            stop = await self.wait_for_batch_end(capture, start)
            await capture.stop_acquisition()
            edges = capture.timestamp_edges(start.received, stop)
        for gap in capture.recording_of(start.received, stop).gaps:
            what = f"{reply.command}: samples of the probe were lost: {gap.reason}"
            raise InstrumentError("samples-lost", what)
        if len(edges) != 2:  # noqa: PLR2004 - start and stop
            raise _edge_count_error(reply.command, len(edges), 2)
        return (edges[1].index - edges[0].index) / monitor.stream_format.sample_rate_hz

    async def make_sync_mark(self, capture: Capture) -> None:
        """Have the DUT pulse its timestamp pin, to check the wire and to read the idle power."""
        before = await capture.wait_until_quiet()
        lap = await self.run.ready.dut.set_timestamp()
        if lap is not None:
            raise DutError(
                "build",
                "timestamp: the DUT answers with text: a performance build",
                "flash energy",
            )
        after = await capture.wait_for_edges(before, 1)
        seen = capture.edges_seen - before.edges_seen
        if seen != 1:
            raise _edge_count_error("timestamp", seen, 1)
        await capture.wait_until_quiet()  # for the idle power reading
        self._syncs.append((before.received, max(after, capture.received_samples)))

    async def wait_for_batch_end(self, capture: Capture, before: Position) -> int:
        """Wait for a batch's two edges and a quiet stretch; return the sample index after it."""
        return await capture.wait_for_edges(before, 2)

    async def add_batch(self, capture: Capture, measured: MeasuredBatch) -> None:
        """Add a batch; evaluate those that are confirmed.

        Confirmation takes seconds with some monitors. It is waited for only if another clock
        leaves open whether the batch was long enough.
        """
        self._pending.append(measured)
        if not is_surely_long_enough(check_by_best_clock(self.run, measured.timing)):
            await capture.wait_until_confirmed(measured.stop)
        while self._pending and capture.closed_through >= self._pending[0].stop:
            await self._evaluate_next_batch(capture)

    async def evaluate_remaining(self, capture: Capture) -> None:
        """Evaluate the rest; compare the power monitor's clock with the I/O manager's."""
        while self._pending:
            await self._evaluate_next_batch(capture)
        self._read_pending_idle_power(capture)
        if not self._counted:
            return
        batches, edges = zip(*self._counted, strict=True)
        try:
            self.clocks.append(compare_clocks(run_clocks(self.run, capture), batches, edges))
        except MeasurementInvalid as error:
            self.problems.append(f"clocks: {error.what}")

    async def _evaluate_next_batch(self, capture: Capture) -> None:
        measured = self._pending.pop(0)
        self._read_pending_idle_power(capture)
        idle_uw = self.idle_uw[0] if self.idle_uw else None
        edges = capture.timestamp_edges(measured.start, measured.stop)
        check = check_by_best_clock(self.run, measured.timing)
        uncertainty_s = capture.format.edge_uncertainty_s
        await self.evaluate_window(capture, measured, edges, check, uncertainty_s, idle_uw)
        if len(edges) == 2 and measured.timing.ticks:  # noqa: PLR2004 - start and stop
            self._counted.append((measured.timing, edges))
        capture.drop_before(measured.stop)

    def _read_pending_idle_power(self, capture: Capture) -> None:
        """Read the idle power just after each sync mark."""
        rate = capture.format.sample_rate_hz
        for sync in self._syncs:
            for edge in capture.timestamp_edges(*sync):
                start = math.ceil(edge.index + IDLE_AFTER_S * rate)
                stop = start + max(1, math.floor(IDLE_S * rate))
                self.read_idle_power(capture, start, stop)
        self._syncs.clear()


def _edge_count_error(command: str, seen: int, wanted: int) -> InstrumentError:
    return InstrumentError(
        "timestamp-wire",
        f"{command}: the power monitor received {seen} edges of the DUT's timestamp pin instead "
        f"of {wanted}",
        "check the wire from the DUT's timestamp pin (D7) to the monitor's trigger input",
    )
