"""Energy: five windows between the DUT's timestamps, in one acquisition of the power monitor.

The DUT pulses its timestamp pin around each batch. Edges belong to the command during
which they came: before each command the line must have been quiet, after it both edges and
some further samples must have arrived. A monitor that does not see the pin is led by the I/O
manager's counter (:mod:`labd.procedure.timestamps`).
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from drivers.interfaces import PowerMonitor
from labd.core.energy import Batch, energy_window, inferences_for_window
from labd.core.errors import DutError, InstrumentError, JobError, MeasurementInvalid
from labd.core.model import ClockCheck, Edge, Mode, ModeResult, Part, Verdict, Window
from labd.core.scoring import median_energy_uj
from labd.core.suite import WARMUPS, WINDOWS
from labd.procedure.batch import (
    AIM_S,
    PROBE_DEADLINE_S,
    TimedBatch,
    best_check,
    check_outputs,
    find_inferences,
    first_input,
    host_check,
    infer_deadline_s,
    load_input,
    timed_infer,
)
from labd.procedure.capture import Capture, Position, capture
from labd.procedure.dataset import Row
from labd.procedure.performance import judge_windows
from labd.procedure.session import Session
from labd.procedure.timestamps import Wiring, compare, counted_places

IDLE_AFTER_S = 0.015
IDLE_S = 0.02
"""Idle power is the mean over this long, so long after a sync mark (its reply is out)."""

COUNTED_AIM_S = 3 * AIM_S
"""Windows placed by another clock are longer: their ends are known to milliseconds only."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch and where in the recording it lies: its edges are between ``start`` and ``stop``."""

    batch: Batch
    timed: TimedBatch
    start: int
    stop: int


async def measure_energy(
    session: Session, monitor: PowerMonitor, throughput_ips: float | None
) -> ModeResult:
    """Measure :data:`WINDOWS` energy windows, each on another input file.

    Args:
        session: bench, DUT and data.
        monitor: the power monitor that sees the DUT.
        throughput_ips: what performance mode found on the same code, if it ran; saves
            the probe.

    Raises:
        JobError: nothing on this station sees the DUT's timestamps.
    """
    way = _Seen(session) if monitor.format.timestamp_line else _Counted(session)
    dataset = session.dataset
    rows = [dataset.rows[i % len(dataset.rows)] for i in range(WINDOWS)]
    await session.report.phase(Mode.ENERGY, "probe")
    await load_input(session, first_input(dataset, rows[0]), rows[0].file)
    inferences, inference_s = await _plan_batch(way, monitor, throughput_ips)
    await session.report.phase(Mode.ENERGY, "windows")
    async with capture(session, monitor, "energy") as recorder:
        await way.sync(recorder)
        for number, row in enumerate(rows, 1):
            await _measure(way, recorder, Batch(number, row.file, inferences), row, inference_s)
            await session.report.progress(number, WINDOWS, "windows")
        await way.sync(recorder)
        await recorder.stop()
        await way.conclude(recorder)
        await recorder.mark(way.windows)
    score = _score(way.windows)
    if way.idle_uw:
        score["idle_power_uw"] = statistics.fmean(way.idle_uw)
    result = judge_windows(Mode.ENERGY, way.windows, score)
    if way.problems:
        reasons = (*result.reasons, *way.problems)
        result = replace(result, verdict=Verdict.INVALID, reasons=reasons)
    details = {"trace": recorder.name, "method": str(session.method), "clocks": way.clocks}
    return replace(result, details=details)


async def _plan_batch(
    way: _Seen | _Counted, monitor: PowerMonitor, throughput_ips: float | None
) -> tuple[int, float]:
    """How many inferences a window takes, and the seconds of one."""
    if throughput_ips is not None:
        inference_s = 1.0 / throughput_ips
    else:
        _, inference_s = await find_inferences(lambda inferences: way.probe(monitor, inferences))
    return inferences_for_window(1, inference_s, way.aim_s), inference_s


async def _measure(
    way: _Seen | _Counted, recorder: Capture, batch: Batch, row: Row, inference_s: float
) -> None:
    """Load one input, let the bench go quiet, run the batch, see it to its end."""
    session = way.session
    await load_input(session, first_input(session.dataset, row), row.file)
    before = await recorder.quiet()
    deadline = infer_deadline_s(batch.inferences + WARMUPS, inference_s)
    timed = await timed_infer(session, batch.inferences, WARMUPS, deadline)
    check_outputs(timed.reply, session.benchmark, row.file)
    stop = await way.passed(recorder, before)
    await way.measured(recorder, Measured(batch, timed, before.received, stop))


def _score(windows: Sequence[Window]) -> dict[str, float]:
    """Medians over the windows that have an energy, by every method."""
    score: dict[str, float] = {}
    measured = [window for window in windows if window.energy_per_inference_uj is not None]
    if measured:
        score["median_energy_uj"] = median_energy_uj(measured)
        score |= {
            f"median_energy_uj_{method}": statistics.median(w.methods[method] for w in measured)
            for method in measured[0].methods
        }
    return score


