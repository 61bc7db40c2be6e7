"""The processes of the emulated stations.

A bench process ends when its standard input closes, so a killed daemon leaves none behind.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from labd.aio.logs import log_options
from labd.aio.terminate import terminate_process
from labd.core.errors import ConfigError, InfraError
from labd.station.config import LabConfig, StationConfig
from labd.wire.emulation import EmulatedStation

log = structlog.get_logger(__name__)


class EmulatedBench:
    """The process of one emulated station.

    Args:
        directory: where its ports and drives appear.
        station: what it emulates.
        restarted: called when the process is running again after it had died.
        ready_deadline_s: from its start until its ports exist.
        stop_deadline_s: from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        directory: Path,
        station: EmulatedStation,
        restarted: Callable[[], None],
        *,
        ready_deadline_s: float = 60.0,
        stop_deadline_s: float = 5.0,
    ) -> None:
        self._command = format_bench_command(directory, [station])
        self._restarted = restarted
        self._ready_deadline_s = ready_deadline_s
        self._stop_deadline_s = stop_deadline_s

    async def run_process(self, ready: asyncio.Event) -> None:
        """Run the process to its end; ``ready`` is set once its ports exist.

        Raises:
            ConfigError: it refused to start; its own message went to standard error.
            InfraError: it was not ready in time, was killed, or ended.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "--control",
            *log_options(),
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # a Ctrl-C is for labd, which ends its children in order
        )
        try:
            await self._wait_for_ports(process)
            if ready.is_set():
                self._restarted()
            ready.set()
            status = await process.wait()
        finally:
            await terminate_process(process, self._stop_deadline_s)
        raise InfraError("bench-died", f"the emulated bench ended with status {status}")

    async def _wait_for_ports(self, process: Process) -> None:
        try:
            async with asyncio.timeout(self._ready_deadline_s):
                ports = await process.stdout.readline() if process.stdout else b""
        except TimeoutError:
            what = f"the emulated bench was not ready within {self._ready_deadline_s:g} s"
            raise InfraError("bench-slow", what) from None
        if not ports:
            status = await process.wait()
            if status < 0:
                what = f"the emulated bench was killed by signal {-status} before it was ready"
                raise InfraError("bench-killed", what)
            raise ConfigError(
                "bench-start",
                f"the emulated bench ended with status {status} before it was ready",
                "read its own message above",
            )
        log.info("bench-ready", ports=ports.decode().strip())


def format_bench_command(directory: Path, stations: Sequence[EmulatedStation]) -> list[str]:
    """Return the command line of a process that emulates these stations.

    Args:
        directory: where their ports and drives appear.
        stations: at least one.
    """
    command = [sys.executable, "-m", "labd.simulation", "--directory", str(directory)]
    for station in stations:
        command += ["--station", station.model_dump_json()]
    return command


def describe_emulated_station(
    lab: LabConfig, station: StationConfig, image: Path | None = None
) -> EmulatedStation:
    """Return an emulated station as its bench process takes it.

    Args:
        lab: where its firmware is searched.
        station: an emulated station.
        image: start with this ELF instead of the configured firmware.

    Raises:
        ConfigError: the station is not emulated, or its firmware is missing.
    """
    emulation = station.emulated
    if emulation is None:
        raise ConfigError("not-emulated", f"station {station.name} is not emulated")
    return EmulatedStation(
        name=station.name,
        image=image or _find_first_image(lab, station, emulation.firmware),
        **emulation.model_dump(),
    )


def _find_first_image(lab: LabConfig, station: StationConfig, name: str) -> Path:
    for folder in lab.firmware:
        path = folder / station.board / f"{name}.elf"
        if path.is_file():
            return path
    searched = ", ".join(str(folder / station.board) for folder in lab.firmware)
    raise ConfigError(
        "firmware-missing",
        f"{lab.file}: station {station.name}: emulated.firmware: no {name}.elf in {searched}",
        "name one that exists, or add its folder to [lab] firmware",
    )
