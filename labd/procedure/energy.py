"""Energy: five windows between pin edges, in one acquisition of the power monitor.

The DUT pulses its timestamp pin around each batch. Edges belong to the command during
which they came: before each command the line must have been quiet, after it both edges and
some further samples must have arrived.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from drivers.interfaces import PowerMonitor
from labd.core.energy import energy_window, inferences_for_window
from labd.core.errors import DutError, InstrumentError
from labd.core.model import ClockCheck, Mode, ModeResult, Window
from labd.core.scoring import median_energy_uj
from labd.core.suite import WARMUPS, WINDOWS
from labd.procedure.batch import (
    AIM_S,
    PROBE_DEADLINE_S,
    check_outputs,
    find_inferences,
    first_input,
    infer_deadline_s,
    load_input,
    timed_infer,
)
from labd.procedure.capture import Capture, capture
from labd.procedure.dataset import Row
from labd.procedure.performance import judge_windows
from labd.procedure.session import Session

IDLE_AFTER_S = 0.015
IDLE_S = 0.02
"""Idle power is the mean over this long, so long after the sync mark (its reply is out)."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where in the recording a batch lies: its edges are between ``start`` and ``stop``."""

    number: int
    row: Row
    inferences: int
    check: ClockCheck
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
    """
    dataset = session.dataset
    rows = [dataset.rows[i % len(dataset.rows)] for i in range(WINDOWS)]
    await session.report.phase(Mode.ENERGY, "probe")
    await load_input(session, first_input(dataset, rows[0]), rows[0].file)
    inferences, inference_s = await _plan_batch(session, monitor, throughput_ips)
    await session.report.phase(Mode.ENERGY, "windows")
    windows: list[Window] = []
    async with capture(session, monitor, "energy") as recorder:
        sync = await _sync_mark(session, recorder)
        pending: list[Mark] = []
        for number, row in enumerate(rows, 1):
            pending.append(await _batch(session, recorder, number, row, inferences, inference_s))
            await session.report.progress(number, WINDOWS, "windows")
            while pending and recorder.confirmed >= pending[0].stop:
                windows.append(await _judge(session, recorder, pending.pop(0)))
        await recorder.stop()
        windows += [await _judge(session, recorder, late) for late in pending]
        await recorder.mark(windows)
    result = judge_windows(Mode.ENERGY, windows, _score(recorder, sync, windows))
    return replace(result, details={"trace": recorder.name, "method": "mlcommons"})


def _score(recorder: Capture, sync: tuple[int, int], windows: list[Window]) -> dict[str, float]:
    """Median over the windows that have an energy, and what the board draws when idle."""
    score: dict[str, float] = {}
    measured = [window for window in windows if window.energy_per_inference_uj is not None]
    if measured:
        score["median_energy_uj"] = median_energy_uj(measured)
    rate = recorder.format.sample_rate_hz
    for edge in recorder.edges(*sync):
        start = math.ceil(edge.index + IDLE_AFTER_S * rate)
        stop = start + max(1, math.floor(IDLE_S * rate))
        idle = recorder.recording().mean_power_uw(start, stop)
        if idle is not None:
            score["idle_power_uw"] = idle
    return score


async def _plan_batch(
    session: Session, monitor: PowerMonitor, throughput_ips: float | None
) -> tuple[int, float]:
    """How many inferences a window takes, and the seconds of one."""
    if throughput_ips is not None:
        inference_s = 1.0 / throughput_ips
        return inferences_for_window(1, inference_s, AIM_S), inference_s

    async def probe(inferences: int) -> float:
        async with capture(session, monitor, "") as recorder:
            start = await recorder.quiet()
            await session.ready.dut.infer(inferences, 1, PROBE_DEADLINE_S)
            stop = await recorder.edges_since(start, 2)
            await recorder.stop()
            edges = recorder.edges(start.received, stop)
        if gaps := recorder.recording().gaps:
            raise InstrumentError("samples-lost", f"the probe lost samples: {gaps[0].reason}")
        if len(edges) != 2:  # noqa: PLR2004 - start and stop
            raise _no_edges(len(edges), 2)
        return (edges[1].index - edges[0].index) / monitor.format.sample_rate_hz

    return await find_inferences(probe)


async def _sync_mark(session: Session, recorder: Capture) -> tuple[int, int]:
    """One pulse on demand: proves the wire before minutes of measuring rest on it.

    Returns:
        the samples from before it to after the quiet stretch that follows.
    """
    before = await recorder.quiet()
    lap = await session.ready.dut.timestamp()
    if lap is not None:
        raise DutError(
            "build", "the DUT answers timestamp with text: a performance build", "flash energy"
        )
    after = await recorder.edges_since(before, 1)
    seen = recorder.edges_seen - before.edges_seen
    if seen != 1:
        raise _no_edges(seen, 1)
    return before.received, after


def _no_edges(seen: int, wanted: int) -> InstrumentError:
    return InstrumentError(
        "timestamp-wire",
        f"{seen} edges reached the power monitor, the DUT's timestamp pin should give {wanted}",
        "check the wire from the DUT's timestamp pin (D7) to the monitor's trigger input",
    )


async def _batch(
    session: Session, recorder: Capture, number: int, row: Row, inferences: int, inference_s: float
) -> Mark:
    """Load one input, let the bench go quiet, run the batch, wait for its edges."""
    dut = session.ready.dut
    await load_input(session, first_input(session.dataset, row), row.file)
    before = await recorder.quiet()
    deadline = infer_deadline_s(inferences + WARMUPS, inference_s)
    reply, check = await timed_infer(session.bench, dut, inferences, WARMUPS, deadline)
    check_outputs(reply, session.benchmark, row.file)
    stop = await recorder.edges_since(before, 2)
    slack = 2 * recorder.format.edge_uncertainty_s
    check = replace(check, tolerance_s=check.tolerance_s + slack)
    return Mark(number, row, inferences, check, before.received, stop)


async def _judge(session: Session, recorder: Capture, mark: Mark) -> Window:
    """Turn a mark into a window."""
    window = energy_window(
        mark.number,
        mark.row.file,
        mark.inferences,
        recorder.recording(),
        recorder.edges(mark.start, mark.stop),
        (mark.start, mark.stop),
        mark.check,
    )
    await session.report.window(Mode.ENERGY, window)
    return window
