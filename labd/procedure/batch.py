"""One batch: an input loaded, N inferences on it, timed by the DUT and a second clock."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drivers.base.interfaces import IoManager
from labd.core.errors import DutError, InstrumentError, JobError
from labd.core.host_clock import CRYSTAL_PPM, HOST_PPM
from labd.core.model import ClockCheck, TimeBase
from labd.core.suite import MIN_WINDOW_S, Benchmark
from labd.core.windows import HOST_TOLERANCE_S, inferences_for_window
from labd.procedure.dataset import Dataset, Row
from labd.procedure.session import Session
from labd.protocol.replies import COUNTER_MODULUS, InferReply

AIM_S = MIN_WINDOW_S * 1.05
"""Windows are planned this long, so that a slightly faster batch is still valid."""

PROBE_S = 1.0
"""A probe this long tells the time of one inference well enough."""

PROBE_INFERENCES = 10
PROBE_DEADLINE_S = 300.0
MAX_PROBES = 8

PIN_TOLERANCE_S = 0.005
"""The processing pin also covers the text of the second lap (2 ms at 115200 baud)."""


def first_input(dataset: Dataset, row: Row) -> bytes:
    """The bytes a window's batch runs on: the file, or the first window of it."""
    return next(dataset.inputs(row))


async def load_input(session: Session, data: bytes, file: str) -> None:
    """Load an input; a load that had to be started again is noted in the record."""
    loaded = await session.ready.dut.load(data)
    if loaded.restarts:
        await session.report.note(f"{file}: loaded again", loaded.restarts)


def check_outputs(reply: InferReply, benchmark: Benchmark, file: str) -> None:
    """Require as many outputs as the model has.

    Raises:
        JobError: the firmware answers with another number: another model, most likely.
    """
    if len(reply.results) != benchmark.outputs:
        raise JobError(
            "outputs",
            f"{file}: the DUT printed {len(reply.results)} results, "
            f"{benchmark.name} has {benchmark.outputs}",
            "check that the firmware holds this benchmark's model",
        )


def infer_deadline_s(inferences: int, inference_s: float) -> float:
    """How long to wait for a batch that should last ``inferences`` times ``inference_s``."""
    return 30.0 + 3.0 * inferences * inference_s


@dataclass(frozen=True, slots=True)
class TimedBatch:
    """A batch, and what the clocks beside the DUT saw of it.

    Args:
        reply: the DUT's.
        timer: the I/O manager, where a wire lets it time the batch.
        ticks: start and stop by its counter, if it saw just one batch.
        fault: what it saw instead.
    """

    reply: InferReply
    timer: IoManager | None = None
    ticks: tuple[int, int] | None = None
    fault: str = ""


async def start_timing(session: Session) -> None:
    """Forget what the I/O manager timed before, once, before a mode's first batch.

    The MLCommons board logs 100 intervals, far more than a mode has batches. Clearing its log
    also restarts its counter, which has to run through for the clocks to be tied; what it
    logged hours ago would leave turns of the counter open.
    """
    timer = session.bench.timer(session.ready.build)
    if timer is not None:
        await timer.clear_intervals()


async def timed_infer(
    session: Session, inferences: int, warmups: int, deadline_s: float
) -> TimedBatch:
    """Run a batch and let the I/O manager time it, where it can."""
    ready = session.ready
    timer = session.bench.timer(ready.build)
    if timer is None:
        return TimedBatch(await ready.dut.infer(inferences, warmups, deadline_s))
    watch = _watch_timestamps if timer.config.times_timestamps else _watch_processing
    seen = await watch(timer)
    reply = await ready.dut.infer(inferences, warmups, deadline_s)
    ticks, fault = await seen()
    return TimedBatch(reply, timer, ticks, fault)


Seen = Callable[[], Awaitable[tuple[tuple[int, int] | None, str]]]
"""Start and stop of the one batch since, or what was there instead."""


async def _watch_timestamps(timer: IoManager) -> Seen:
    await timer.clear_intervals()

    async def seen() -> tuple[tuple[int, int] | None, str]:
        edges = timer.timestamps()
        if len(edges) != 2:  # noqa: PLR2004 - start and stop
            return None, f"{len(edges)} edges on the timestamp pin instead of 2"
        return (edges[0].ticks, edges[1].ticks), ""

    return seen


async def _watch_processing(timer: IoManager) -> Seen:
    known, earlier = await _intervals(timer)

    async def seen() -> tuple[tuple[int, int] | None, str]:
        every, fault = await _intervals(timer)
        if earlier or fault:
            return None, earlier or fault
        intervals = every[len(known) :]
        if len(intervals) != 1:
            return None, f"{len(intervals)} pulses on the processing pin instead of 1"
        return intervals[0], ""

    return seen


async def _intervals(timer: IoManager) -> tuple[list[tuple[int, int]], str]:
    """What its wire showed, or why that makes no intervals: this is one window's trouble."""
    try:
        return await timer.intervals(), ""
    except InstrumentError as error:
        return [], f"a log that makes no intervals: {error.what}"


def best_check(session: Session, batch: TimedBatch) -> ClockCheck:
    """The batch's length by the best independent clock: the I/O manager's, else the host's."""
    if batch.timer is None:
        return host_check(session, batch.reply)
    if batch.ticks is None:
        return ClockCheck("io-manager", None, 0.0, batch.fault)
    start, stop = batch.ticks
    tick_s = batch.timer.tick_s
    seconds = ((stop - start) % COUNTER_MODULUS) * tick_s
    rates_ppm = CRYSTAL_PPM + batch.timer.clock_tolerance_ppm
    tolerance = PIN_TOLERANCE_S + 2 * tick_s + seconds * rates_ppm * 1e-6
    wire = "timestamp pin" if batch.timer.config.times_timestamps else "processing pin"
    return ClockCheck("io-manager", seconds, tolerance, wire)


def host_check(session: Session, reply: InferReply) -> ClockCheck:
    """The batch's length by the host's clock, where the bench follows it."""
    if session.bench.time_base is not TimeBase.HOST:
        note = "a simulated bench keeps its own time and has no second clock wired"
        return ClockCheck("none", None, 0.0, note)
    seconds = (reply.done_ns - reply.start_ns) / 1e9
    tolerance = HOST_TOLERANCE_S + seconds * HOST_PPM * 1e-6
    return ClockCheck("host", seconds, tolerance, "arrival of the DUT's text")


async def find_inferences(measure: Callable[[int], Awaitable[float]]) -> tuple[int, float]:
    """Find how many inferences make a valid window, by probing.

    Args:
        measure: runs so many inferences and returns their seconds.

    Returns:
        the number for a window of :data:`AIM_S` and the seconds of one inference.

    Raises:
        DutError: probes of growing size never took measurable time.
    """
    inferences = PROBE_INFERENCES
    for _ in range(MAX_PROBES):
        seconds = await measure(inferences)
        if seconds >= PROBE_S:
            return inferences_for_window(inferences, seconds, AIM_S), seconds / inferences
        growth = min(100.0, 1.2 * PROBE_S / seconds) if seconds > 0 else 100.0
        inferences = math.ceil(inferences * max(2.0, growth))
    raise DutError(
        "probe",
        f"{inferences} inferences still took no measurable time by the DUT's timestamps",
        "its timer stands still",
    )
