"""What both ways to find a batch's timestamps share: a measured batch, and its judgement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from drivers.base.interfaces import PowerMonitor
from labd.core.clock_map import ClockMap
from labd.core.model import ClockCheck, Edge, Mode, Part, Window
from labd.core.windows import Batch, energy_window
from labd.procedure.batch import TimedBatch
from labd.procedure.capture import Capture, Position
from labd.procedure.clock_correlation import RunClocks
from labd.procedure.session import Session


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch and where in the recording it lies: its edges are between ``start`` and ``stop``."""

    batch: Batch
    timed: TimedBatch
    start: int
    stop: int


class Timestamps(Protocol):
    """A way to find where in the power trace each batch begins and ends.

    Attributes:
        windows: judged so far, in order.
        clocks: the maps between the run's clocks.
        problems: why the run as a whole is invalid.
        idle_uw: what the board drew when it waited, µW, as often as that was seen.
    """

    windows: list[Window]
    clocks: list[ClockMap]
    problems: list[str]
    idle_uw: list[float]

    @property
    def aim_s(self) -> float:
        """How long a window should last."""
        ...

    @property
    def needed(self) -> list[tuple[int, int]]:
        """Stretches of the recording that are still to be looked at."""
        ...

    async def probe(self, monitor: PowerMonitor, inferences: int) -> float:
        """Seconds of so many inferences."""
        ...

    async def sync(self, recorder: Capture) -> None:
        """Make a mark that both the DUT's clock watchers see; at both ends of a run."""
        ...

    async def passed(self, recorder: Capture, before: Position) -> int:
        """Wait until a finished batch is in the recording; the sample index after it."""
        ...

    async def measured(self, recorder: Capture, measured: Measured) -> None:
        """Take the next batch."""
        ...

    async def conclude(self, recorder: Capture) -> None:
        """Judge every window that is still open, now that the recording has ended."""
        ...


async def judge(
    session: Session,
    recorder: Capture,
    measured: Measured,
    edges: Sequence[Edge],
    check: ClockCheck,
    uncertainty_s: float,
    idle_power_uw: float | None,
) -> Window:
    """Turn a measured batch into a window, away from the event loop: it may be long."""
    recording = recorder.recording(measured.start, measured.stop)
    window = await asyncio.to_thread(
        energy_window,
        measured.batch,
        recording,
        edges,
        (measured.start, measured.stop),
        replace(check, tolerance_s=check.tolerance_s + 2 * uncertainty_s),
        method=session.method,
        idle_power_uw=idle_power_uw,
        edge_uncertainty_s=uncertainty_s,
    )
    await session.report.window(Mode.ENERGY, window)
    return window


def run_clocks(session: Session, recorder: Capture) -> RunClocks:
    """Return the clocks of this run."""
    kind = session.bench.identities[Part.POWER].kind
    return RunClocks(kind, recorder.format, session.bench.baud(session.ready.build))
