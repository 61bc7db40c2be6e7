"""The bench as a process: announcing, several stations, ending, and starting over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def test_announces_stable_names(bench: Any, performance: Any, energy: Any) -> None:
    process = bench(performance, energy | {"name": "virtual-2"})
    assert set(process.paths) == {"virtual-1", "virtual-2"}
    assert list(process.paths["virtual-2"]) == ["dut", "io", "power"]
    for station, paths in process.paths.items():
        for part, path in paths.items():
            assert os.fspath((process.directory / station / part).readlink()) == path


def test_sigterm_removes_every_name(bench: Any, performance: Any) -> None:
    process = bench(performance)
    assert process.end() == 0
    assert list(process.directory.iterdir()) == []


def test_dies_with_its_parent(bench: Any, performance: Any) -> None:
    process = bench(performance)
    process.stdin.close()
    assert process.process.wait(10) == 0
    assert list(process.directory.iterdir()) == []


def test_without_control_standard_input_is_not_looked_at(bench: Any, performance: Any) -> None:
    process = bench(performance, control=False)
    process.stdin.close()
    time.sleep(0.3)
    assert process.process.poll() is None


def test_a_killed_bench_leaves_names_that_the_next_one_replaces(
    bench: Any, performance: Any
) -> None:
    process = bench(performance)
    process.process.send_signal(signal.SIGKILL)
    process.process.wait(10)
    link = process.directory / "virtual-1" / "dut"
    stale = link.readlink()
    assert not stale.exists()
    (process.directory / "virtual-1" / "drive" / "old.bin").write_bytes(b"x")
    again = type(process)(process.directory, performance, mode="pace", control=True)
    assert link.exists()
    assert again.hosts["virtual-1"].ask("name")
    again.end()


@pytest.mark.parametrize(
    ("station", "message"),
    [
        ("{", "--station"),
        ('{"name": "../x", "image": "f"}', "name"),
        ('{"name": "x", "parts": ["oven"], "image": "f"}', "parts"),
        ('{"name": "x", "image": "missing.elf"}', "missing.elf"),
        ('{"name": "x", "image": "f", "colour": 1}', "colour"),
    ],
)
def test_a_bad_station_is_refused_at_once(tmp_path: Path, station: str, message: str) -> None:
    command = [sys.executable, "-m", "labd.simulation", "--directory", str(tmp_path)]
    done = subprocess.run(
        [*command, "--station", station], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_a_second_bench_in_the_same_place_is_refused(bench: Any, performance: Any) -> None:
    first = bench(performance)
    rival = subprocess.run(
        [
            *(sys.executable, "-m", "labd.simulation", "--directory", str(first.directory)),
            *("--station", json.dumps(performance)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert rival.returncode == 2
    assert "another bench" in rival.stderr
    name = next(iter(first.paths))
    assert (first.directory / name / "dut").exists()
