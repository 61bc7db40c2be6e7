"""A board is prepared over real drivers, with and without something that restarts it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from drivers.io_manager.eembc_uno import EembcIoManager, EembcIoManagerConfig
from drivers.serial_dut import SerialDut, SerialDutConfig
from labd.core.model import Build
from labd.simulation.instruments.eembc_uno import SimulatedEembcUno
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.station.config import StationConfig
from labd.station.open_station import BOOT_DEADLINE_S, JobSetup, Parts, StationBench
from tests.contract.case import plugged

BAUD = {Build.PERFORMANCE: 115200, Build.ENERGY: 9600}


@asynccontextmanager
async def opened(parts: Parts) -> AsyncGenerator[StationBench]:
    station = StationConfig(
        name="s",
        board="b",
        parts={},
        voltage_mv=3000,
        off_s=0.0,
        processing_wire=False,
        baud={},
        emulated=None,
    )
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
