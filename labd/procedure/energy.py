"""Energy: five windows between the DUT's timestamps, in one acquisition of the power monitor.

The DUT pulses its timestamp pin around each batch. Edges are labelled by the command during
which they came: the line must be quiet before it, and both edges and some further samples must
be received after it. For a power monitor that does not see the pin, batches are timed by the
I/O manager's counter (:mod:`labd.procedure.edges_from_counter`).
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Sequence

from drivers.base.interfaces import PowerMonitor
from labd.core.errors import DeadlineExceeded, InfraError, InstrumentError
from labd.core.model import Finding, Mode, Part, Window
from labd.core.scoring import median_energy_uj
from labd.core.suite import WARMUPS
from labd.core.windows import Batch
from labd.procedure.batch import (
    BatchTiming,
    check_window_outputs,
    clear_interval_log,
    infer_deadline_s,
    load_row,
    measure_inference_s,
    repeat_if_damaged,
    run_timed_batch,
)
from labd.procedure.capture import Capture, Position, start_capture
from labd.procedure.clock_correlation import to_clock_map_record
from labd.procedure.dataset import Row
from labd.procedure.edge_source import EdgeSource, MeasuredBatch
from labd.procedure.edges_from_counter import CounterEdges
from labd.procedure.edges_from_monitor import MonitorEdges
from labd.procedure.mode_run import ModeRun, result_from_windows
from labd.wire.results import ModeResult, ResultDetails


async def measure_energy(
    run: ModeRun, monitor: PowerMonitor, throughput_ips: float | None
) -> ModeResult:
    """Measure five energy windows, each on another input file.

    ``throughput_ips``, the result of performance mode on the same code, replaces the probe.

    Raises:
        JobError: no part of this station sees the DUT's timestamps.
        MeasurementInvalid: an inference is too short for the protocol.
    """
    sees = monitor.config.sees_timestamps
    rows = run.dataset.window_rows
    files = [row.file for row in rows]
    source = MonitorEdges(run, files) if sees else CounterEdges(run, files)
    await run.report.report_phase(Mode.ENERGY, "probe")
    await load_row(run, rows[0])
    await clear_interval_log(run)
    inference_s = await _estimate_inference_s(source, monitor, throughput_ips)
    source.plan.choose_inferences(inference_s)
    await run.report.report_phase(Mode.ENERGY, "windows")
    async with start_capture(run, monitor, "energy") as capture:
        await source.make_sync_mark(capture)
        await _measure_windows(run, source, capture, rows, inference_s)
        late = await _error_of_optional(
            source.make_sync_mark(capture), "the sync mark at the end of the run"
        )
        await capture.stop_acquisition()
        findings = await _monitor_findings(run)
        await source.evaluate_remaining(capture)
        await capture.annotate_windows(source.plan.all_windows)
    score = _median_scores(source.plan.counted_windows)
    if source.idle_uw:
        score["idle_power_uw"] = statistics.fmean(source.idle_uw)
    serious = [f"power monitor: {finding.text}" for finding in findings if finding.serious]
    details = ResultDetails(
        trace=capture.name,
        method=run.method,
        clocks=tuple(to_clock_map_record(each) for each in source.clocks),
        monitor_counts=capture.event_counts,
        findings=(*late, *(finding.text for finding in findings)),
    )
    problems = (*source.plan.problems, *source.problems, *serious)
    return result_from_windows(Mode.ENERGY, source.plan.all_windows, score, problems, details)


async def _measure_windows(
    run: ModeRun, source: EdgeSource, capture: Capture, rows: Sequence[Row], inference_s: float
) -> None:
    """Run the batches that the plan asks for, until it has its windows or is abandoned."""
    by_file = {row.file: row for row in rows}
    while (batch := source.plan.next_batch()) is not None:
        row = by_file[batch.input_file]
        await _measure_batch(run, source, capture, batch, row, inference_s)
        await capture.annotate_windows(source.plan.all_windows)
        await run.report.report_progress(source.plan.finished_inputs, len(rows), "windows")


async def _monitor_findings(run: ModeRun) -> list[Finding]:
    """Return the power monitor's findings; that it does not answer is a finding too."""
    try:
        return await run.bench.self_check(Part.POWER)
    except InfraError as error:
        return [Finding("no-self-check", f"the self-check failed: {error}", serious=False)]


async def _error_of_optional(work: Awaitable[None], what: str) -> list[str]:
    """Do something that no measured window needs; return its error, if any."""
    try:
        await work
    except (InstrumentError, DeadlineExceeded) as error:
        return [f"{what} failed: {error}"]
    return []


async def _estimate_inference_s(
    source: EdgeSource, monitor: PowerMonitor, throughput_ips: float | None
) -> float:
    """Return the seconds per inference: by performance mode, otherwise by probes."""
    if throughput_ips:
        return 1.0 / throughput_ips
    return await measure_inference_s(
        lambda inferences: repeat_if_damaged(
            source.run, lambda: source.measure_probe_s(monitor, inferences)
        )
    )


async def _measure_batch(
    run: ModeRun,
    source: EdgeSource,
    capture: Capture,
    batch: Batch,
    row: Row,
    inference_s: float,
) -> None:
    """Load one input, wait until the line is quiet, run the batch, wait for its end."""
    await load_row(run, row)
    deadline = infer_deadline_s(batch.inferences + WARMUPS, inference_s)

    async def run_batch() -> tuple[Position, BatchTiming]:
        before = await capture.wait_until_quiet()
        capture.drop_before(before.received - capture.quiet_samples, source.pending_ranges)
        return before, await run_timed_batch(run, batch.inferences, WARMUPS, deadline)

    before, timing = await repeat_if_damaged(run, run_batch)
    check_window_outputs(timing.reply, run.benchmark, row.file)
    stop = await source.wait_for_batch_end(capture, before)
    await source.add_batch(capture, MeasuredBatch(batch, timing, before.received, stop))


def _median_scores(windows: Sequence[Window]) -> dict[str, float]:
    """Compute medians over the windows that have an energy, by every method."""
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
