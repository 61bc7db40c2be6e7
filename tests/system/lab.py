"""A whole lab as a test sees it: `labd serve` as its own process, and an MQTT client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from labd.client.lab_client import LabClient
from labd.core.errors import LabdError

REPO = Path(__file__).parents[2]
LAB = "testlab"
PREBUILT = REPO / "firmware" / "prebuilt"

ONE_EMULATED = """
[[station]]
name = "v1"
board = "nucleo-l4r5zi"
off_s = 0.0
emulated = {{ seed = 1, mode = "{mode}" }}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Lab:
    """A daemon that a test starts, kills and restarts; its files survive in ``folder``."""

    def __init__(
        self,
        folder: Path,
        stations: str,
        datasets: list[Path] | None = None,
        broker: str | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = broker or f"mqtt://127.0.0.1:{self.port}"
        self.config = folder / "stations.toml"
        sets = [str(path) for path in [REPO / "datasets", *(datasets or [])]]
        shelf = [str(folder / "firmware"), str(PREBUILT)]
        self.config.write_text(
            f"[lab]\nname = '{LAB}'\nstate = 'state'\nfirmware = {shelf}\ndatasets = {sets}\n"
            f"[broker]\n{f'url = {broker!r}' if broker else f'port = {self.port}'}\n{stations}"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "labd.log"

    def start(self, *options: str, host: str = "") -> None:
        """Start the daemon, on a host of this name if one is given."""
        serve = [sys.executable, "-m", "labd.cli.labd", "serve", "--config", str(self.config)]
        named = ["unshare", "-r", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*(named if host else []), *serve, *options],
                stderr=stream,
                cwd=self.folder,
            )

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the daemon's exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def client(self, user: str = "alice") -> LabClient:
        return LabClient(self.url, LAB, user)

    async def ready(self, deadline_s: float = 150.0) -> None:
        """Wait until the daemon answers and every station was checked."""
        last = "nothing yet"
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            try:
                async with self.client("probe") as client:
                    stations = await client.list_stations()
            except LabdError as error:
                last = str(error)
            else:
                last = str([(s.health, s.activity, s.why) for s in stations])
                if all(s.health in {"good", "bad"} and s.activity == "idle" for s in stations):
                    return
            await asyncio.sleep(0.2)
        raise AssertionError(f"the lab is not ready: {last}\n{self.log.read_text()[-3000:]}")

    def labctl(self, *arguments: str, user: str = "alice") -> subprocess.CompletedProcess[str]:
        """Run labctl as a person would."""
        environment = os.environ | {"LABD_BROKER": self.url, "LABD_LAB": LAB, "LABD_USER": user}
        return subprocess.run(
            [sys.executable, "-m", "labd.cli.labctl", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


async def finished(client: LabClient, job: str, deadline_s: float = 300.0) -> list[Any]:
    """Every event of a job, once it has ended."""
    async with asyncio.timeout(deadline_s):
        return [event async for event in client.follow_events(job)]


class HandBench:
    """The emulated bench in a process of the test's own: labd takes it for hardware."""

    def __init__(self, folder: Path, mode: str = "pace", **station: Any) -> None:
        self.directory = folder / "handbench"
        image = PREBUILT / "nucleo-l4r5zi" / "digits01-performance.elf"
        self.name = "h1"
        self._about = {
            "name": self.name,
            "parts": ["dut", "io", "power"],
            "image": str(image),
            "seed": 3,
            "mode": mode,
            **station,
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = ["-m", "labd.simulation", "--directory", str(self.directory)]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--control", "--station", json.dumps(self._about)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPO,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("{")

    def order(self, **request: Any) -> dict[str, Any]:
        """Give an order or ask something; the answer."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"station": self.name, **request}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert answer.get("ok", True), answer
        return answer

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=20)

    def station(self, *parts: str) -> str:
        """A [[station]] with these of the bench's ports, as if it were hardware."""
        home = self.directory / self.name
        tables = {
            "dut": f"dut = {{ driver = 'serial-dut', port = '{home}/dut' }}",
            "io": f"io = {{ driver = 'mlcommons-interface', port = '{home}/io' }}",
            "power": f"power = {{ driver = 'lpm01a', port = '{home}/power' }}",
            "flasher": f"flasher = {{ driver = 'nucleo-drive', path = '{home}/drive' }}",
        }
        lines = [tables[part] for part in parts or tables]
        wire = ["processing_wire = true"] if not parts or "io" in parts else []
        head = [
            "[[station]]",
            "name = 'h1'",
            "board = 'nucleo-l4r5zi'",
            "off_s = 0.0",
            "time_base = 'virtual'",
        ]
        return "\n".join([*head, *wire, *lines, ""])
