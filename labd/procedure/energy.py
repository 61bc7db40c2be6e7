"""Energy: five windows between the DUT's timestamps, in one acquisition of the power monitor.

The DUT pulses its timestamp pin around each batch. Edges belong to the command during
which they came: before each command the line must have been quiet, after it both edges and
some further samples must have arrived. A monitor that does not see the pin is led by the I/O
manager's counter (:mod:`labd.procedure.edges_from_counter`).
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Sequence

from drivers.base.interfaces import PowerMonitor
from labd.core.errors import DeadlineExceeded, InfraError, InstrumentError
from labd.core.model import Finding, Mode, Part, Window
from labd.core.scoring import median_energy_uj
from labd.core.suite import WARMUPS, WINDOWS
from labd.core.windows import Batch, inferences_for_window
from labd.procedure.batch import (
    check_outputs,
    find_inferences,
    first_input,
    infer_deadline_s,
    load_input,
    start_timing,
    timed_infer,
)
from labd.procedure.capture import Capture, capture
from labd.procedure.clock_correlation import clock_record
from labd.procedure.dataset import Row
from labd.procedure.edges_from_counter import CounterTimestamps
from labd.procedure.edges_from_monitor import MonitorTimestamps
from labd.procedure.performance import judge_windows
from labd.procedure.session import Session
from labd.procedure.windows import Measured, Timestamps
from labd.wire.results import ModeResult, ResultDetails


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
    sees = bool(monitor.format.timestamp_line)
    way = MonitorTimestamps(session) if sees else CounterTimestamps(session)
    dataset = session.dataset
    rows = [dataset.rows[i % len(dataset.rows)] for i in range(WINDOWS)]
    await session.report.phase(Mode.ENERGY, "probe")
    await load_input(session, first_input(dataset, rows[0]), rows[0].file)
    await start_timing(session)
    inferences, inference_s = await _plan_batch(way, monitor, throughput_ips)
    await session.report.phase(Mode.ENERGY, "windows")
    async with capture(session, monitor, "energy") as recorder:
        await way.sync(recorder)
        for number, row in enumerate(rows, 1):
            batch = Batch(number, row.file, inferences)
            await _measure(session, way, recorder, batch, row, inference_s)
            await recorder.mark(way.windows)
            await session.report.progress(number, WINDOWS, "windows")
        late = await _attempt(way.sync(recorder), "the sync mark at the end of the run")
        await recorder.stop()
        findings = await _look_at(session)
        await way.conclude(recorder)
        await recorder.mark(way.windows)
    score = _score(way.windows)
    if way.idle_uw:
        score["idle_power_uw"] = statistics.fmean(way.idle_uw)
    serious = [f"power monitor: {finding.text}" for finding in findings if finding.serious]
    details = ResultDetails(
        trace=recorder.name,
        method=session.method,
        clocks=tuple(clock_record(each) for each in way.clocks),
        findings=(*late, *(finding.text for finding in findings)),
    )
    return judge_windows(Mode.ENERGY, way.windows, score, (*way.problems, *serious), details)


async def _look_at(session: Session) -> list[Finding]:
    """What the power monitor noticed meanwhile; one that does not tell is a finding too."""
    try:
        return await session.bench.self_check(Part.POWER)
    except InfraError as error:
        return [Finding("no-self-check", f"it could not be asked: {error}", serious=False)]


async def _attempt(work: Awaitable[None], what: str) -> list[str]:
    """Do what the windows measured before do not rest on; what went wrong, if anything."""
    try:
        await work
    except (InstrumentError, DeadlineExceeded) as error:
        return [f"{what} failed: {error}"]
    return []


async def _plan_batch(
    way: Timestamps, monitor: PowerMonitor, throughput_ips: float | None
) -> tuple[int, float]:
    """How many inferences a window takes, and the seconds of one."""
    if throughput_ips is not None:
        inference_s = 1.0 / throughput_ips
    else:
        _, inference_s = await find_inferences(lambda inferences: way.probe(monitor, inferences))
    return inferences_for_window(1, inference_s, way.aim_s), inference_s


async def _measure(
    session: Session,
    way: Timestamps,
    recorder: Capture,
    batch: Batch,
    row: Row,
    inference_s: float,
) -> None:
    """Load one input, let the bench go quiet, run the batch, see it to its end."""
    await load_input(session, first_input(session.dataset, row), row.file)
    before = await recorder.quiet()
    recorder.forget(before.received - recorder.quiet_samples, way.needed)
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
            if all(method in window.methods for window in measured)
        }
    return score
