"""Performance: five windows timed by the DUT's microsecond counter."""

from __future__ import annotations

from labd.core.errors import DutError
from labd.core.model import Mode, Window
from labd.core.scoring import median_throughput_ips
from labd.core.suite import WARMUPS, WINDOWS
from labd.core.windows import Batch, performance_window
from labd.procedure.batch import (
    PROBE_DEADLINE_S,
    best_check,
    check_outputs,
    find_inferences,
    infer_deadline_s,
    load_row,
    start_timing,
    timed_infer,
)
from labd.procedure.mode_run import ModeRun, windows_result
from labd.protocol.replies import InferReply
from labd.wire.results import ModeResult


async def measure_performance(run: ModeRun) -> ModeResult:
    """Probe, then measure :data:`WINDOWS` windows, each on another input file."""
    dut, dataset, report = run.ready.dut, run.dataset, run.report
    await report.report_phase(Mode.PERFORMANCE, "probe")
    rows = [dataset.rows[i % len(dataset.rows)] for i in range(WINDOWS)]
    await load_row(run, rows[0])

    async def probe(inferences: int) -> float:
        return runtime_us(await dut.infer(inferences, 1, PROBE_DEADLINE_S)) / 1e6

    inferences, inference_s = await find_inferences(probe)
    await start_timing(run)
    await report.report_phase(Mode.PERFORMANCE, "windows")
    windows: list[Window] = []
    for number, row in enumerate(rows, 1):
        await load_row(run, row)
        deadline = infer_deadline_s(inferences + WARMUPS, inference_s)
        timing = await timed_infer(run, inferences, WARMUPS, deadline)
        check_outputs(timing.reply, run.benchmark, row.file)
        runtime = runtime_us(timing.reply)
        check = best_check(run, timing)
        batch = Batch(number, row.file, inferences)
        windows.append(performance_window(batch, runtime, check))
        await report.report_window(Mode.PERFORMANCE, windows[-1])
        await report.report_progress(number, WINDOWS, "windows")
    score = {"median_throughput_ips": median_throughput_ips(windows)}
    return windows_result(Mode.PERFORMANCE, windows, score)


def runtime_us(reply: InferReply) -> int:
    """Return the microseconds between the two laps.

    Raises:
        DutError: the DUT printed no laps: an energy build.
    """
    elapsed = reply.runtime_us
    if elapsed is None:
        raise DutError(
            "laps-missing",
            "the DUT printed no m-lap-us around its inferences",
            "performance needs the performance build (EE_CFG_ENERGY_MODE 0)",
        )
    return elapsed
