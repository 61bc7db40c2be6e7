"""A bench in its own process, and a host for it that knows only the protocols.

The host uses os.open and termios, nothing of labd: what it can do, any program can.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PREBUILT = ROOT / "firmware" / "prebuilt" / "nucleo-l4r5zi"
WAIT_S = 30.0

pytest.importorskip("unicorn", reason="the extra 'emulator' is not installed")


class SerialHost:
    """One open serial port; reads up to a pattern and keeps the rest."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.fd, termios.TCSANOW)
        self.buffer = b""
        self.transcript = b""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def read(self, timeout_s: float) -> bytes:
        """Take in what comes within the time; b'' if nothing does."""
        if not select.select([self.fd], [], [], timeout_s)[0]:
            return b""
        data = os.read(self.fd, 65_536)
        self.buffer += data
        self.transcript += data
        return data

    def until(self, pattern: bytes, timeout_s: float = WAIT_S) -> bytes:
        """Everything up to and with the pattern."""
        deadline = time.monotonic() + timeout_s
        while True:
            match = re.search(pattern, self.buffer)
            if match:
                taken, self.buffer = self.buffer[: match.end()], self.buffer[match.end() :]
                return taken
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.buffer[-400:]!r}"
            self.read(0.2)

    def quiet(self, for_s: float = 0.3) -> bytes:
        """Drain until nothing comes for a while."""
        while self.read(for_s):
            pass
        drained, self.buffer = self.buffer, b""
        return drained


class StationHost:
    """The host of one station, by the reference's rules."""

    def __init__(self, paths: dict[str, str]) -> None:
        self.ports = {part: SerialHost(path) for part, path in paths.items()}

    @property
    def dut(self) -> SerialHost:
        return self.ports["dut"]

    @property
    def io(self) -> SerialHost:
        return self.ports["io"]

    @property
    def power(self) -> SerialHost:
        return self.ports["power"]

    def ask(self, command: str) -> list[str]:
        """A command on the DUT's own port: the lines before m-ready."""
        self.dut.send(f"{command}%".encode())
        return self.dut.until(rb"(?m)^m-ready\r\n").decode().split("\r\n")[:-2]

    def ask_io(self, command: str) -> list[str]:
        """A command to the interface board itself."""
        self.io.send(f"{command}%".encode())
        return self.io.until(rb"m-ready\r\n").decode().split("\r\n")[:-2]

    def through(self, command: str) -> list[str]:
        """A command to the DUT through the interface board."""
        self.io.send(f"dut {command}%".encode())
        head = f"m-dut-passthrough({command})\r\nm-ready\r\n"
        assert self.io.until(rb"m-ready\r\n").decode() == head
        text = self.io.until(rb"\[dut\]: m-ready\r\n").decode()
        return [line.removeprefix("[dut]: ") for line in text.split("\r\n")[:-2]]

    def monitor(self, command: str) -> str:
        """A command to the monitor: what follows the prompt, error detail included."""
        self.power.send(f"{command}\r\n".encode())
        word = re.escape(command.split(" ", 1)[0]).encode()
        text = self.power.until(
            rb"\r\nPowerShield > (ack|error|echo) ?" + word + rb"?[^\0]*?\r\n\r\n"
        )
        return text.decode().split("PowerShield > ")[-1].removesuffix("\r\n\r\n")

    def resynchronise(self) -> None:
        """Drop what the board has queued from the DUT: setting its speed restarts it."""
        assert self.ask_io("setbaud 9600") == ["set baud to: 9600"]
        time.sleep(0.7)  # its restart takes 0.5 s, in which what is sent is lost
        assert self.ask_io("name") == ["tinyML Enhanced Interface Board (simulated)"]

    def power_up(self) -> None:
        """Settings of an energy run, target on, prologue out of the way."""
        for command in (
            *("htc", "pwr off", "acqtime inf", "trigdelay 0", "trigsrc sw", "eventsrc d7 fal"),
            *("output energy", "format ascii_dec", "freq 1k", "volt 3000m", "pwr on nostatus"),
        ):
            assert self.monitor(command) == f"ack {command}"
        self.dut.until(rb"m-ready\r\n")
        self.resynchronise()

    def load(self, data: bytes, ask: Callable[[str], list[str]]) -> None:
        """Put an input tensor into the DUT, 26 bytes a line."""
        assert ask(f"db load {len(data)}") == [f"m-[Expecting {len(data)} bytes]"]
        lines = [data[at : at + 26] for at in range(0, len(data), 26)]
        answers = [ask(f"db {line.hex()}") for line in lines]
        assert answers == [[]] * (len(lines) - 1) + [["m-load-done"]]

    def close(self) -> None:
        for port in self.ports.values():
            port.close()


