"""``labd fake``: every instrument can be started by hand, and its driver measures it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.base.registry import DUT_PORTS, IO_MANAGERS, POWER_MONITORS, Registry
from labd.cli.fake import JOULESCOPE
from labd.core.model import Edge, Gap, Part, Samples
from labd.simulation.instruments.synthetic_load import RUN_A, SLEEP_A
from labd.station.config import load_config
from labd.station.dut import Dut
from labd.wire.simulated_instruments import INSTRUMENTS
from tests.system.lab import Lab, finished

pytestmark = pytest.mark.timeout(600)

DUT = "dut = { driver = 'serial-dut', port = '/dev/x' }\n"

VOLTS = 3.0
SECONDS = 2.5  # a whole period of the made-up load, and a little more
MONITORS = {"lpm01a": "port", "ppk2": "port", "n6705": "resource", "otii": "port"}
KINDS: dict[Part, Any] = {kind.part: kind for kind in (DUT_PORTS, IO_MANAGERS, POWER_MONITORS)}
ROUTES = {"serial-dut": "port", "mlcommons-interface": "port", "eembc-io-manager": "port"}


COMMAND = [sys.executable, "-m", "labd.cli.labd", "fake"]


@contextmanager
def started(name: str, *options: str) -> Generator[str]:
    """The path of a fake in a process of its own."""
    with running(name, *options) as (path, _):
        yield path


@contextmanager
def running(name: str, *options: str) -> Generator[tuple[str, str]]:
    """The path of a fake, and what it says to people."""
    command = [*COMMAND, name, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            path = json.loads(process.stdout.readline())[name]
            os.set_blocking(process.stderr.fileno(), False)
            yield path, process.stderr.read()
        finally:
            process.terminate()
            assert process.wait(10) == 0


def made(name: str, key: str, path: str) -> Any:
    registry, part = Registry.from_entry_points(), part_of(name)
    config = registry.configure_part(part, name, {key: _as_configured(name, path)})
    return registry.make_driver(KINDS[part], config)


def part_of(name: str) -> Part:
    driver = Registry.from_entry_points().find_driver(name)
    assert driver is not None
    return driver.part


def _as_configured(name: str, path: str) -> str | int:
    """The way this driver's table names what the fake announced."""
    return int(path.rpartition(":")[2]) if name == "otii" else path


@pytest.mark.parametrize("name", MONITORS)
async def test_a_monitor_measures_the_made_up_board(name: str) -> None:
    with started(name) as path:
        monitor = made(name, MONITORS[name], path)
        assert part_of(name) is Part.POWER
        await monitor.open()
        try:
            await monitor.set_dut_supply(round(VOLTS * 1000))
            rate = monitor.stream_format.sample_rate_hz
            async with monitor.acquire() as acquisition:
                while acquisition.received_samples < SECONDS * rate:
                    await acquisition.wait_progress(10.0)
            items = [item async for item in acquisition]
        finally:
            await monitor.close()
    gaps = [item for item in items if isinstance(item, Gap)]
    assert not [gap for gap in gaps if gap.index < SECONDS * rate], (
        gaps
    )  # a tail may be unconfirmed
    powers = [float(value) for item in items if isinstance(item, Samples) for value in item.power_w]
    assert len(powers) >= SECONDS * rate
    assert min(powers) == pytest.approx(SLEEP_A * VOLTS, rel=0.1)
    assert max(powers) == pytest.approx(RUN_A * VOLTS, rel=0.2)
    falls = [item for item in items if isinstance(item, Edge) and not item.rising]
    if monitor.stream_format.timestamp_line:
        assert 2 <= len(falls) <= 3


@pytest.mark.parametrize("name", ROUTES)
async def test_a_board_lets_its_dut_answer(name: str) -> None:
    with started(name) as path:
        board = made(name, ROUTES[name], path)
        await board.open()
        try:
            if part_of(name) is Part.IO:
                await board.set_dut_baud(9600)
            profile = await Dut(board.command_channel).identify(10.0)
        finally:
            await board.close()
    assert profile.model == "kws01"


