"""What `labd serve` logs: one tree of loggers in one format, and the bytes of every port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.lab import Lab

pytestmark = pytest.mark.timeout(300)

# what a program writes into its own flash drive makes the bench log a warning
NO_FIRMWARE = b"this is no firmware"


def logged(log: Path) -> list[dict[str, Any]]:
    """Every line of the log; fails if one of them is not JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120.0
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def test_every_package_logs_json_on_request(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start("--log-json", "--verbose")
    await lab.ready()
    (lab.folder / "state" / "bench" / "v1" / "drive" / "x.bin").write_bytes(NO_FIRMWARE)
    os.kill(int((lab.folder / "state" / "broker" / "nats.pid").read_text()), signal.SIGKILL)
    await until(lambda: "firmware refused" in lab.log.read_text())
    await until(lambda: "connection to the broker" in lab.log.read_text())
    await lab.ready()
    assert lab.stop() == 0
    lines = logged(lab.log)
    assert {"event", "level", "logger", "timestamp"} <= set.intersection(*map(set, lines))
    by_logger = {line["logger"]: line for line in lines}
    assert "connection to the broker" in by_logger["labd.mqtt.link"]["event"]
    assert "station-checked" in {line["event"] for line in lines}
    assert by_logger["drivers.base.serial_link"]["level"] == "debug"
    refused = next(line for line in lines if "firmware refused" in line["event"])
    assert (refused["logger"], refused["station"]) == ("labd.simulation", "v1")


async def test_lines_for_people_and_a_wire_log(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    wires = lab.folder / "wires"
    wires.mkdir()
    lab.start("--wire-log", str(wires))
    await lab.ready()
    assert lab.stop() == 0
    assert "[info     ] station-checked" in lab.log.read_text()
    assert "[debug" not in lab.log.read_text()
    ports = {path.stem.rpartition("-v1-")[2]: path.read_text() for path in wires.iterdir()}
    assert set(ports) == {"dut", "io", "power"}
    assert " > 6e616d6525 |name%|" in ports["dut"]
    assert "m-ready" in ports["dut"]