class BenchProcess:
    """A running ``python -m labd.simulation``."""

    def __init__(
        self, directory: Path, *stations: dict[str, Any], mode: str, control: bool
    ) -> None:
        arguments = [sys.executable, "-m", "labd.simulation", "--directory", str(directory)]
        arguments += ["--control"] if control else []
        for station in stations:
            arguments += ["--station", json.dumps(station | {"mode": mode})]
        self.directory = directory
        self.log = directory.parent / "bench.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        line = self.stdout.readline()
        assert line, self.log.read_text()
        self.paths: dict[str, dict[str, str]] = json.loads(line)
        self.hosts = {name: StationHost(paths) for name, paths in self.paths.items()}

    def order(self, **request: Any) -> dict[str, Any]:
        """One line on the control channel; the only station is meant unless named."""
        request = {"station": next(iter(self.paths))} | request
        self.stdin.write(json.dumps(request).encode() + b"\n")
        self.stdin.flush()
        return json.loads(self.stdout.readline())

    def end(self) -> int:
        for host in self.hosts.values():
            host.close()
        self.process.terminate()
        status = self.process.wait(WAIT_S)
        self.stdin.close()
        self.stdout.close()
        return status


StartBench = Callable[..., BenchProcess]


@contextlib.contextmanager
def _benches_in(folder: Path) -> Iterator[StartBench]:
    """Starts benches: ``bench({"name": …, …}, mode="pace", control=True)``; ends them after."""
    running: list[BenchProcess] = []

    def start(*stations: dict[str, Any], mode: str = "pace", control: bool = True) -> BenchProcess:
        directory = folder / f"bench{len(running)}"
        running.append(BenchProcess(directory, *stations, mode=mode, control=control))
        return running[-1]

    yield start
    for process in running:
        process.end()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[StartBench]:
    """Starts benches of one test."""
    with _benches_in(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBench]:
    """Starts benches of one module, for tests that leave them as they were."""
    with _benches_in(tmp_path_factory.mktemp("shared")) as start:
        yield start


@pytest.fixture(scope="session")
def performance() -> dict[str, Any]:
    """A USB-powered board with the performance build."""
    image = str(PREBUILT / "digits01-performance.elf")
    return {"name": "virtual-1", "parts": ["dut"], "image": image, "seed": 1}


@pytest.fixture(scope="session")
def energy() -> dict[str, Any]:
    """A complete station with the energy build."""
    image = str(PREBUILT / "digits01-energy.elf")
    return {"name": "virtual-1", "parts": ["dut", "io", "power"], "image": image, "seed": 1}


@pytest.fixture
def firmware_as_binary() -> Callable[[str], bytes]:
    """A prebuilt ELF as the raw binary that starts at the start of flash."""

    def convert(name: str) -> bytes:
        elf = (PREBUILT / name).read_bytes()
        (headers,) = struct.unpack_from("<I", elf, 28)
        size, count = struct.unpack_from("<HH", elf, 42)
        binary = bytearray()
        for index in range(count):
            kind, offset, _, at, length = struct.unpack_from("<5I", elf, headers + index * size)
            if kind == 1 and length:
                start = at - 0x0800_0000
                binary.extend(b"\xff" * (start + length - len(binary)))
                binary[start : start + length] = elf[offset : offset + length]
        return bytes(binary)

    return convert
