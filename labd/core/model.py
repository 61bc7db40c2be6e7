"""Values used everywhere: modes, verdicts, stream items of instruments, results of a run.

Time bases: sample periods in a trace (``index``), integer nanoseconds elsewhere (``_ns``).
Names end in their unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the client imports this module and starts without NumPy
    import numpy as np
    from numpy.typing import NDArray


class Mode(StrEnum):
    """Quantity that a job measures. Accuracy and performance use the same build."""

    ACCURACY = "accuracy"
    PERFORMANCE = "performance"
    ENERGY = "energy"


class Build(StrEnum):
    """How the firmware marks time: by ``m-lap-us`` text or by a pin pulse."""

    PERFORMANCE = "performance"
    ENERGY = "energy"


BUILD_FOR = {
    Mode.ACCURACY: Build.PERFORMANCE,
    Mode.PERFORMANCE: Build.PERFORMANCE,
    Mode.ENERGY: Build.ENERGY,
}


class Verdict(StrEnum):
    """How a job ended."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INVALID = "invalid"
    INFRA = "infra"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class EnergyMethod(StrEnum):
    """Arithmetic of a window's energy.

    ``labd``: the exact time between the edges, cut samples in proportion.
    ``mlcommons``, ``eembc``: the arithmetic of the published runners, on samples of 1 ms.
    """

    LABD = "labd"
    MLCOMMONS = "mlcommons"
    EEMBC = "eembc"


class DataStanding(StrEnum):
    """How far a data set is an official one.

    ``official``: a published list, and the bytes as sent are the published ones.
    ``unverified``: a published list, whose bytes could not be compared or are made by each user.
    ``part``: fewer files than the official set, all labelled as there.
    ``custom``: anything else.
    """

    OFFICIAL = "official"
    UNVERIFIED = "unverified"
    PART = "part"
    CUSTOM = "custom"


class TimeBase(StrEnum):
    """The clock that a station's instruments follow: the host's, or an emulated bench's own."""

    HOST = "host"
    VIRTUAL = "virtual"


class Priority(StrEnum):
    """Priority classes, most urgent first."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    OVERNIGHT = "overnight"


class Part(StrEnum):
    """Part of a station."""

    DUT = "dut"
    IO = "io"
    POWER = "power"
    FLASHER = "flasher"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a part reports about itself at its port."""

    kind: str
    name: str
    serial: str = ""
    firmware: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check noticed, with what to do about it."""

    code: str
    text: str
    remedy: str = ""
    serious: bool = True


# ---- stream items of a power monitor -------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A run of consecutive samples.

    Args:
        index: index of the first sample since the acquisition began.
        power_w: mean power per sample period, watt, shape (n,).
        current_a: mean current, ampere, shape (n,), if the instrument measures it.
        voltage_v: mean voltage, volt, shape (n,), if the instrument measures it.
    """

    index: int
    power_w: NDArray[np.float64]
    current_a: NDArray[np.float64] | None = None
    voltage_v: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.power_w)

    @property
    def end(self) -> int:
        """Index of the first sample after this run."""
        return self.index + len(self.power_w)


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples known to be lost: ``count`` of them from ``index`` on."""

    index: int
    count: int
    reason: str = ""

    @property
    def end(self) -> int:
        """Index of the first sample after the gap."""
        return self.index + self.count


@dataclass(frozen=True, slots=True)
class Edge:
    """A timed change of a digital line, in sample periods since the acquisition began."""

    index: float
    line: str
    rising: bool


@dataclass(frozen=True, slots=True)
class TimeMark:
    """A sample index whose time by another clock is known.

    Args:
        index: in sample periods since the acquisition began.
        t_ns: that clock's time, ns; ``host``: monotonic, ``utc``: since 1970.
        uncertainty_ns: the true time lies within t_ns ± this.
        clock: ``host`` or ``utc``.
    """

    index: float
    t_ns: int
    uncertainty_ns: int
    clock: str


StreamItem = Samples | Gap | Edge | TimeMark


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """Meaning of the numbers of a stream.

    Args:
        sample_rate_hz: nominal samples per second.
        edge_uncertainty_s: of an edge's position.
        clock_tolerance_ppm: how far the instrument's clock may be off.
        quantity: what the instrument measures (``energy``, ``current``, ``power``).
        voltage_v: set voltage, if it is used in place of a measured one.
        timestamp_line: the digital line of the DUT's timestamp pin (falling edges are
            timestamps); empty for an instrument without digital inputs.
        delivery_interval_s: longest time between two deliveries to the driver; zero for an
            instrument that sends each sample at once.
    """

    sample_rate_hz: float
    edge_uncertainty_s: float
    clock_tolerance_ppm: float
    quantity: str
    voltage_v: float | None = None
    timestamp_line: str = ""
    delivery_interval_s: float = 0.0


# ---- what a run finds ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockCheck:
    """A window's length by an independent clock.

    Args:
        clock: ``io-manager``, ``host`` or ``dut``; ``none`` when there is no such clock.
        seconds: the length it saw; ``None`` when it saw none.
        tolerance_s: how far the two clocks may differ over this window.
        note: why there is no check, or what it rests on.
    """

    clock: str
    seconds: float | None
    tolerance_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """One measured interval between the two timestamps of one ``infer`` command.

    ``problems`` empty means valid. Energy keys are ``None`` for a performance window.

    Args:
        number: 1-based, in the order of measuring.
        input_file: the input the batch ran on.
        inferences: in the batch.
        runtime_s: between the edges.
        throughput_ips: inferences per second.
        check: the length by an independent clock.
        problems: why its number may not be used.
        energy_uj: of the whole window, by the method chosen.
        power_uw: mean power by that method.
        energy_per_inference_uj: by that method.
        start_index: position of the first edge in the trace, sample periods.
        stop_index: position of the second.
        samples: sample periods between them.
        charge_uc: of the whole window.
        energy_uncertainty_uj: how far the edges' uncertainty may move ``energy_uj``.
        idle_power_uw: what the board drew just before the batch.
        baseline_per_inference_uj: what it would have drawn idle for as long, per inference.
        methods: energy per inference by every method that applies, µJ.
        not_counted: why score and verdict leave the window out; empty if it counts.
        laps_us: the DUT's counter at the two timestamps; ``None`` from an energy build.
        outputs: of the last inference, as the DUT printed them.
    """

    number: int
    input_file: str
    inferences: int
    runtime_s: float
    throughput_ips: float
    check: ClockCheck
    problems: tuple[str, ...] = ()
    energy_uj: float | None = None
    power_uw: float | None = None
    energy_per_inference_uj: float | None = None
    start_index: float | None = None
    stop_index: float | None = None
    samples: int | None = None
    charge_uc: float | None = None
    energy_uncertainty_uj: float | None = None
    idle_power_uw: float | None = None
    baseline_per_inference_uj: float | None = None
    methods: dict[str, float] = field(default_factory=dict[str, float])
    not_counted: str = ""
    laps_us: tuple[int, int] | None = None
    outputs: tuple[float, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the window's number may be used."""
        return not self.problems

    @property
    def is_counted(self) -> bool:
        """Whether score and verdict rest on the window; a counted one may be invalid."""
        return not self.not_counted

    @property
    def edge_span(self) -> tuple[float, float] | None:
        """Positions of its edges in the trace, sample periods; ``None`` without both."""
        if self.start_index is None or self.stop_index is None:
            return None
        return self.start_index, self.stop_index
