"""Base of the two ways to find a batch's timestamps in the power trace."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from drivers.base.interfaces import PowerMonitor
from labd.core.clock_map import ClockMap
from labd.core.model import ClockCheck, Edge, Mode, Part
from labd.core.window_plan import WindowPlan
from labd.core.windows import Batch, energy_window
from labd.procedure.batch import PLANNED_WINDOW_S, BatchTiming
from labd.procedure.capture import Capture, Position
from labd.procedure.clock_correlation import RunClocks
from labd.procedure.mode_run import ModeRun


@dataclass(frozen=True, slots=True)
class MeasuredBatch:
    """A batch, its timing, and the sample range [start, stop) that holds its edges."""

    batch: Batch
    timing: BatchTiming
    start: int
    stop: int


class EdgeSource(ABC):
    """Source of the two edges of each batch.

    Attributes:
        planned_window_s: length that windows are planned for, s.
        plan: of the mode's windows; holds those that were measured.
        clocks: maps between the clocks of the run, for the evidence.
        problems: why the run as a whole is invalid.
        idle_uw: readings of the DUT's idle power, µW.
    """

    planned_window_s = PLANNED_WINDOW_S

    def __init__(self, run: ModeRun, files: Sequence[str]) -> None:
        self.run = run
        self.plan = WindowPlan(files, self.planned_window_s)
        self.clocks: list[ClockMap] = []
        self.problems: list[str] = []
        self.idle_uw: list[float] = []

    @property
    @abstractmethod
    def pending_ranges(self) -> list[tuple[int, int]]:
        """Sample ranges that are still to be evaluated."""

    @abstractmethod
    async def measure_probe_s(self, monitor: PowerMonitor, inferences: int) -> float:
        """Measure how many seconds a number of inferences takes."""

    @abstractmethod
    async def make_sync_mark(self, capture: Capture) -> None:
        """Make a mark that all clocks see; called at both ends of a run."""

    @abstractmethod
    async def wait_for_batch_end(self, capture: Capture, before: Position) -> int:
        """Wait until a finished batch is received; return the sample index after it."""

    @abstractmethod
    async def add_batch(self, capture: Capture, measured: MeasuredBatch) -> None:
        """Add the next batch; let the plan know its window, or at least its length."""

    @abstractmethod
    async def evaluate_remaining(self, capture: Capture) -> None:
        """Evaluate all remaining batches, after the end of the acquisition."""

    def read_idle_power(self, capture: Capture, start: int, stop: int) -> None:
        """Add the idle power of the samples [start, stop), unless one of them is lost."""
        idle_uw = capture.recording_of(start, stop).mean_power_uw(start, stop)
        self.idle_uw += [] if idle_uw is None else [idle_uw]

    async def evaluate_window(
        self,
        capture: Capture,
        measured: MeasuredBatch,
        edges: Sequence[Edge],
        check: ClockCheck,
        edge_uncertainty_s: float,
        idle_power_uw: float | None,
    ) -> None:
        """Make a measured batch's window in a worker thread, since it may be long; report it."""
        recording = capture.recording_of(measured.start, measured.stop)
        window = await asyncio.to_thread(
            energy_window,
            measured.batch,
            recording,
            edges,
            (measured.start, measured.stop),
            replace(check, tolerance_s=check.tolerance_s + 2 * edge_uncertainty_s),
            method=self.run.method,
            idle_power_uw=idle_power_uw,
            edge_uncertainty_s=edge_uncertainty_s,
        )
        window = replace(window, outputs=measured.timing.reply.results)
        for changed in self.plan.add_window(window):
            await self.run.report.report_window(Mode.ENERGY, changed)


def run_clocks(run: ModeRun, capture: Capture) -> RunClocks:
    """Return the clocks of this run."""
    kind = run.bench.identities[Part.POWER].kind
    return RunClocks(kind, capture.format, run.bench.dut_baud(run.ready.build))
