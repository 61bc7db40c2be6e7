"""Results: a window, what one mode found, and the evidence behind it.

One definition from the procedure to the client's screen. :class:`labd.core.model.Window` and
:class:`~labd.core.model.ClockCheck` are plain dataclasses, so that the core needs no pydantic;
pydantic validates, writes and describes them by their fields, so there is no second class to
convert to.

The journal is the source of truth: it holds one :class:`ModeResult` per mode and attempt.
``result-<mode>.json`` (:class:`ResultFile`) and the window annotations of a trace are copies.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, computed_field

from labd.core.model import DataStanding, EnergyMethod, Identity, Mode, Verdict, Window

T = TypeVar("T")

WINDOW: TypeAdapter[Window] = TypeAdapter(Window)
"""Reads and writes a window as JSON."""


def _is_absent(value: object) -> bool:
    return value is None


IfKnown = Annotated[T | None, Field(exclude_if=_is_absent)]
"""A value that is left out of the JSON where it is ``None``."""


class Record(BaseModel):
    """A part of a result; keys written by another version of labd are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ClockMapRecord(Record):
    """An affine map between two clocks of a run, with its uncertainty.

    Args:
        a: the clock mapped from: an instrument's name, ``io-manager`` or ``host``.
        b: the clock mapped to.
        at_a: the reference, ticks of A.
        at_b: the reference, ticks of B.
        offset_s: B minus A at the reference, nominal seconds.
        offset_error_s: uncertainty of the offset.
        rate_ppm: rate of B relative to A, minus 1.
        rate_error_ppm: uncertainty of the rate.
        tied_s: time from the first mark to the last.
        doubtful: marks without any one of which the others agree; 0 if all agree.
        pairs: marks that the map rests on.
        residual_rms_s: root mean square of the marks' distances from the map.
        residual_max_s: largest of these distances.
    """

    a: str
    b: str
    at_a: int | float
    at_b: int | float
    offset_s: float
    offset_error_s: float
    rate_ppm: float
    rate_error_ppm: float
    tied_s: float
    doubtful: int = 0
    pairs: IfKnown[int] = None
    residual_rms_s: IfKnown[float] = None
    residual_max_s: IfKnown[float] = None


class DatasetRecord(Record):
    """The data set of a mode, how far it is the official one, and what was sent to the DUT.

    Args:
        folder: of its files, on the host of the station.
        labels: name of its labels file.
        labels_sha256: of the labels file.
        files: inputs that the labels file lists.
        standing: ``official``: a published list, and the inputs sent are the published ones;
            ``unverified``: a published list, its inputs could not be compared or are made by each
            user; ``part``: fewer files than the official set, labelled as there; ``custom``:
            anything else.
        text: the standing in words.
        sent: different inputs that were sent to the DUT.
        sent_sha256: of their bytes, each input once, in the order of first sending; a file that
            is cut into windows (ad01) is one input per window.
    """

    folder: str
    labels: str
    labels_sha256: str
    files: int
    standing: DataStanding
    text: str
    sent: int
    sent_sha256: str


class Provenance(Record):
    """Where a number comes from: firmware, route, supply, instruments, simulated or not.

    Args:
        simulated: whether any part is emulated or simulated; never valid as a submission.
        dut: the name that the DUT answers with, and ``(simulated)`` if it is.
        route: ``dut`` (its own port) or ``io`` (through the I/O manager).
        model: the model string that the DUT answers with.
        firmware: image that labd flashed; empty when it did not flash.
        firmware_sha256: of that image.
        voltage_mv: supply voltage; ``None`` when the station does not supply the DUT.
        instruments: identity of each part, by dut, io, power, flasher.
        profile: what the DUT answers as its profile.
        folder: of the run's files, below the state directory of the daemon's lab.
        transcript: file of the serial lines' transcript.
    """

    simulated: bool = False
    dut: str = ""
    model: IfKnown[str] = None
    route: str = ""
    firmware: str = ""
    firmware_sha256: str = ""
    voltage_mv: int | None = None
    instruments: dict[str, Identity] = {}
    profile: IfKnown[str] = None
    folder: IfKnown[str] = None
    transcript: IfKnown[str] = None


class ResultDetails(Provenance):
    """The evidence of one mode's result; a key of another mode is absent.

    Args:
        dataset: the data set, and the bytes that were sent.
        outputs: accuracy: file of the DUT's outputs.
        inferences: accuracy: file of the laps and outputs of every inference.
        target: accuracy: what the benchmark asks for.
        notes: accuracy: why a metric is missing.
        trace: energy: name of the trace.
        method: energy: the arithmetic that the score follows.
        clocks: energy: maps between the clocks of the run.
        findings: what the power monitor's self-check noticed, and that outputs were not checked.
        monitor_counts: energy: what the power monitor's acquisition counted.
    """

    dataset: IfKnown[DatasetRecord] = None
    outputs: IfKnown[str] = None
    inferences: IfKnown[str] = None
    target: IfKnown[float] = None
    notes: IfKnown[tuple[str, ...]] = None
    trace: IfKnown[str] = None
    method: IfKnown[EnergyMethod] = None
    clocks: IfKnown[tuple[ClockMapRecord, ...]] = None
    findings: IfKnown[tuple[str, ...]] = None
    monitor_counts: IfKnown[dict[str, int]] = None


class ModeVerdict(BaseModel):
    """Verdict, score and evidence of one mode, without its windows.

    Args:
        mode: what was measured.
        verdict: pass, fail or invalid.
        reasons: why it is not ``pass``; empty when it is.
        score: named numbers, e.g. ``top1_pct``, ``median_throughput_ips``.
        details: the evidence.
    """

    model_config = ConfigDict(frozen=True)

    mode: Mode
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    score: dict[str, FiniteFloat] = {}
    details: ResultDetails = ResultDetails()


class ModeResult(ModeVerdict):
    """What one mode of a job found; ``windows``: every one, valid or not, in order."""

    windows: tuple[Window, ...] = ()

    def without_windows(self) -> ModeVerdict:
        """Return what the result event holds; each window has its own event."""
        return ModeVerdict.model_validate({name: getattr(self, name) for name in _VERDICT})


class ResultFile(ModeResult):
    """``result-<mode>.json`` beside a run's traces, for re-scoring."""

    job: str = ""
    benchmark: str = ""


_VERDICT = tuple(ModeVerdict.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredWindow(Window):
    """A window as its event holds it.

    Args:
        mode: that it belongs to.
    """

    mode: Mode

    @computed_field
    @property
    def valid(self) -> bool:
        """Whether the window's number may be used: it has no problems."""
        return not self.problems

    @classmethod
    def from_window(cls, mode: Mode, window: Window) -> Self:
        """Return ``window`` with the mode it belongs to."""
        known = {field.name: getattr(window, field.name) for field in fields(Window)}
        return cls(mode=mode, **known)
