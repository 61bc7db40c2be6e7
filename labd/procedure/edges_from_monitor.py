"""The power monitor sees the DUT's timestamps itself, in its own stream."""

from __future__ import annotations

import math
from collections.abc import Sequence

from drivers.base.interfaces import PowerMonitor
from labd.core.clock_map import ClockMap
from labd.core.errors import DutError, InstrumentError, MeasurementInvalid
from labd.core.model import Edge, Window
from labd.procedure import batch
from labd.procedure.batch import PROBE_DEADLINE_S, TimedBatch, best_check
from labd.procedure.capture import Capture, Position, capture
from labd.procedure.clock_correlation import compare_clocks
from labd.procedure.session import Session
from labd.procedure.windows import Measured, judge, run_clocks

IDLE_AFTER_S = 0.015
IDLE_S = 0.012
"""Idle power is the mean over this long, so long after a sync mark: its reply is out, and the
next command is not sent before."""


class MonitorTimestamps:
    """A window is judged as soon as it is confirmed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.windows: list[Window] = []
        self.clocks: list[ClockMap] = []
        self.problems: list[str] = []
        self._pending: list[Measured] = []
        self.idle_uw: list[float] = []
        self._syncs: list[tuple[int, int]] = []
        self._counted: list[tuple[TimedBatch, Sequence[Edge]]] = []

    @property
    def aim_s(self) -> float:
        """As the rules ask."""
        return batch.AIM_S

    @property
    def needed(self) -> list[tuple[int, int]]:
        """Windows not judged yet, and what follows the sync marks."""
        return [*((each.start, each.stop) for each in self._pending), *self._syncs]

    async def probe(self, monitor: PowerMonitor, inferences: int) -> float:
        """Seconds of so many inferences."""
        async with capture(self.session, monitor, "") as recorder:
            start = await recorder.quiet()
            await self.session.ready.dut.infer(inferences, 1, PROBE_DEADLINE_S)
            stop = await self.passed(recorder, start)
            await recorder.stop()
            edges = recorder.edges(start.received, stop)
        if gaps := recorder.recording(start.received, stop).gaps:
            raise InstrumentError("samples-lost", f"the probe lost samples: {gaps[0].reason}")
        if len(edges) != 2:  # noqa: PLR2004 - start and stop
            raise _no_edges(len(edges), 2)
        return (edges[1].index - edges[0].index) / monitor.format.sample_rate_hz

    async def sync(self, recorder: Capture) -> None:
        """One pulse on demand, at both ends of a run: all the measuring rests on this wire."""
        before = await recorder.quiet()
        lap = await self.session.ready.dut.timestamp()
        if lap is not None:
            raise DutError(
                "build",
                "the DUT answers timestamp with text: a performance build",
                "flash energy",
            )
        after = await recorder.edges_since(before, 1)
        seen = recorder.edges_seen - before.edges_seen
        if seen != 1:
            raise _no_edges(seen, 1)
        await recorder.quiet()  # the board waits; what it draws then is its idle power
        self._syncs.append((before.received, max(after, recorder.received)))

    async def passed(self, recorder: Capture, before: Position) -> int:
        """Wait for a batch's two edges and a quiet stretch; the sample index after that."""
        return await recorder.edges_since(before, 2)

    async def measured(self, recorder: Capture, measured: Measured) -> None:
        """Judge what is confirmed so far."""
        self._pending.append(measured)
        while self._pending and recorder.confirmed >= self._pending[0].stop:
            await self._judge_next(recorder)

    async def conclude(self, recorder: Capture) -> None:
        """Judge the rest, and compare the monitor's clock with the I/O manager's."""
        while self._pending:
            await self._judge_next(recorder)
        self._look_at_idle(recorder)
        if not self._counted:
            return
        batches, edges = zip(*self._counted, strict=True)
        try:
            clock_map = compare_clocks(run_clocks(self.session, recorder), batches, edges)
        except MeasurementInvalid as error:
            self.problems.append(f"clocks: {error.what}")
        else:
            self.clocks.append(clock_map)

    async def _judge_next(self, recorder: Capture) -> None:
        measured = self._pending.pop(0)
        self._look_at_idle(recorder)
        idle_uw = self.idle_uw[0] if self.idle_uw else None
        edges = recorder.edges(measured.start, measured.stop)
        check = best_check(self.session, measured.timed)
        doubt_s = recorder.format.edge_uncertainty_s
        self.windows.append(
            await judge(self.session, recorder, measured, edges, check, doubt_s, idle_uw)
        )
        if len(edges) == 2 and measured.timed.ticks:  # noqa: PLR2004 - start and stop
            self._counted.append((measured.timed, edges))
        recorder.forget(measured.stop)

    def _look_at_idle(self, recorder: Capture) -> None:
        """What the board drew while it waited, just after each sync mark."""
        rate = recorder.format.sample_rate_hz
        for sync in self._syncs:
            for edge in recorder.edges(*sync):
                start = math.ceil(edge.index + IDLE_AFTER_S * rate)
                stop = start + max(1, math.floor(IDLE_S * rate))
                idle_uw = recorder.recording(start, stop).mean_power_uw(start, stop)
                self.idle_uw += [] if idle_uw is None else [idle_uw]
        self._syncs.clear()


def _no_edges(seen: int, wanted: int) -> InstrumentError:
    return InstrumentError(
        "timestamp-wire",
        f"{seen} edges reached the power monitor, the DUT's timestamp pin should give {wanted}",
        "check the wire from the DUT's timestamp pin (D7) to the monitor's trigger input",
    )
