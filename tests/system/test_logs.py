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

from tests.system.lab import ONE_EMULATED, HandBench, Lab, finished

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


async def test_each_step_of_a_job_is_a_line(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start("--log-json")
    await lab.ready()
    async with lab.client("bob") as client:
        await client.send_request("submit", job="j1", benchmark="digits01", modes=["accuracy"])
        await client.send_request("submit", job="j2", benchmark="digits01", modes=["accuracy"])
        await client.send_request("cancel", job="j2", reason="typo")
        await finished(client, "j1")
    assert lab.stop() == 0
    steps = [
        {key: line[key] for key in ("event", "job", *fields) if key in line}
        for line in logged(lab.log)
        for fields in [("user", "benchmark", "modes", "station", "verdict", "reason")]
        if line["event"].startswith("job-")
    ]
    asked = {"user": "bob", "benchmark": "digits01", "modes": "accuracy"}
    assert [each for each in steps if each["job"] == "j1"] == [
        {"event": "job-accepted", "job": "j1", **asked},
        {"event": "job-started", "job": "j1", "station": "v1"},
        {"event": "job-ended", "job": "j1", "station": "v1", "verdict": "pass", "reason": ""},
    ]
    ended = next(each for each in steps if (each["event"], each["job"]) == ("job-ended", "j2"))
    assert (ended["verdict"], ended["reason"]) == ("cancelled", "cancelled by bob: typo")


async def test_a_cable_fault_is_a_line_and_no_traceback(
    make_lab: Callable[..., Lab], hand_bench: HandBench
) -> None:
    lab = make_lab(hand_bench.station())
    lab.start()
    await lab.ready(60)
    async with lab.client() as client:
        await client.send_request("submit", job="j1", benchmark="digits01", modes=["accuracy"])
        while (await client.find_job("j1")).next_seq < 6:
            await asyncio.sleep(0.1)
        before = len(lab.log.read_text().splitlines())
        assert hand_bench.process is not None
        hand_bench.process.kill()
        await until(lambda: "step=check-failed" in lab.log.read_text())
    lines = lab.log.read_text().splitlines()[before:]
    assert len(lines) == 2, lines
    assert "job-requeued" in lines[0]
    assert "the port went away" in lines[0]
    assert "station-checked" in lines[1]
    assert "Traceback" not in lab.log.read_text()


def test_the_error_that_ends_the_daemon_is_json_too(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(ONE_EMULATED.replace("seed = 1", "firmware = 'nix'").format(mode="freeze"))
    lab.start("--log-json")
    assert lab.process is not None
    assert lab.process.wait(timeout=60) == 2
    last = logged(lab.log)[-1]
    assert (last["event"], last["code"]) == ("serve-failed", "firmware-missing")
    assert "no nix.elf" in last["error"]