@pytest.mark.parametrize("name", [*MONITORS, *ROUTES, "scpi-meter"])
def test_what_a_fake_says_for_stations_toml_is_right(name: str, tmp_path: Path) -> None:
    with running(name) as (_, said):
        head, _, table = said.partition("\n")
    assert head == "in stations.toml:"
    way = "" if name in ROUTES else DUT
    file = tmp_path / "stations.toml"
    file.write_text(f"[[station]]\nname = 's'\nboard = 'b'\n{way}{table}")
    (station,) = load_config(file, Registry.from_entry_points()).stations
    assert name in {part.driver for part in station.parts.values()}


async def test_what_it_sends_and_receives_can_be_logged(tmp_path: Path) -> None:
    log = tmp_path / "dut.wire"
    with started("serial-dut", "--wire-log", str(log)) as path:
        board = made("serial-dut", "port", path)
        await board.open()
        await Dut(board.command_channel).identify(10.0)
        await board.close()
    assert f"{path} > 6e616d6525 |name%|" in log.read_text()
    assert "m-ready" in log.read_text()


def test_a_joulescope_is_faked_inside_labd() -> None:
    listed = subprocess.run(COMMAND, capture_output=True, text=True, check=True, timeout=30)
    assert 'library = "labd.simulation.joulescope_library:LiveDriver"' in listed.stdout
    command = [*COMMAND, "joulescope"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert refused.returncode == 2
    assert "has no public byte protocol" in refused.stderr


def test_every_instrument_has_the_name_of_a_driver() -> None:
    registry = Registry.from_entry_points()
    assert all(registry.find_driver(name) for name in (*INSTRUMENTS, JOULESCOPE))
    assert set(INSTRUMENTS) == {*MONITORS, *ROUTES, "scpi-meter"}


def test_a_link_is_a_path_that_stays(tmp_path: Path) -> None:
    link = tmp_path / "monitor"
    link.symlink_to("/dev/pts/99999")  # left behind by one that was killed
    with running("lpm01a", "--link", str(link)) as (path, said):
        assert str(link.readlink()) == path
        assert f'port = "{link}"' in said
    assert not os.path.lexists(link)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["lpm01a", "--link", "file"], "file is there already, and is no link to a pseudo"),
        (["lpm01a", "--link", "no/where"], "cannot make no/where: No such file"),
        (["otii", "--link", "x"], "is a network address, to which no link can lead"),
        (["ppk2", "--build", "energy"], "ppk2 has no DUT in it"),
    ],
)
def test_what_a_fake_cannot_do(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "file").write_text("mine")
    refused = subprocess.run(
        [*COMMAND, *options], check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "file").read_text() == "mine"


async def test_a_kws01_job_runs_on_a_fake_board(
    make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    """By hand: its windows are valid, its answers chance."""
    sets = tmp_path / "sets" / "kws01"
    sets.mkdir(parents=True)
    for number in range(12):
        (sets / f"{number}.bin").write_bytes(bytes([number]) * 490)
    (sets / "y_labels.csv").write_text("".join(f"{n}.bin,12,{n}\n" for n in range(12)))
    link = tmp_path / "board"
    with started("serial-dut", "--link", str(link)):
        dut = f"dut = {{ driver = 'serial-dut', port = '{link}' }}"
        lab = make_lab(
            f"[[station]]\nname = 'hand'\nboard = 'mine'\n{dut}\n", datasets=[tmp_path / "sets"]
        )
        lab.start()
        await lab.ready()
        async with lab.client() as client:
            modes = ["accuracy", "performance"]
            await client.send_request(
                "submit", job="k", benchmark="kws01", modes=modes, custom_data=True
            )
            await finished(client, "k", 160)
            job = await client.find_job("k")
        assert lab.stop() == 0
    accuracy, performance = job.results
    assert accuracy.verdict == "fail"
    assert accuracy.score["top1_pct"] < 90
    assert performance.verdict == "pass"
    assert performance.score["median_throughput_ips"] == pytest.approx(1e6 / 155_587, rel=0.01)


def test_the_instruments_are_listed_and_a_wrong_name_is_refused() -> None:
    command = COMMAND
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    for name in (*MONITORS, *ROUTES, "scpi-meter"):
        assert name in listed.stdout
    wrong = subprocess.run(
        [*command, "lpm02"], check=False, capture_output=True, text=True, timeout=30
    )
    assert wrong.returncode == 2
    assert "'lpm02' is not one of 'serial-dut'" in wrong.stderr
