"""The emulated stations' processes: started with the daemon, restarted when they die.

The child reads commands on its standard input and ends with it, so a killed daemon never
leaves a bench behind.
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
from labd.core.errors import ConfigError, InfraError, LabdError
from labd.station.config import LabConfig, StationConfig
from labd.wire.emulation import EmulatedStation

log = structlog.get_logger(__name__)

READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 5.0
RESTART_S = 2.0


class EmulatedBench:
    """Runs ``python -m labd.simulation`` for an emulated station.

    Args:
        command: see :func:`bench_command`.
        restarted: called after the bench had died and is back.
    """

    def __init__(self, command: Sequence[str], restarted: Callable[[], None]) -> None:
        self._command = command
        self._restarted = restarted

    async def run(self, ready: asyncio.Event) -> None:
        """Keep a bench running until cancelled; ``ready`` is set once its ports are there.

        Raises:
            ConfigError: it refused to start; its own message went to standard error.
            InfraError: it did not get ready in time.
        """
        while True:
            try:
                await self._run_once(ready)
            except LabdError as error:
                if not ready.is_set():
                    raise
                log.warning("bench-died", error=str(error))
            await asyncio.sleep(RESTART_S)

    async def _run_once(self, ready: asyncio.Event) -> None:
        """Run one process to its end.

        Raises:
            InfraError: it ended, as it never should.
        """
        process = await self._start()
        try:
            if ready.is_set():
                self._restarted()
            ready.set()
            status = await process.wait()
        finally:
            await terminate_process(process, STOP_DEADLINE_S)
        raise InfraError("bench-died", f"the emulated bench ended with status {status}")

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "--control",
            *log_options(),
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # a Ctrl-C is for labd, which ends its children in order
        )
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                ports = await process.stdout.readline() if process.stdout else b""
        except TimeoutError:
            await terminate_process(process, STOP_DEADLINE_S)
            raise InfraError("bench-slow", "the emulated bench did not get ready") from None
        except BaseException:
            await terminate_process(process, STOP_DEADLINE_S)
            raise
        if not ports:
            status = await process.wait()
            raise ConfigError(
                "bench-start",
                f"the emulated bench ended with status {status} before it was ready",
                "its own message stands above",
            )
        log.info("bench-ready", ports=ports.decode().strip())
        return process


def bench_command(directory: Path, stations: Sequence[EmulatedStation]) -> list[str]:
    """Command line of a process that emulates these stations.

    Args:
        directory: where their ports and drives appear.
        stations: at least one.
    """
    command = [sys.executable, "-m", "labd.simulation", "--directory", str(directory)]
    for station in stations:
        command += ["--station", station.model_dump_json()]
    return command


def emulated_station(
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
        raise ConfigError("not-emulated", f"station {station.name} is a real one")
    return EmulatedStation(
        name=station.name,
        image=image or _first_image(lab, station, emulation.firmware),
        **emulation.model_dump(),
    )


def _first_image(lab: LabConfig, station: StationConfig, name: str) -> Path:
    for folder in lab.firmware:
        path = folder / station.board / f"{name}.elf"
        if path.is_file():
            return path
    looked = ", ".join(str(folder / station.board) for folder in lab.firmware)
    raise ConfigError(
        "firmware-missing",
        f"{lab.file}: station {station.name}: emulated.firmware: no {name}.elf in {looked}",
        "name one that is there, or add its folder to [lab] firmware",
    )
