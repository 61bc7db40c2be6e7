"""An energy run on a monitor that sees the DUT's timestamps, in real time over real drivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.lpm01a.driver import Lpm01a, Lpm01aConfig
from drivers.serial_dut import SerialDut, SerialDutConfig
from labd.core import windows
from labd.core.model import Build, EnergyMethod, Mode, TimeBase
from labd.core.suite import find_benchmark
from labd.daemon.run_recorder import RunEvidence
from labd.procedure.dataset import find_dataset
from labd.procedure.edge_source import EdgeSource
from labd.procedure.energy import measure_energy
from labd.procedure.mode_run import ModeRun
from labd.rescore import find_tasks, rescore_folder
from labd.simulation.instruments.lpm01a.device import SimulatedLpm01a
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.simulation.instruments.synthetic_load import SyntheticLoad
from labd.simulation.virtual_time import PS_PER_MS, PS_PER_S, LoopAgenda
from labd.station.open_station import JobSetup, Parts, StationBench
from tests.contract.case import plugged
from tests.virtual.procedure.dut_station import BAUD, STATION, SilentReporter, make_kws01_set

INFERENCE_S = 0.02


class QuietLoad(SyntheticLoad):
    """A load without timestamps of its own."""

    def timestamp_edges_until(self, now_ps: int) -> list[tuple[int, bool]]:  # noqa: ARG002
        return []


@asynccontextmanager
async def energy_run(
    dut: SimulatedDut, folder: Path
) -> AsyncGenerator[tuple[ModeRun, Lpm01a, SilentReporter]]:
    monitor = SimulatedLpm01a(dut.agenda, QuietLoad())

    def pulse() -> None:
        now_ps = dut.agenda.now_ps()
        monitor.on_timestamp_edge(now_ps, level=False)
        dut.agenda.schedule(
            now_ps + PS_PER_MS, lambda at_ps: monitor.on_timestamp_edge(at_ps, level=True)
        )

    dut.on_pulse = pulse
    dut.results = (0.0,) * 11 + (1.0,)
    suite = find_benchmark("kws01")
    dataset = find_dataset([make_kws01_set(folder)], suite, [Mode.ENERGY])
    station = replace(STATION, time_base=TimeBase.HOST)
    streaming = asyncio.create_task(monitor.stream_by_wall_clock())
    try:
        async with plugged(dut) as uart, plugged(monitor) as usb:
            driver = Lpm01a(Lpm01aConfig(port=usb.path))
            parts = Parts(dut=SerialDut(SerialDutConfig(port=uart.path)), power=driver)
            async with StationBench(station, JobSetup("kws01", (), BAUD), parts) as bench:
                dut.boot()
                ready = await bench.prepare_dut(Build.ENERGY)
                reporter = SilentReporter()
                evidence = RunEvidence(folder / "run")
                method = EnergyMethod.LABD
                run = ModeRun(bench, ready, method, suite, dataset, reporter, evidence)
                yield run, driver, reporter
    finally:
        streaming.cancel()


async def test_a_window_that_is_too_short_is_repeated_in_the_same_acquisition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MIN_WINDOW_S", 1.0)
    monkeypatch.setattr(EdgeSource, "planned_window_s", 1.2)
    dut = SimulatedDut(agenda=LoopAgenda(real_time=True), energy=True)
    dut.batch_ps = lambda number: round(number * (0.015 if number > 50 else INFERENCE_S) * PS_PER_S)
    async with energy_run(dut, tmp_path) as (run, monitor, seen):
        result = await measure_energy(run, monitor, 1 / INFERENCE_S)
        await run.evidence.write_result_copy("job", "kws01", result)
    assert (result.verdict, result.reasons) == ("pass", ())
    short, *counted = result.windows
    assert (short.inferences, len(counted)) == (60, 5)
    assert short.not_counted == f"too short: repeated with {counted[0].inferences} inferences"
    assert len({window.inferences for window in counted}) == 1
    assert [window.outputs for window in result.windows] == [dut.results] * 6
    assert {window.number for window in seen.windows} == set(range(1, 7))
    [task] = find_tasks([tmp_path / "run"])
    [score] = rescore_folder(task)
    assert score.agrees is True
    assert [window.number for window in score.windows] == [2, 3, 4, 5, 6]
    assert score.score["median_energy_uj"] == pytest.approx(result.score["median_energy_uj"])
