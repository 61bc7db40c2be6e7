"""The board behind its serial port and its drive: boot, commands, flashing, faults."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
INPUT = bytes(range(64))


def _wait_for(path: Path, *, there: bool, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while path.exists() != there:
        assert time.monotonic() < deadline, f"{path.name} {'missing' if there else 'still there'}"
        time.sleep(0.02)


def test_boots_with_the_prologue_of_a_performance_build(bench: Any, performance: Any) -> None:
    host = bench(performance).hosts["virtual-1"]
    prologue = host.dut.until(rb"m-ready\r\n").decode()
    pattern = r"m-timestamp-mode-performance\r\nm-lap-us-\d+\r\nm-init-done\r\nm-ready\r\n"
    assert re.fullmatch(pattern, prologue)


def test_infers_and_times_itself(bench: Any, performance: Any) -> None:
    host = bench(performance).hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    assert host.ask("profile")[1] == "m-model-[digits01]"
    host.load(INPUT, host.ask)
    lines = host.ask("infer 20 1")
    first, second = (int(re.fullmatch(r"m-lap-us-(\d+)", line)[1]) for line in lines[3:5])
    assert lines[:3] == ["m-warmup-start-1", "m-warmup-done", "m-infer-start-20"]
    assert lines[5] == "m-infer-done"
    assert len(lines[6].split(",")) == 10
    assert second - first > 10_000


def test_pace_keeps_the_wall_clock_while_idle(bench: Any, performance: Any) -> None:
    host = bench(performance).hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    laps: list[int] = []
    for _ in range(2):
        laps.append(int(host.ask("timestamp")[0].removeprefix("m-lap-us-")))
        time.sleep(1.0)
    assert 0.9e6 < laps[1] - laps[0] < 1.5e6


def test_flashing_by_the_drive_restarts_with_the_other_firmware(
    bench: Any, performance: Any, firmware_as_binary: Any
) -> None:
    process = bench(performance)
    host = process.hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    drive = process.directory / "virtual-1" / "drive"
    assert "NUCLEO-L4R5ZI" in (drive / "DETAILS.TXT").read_text()
    temporary = drive / ".firmware.bin.part"
    temporary.write_bytes(firmware_as_binary("digits01-energy.elf"))
    temporary.rename(drive / "firmware.bin")
    assert host.dut.until(rb"m-ready\r\n").startswith(b"m-timestamp-mode-energy")
    _wait_for(drive / "firmware.bin", there=False)
    assert not (drive / "FAIL.TXT").exists()


def test_an_elf_may_be_copied_slowly(bench: Any, performance: Any) -> None:
    process = bench(performance)
    host = process.hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    data = Path(performance["image"]).read_bytes()
    with (process.directory / "virtual-1" / "drive" / "firmware.elf").open("wb") as file:
        for at in range(0, len(data), 4096):
            file.write(data[at : at + 4096])
            file.flush()
            time.sleep(0.05)
    assert host.dut.until(rb"m-ready\r\n").startswith(b"m-timestamp-mode-performance")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"\x00" * 64, "stack pointer"),
        (b"\x7fELF\x02\x01" + b"\x00" * 60, "not a 32-bit"),
        (b"\x7fELF\x01\x01", "cut short"),
    ],
)
def test_a_bad_image_is_refused_and_the_board_runs_on(
    bench: Any, performance: Any, image: bytes, reason: str
) -> None:
    process = bench(performance)
    host = process.hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    drive = process.directory / "virtual-1" / "drive"
    (drive / "bad.bin").write_bytes(image)
    _wait_for(drive / "FAIL.TXT", there=True)
    assert reason in (drive / "FAIL.TXT").read_text()
    assert host.ask("name")[0].startswith("m-name-dut-")


def test_an_unpowered_target_cannot_be_flashed(bench: Any, energy: Any) -> None:
    process = bench(energy)
    drive = process.directory / "virtual-1" / "drive"
    shutil.copy(energy["image"], drive / "firmware.elf")
    _wait_for(drive / "FAIL.TXT", there=True)
    assert "supply voltage" in (drive / "FAIL.TXT").read_text()


def test_a_hang_ends_with_a_flash(bench: Any, performance: Any) -> None:
    process = bench(performance)
    host = process.hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    assert process.order(fault="hang") == {"ok": True}
    host.dut.send(b"name%")
    assert host.dut.quiet() == b""
    assert process.order(query="state")["state"] == "stuck"
    shutil.copy(performance["image"], process.directory / "virtual-1" / "drive" / "fw.elf")
    host.dut.until(rb"m-init-done\r\nm-ready\r\n")


def test_an_unplugged_board_is_an_error_to_its_host(bench: Any, performance: Any) -> None:
    process = bench(performance)
    host = process.hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    link = process.directory / "virtual-1" / "dut"
    assert process.order(fault="unplug", part="dut") == {"ok": True}
    with pytest.raises(OSError, match="Input/output error"):
        host.dut.send(b"name%")
    assert os.read(host.dut.fd, 100) == b""
    assert not link.is_symlink()
    assert process.order(fault="plug", part="dut")["path"] == os.fspath(link.readlink())
    host.dut.close()
    host.dut.fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    host.dut.until(rb"m-init-done\r\nm-ready\r\n")


def test_lost_bytes_towards_the_dut_show_as_an_odd_digit_count(
    bench: Any, performance: Any
) -> None:
    process = bench(performance)
    host = process.hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    host.ask("db load 64")
    process.order(fault="lose_bytes", part="dut", direction="in", count=4)
    assert host.ask("db 0102030405") == ["e-[Unknown command: 102030405]"]
    process.order(fault="lose_bytes", part="dut", count=2)
    host.dut.send(b"name%")
    assert host.dut.until(rb"m-ready\r\n").startswith(b"name-dut-")


def test_a_brown_out_restarts_the_board(bench: Any, performance: Any) -> None:
    process = bench(performance)
    host = process.hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    process.order(fault="brown_out")
    assert host.dut.until(rb"m-ready\r\n").startswith(b"m-timestamp-mode-performance")


def test_orders_that_make_no_sense_are_refused(bench: Any, performance: Any) -> None:
    process = bench(performance)
    assert "virtual-2" in process.order(station="virtual-2", query="state")["error"]
    assert "expected" in process.order(fault="fire")["error"]
    assert "part" in process.order(fault="unplug", part="power")["error"]
    assert "count" in process.order(fault="lose_bytes", part="dut", count=0)["error"]
    process.stdin.write(b"nonsense\n[]\n")
    process.stdin.flush()
    assert b'"ok": false' in process.stdout.readline()
    assert b'"ok": false' in process.stdout.readline()


@pytest.fixture(scope="session")
def kws01_at_120_mhz(tmp_path_factory: pytest.TempPathFactory) -> str:
    shared = os.environ.get("LABD_SHARED")
    if not shared:
        pytest.skip("LABD_SHARED is not set: the official models are not in the repository")
    pytest.importorskip("ziglang", reason="the extra 'firmware' is not installed")
    model = Path(shared) / "mlperf-tiny" / "models" / "kws01_int8.tflite"
    out = tmp_path_factory.mktemp("firmware")
    build = [sys.executable, ROOT / "firmware" / "tools" / "build.py", "--model", model]
    subprocess.run([*build, "--name", "kws01", "--out", out], check=True, cwd=ROOT)
    return str(next(out.glob("**/kws01-performance.elf")))


def test_runs_the_official_kws01_at_120_mhz(
    bench: Any, performance: Any, kws01_at_120_mhz: str
) -> None:
    sample = next(
        Path(os.environ["LABD_SHARED"]).glob("mlperf-tiny/datasets/kws01/tst_000000_Stop_7.bin")
    )
    host = bench(performance | {"image": kws01_at_120_mhz}).hosts["virtual-1"]
    host.dut.until(rb"m-ready\r\n")
    host.load(sample.read_bytes(), host.ask)
    lines = host.ask("infer 5 1")
    scores = [
        float(score) for score in lines[-1].removeprefix("m-results-[").rstrip(",]").split(",")
    ]
    assert scores.index(max(scores)) == 7
    first, second = (int(line.removeprefix("m-lap-us-")) for line in lines[3:5])
    assert 50_000 < (second - first) / 5 < 500_000
