"""One batch: load an input, run N inferences on it, time them by a second clock."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from drivers.base.interfaces import RELAY_DAMAGED, IoManager
from labd.core.errors import DutError, InfraError, InstrumentError, JobError, LabdError
from labd.core.host_clock import CRYSTAL_PPM, HOST_PPM
from labd.core.model import ClockCheck, TimeBase
from labd.core.suite import MAX_INFERENCES, MIN_WINDOW_S, Benchmark
from labd.core.windows import HOST_TOLERANCE_S
from labd.procedure.dataset import Row
from labd.procedure.mode_run import ModeRun
from labd.protocol.infer_reply import MALFORMED, InferReply
from labd.protocol.words import COUNTER_MODULUS

T = TypeVar("T")

PLANNED_WINDOW_S = MIN_WINDOW_S * 1.05
"""Planned length of a window, so that a slightly faster batch is still valid."""

PROBE_S = 1.0
"""Minimum length of a probe for a sufficiently exact time per inference."""

PROBE_INFERENCES = 10
PROBE_DEADLINE_S = 300.0

REPLY_ATTEMPTS = 3
WORTH_REPEATING = MALFORMED | {RELAY_DAMAGED}

PIN_TOLERANCE_S = 0.005
"""Of the processing pin, which also covers the text of the second lap (2 ms at 115200 baud)."""


async def load_input(run: ModeRun, data: bytes, file: str, number: int = 0) -> None:
    """Load input ``number`` of a file; report a load that had to be restarted."""
    loaded = await run.ready.dut.load_input(data)
    run.sent.add(data, file, number)
    if loaded.restarts:
        await run.report.report_note(f"{file}: loaded again", loaded.restarts)


async def load_row(run: ModeRun, row: Row) -> None:
    """Load the input of a window's batch: the file, or the first window of it."""
    await load_input(run, next(run.dataset.iter_inputs(row)), row.file)


async def repeat_if_damaged(run: ModeRun, work: Callable[[], Awaitable[T]]) -> T:
    """Repeat work around one ``infer`` whose reply the line damaged, or may have damaged.

    Raises:
        InfraError: the line damaged every reply, visibly at least once.
        DutError: every reply was whole, and wrong.
    """
    faults: list[LabdError] = []
    while True:
        try:
            return await work()
        except (InfraError, DutError) as fault:
            if fault.code not in WORTH_REPEATING:
                raise
            faults.append(fault)
        if len(faults) == REPLY_ATTEMPTS:
            raise next((fault for fault in faults if isinstance(fault, InfraError)), faults[-1])
        await run.report.report_note("repeated, because the reply was damaged", (faults[-1].what,))


def check_outputs(reply: InferReply, benchmark: Benchmark, file: str) -> None:
    """Check the number of the model's outputs.

    Raises:
        JobError: it differs, most likely because the firmware holds another model.
        DutError: the DUT prints no outputs.
    """
    if not reply.results:
        raise DutError(
            "no-outputs",
            f"{reply.command} on {file}: the DUT printed m-results-[]; accuracy is judged by "
            "its outputs",
            "let the firmware print them: many a printf has no floating point by default",
        )
    if len(reply.results) != benchmark.outputs:
        raise JobError(
            "outputs",
            f"{reply.command} on {file}: the DUT printed {len(reply.results)} results, "
            f"{benchmark.name} has {benchmark.outputs}",
            "check that the firmware holds this benchmark's model",
        )


def check_window_outputs(reply: InferReply, benchmark: Benchmark, file: str) -> None:
    """Check the outputs of a window, which a DUT may leave out: no number depends on them."""
    if reply.results:
        check_outputs(reply, benchmark, file)


def infer_deadline_s(inferences: int, inference_s: float) -> float:
    """Return the deadline of a batch that should last ``inferences`` times ``inference_s``."""
    return 30.0 + 3.0 * inferences * inference_s


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """Reply and timing of a batch.

    Args:
        reply: of the DUT, with the host's times.
        timer: the I/O manager, if a wire lets it time the batch.
        ticks: start and stop by its counter, if it saw exactly one batch.
        fault: what it saw instead.
    """

    reply: InferReply
    timer: IoManager | None = None
    ticks: tuple[int, int] | None = None
    fault: str = ""


async def clear_interval_log(run: ModeRun) -> None:
    """Clear the I/O manager's log, once, before the first batch of a mode.

    The MLCommons board logs 100 intervals, far more than a mode has batches. Clearing its log
    also restarts its counter, which must run through for the clock maps; with intervals logged
    hours ago, the number of counter wraps would be unknown.
    """
    timer = run.bench.batch_timer(run.ready.build)
    if timer is not None:
        await timer.clear_intervals()


