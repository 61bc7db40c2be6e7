"""Performance: five windows timed by the DUT's microsecond counter."""

from __future__ import annotations

from labd.core.errors import DutError
from labd.core.model import Mode, Window
from labd.core.scoring import median_throughput_ips
from labd.core.suite import WARMUPS, WINDOWS
from labd.core.windows import Batch, inferences_for_window, performance_window
from labd.procedure.batch import (
    PLANNED_WINDOW_S,
    PROBE_DEADLINE_S,
    check_by_best_clock,
    check_outputs,
    clear_interval_log,
    infer_deadline_s,
    load_row,
    measure_inference_s,
    run_timed_batch,
)
from labd.procedure.mode_run import ModeRun, result_from_windows
from labd.protocol.infer_reply import InferReply
from labd.wire.results import ModeResult


async def measure_performance(run: ModeRun) -> ModeResult:
    """Probe, then measure :data:`WINDOWS` windows, each on another input file."""
    dut, dataset, report = run.ready.dut, run.dataset, run.report
    await report.report_phase(Mode.PERFORMANCE, "probe")
    rows = [dataset.rows[i % len(dataset.rows)] for i in range(WINDOWS)]
    await load_row(run, rows[0])

    async def probe_runtime_s(inferences: int) -> float:
        return require_runtime_us(await dut.run_inferences(inferences, 1, PROBE_DEADLINE_S)) / 1e6

    inference_s = await measure_inference_s(probe_runtime_s)
    inferences = inferences_for_window(1, inference_s, PLANNED_WINDOW_S)
    await clear_interval_log(run)
    await report.report_phase(Mode.PERFORMANCE, "windows")
    windows: list[Window] = []
    for number, row in enumerate(rows, 1):
        await load_row(run, row)
        deadline = infer_deadline_s(inferences + WARMUPS, inference_s)
        timing = await run_timed_batch(run, inferences, WARMUPS, deadline)
        check_outputs(timing.reply, run.benchmark, row.file)
        runtime = require_runtime_us(timing.reply)
        check = check_by_best_clock(run, timing)
        batch = Batch(number, row.file, inferences)
        windows.append(performance_window(batch, runtime, check))
        await report.report_window(Mode.PERFORMANCE, windows[-1])
        await report.report_progress(number, WINDOWS, "windows")
    score = {"median_throughput_ips": median_throughput_ips(windows)}
    return result_from_windows(Mode.PERFORMANCE, windows, score)


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
