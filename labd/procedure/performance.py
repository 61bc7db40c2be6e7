"""Performance: five windows timed by the DUT's microsecond counter."""

from __future__ import annotations

from dataclasses import replace

from labd.core.errors import DutError
from labd.core.model import Mode, Window
from labd.core.scoring import median_throughput_ips
from labd.core.suite import WARMUPS
from labd.core.window_plan import WindowPlan
from labd.core.windows import Batch, performance_window
from labd.procedure.batch import (
    PLANNED_WINDOW_S,
    PROBE_DEADLINE_S,
    PROBE_S,
    check_by_best_clock,
    check_by_host_clock,
    check_window_outputs,
    clear_interval_log,
    infer_deadline_s,
    load_row,
    measure_inference_s,
    repeat_if_damaged,
    run_timed_batch,
)
from labd.procedure.mode_run import ModeRun, result_from_windows
from labd.protocol.infer_reply import InferReply
from labd.wire.results import ModeResult

SLOW_COUNTER = 10.0
"""A counter this many times slower than the host clock counts other than microseconds."""


async def measure_performance(run: ModeRun) -> ModeResult:
    """Probe, then measure five windows, each on another input file."""
    report = run.report
    await report.report_phase(Mode.PERFORMANCE, "probe")
    rows = run.dataset.window_rows
    await load_row(run, rows[0])

    inference_s = await measure_inference_s(lambda inferences: _probe_runtime_s(run, inferences))
    plan = WindowPlan([row.file for row in rows], PLANNED_WINDOW_S)
    plan.choose_inferences(inference_s)
    await clear_interval_log(run)
    await report.report_phase(Mode.PERFORMANCE, "windows")
    by_file = {row.file: row for row in rows}
    while (batch := plan.next_batch()) is not None:
        await load_row(run, by_file[batch.input_file])
        for window in plan.add_window(await _measure_window(run, batch, inference_s)):
            await report.report_window(Mode.PERFORMANCE, window)
        await report.report_progress(plan.finished_inputs, len(rows), "windows")
    score = {"median_throughput_ips": median_throughput_ips(plan.counted_windows)}
    return result_from_windows(Mode.PERFORMANCE, plan.all_windows, score, plan.problems)


async def _probe_runtime_s(run: ModeRun, inferences: int) -> float:
    """Run a probe and return its seconds by the DUT's counter.

    A counter that is far too slow would ask for ever longer probes, until one misses its
    deadline and the bench is blamed. The host's clock shows it; once may be a delay of the host.

    Raises:
        DutError: the DUT's counter is too slow, in two probes in succession.
    """
    reply = await _run_probe(run, inferences)
    if _has_slow_counter(run, reply):
        reply = await _run_probe(run, inferences)
        if _has_slow_counter(run, reply):
            host_s = (reply.done_ns - reply.start_ns) / 1e9
            what = (
                f"{require_runtime_us(reply)} µs by the DUT's timestamps, {host_s:.3f} s by the "
                "host's clock"
            )
            remedy = "its counter must run, and m-lap-us must state microseconds"
            raise DutError("probe", f"{reply.command}: {what}", remedy)
    return require_runtime_us(reply) / 1e6


async def _run_probe(run: ModeRun, inferences: int) -> InferReply:
    return await repeat_if_damaged(
        run, lambda: run.ready.dut.run_inferences(inferences, 1, PROBE_DEADLINE_S)
    )


def _has_slow_counter(run: ModeRun, reply: InferReply) -> bool:
    """Whether a probe that was long by the host's clock was short by the DUT's counter."""
    host_s = check_by_host_clock(run, reply).seconds
    if host_s is None or host_s < PROBE_S:
        return False
    return require_runtime_us(reply) / 1e6 * SLOW_COUNTER < host_s


async def _measure_window(run: ModeRun, batch: Batch, inference_s: float) -> Window:
    """Run a batch on the loaded input; make its window by the DUT's counter."""
    deadline_s = infer_deadline_s(batch.inferences + WARMUPS, inference_s)
    timing = await repeat_if_damaged(
        run, lambda: run_timed_batch(run, batch.inferences, WARMUPS, deadline_s)
    )
    reply = timing.reply
    check_window_outputs(reply, run.benchmark, batch.input_file)
    check = check_by_best_clock(run, timing)
    window = performance_window(batch, require_runtime_us(reply), check)
    return replace(window, laps_us=reply.laps_us, outputs=reply.results)


def require_runtime_us(reply: InferReply) -> int:
    """Return the microseconds between the two laps.

    Raises:
        DutError: the DUT printed no laps: an energy build.
    """
    elapsed = reply.runtime_us
    if elapsed is None:
        raise DutError(
            "laps-missing",
            f"{reply.command}: the DUT printed no m-lap-us around its inferences",
            "performance needs the performance build (EE_CFG_ENERGY_MODE 0)",
        )
    return elapsed