async def run_timed_batch(
    run: ModeRun, inferences: int, warmups: int, deadline_s: float
) -> BatchTiming:
    """Run a batch; the I/O manager times it if it can."""
    ready = run.ready
    timer = run.bench.batch_timer(ready.build)
    if timer is None:
        return BatchTiming(await ready.dut.run_inferences(inferences, warmups, deadline_s))
    watch = _watch_timestamps if timer.config.times_timestamps else _watch_processing
    seen = await watch(timer)
    reply = await ready.dut.run_inferences(inferences, warmups, deadline_s)
    ticks, fault = await seen()
    return BatchTiming(reply, timer, ticks, fault)


Seen = Callable[[], Awaitable[tuple[tuple[int, int] | None, str]]]
"""Returns start and stop of the one batch since then, or what was seen instead."""


async def _watch_timestamps(timer: IoManager) -> Seen:
    await timer.clear_intervals()

    async def read_batch_ticks() -> tuple[tuple[int, int] | None, str]:
        edges = timer.logged_timestamps()
        if len(edges) != 2:  # noqa: PLR2004 - start and stop
            return None, f"{len(edges)} edges on the timestamp pin instead of 2"
        return (edges[0].ticks, edges[1].ticks), ""

    return read_batch_ticks


async def _watch_processing(timer: IoManager) -> Seen:
    known, earlier = await _read_intervals(timer)

    async def read_batch_ticks() -> tuple[tuple[int, int] | None, str]:
        every, fault = await _read_intervals(timer)
        if earlier or fault:
            return None, earlier or fault
        intervals = every[len(known) :]
        if len(intervals) != 1:
            return None, f"{len(intervals)} pulses on the processing pin instead of 1"
        return intervals[0], ""

    return read_batch_ticks


async def _read_intervals(timer: IoManager) -> tuple[list[tuple[int, int]], str]:
    """Read the logged intervals, or why there are none, which concerns one window only."""
    try:
        return await timer.read_intervals(), ""
    except InstrumentError as error:
        return [], f"a log without intervals: {error.what}"


def check_by_best_clock(run: ModeRun, timing: BatchTiming) -> ClockCheck:
    """Return the batch's length by the best second clock: the I/O manager's, else the host's."""
    if timing.timer is None:
        return check_by_host_clock(run, timing.reply)
    if timing.ticks is None:
        return ClockCheck("io-manager", None, 0.0, timing.fault)
    start, stop = timing.ticks
    tick_s = timing.timer.tick_s
    seconds = ((stop - start) % COUNTER_MODULUS) * tick_s
    rates_ppm = CRYSTAL_PPM + timing.timer.clock_tolerance_ppm
    tolerance = PIN_TOLERANCE_S + 2 * tick_s + seconds * rates_ppm * 1e-6
    wire = "timestamp pin" if timing.timer.config.times_timestamps else "processing pin"
    return ClockCheck("io-manager", seconds, tolerance, wire)


def check_by_host_clock(run: ModeRun, reply: InferReply) -> ClockCheck:
    """Return the batch's length by the host clock, if the station follows it."""
    if run.bench.time_base is not TimeBase.HOST:
        note = "a simulated bench has its own time and no second clock"
        return ClockCheck("none", None, 0.0, note)
    seconds = (reply.done_ns - reply.start_ns) / 1e9
    tolerance = HOST_TOLERANCE_S + seconds * HOST_PPM * 1e-6
    return ClockCheck("host", seconds, tolerance, "arrival of the DUT's text")


async def measure_inference_s(measure: Callable[[int], Awaitable[float]]) -> float:
    """Measure the seconds per inference with probes of growing size.

    Args:
        measure: runs a number of inferences and returns their seconds.

    Raises:
        DutError: no time passed in the largest probe.
    """
    inferences = PROBE_INFERENCES
    while (seconds := await measure(inferences)) < PROBE_S and inferences < MAX_INFERENCES:
        growth = min(100.0, 1.2 * PROBE_S / seconds) if seconds > 0 else 100.0
        inferences = min(MAX_INFERENCES, math.ceil(inferences * max(2.0, growth)))
    if seconds <= 0:
        raise DutError(
            "probe",
            f"infer {inferences} 1: no time passed by the DUT's timestamps",
            "its timer does not run, or its inference is empty",
        )
    return seconds / inferences
