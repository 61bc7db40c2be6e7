"""The I/O manager's counter finds the batches for a monitor that sees no timestamps."""

from __future__ import annotations

import asyncio
import statistics

from drivers.base.interfaces import PowerMonitor
from labd.core.clock_map import ClockMap
from labd.core.errors import InstrumentError, JobError, MeasurementInvalid
from labd.core.model import Edge, TimeBase, Window
from labd.core.suite import MIN_WINDOW_S
from labd.procedure.batch import (
    PROBE_DEADLINE_S,
    TimedBatch,
    best_check,
    host_check,
    timed_infer,
)
from labd.procedure.capture import Capture, Position
from labd.procedure.clock_correlation import positions_from_counter
from labd.procedure.session import Session
from labd.procedure.windows import Measured, judge, run_clocks

AIM_S = 3 * MIN_WINDOW_S
"""Windows are longer here: their ends are known to milliseconds only."""


class CounterTimestamps:
    """Windows are placed when the run is over.

    Raises:
        JobError: there is no such counter, or the bench's time is not the host's.
    """

    def __init__(self, session: Session) -> None:
        if session.bench.timer(session.ready.build) is None:
            raise JobError(
                "no-timestamps",
                "the power monitor has no input for the DUT's timestamps and no I/O manager "
                "times them",
                "wire the DUT's processing pin to the I/O manager and set processing_wire, or "
                "use a monitor with digital inputs",
            )
        if session.bench.time_base is not TimeBase.HOST:
            raise JobError(
                "no-timestamps",
                "the power monitor has no input for the DUT's timestamps, and an emulated "
                "bench does not follow the host's clock",
                "use an emulated monitor that sees them",
            )
        self.session = session
        self.windows: list[Window] = []
        self.clocks: list[ClockMap] = []
        self.problems: list[str] = []
        self.idle_uw: list[float] = []
        self._marks: list[TimedBatch] = []
        self._measured: list[Measured] = []

    @property
    def aim_s(self) -> float:
        """Longer than the rules ask: see :data:`AIM_S`."""
        return AIM_S

    @property
    def needed(self) -> list[tuple[int, int]]:
        """Every window: all are judged when the run is over."""
        return [(each.start, each.stop) for each in self._measured]

    async def probe(self, monitor: PowerMonitor, inferences: int) -> float:  # noqa: ARG002
        """Seconds of so many inferences."""
        batch = await timed_infer(self.session, inferences, 1, PROBE_DEADLINE_S)
        seconds = best_check(self.session, batch).seconds
        if seconds is None:
            raise _not_one(batch)
        return seconds

    async def sync(self, recorder: Capture) -> None:
        """A batch of one inference, at both ends of a run: it ties the clocks."""
        await recorder.quiet()
        batch = await timed_infer(self.session, 1, 0, PROBE_DEADLINE_S)
        if batch.ticks is None:
            raise _not_one(batch)
        self._marks.append(batch)
        await recorder.quiet()

    async def passed(self, recorder: Capture, before: Position) -> int:  # noqa: ARG002
        """Wait until the samples of the batch must have arrived."""
        await recorder.quiet()
        return (await recorder.quiet()).received

    async def measured(self, recorder: Capture, measured: Measured) -> None:
        """Keep the samples around the batch, and no others."""
        quiet = recorder.quiet_samples
        before = recorder.recording(measured.start - quiet, measured.start)
        idle_uw = before.mean_power_uw(measured.start - quiet, measured.start)
        self.idle_uw += [] if idle_uw is None else [idle_uw]
        self._measured.append(measured)
        recorder.forget(measured.stop, self.needed)

    async def conclude(self, recorder: Capture) -> None:
        """Tie the clocks and judge every window."""
        counted = [each for each in self._measured if each.timed.ticks]
        first, *rest = self._marks
        batches = [first, *(each.timed for each in counted), *rest]
        try:
            pairs, self.clocks = await asyncio.to_thread(
                positions_from_counter,
                run_clocks(self.session, recorder),
                batches,
                recorder.times(),
            )
        except MeasurementInvalid as error:
            self.problems.append(f"clocks: {error.what}")
            pairs = []
        placed = dict(zip([each.batch.number for each in counted], pairs[1:], strict=False))
        for measured in self._measured:
            places = placed.get(measured.batch.number, ())
            check = host_check(self.session, measured.timed.reply)
            edges = [Edge(place.index, "io-manager", rising=False) for place in places]
            doubt_s = max((place.uncertainty_s for place in places), default=0.0)
            idle_uw = statistics.fmean(self.idle_uw) if self.idle_uw else None
            self.windows.append(
                await judge(self.session, recorder, measured, edges, check, doubt_s, idle_uw)
            )


def _not_one(batch: TimedBatch) -> InstrumentError:
    return InstrumentError(
        "timestamp-wire",
        f"the I/O manager saw {batch.fault}",
        "check the wire from the DUT's processing or timestamp pin to the I/O manager",
    )
