"""Everything that the measurement of one mode works with, and how its result is formed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from labd.core.model import EnergyMethod, Identity, Mode, StreamFormat, StreamItem, Verdict, Window
from labd.core.suite import Benchmark
from labd.procedure.dataset import Dataset, SentInputs
from labd.protocol.infer_reply import InferReply
from labd.station.open_station import Ready, StationBench
from labd.wire.results import ModeResult, ResultDetails


class Reporter(Protocol):
    """Receives the progress events of a run."""

    async def report_phase(self, mode: Mode, name: str) -> None:
        """Report the start of a phase."""
        ...

    async def report_progress(self, done: int, total: int, unit: str) -> None:
        """Report the progress of the phase; reports may be skipped."""
        ...

    async def report_window(self, mode: Mode, window: Window) -> None:
        """Report a measured window, valid or not."""
        ...

    async def report_note(self, text: str, reasons: Sequence[str] = ()) -> None:
        """Report something that a reader of the result should know."""
        ...


class TraceWriter(Protocol):
    """Writes the trace of one acquisition while it is received."""

    async def write_items(self, items: Sequence[StreamItem]) -> None:
        """Append stream items in order."""
        ...

    async def annotate_windows(self, windows: Sequence[Window]) -> None:
        """Annotate the measured windows."""
        ...


@dataclass(frozen=True, slots=True)
class OutputRow:
    """An input file, its label, and the DUT's outputs (the mean over the file's windows)."""

    file: str
    label: int
    outputs: tuple[float, ...]


class EvidenceWriter(Protocol):
    """Writes the evidence of one run.

    Attributes:
        folder: where the lab keeps it.
        transcript_file: name of the transcript of the serial lines.
        inferences_file: name of the log of accuracy mode's inferences.
    """

    folder: str
    transcript_file: str
    inferences_file: str

    def open_trace(
        self, name: str, stream_format: StreamFormat, instrument: Identity
    ) -> AbstractAsyncContextManager[TraceWriter]:
        """Open a trace; leaving the context completes it in any case."""
        ...

    def log_inference(self, file: str, window: int, reply: InferReply) -> None:
        """Append an inference of accuracy mode, on a window of an input file, to its log."""
        ...

    async def write_outputs(self, rows: Sequence[OutputRow]) -> str:
        """Write the DUT's outputs for each input; return the name of the file."""
        ...


@dataclass(frozen=True, slots=True)
class ModeRun:
    """An open station, its DUT, the data, and the receivers of events and evidence.

    ``sent`` collects the inputs that were sent to the DUT.
    """

    bench: StationBench
    ready: Ready
    method: EnergyMethod
    benchmark: Benchmark
    dataset: Dataset
    report: Reporter
    evidence: EvidenceWriter
    sent: SentInputs = field(default_factory=SentInputs)


def result_from_windows(
    mode: Mode,
    windows: Sequence[Window],
    score: dict[str, float],
    problems: Sequence[str] = (),
    details: ResultDetails | None = None,
) -> ModeResult:
    """Return the result of a mode: pass if every counted window is valid, without problems."""
    reasons = (
        *(
            f"window {window.number} {problem}"
            for window in windows
            if window.is_counted
            for problem in window.problems
        ),
        *problems,
    )
    details = details or ResultDetails()
    if unchecked := unchecked_outputs(windows):
        details = details.model_copy(update={"findings": (*(details.findings or ()), *unchecked)})
    return ModeResult(
        mode=mode,
        verdict=Verdict.INVALID if reasons else Verdict.PASS,
        reasons=reasons,
        score=score,
        windows=tuple(windows),
        details=details,
    )


def unchecked_outputs(windows: Sequence[Window]) -> tuple[str, ...]:
    """Return the finding that windows came without outputs, if any did."""
    silent = sum(not window.outputs for window in windows)
    if not silent:
        return ()
    return (f"outputs not checked: the DUT printed m-results-[] in {silent} windows",)
