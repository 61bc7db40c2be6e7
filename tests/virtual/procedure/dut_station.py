"""A station that is a simulated DUT on its own serial port, over the real driver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from drivers.serial_dut import SerialDut, SerialDutConfig
from labd.core.model import Build, EnergyMethod, Mode, TimeBase, Window
from labd.core.suite import find_benchmark
from labd.daemon.run_recorder import RunEvidence
from labd.procedure.dataset import find_dataset
from labd.procedure.mode_run import ModeRun
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.station.config import StationConfig
from labd.station.open_station import JobSetup, Parts, StationBench
from tests.contract.case import plugged

BAUD = {Build.PERFORMANCE: 115200, Build.ENERGY: 9600}
STATION = StationConfig(
    name="s",
    board="b",
    parts={},
    voltage_mv=3000,
    off_s=0.0,
    processing_wire=False,
    baud={},
    emulated=None,
    time_base=TimeBase.VIRTUAL,
)


class SilentReporter:
    """Keeps the windows and notes that were reported."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.notes: list[str] = []

    async def report_phase(self, mode: Mode, name: str) -> None: ...

    async def report_progress(self, done: int, total: int, unit: str) -> None: ...

    async def report_note(self, text: str, reasons: Sequence[str] = ()) -> None:  # noqa: ARG002
        self.notes.append(text)

    async def report_window(self, mode: Mode, window: Window) -> None:  # noqa: ARG002
        self.windows.append(window)


def make_kws01_set(folder: Path, inputs: int = 5, windows: int = 1) -> Path:
    """Write a data set whose inputs differ in their first byte; return the folder of sets.

    Each file holds ``windows`` inputs, of which each is 10 bytes further.
    """
    cut = ",490,10" if windows > 1 else ""
    home = folder / "sets" / "kws01"
    home.mkdir(parents=True)
    for number in range(inputs):
        size = 490 + 10 * (windows - 1)
        (home / f"tst_{number}.bin").write_bytes(bytes([number % 256]) + bytes(size - 1))
    rows = [f"tst_{number}.bin,12,11{cut}\n" for number in range(inputs)]
    (home / "y_labels.csv").write_text("".join(rows))
    return folder / "sets"


@asynccontextmanager
async def open_dut_run(
    dut: SimulatedDut,
    folder: Path,
    inputs: int = 5,
    windows: int = 1,
    mode: Mode = Mode.PERFORMANCE,
    time_base: TimeBase = TimeBase.VIRTUAL,
) -> AsyncGenerator[tuple[ModeRun, SilentReporter]]:
    """Open the station with the DUT in its performance build, and a data set of zeros."""
    dut.results = (0.0,) * 11 + (1.0,)
    suite = find_benchmark("kws01")
    dataset = find_dataset([make_kws01_set(folder, inputs, windows)], suite, (mode,))
    evidence = RunEvidence(folder / "run")
    station = replace(STATION, time_base=time_base)
    async with plugged(dut) as uart, evidence.record_run():
        parts = Parts(dut=SerialDut(SerialDutConfig(port=uart.path)))
        async with StationBench(station, JobSetup("kws01", (), BAUD), parts) as bench:
            ready = await bench.prepare_dut(Build.PERFORMANCE)
            reporter = SilentReporter()
            yield (
                ModeRun(bench, ready, EnergyMethod.LABD, suite, dataset, reporter, evidence),
                reporter,
            )
