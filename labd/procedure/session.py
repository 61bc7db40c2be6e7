"""What one mode of a run works with: an open station, data, and where its news go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from labd.core.model import EnergyMethod, Identity, Mode, StreamFormat, StreamItem, Window
from labd.core.suite import Benchmark
from labd.procedure.dataset import Dataset
from labd.station.open_station import Ready, StationBench


class Reporter(Protocol):
    """Where a run's news go."""

    async def phase(self, mode: Mode, name: str) -> None:
        """Something new begins."""
        ...

    async def progress(self, done: int, total: int, unit: str) -> None:
        """So much of the present phase is done; may be thinned out."""
        ...

    async def window(self, mode: Mode, window: Window) -> None:
        """A window was measured, valid or not."""
        ...

    async def note(self, text: str, reasons: Sequence[str] = ()) -> None:
        """Something a reader of the result should know."""
        ...


class TraceWriter(Protocol):
    """Keeps one acquisition while it arrives."""

    async def write(self, items: Sequence[StreamItem]) -> None:
        """Append stream items in order."""
        ...

    async def windows(self, windows: Sequence[Window]) -> None:
        """Mark the windows measured in it."""
        ...


@dataclass(frozen=True, slots=True)
class OutputRow:
    """An input file, its label, and the DUT's outputs (their mean over its windows)."""

    file: str
    label: int
    outputs: tuple[float, ...]


class Evidence(Protocol):
    """Keeps what stands behind the numbers of one run."""

    def trace(
        self, name: str, stream_format: StreamFormat, instrument: Identity
    ) -> AbstractAsyncContextManager[TraceWriter]:
        """Open a trace; the context completes it whatever happened."""
        ...

    async def outputs(self, rows: Sequence[OutputRow]) -> str:
        """Keep what the DUT answered to each input; the name of the file."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """Everything one mode works with."""

    bench: StationBench
    ready: Ready
    method: EnergyMethod
    benchmark: Benchmark
    dataset: Dataset
    report: Reporter
    evidence: Evidence
