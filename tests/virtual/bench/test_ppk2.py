"""The virtual PPK2, measured by its driver: 100 kHz that agree with the exact integral."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from drivers.base.interfaces import Acquisition
from drivers.ppk2.driver import Ppk2, Ppk2Config
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeBase

VOLT_MV = 3000
RATE_HZ = 100_000


@pytest.fixture
def station(energy: Any) -> dict[str, Any]:
    return energy | {"monitor": "ppk2"}


@asynccontextmanager
async def measuring(process: Any) -> AsyncGenerator[tuple[Any, Ppk2]]:
    """The station's host, without the power port, which the driver has."""
    host = process.hosts["virtual-1"]
    host.ports["power"].close()
    path = process.paths["virtual-1"]["power"]
    monitor = Ppk2(Ppk2Config(port=path))
    await monitor.open()
    await monitor.set_dut_supply(VOLT_MV)
    await asyncio.to_thread(host.dut.until, rb"m-ready\r\n")
    await asyncio.to_thread(host.resynchronise)
    await asyncio.to_thread(host.load, bytes(range(64)), host.through)
    try:
        yield host, monitor
    finally:
        await monitor.close()


async def falls(acquisition: Acquisition, count: int) -> None:
    """Wait for so many timestamps, and a little more."""
    while acquisition.edges_seen < count:
        await acquisition.wait_progress(20.0)
    start = acquisition.received_samples
    while acquisition.received_samples < start + 1000:
        await acquisition.wait_progress(20.0)


async def one_window(process: Any, host: Any, monitor: Ppk2) -> list[StreamItem]:
    async with monitor.acquire(TimeBase.VIRTUAL) as acquisition:
        await asyncio.to_thread(host.through, "infer 200 2")
        await falls(acquisition, 2)
    return [item async for item in acquisition]


def energy_of(items: list[StreamItem]) -> tuple[float, float]:
    """Joules and seconds between the first two falls, samples cut by an edge by their share."""
    assert not any(isinstance(item, Gap) for item in items)
    power = np.concatenate([item.power_w for item in items if isinstance(item, Samples)])
    first, second = (i.index for i in items if isinstance(i, Edge) and not i.rising)
    start, stop = math.floor(first), math.floor(second)
    return float(power[start:stop].sum()) / RATE_HZ, (second - first) / RATE_HZ


@pytest.mark.parametrize("mode", ["freeze", "pace"])
async def test_a_window_agrees_with_the_exact_integral(
    bench: Any, station: dict[str, Any], mode: str
) -> None:
    process = bench(station, mode=mode)
    async with measuring(process) as (host, monitor):
        items = await one_window(process, host, monitor)
        exact = await asyncio.to_thread(process.order, query="window_energy")
    joules, seconds = energy_of(items)
    true_s = (exact["end_ps"] - exact["start_ps"]) / 1e12
    assert seconds == pytest.approx(true_s, abs=1.01e-5)
    assert seconds > 0.5
    assert joules == pytest.approx(exact["energy_j"], rel=1e-4)


async def test_two_frozen_runs_are_identical(bench: Any, station: dict[str, Any]) -> None:
    def digest(items: list[StreamItem]) -> tuple[str, list[StreamItem]]:
        power = b"".join(i.power_w.tobytes() for i in items if isinstance(i, Samples))
        return hashlib.sha256(power).hexdigest(), [i for i in items if isinstance(i, Edge)]

    found: list[object] = []
    for _ in range(2):
        process = bench(station, mode="freeze")
        async with measuring(process) as (host, monitor):
            found.append(digest(await one_window(process, host, monitor)))
    assert found[0] == found[1]


async def test_it_keeps_pace_with_the_board_and_the_wall_clock(
    bench: Any, station: dict[str, Any]
) -> None:
    process = bench(station, mode="pace")
    async with measuring(process) as (_, monitor):
        began = time.monotonic()
        async with monitor.acquire(TimeBase.VIRTUAL) as acquisition:
            while acquisition.received_samples < 2 * RATE_HZ:
                await acquisition.wait_progress(5.0)
        assert 1.5 < time.monotonic() - began < 6.0
        items = [item async for item in acquisition]
        idle = np.concatenate([item.power_w for item in items if isinstance(item, Samples)])
        state = await asyncio.to_thread(process.order, query="state")
    true_w = state["current_na"] * 1e-9 * VOLT_MV / 1000
    assert np.mean(idle[RATE_HZ:]) == pytest.approx(true_w, rel=1e-4)


async def test_lost_samples_and_lost_bytes_are_gaps(bench: Any, station: dict[str, Any]) -> None:
    process = bench(station, mode="pace")
    async with measuring(process) as (_, monitor):
        async with monitor.acquire(TimeBase.VIRTUAL) as acquisition:
            for order in ({"fault": "lose_samples", "count": 50}, {"fault": "lose_bytes"}):
                came = acquisition.received_samples
                while acquisition.received_samples < came + 10_000:
                    await acquisition.wait_progress(5.0)
                reply = await asyncio.to_thread(lambda o=order: process.order(part="power", **o))
                assert reply == {"ok": True}
            came = acquisition.received_samples
            while acquisition.received_samples < came + 10_000:
                await acquisition.wait_progress(5.0)
        items = [item async for item in acquisition]
    gaps = [item for item in items if isinstance(item, Gap)]
    assert len(gaps) == 2
    assert gaps[0].count == 64 + 50 + 8
    assert gaps[1].count <= 64 + 3 + 8


async def test_supply_follows_the_opcodes(bench: Any, station: dict[str, Any]) -> None:
    process = bench(station, mode="pace")
    async with measuring(process) as (host, monitor):
        state = await asyncio.to_thread(process.order, query="state")
        assert (state["powered"], state["voltage_mv"]) == (True, VOLT_MV)
        await monitor.set_dut_supply(1800)
        state = await asyncio.to_thread(process.order, query="state")
        assert state["voltage_mv"] == 1800
        await monitor.set_dut_supply(None)
        await asyncio.to_thread(host.dut.quiet)
        host.dut.send(b"name%")
        assert await asyncio.to_thread(host.dut.quiet) == b""
    state = await asyncio.to_thread(process.order, query="state")
    assert not state["powered"]


def test_a_monitor_that_does_not_exist_is_refused(station: dict[str, Any]) -> None:
    bench = importlib.import_module("labd.simulation.bench_process")
    with pytest.raises(ValueError, match="monitor: 'ppk3' is not one of lpm01a, ppk2"):
        bench.parse_station(json.dumps(station | {"monitor": "ppk3"}))