async def _judge(
    session: Session,
    recorder: Capture,
    measured: Measured,
    edges: Sequence[Edge],
    check: ClockCheck,
    uncertainty_s: float,
    idle_power_uw: float | None,
) -> Window:
    """Turn a measured batch into a window, away from the event loop: it may be long."""
    recording = recorder.recording(measured.start, measured.stop)
    window = await asyncio.to_thread(
        energy_window,
        measured.batch,
        recording,
        edges,
        (measured.start, measured.stop),
        replace(check, tolerance_s=check.tolerance_s + 2 * uncertainty_s),
        method=session.method,
        idle_power_uw=idle_power_uw,
        edge_uncertainty_s=uncertainty_s,
    )
    await session.report.window(Mode.ENERGY, window)
    return window


class _Seen:
    """The monitor sees the timestamps itself: a window is judged as soon as it is confirmed."""

    aim_s = AIM_S

    def __init__(self, session: Session) -> None:
        self.session = session
        self.windows: list[Window] = []
        self.clocks: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self._pending: list[Measured] = []
        self.idle_uw: list[float] = []
        self._syncs: list[tuple[int, int]] = []
        self._tied: list[tuple[TimedBatch, Sequence[Edge]]] = []
        self._every: list[Edge] = []

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
        self._syncs.append((before.received, after))

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
        if not self._tied:
            return
        batches, labelled = zip(*self._tied, strict=True)
        try:
            tied = compare(_wiring(self.session, recorder), batches, labelled, self._every)
        except MeasurementInvalid as error:
            self.problems.append(f"clocks: {error.what}")
        else:
            self.clocks.append(tied.describe())

    async def _judge_next(self, recorder: Capture) -> None:
        measured = self._pending.pop(0)
        self._look_at_idle(recorder)
        idle_uw = self.idle_uw[0] if self.idle_uw else None
        edges = recorder.edges(measured.start, measured.stop)
        check = best_check(self.session, measured.timed)
        doubt_s = recorder.format.edge_uncertainty_s
        self.windows.append(
            await _judge(self.session, recorder, measured, edges, check, doubt_s, idle_uw)
        )
        self._every += edges
        if len(edges) == 2 and len(measured.timed.ticks) == 1:  # noqa: PLR2004 - start and stop
            self._tied.append((measured.timed, edges))
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


class _Counted:
    """The I/O manager's counter leads: windows are placed when the run is over.

    Raises:
        JobError: there is no such counter, or the bench's time is not the host's.
    """

    aim_s = COUNTED_AIM_S

    def __init__(self, session: Session) -> None:
        if session.bench.timer(session.ready.build) is None:
            raise JobError(
                "no-timestamps",
                "the power monitor has no input for the DUT's timestamps and no I/O manager "
                "times them",
                "wire the DUT's processing pin to the I/O manager and set processing_wire, or "
                "use a monitor with digital inputs",
            )
        if session.bench.simulated:
            raise JobError(
                "no-timestamps",
                "the power monitor has no input for the DUT's timestamps, and an emulated "
                "bench's time is not the host's",
                "use an emulated monitor that sees them",
            )
        self.session = session
        self.windows: list[Window] = []
        self.clocks: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.idle_uw: list[float] = []
        self._marks: list[TimedBatch] = []
        self._measured: list[Measured] = []

    async def probe(self, _monitor: PowerMonitor, inferences: int) -> float:
        """Seconds of so many inferences."""
        batch = await timed_infer(self.session, inferences, 1, PROBE_DEADLINE_S)
        seconds = best_check(self.session, batch).seconds
        if seconds is None:
            raise _no_interval(len(batch.ticks))
        return seconds

    async def sync(self, recorder: Capture) -> None:
        """A batch of one inference, at both ends of a run: it ties the clocks."""
        await recorder.quiet()
        batch = await timed_infer(self.session, 1, 0, PROBE_DEADLINE_S)
        if len(batch.ticks) != 1:
            raise _no_interval(len(batch.ticks))
        self._marks.append(batch)
        await recorder.quiet()

    async def passed(self, recorder: Capture, _before: Position) -> int:
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
        keep = [(each.start, each.stop) for each in self._measured]
        recorder.forget(measured.stop, keep)

    async def conclude(self, recorder: Capture) -> None:
        """Tie the clocks and judge every window."""
        counted = [each for each in self._measured if len(each.timed.ticks) == 1]
        first, *rest = self._marks
        batches = [first, *(each.timed for each in counted), *rest]
        try:
            pairs, self.clocks = counted_places(
                _wiring(self.session, recorder), batches, recorder.times()
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
                await _judge(self.session, recorder, measured, edges, check, doubt_s, idle_uw)
            )


def _wiring(session: Session, recorder: Capture) -> Wiring:
    kind = session.bench.identities[Part.POWER].kind
    return Wiring(kind, recorder.format, session.bench.baud(session.ready.build))


def _no_edges(seen: int, wanted: int) -> InstrumentError:
    return InstrumentError(
        "timestamp-wire",
        f"{seen} edges reached the power monitor, the DUT's timestamp pin should give {wanted}",
        "check the wire from the DUT's timestamp pin (D7) to the monitor's trigger input",
    )


def _no_interval(seen: int) -> InstrumentError:
    return InstrumentError(
        "timestamp-wire",
        f"the I/O manager timed {seen} intervals in one batch",
        "check the wire from the DUT's processing or timestamp pin to the I/O manager",
    )
