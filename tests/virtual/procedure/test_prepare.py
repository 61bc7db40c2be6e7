"""A board is prepared over real drivers, with and without something that restarts it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from drivers.io_manager.eembc_uno import EembcIoManager, EembcIoManagerConfig
from drivers.n6705.config import N6705Config
from drivers.n6705.driver import N6705
from drivers.serial_dut import SerialDut, SerialDutConfig
from labd.core.errors import JobError
from labd.core.model import Build, TimeBase
from labd.protocol.words import TIMESTAMP_MODE
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments.eembc_uno import SimulatedEembcUno
from labd.simulation.instruments.n6705 import SimulatedN6705
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.station.open_station import BOOT_DEADLINE_S, JobSetup, Parts, StationBench
from tests.contract.case import plugged
from tests.virtual.procedure.dut_station import BAUD, STATION


@asynccontextmanager
async def opened(parts: Parts) -> AsyncGenerator[StationBench]:
    station = replace(STATION, time_base=TimeBase.HOST)
    async with StationBench(station, JobSetup("kws01", (), BAUD), parts) as bench:
        yield bench


@pytest.mark.parametrize("build", Build)
async def test_nothing_waits_for_the_boot_of_a_board_that_nothing_restarts(build: Build) -> None:
    dut = SimulatedDut(energy=build is Build.ENERGY)
    async with plugged(dut) as uart:
        port = SerialDut(SerialDutConfig(port=uart.path))
        async with opened(Parts(dut=port)) as bench:
            start = time.monotonic()
            ready = await bench.prepare_dut(build)
            answered = await bench.identify_any_build()
    assert (ready.profile.model, ready.build) == ("kws01", build)
    assert answered.model == "kws01"
    assert time.monotonic() - start < BOOT_DEADLINE_S / 2


async def test_nor_behind_an_io_manager() -> None:
    dut = SimulatedDut(energy=True)
    async with plugged(SimulatedEembcUno(dut)) as uart:
        io = EembcIoManager(EembcIoManagerConfig(port=uart.path))
        async with opened(Parts(io=io)) as bench:
            start = time.monotonic()
            ready = await bench.prepare_dut(Build.ENERGY)
    assert (ready.profile.model, ready.route) == ("kws01", "io")
    assert time.monotonic() - start < BOOT_DEADLINE_S / 2


class RestartedDut(SimulatedDut):
    """Restarts when its supply is switched on, and prints a boot text that names another build."""

    def __init__(self, *, energy: bool, boot_text_arrives: bool) -> None:
        super().__init__(energy=energy)
        self._boot_text_arrives = boot_text_arrives
        self.reword_line = self._name_other_build

    def _name_other_build(self, line: str) -> str:
        if not line.startswith(TIMESTAMP_MODE):
            return line
        other = Build.PERFORMANCE if self.energy else Build.ENERGY
        return f"{TIMESTAMP_MODE}{other}" if self._boot_text_arrives else ""


@pytest.mark.parametrize("boot_text_arrives", [True, False])
@pytest.mark.parametrize("build", Build)
async def test_the_answer_to_timestamp_decides_about_the_build(
    build: Build, *, boot_text_arrives: bool
) -> None:
    dut = RestartedDut(energy=build is Build.ENERGY, boot_text_arrives=boot_text_arrives)
    supply = SimulatedN6705()
    other = Build.PERFORMANCE if build is Build.ENERGY else Build.ENERGY
    async with plugged(dut) as uart, plugged(supply, TcpCable) as network:
        power = N6705(N6705Config(resource=network.path, current_limit_a=0.2))
        port = SerialDut(SerialDutConfig(port=uart.path))
        async with opened(Parts(dut=port, power=power)) as bench:
            asyncio.get_running_loop().call_later(0.1, dut.boot)
            assert (await bench.prepare_dut(build)).build is build
            asyncio.get_running_loop().call_later(0.1, dut.boot)
            with pytest.raises(JobError, match=f"the board runs the {build} build") as caught:
                await bench.prepare_dut(other)
    said = f"its boot text names the {other} build" if boot_text_arrives else "no boot text"
    assert said in caught.value.what
    answer = "'timestamp' is answered by " + ("nothing" if build is Build.ENERGY else "'m-lap-us-")
    assert answer in caught.value.what
