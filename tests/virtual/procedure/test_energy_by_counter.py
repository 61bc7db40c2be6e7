"""A whole energy run on a monitor that sees no timestamps, timed by the I/O manager's counter.

Real drivers over real cables, in real time: an N6705 feeds a board whose current the test
knows exactly, an Arduino UNO relays its UART and times its timestamp pin.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.io_manager.eembc_uno import EembcIoManager, EembcIoManagerConfig
from drivers.n6705.config import N6705Config
from drivers.n6705.driver import N6705
from labd.core import window_plan, windows
from labd.core.errors import JobError
from labd.core.model import Build, EnergyMethod, Mode, Verdict, Window
from labd.core.suite import find_benchmark
from labd.daemon.run_recorder import RunEvidence
from labd.procedure import dataset as dataset_module
from labd.procedure import edges_from_counter as by_counter
from labd.procedure.dataset import Dataset, find_dataset
from labd.procedure.energy import measure_energy
from labd.procedure.mode_run import ModeRun
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments.eembc_uno import SimulatedEembcUno
from labd.simulation.instruments.n6705 import SimulatedN6705
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.simulation.uart_waveform import character_duration_ps
from labd.simulation.virtual_time import PS_PER_S, LoopAgenda
from labd.station.config import StationConfig
from labd.station.open_station import JobSetup, Parts, StationBench
from labd.wire.results import ModeResult
from tests.contract.case import plugged

IDLE_A = 0.002
RUN_A = 0.012
VOLTS = 3.0
INFERENCE_S = 0.02
WINDOW_S = 2.0
BAUD = 9600


class TimedDut(SimulatedDut):
    """Takes real time for a batch and for its report, and draws more current meanwhile."""

    us_per_inference = round(INFERENCE_S * 1e6)

    def __init__(self) -> None:
        super().__init__(agenda=LoopAgenda(real_time=True), energy=True, model="kws01")
        self.results = (0.0,) * 11 + (1.0,)
        self.batches: list[tuple[float, float]] = []
        self.pin_breaks_after = 99
        self.on_processing = self._note_batch

    def current_a(self, t_s: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = np.full(len(t_s), IDLE_A)
        for start, stop in self.batches:
            drawn[(t_s >= start) & (t_s < stop)] = RUN_A
        return drawn

    def _note_batch(self, level: bool) -> None:  # noqa: FBT001 - a pin's watcher
        now = time.monotonic()
        if level:
            self.batches.append((now, math.inf))
        else:
            self.batches[-1] = (self.batches[-1][0], now)

    def _mark_timestamp(self) -> None:
        if len(self.batches) + (not self.is_computing) <= self.pin_breaks_after:
            super()._mark_timestamp()

    def _report_inference_done(self) -> None:
        sent_ps = self.agenda.now_ps() + 14 * character_duration_ps(BAUD)
        self.agenda.schedule(sent_ps, lambda _: super(TimedDut, self)._report_inference_done())


class Quietly:
    """A reporter that keeps the windows."""

    def __init__(self) -> None:
        self.windows: list[Window] = []

    async def report_phase(self, mode: Mode, name: str) -> None: ...

    async def report_progress(self, done: int, total: int, unit: str) -> None: ...

    async def report_note(self, text: str, reasons: Sequence[str] = ()) -> None: ...

    async def report_window(self, mode: Mode, window: Window) -> None:  # noqa: ARG002
        self.windows.append(window)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = tmp_path / "sets" / "kws01"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"tst_{number}.bin").write_bytes(bytes([number]) * 490)
    (folder / "y_labels.csv").write_text("".join(f"tst_{n}.bin,12,11\n" for n in range(2)))
    return find_dataset([tmp_path / "sets"], find_benchmark("kws01"), (Mode.ENERGY,))


@asynccontextmanager
async def session(
    dut: TimedDut, dataset: Dataset, folder: Path, *, timed: bool = True
) -> AsyncGenerator[tuple[ModeRun, N6705]]:
    feeding = SimulatedN6705()
    feeding.dut_current_a = dut.current_a
    station = StationConfig(
        name="s",
        board="b",
        parts={},
        voltage_mv=round(VOLTS * 1000),
        off_s=0.05,
        processing_wire=False,
        baud={},
        emulated=None,
    )
    setup = JobSetup("kws01", (), {Build.ENERGY: BAUD, Build.PERFORMANCE: 115200})
    async with plugged(SimulatedEembcUno(dut)) as uart, plugged(feeding, TcpCable) as network:
        io = EembcIoManager(EembcIoManagerConfig(port=uart.path, timestamp_wire=timed))
        monitor = N6705(N6705Config(resource=network.path, current_limit_a=0.2))
        async with StationBench(station, setup, Parts(io=io, power=monitor)) as bench:
            dut.boot()
            ready = await bench.prepare_dut(Build.ENERGY)
            evidence = RunEvidence(folder)
            suite = find_benchmark("kws01")
            method = EnergyMethod.LABD
            yield ModeRun(bench, ready, method, suite, dataset, Quietly(), evidence), monitor


@pytest.fixture(autouse=True)
def short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two windows of two seconds: their length is then the one thing wrong with them.

    They are not repeated for it.
    """
    monkeypatch.setattr(window_plan, "is_too_short", lambda _: False)
    monkeypatch.setattr(dataset_module, "WINDOWS", 2)
    monkeypatch.setattr(by_counter.CounterEdges, "planned_window_s", WINDOW_S)
    monkeypatch.setattr(StationBench, "is_simulated", property(lambda _: False))


