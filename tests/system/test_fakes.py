"""``labd fake``: every instrument can be started by hand, and its driver measures it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from drivers.dut import Dut
from labd.core.model import Edge, Gap, Part, Samples
from labd.fakes.load import RUN_A, SLEEP_A
from labd.station.registry import Registry

VOLTS = 3.0
SECONDS = 2.5  # a whole period of the made-up load, and a little more
MONITORS = {"lpm01a": "port", "ppk2": "port", "n6705": "resource", "otii": "port"}
ROUTES = {"serial-dut": "port", "mlcommons-interface": "port", "eembc-io-manager": "port"}


@contextmanager
def started(name: str) -> Generator[str]:
    """The path of a fake in a process of its own."""
    command = [sys.executable, "-m", "labd.cli.labd", "fake", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())[name]
        finally:
            process.terminate()
            assert process.wait(10) == 0


def made(name: str, key: str, path: str) -> Any:
    registry = Registry.installed()
    driver = registry.find(name)
    assert driver is not None
    return registry.make(registry.configure(driver.part, name, {key: _as_told(name, path)}))


def _as_told(name: str, path: str) -> str | int:
    """The way this driver's table names what the fake announced."""
    return int(path.rpartition(":")[2]) if name == "otii" else path


@pytest.mark.parametrize("name", MONITORS)
async def test_a_monitor_measures_the_made_up_board(name: str) -> None:
    with started(name) as path:
        monitor = made(name, MONITORS[name], path)
        assert monitor.part is Part.POWER
        await monitor.open()
        try:
            await monitor.supply(round(VOLTS * 1000))
            rate = monitor.format.sample_rate_hz
            async with monitor.acquire() as acquisition:
                while acquisition.received < SECONDS * rate:
                    await acquisition.wait_progress(10.0)
            items = [item async for item in acquisition]
        finally:
            await monitor.close()
    assert not [item for item in items if isinstance(item, Gap)]
    powers = [float(value) for item in items if isinstance(item, Samples) for value in item.power_w]
    assert len(powers) >= SECONDS * rate
    assert min(powers) == pytest.approx(SLEEP_A * VOLTS, rel=0.1)
    assert max(powers) == pytest.approx(RUN_A * VOLTS, rel=0.2)
    falls = [item for item in items if isinstance(item, Edge) and not item.rising]
    if monitor.format.timestamp_line:
        assert 2 <= len(falls) <= 3


@pytest.mark.parametrize("name", ROUTES)
async def test_a_board_lets_its_dut_answer(name: str) -> None:
    with started(name) as path:
        board = made(name, ROUTES[name], path)
        await board.open()
        try:
            if board.part is Part.IO:
                await board.set_dut_baud(9600)
            profile = await Dut(board.channel).identify(10.0)
        finally:
            await board.close()
    assert profile.model == "kws01"


def test_what_there_is_is_listed_and_a_wrong_name_is_told() -> None:
    command = [sys.executable, "-m", "labd.cli.labd", "fake"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    for name in (*MONITORS, *ROUTES, "scpi-meter"):
        assert name in listed.stdout
    wrong = subprocess.run(
        [*command, "lpm02"], check=False, capture_output=True, text=True, timeout=30
    )
    assert wrong.returncode == 2
    assert "choose from" in wrong.stderr
