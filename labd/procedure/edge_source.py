"""Interface of the two ways to find a batch's timestamps in the power trace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from drivers.base.interfaces import PowerMonitor
from labd.core.clock_map import ClockMap
from labd.core.model import ClockCheck, Edge, Mode, Part, Window
from labd.core.windows import Batch, energy_window
from labd.procedure.batch import BatchTiming
from labd.procedure.capture import Capture, Position
from labd.procedure.clock_correlation import RunClocks
from labd.procedure.mode_run import ModeRun


@dataclass(frozen=True, slots=True)
class MeasuredBatch:
    """A batch, its timing, and the sample range [start, stop] that holds its edges."""

    batch: Batch
    timing: BatchTiming
    start: int
    stop: int


class EdgeSource(Protocol):
    """Source of the two edges of each batch.

    Attributes:
        windows: evaluated so far, in order.
        clocks: maps between the clocks of the run, for the evidence.
        problems: why the run as a whole is invalid.
        idle_uw: readings of the DUT's idle power, µW.
    """

    windows: list[Window]
    clocks: list[ClockMap]
    problems: list[str]
    idle_uw: list[float]

    @property
    def planned_window_s(self) -> float:
        """Length that windows are planned for, s."""
        ...

    @property
    def needed(self) -> list[tuple[int, int]]:
        """Sample ranges that are still to be evaluated."""
        ...

    async def probe(self, monitor: PowerMonitor, inferences: int) -> float:
        """Measure how many seconds a number of inferences takes."""
        ...

    async def sync(self, capture: Capture) -> None:
        """Make a mark that all clocks see; called at both ends of a run."""
        ...

    async def wait_for_end(self, capture: Capture, before: Position) -> int:
        """Wait until a finished batch is received; return the sample index after it."""
        ...

    async def add(self, capture: Capture, measured: MeasuredBatch) -> None:
        """Add the next batch."""
        ...

    async def finish(self, capture: Capture) -> None:
        """Evaluate all remaining batches, after the end of the acquisition."""
        ...


async def evaluate_batch(
    run: ModeRun,
    capture: Capture,
    measured: MeasuredBatch,
    edges: Sequence[Edge],
    check: ClockCheck,
    edge_uncertainty_s: float,
    idle_power_uw: float | None,
) -> Window:
    """Make a measured batch's window in a worker thread, since it may be long; report it."""
    recording = capture.recording(measured.start, measured.stop)
    window = await asyncio.to_thread(
        energy_window,
        measured.batch,
        recording,
        edges,
        (measured.start, measured.stop),
        replace(check, tolerance_s=check.tolerance_s + 2 * edge_uncertainty_s),
        method=run.method,
        idle_power_uw=idle_power_uw,
        edge_uncertainty_s=edge_uncertainty_s,
    )
    await run.report.window(Mode.ENERGY, window)
    return window


def run_clocks(run: ModeRun, capture: Capture) -> RunClocks:
    """Return the clocks of this run."""
    kind = run.bench.identities[Part.POWER].kind
    return RunClocks(kind, capture.format, run.bench.baud(run.ready.build))