def exact_uj(batch: Sequence[float]) -> float:
    return (batch[1] - batch[0]) * RUN_A * VOLTS * 1e6


async def test_windows_are_placed_by_the_counter_within_the_stated_uncertainty(
    dataset: Dataset, tmp_path: Path
) -> None:
    dut = TimedDut()
    async with session(dut, dataset, tmp_path / "run") as (running, monitor):
        result: ModeResult = await measure_energy(running, monitor, 1 / INFERENCE_S)
    assert result.verdict is Verdict.INVALID
    for window, batch in zip(result.windows, dut.batches[1:3], strict=True):
        assert [problem.split()[0] for problem in window.problems] == ["lasts", "edge"]
        assert window.runtime_s == pytest.approx(batch[1] - batch[0], abs=0.02)
        assert window.check.clock == "host"
        assert window.energy_uj is not None
        assert window.energy_uncertainty_uj is not None
        assert abs(window.energy_uj - exact_uj(batch)) < window.energy_uncertainty_uj
        assert window.energy_uncertainty_uj < 0.05 * window.energy_uj
    assert result.score["idle_power_uw"] == pytest.approx(IDLE_A * VOLTS * 1e6, rel=0.01)
    assert [each.b for each in result.details.clocks or ()] == ["host", "host"]


async def test_a_mark_lost_at_the_end_leaves_the_windows_their_numbers(
    dataset: Dataset, tmp_path: Path
) -> None:
    dut = TimedDut()
    dut.pin_breaks_after = 3  # the mark at the beginning and two windows
    async with session(dut, dataset, tmp_path / "run") as (running, monitor):
        result = await measure_energy(running, monitor, 1 / INFERENCE_S)
    assert [window.energy_uj is not None for window in result.windows] == [True, True]
    assert "sync mark at the end of the run failed" in str(result.details.findings)


async def test_a_window_whose_reply_the_line_damaged_is_repeated(
    dataset: Dataset, tmp_path: Path
) -> None:
    dut = TimedDut()
    replies = 0

    def damage_second_reply(line: str) -> str:
        nonlocal replies
        replies += line == "m-infer-done"
        if replies != 2:  # the first is the mark at the beginning
            return line
        return {"m-infer-done": "m-infer-done\x02\x10PI[0.9]"}.get(
            line, "" if line.startswith("m-results") else line
        )

    dut.reword_line = damage_second_reply
    async with session(dut, dataset, tmp_path / "run") as (running, monitor):
        result = await measure_energy(running, monitor, 1 / INFERENCE_S)
    for window, batch in zip(result.windows, dut.batches[2:4], strict=True):
        assert window.energy_uj is not None
        assert window.runtime_s == pytest.approx(batch[1] - batch[0], abs=0.02)
        assert abs(window.energy_uj - exact_uj(batch)) < (window.energy_uncertainty_uj or 0.0)


async def test_without_a_counter_there_is_no_energy(dataset: Dataset, tmp_path: Path) -> None:
    async with session(TimedDut(), dataset, tmp_path / "run", timed=False) as (running, monitor):
        with pytest.raises(JobError, match="no input for the DUT's timestamps") as caught:
            await measure_energy(running, monitor, 1 / INFERENCE_S)
    assert caught.value.code == "no-timestamps"


async def test_a_window_that_the_counter_finds_too_short_is_repeated(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_plan, "is_too_short", windows.is_too_short)
    monkeypatch.setattr(windows, "MIN_WINDOW_S", 1.0)
    monkeypatch.setattr(by_counter.CounterEdges, "planned_window_s", 1.2)
    dut = TimedDut()
    dut.batch_ps = lambda number: round(number * (0.015 if number > 50 else INFERENCE_S) * PS_PER_S)
    async with session(dut, dataset, tmp_path / "run") as (running, monitor):
        result = await measure_energy(running, monitor, 1 / INFERENCE_S)
    short, *counted = result.windows
    assert short.inferences == 60
    assert short.not_counted == f"too short: repeated with {counted[0].inferences} inferences"
    assert short.energy_uj is not None
    assert [window.input_file for window in counted] == ["tst_0.bin", "tst_1.bin"]
    assert all(window.runtime_s > 1.0 and window.is_counted for window in counted)
    assert len({window.inferences for window in counted}) == 1
    assert not any("lasts" in reason for reason in result.reasons)
