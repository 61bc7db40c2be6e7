"""Read stations.toml: a file with mistakes is refused, and every mistake is listed.

Each is listed with its line, its column and what is allowed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli

from drivers.base.interfaces import DriverConfig, IoConfig, MonitorConfig
from drivers.base.registry import PartConfig, Registry
from labd.core.errors import ConfigError
from labd.core.model import Build, Part, TimeBase
from labd.core.retention import RetentionLimits
from labd.data import bundled
from labd.station.stations_file import (
    BaudTable,
    BrokerTable,
    CheckedFile,
    StationsFile,
    StationTable,
    TracesTable,
    check_stations_file,
)
from labd.station.toml_positions import TomlPosition, TomlPositions
from labd.wire.emulation import Emulation

SEE_TIMESTAMPS = (
    "wire a pin to the I/O manager and set processing_wire, or timestamp_wire in the io table; "
    "or wire the timestamp pin to the power monitor"
)
"""Remedy for :attr:`StationConfig.energy_obstacle`."""


@dataclass(frozen=True, slots=True)
class StationConfig:
    """One station.

    Args:
        name: of the station; a level of its topics.
        board: name of the folder of its firmware images.
        parts: its drivers and their configurations.
        voltage_mv: supply of the DUT, unless a job asks for another.
        off_s: how long the supply stays off to reset the board.
        processing_wire: the DUT's processing pin is wired to the I/O manager.
        baud: speed of the DUT's UART, for the builds that differ from the reference.
        emulated: how labd emulates it; ``None`` for a real one.
        time_base: the clock that its instruments follow.
    """

    name: str
    board: str
    parts: Mapping[Part, PartConfig]
    voltage_mv: int
    off_s: float
    processing_wire: bool
    baud: Mapping[Build, int]
    emulated: Emulation | None
    time_base: TimeBase = TimeBase.HOST

    @property
    def flasher(self) -> PartConfig | None:
        """The flasher, if there is one."""
        return self.parts.get(Part.FLASHER)

    @property
    def sees_timestamps(self) -> bool:
        """Whether the power monitor or a wire to the I/O manager shows the DUT's timestamps."""
        power, io = self.parts.get(Part.POWER), self.parts.get(Part.IO)
        if power is not None and not _sees_no_timestamps(power.config):
            return True
        wired = io is not None and isinstance(io.config, IoConfig) and io.config.times_timestamps
        return wired or (io is not None and self.processing_wire)

    @property
    def energy_obstacle(self) -> str:
        """Why a station with a power monitor cannot measure energy; empty if it can."""
        power = self.parts.get(Part.POWER)
        if power is None or self.sees_timestamps:
            return ""
        return (
            f"{power.driver} does not see the DUT's timestamps as configured, and no I/O manager "
            "times the batches"
        )


@dataclass(frozen=True, slots=True)
class LabConfig:
    """A lab. Every path is absolute.

    Args:
        file: the stations.toml it was read from.
        name: of the lab; a level of its topics.
        state: directory of the journal, the traces and the embedded broker's files.
        firmware: folders of images, in search order.
        datasets: folders of data sets, in search order.
        expire_after_s: longest time in the queue of a job that states none.
        broker: its URL, or the port of the embedded broker.
        keep: limits of the files kept per run.
        stations: in the order of the file.
    """

    file: Path
    name: str
    state: Path
    firmware: tuple[Path, ...]
    datasets: tuple[Path, ...]
    expire_after_s: float
    broker: BrokerTable
    keep: RetentionLimits
    stations: tuple[StationConfig, ...]

    @property
    def bench_directory(self) -> Path:
        """Directory of the emulated stations' ports and drives."""
        return self.state / "bench"

    def find_station(self, name: str) -> StationConfig:
        """Return a station by its name.

        Raises:
            ConfigError: there is none.
        """
        for station in self.stations:
            if station.name == name:
                return station
        known = ", ".join(station.name for station in self.stations)
        raise ConfigError("no-station", f"there is no station {name}", f"known: {known}")


def load_config(
    path: Path, registry: Registry, *, state: Path | None = None, port: int | None = None
) -> LabConfig:
    """Read stations.toml and fill in the ports of emulated stations.

    Args:
        path: the file.
        registry: the installed drivers.
        state: replaces the state directory of the file.
        port: replaces the embedded broker's port of the file.

    Raises:
        ConfigError: the file is missing, or has mistakes; the text lists all of them.
    """
    text = _read_text(path)
    document = _parse_toml(path, text)
    base = path.absolute().parent
    checked = check_stations_file(document, registry, base)
    if checked.mistakes or checked.file is None:
        raise _mistakes_error(path, text, checked)
    lab = _resolve_lab(path, checked.file, checked.parts)
    if state is not None:
        lab = replace(lab, state=state.absolute())
    if port is not None:
        lab = replace(lab, broker=lab.broker.model_copy(update={"port": port}))
    stations = tuple(
        configure_emulated_ports(station, lab.bench_directory, registry) for station in lab.stations
    )
    return replace(lab, stations=stations)


def configure_emulated_ports(
    station: StationConfig, directory: Path, registry: Registry
) -> StationConfig:
    """Configure an emulated station's drivers for the ports of its bench.

    Args:
        station: any station; a real one is returned unchanged.
        directory: the bench creates ``<station>/{dut,io,power,drive}`` in it.
        registry: the installed drivers.

    Raises:
        ConfigError: one of labd's drivers is missing.
    """
    if station.emulated is None:
        return station
    ports = directory / station.name
    monitor = (station.emulated.monitor, "port", "power")
    parts = {
        part: registry.configure_part(part, driver, {key: str(ports / port)})
        for part, (driver, key, port) in (_EMULATED_PARTS | {Part.POWER: monitor}).items()
        if part in station.emulated.parts or part is Part.FLASHER
    }
    wire = Part.IO in station.emulated.parts
    return replace(station, parts=MappingProxyType(parts), processing_wire=wire, off_s=0.0)


def _sees_no_timestamps(config: DriverConfig) -> bool:
    """Whether a monitor declares that it sees no timestamps."""
    return isinstance(config, MonitorConfig) and not config.sees_timestamps


_EMULATED_PARTS = {
    Part.DUT: ("serial-dut", "port", "dut"),
    Part.IO: ("mlcommons-interface", "port", "io"),
    Part.FLASHER: ("nucleo-drive", "path", "drive"),
}


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        remedy = "name it with --config, or let `labd init` write one"
        raise ConfigError("no-config", f"there is no {path}", remedy) from error
    except OSError as error:
        raise ConfigError("no-config", f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = f"{path}:{line}: not UTF-8, which TOML must be"
        raise ConfigError("bad-config", what) from error


def _parse_toml(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        what = f"{path}:{error.lineno}:{error.colno}: not TOML: {error.msg}"
        raise ConfigError("bad-config", what) from error
    except RecursionError as error:
        raise ConfigError("bad-config", f"{path}: nested too deeply") from error


def _mistakes_error(path: Path, text: str, checked: CheckedFile) -> ConfigError:
    """Return an error that lists every mistake on one line, in the order of the file."""
    positions = TomlPositions(text)
    first = TomlPosition(1, 1)
    placed = [
        (positions.position_of(found.key) or first, found.mistake) for found in checked.mistakes
    ]
    placed.sort(key=lambda each: (each[0].line, each[0].column))
    lines = [f"{path}:{at}: {mistake}" for at, mistake in placed]
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return ConfigError("bad-config", "\n  ".join([f"{path} has {count}:", *lines]))


def _resolve_lab(path: Path, file: StationsFile, parts: list[dict[Part, PartConfig]]) -> LabConfig:
    base = path.absolute().parent
    return LabConfig(
        file=path.absolute(),
        name=file.lab.name,
        state=base / file.lab.state,
        firmware=(*(base / folder for folder in file.lab.firmware), bundled("firmware")),
        datasets=(*(base / folder for folder in file.lab.datasets), bundled("datasets")),
        expire_after_s=file.lab.expire_after_days * 86400,
        broker=file.broker,
        keep=_retention_limits(file.traces),
        stations=tuple(map(_resolve_station, file.station, parts)),
    )


def _retention_limits(table: TracesTable) -> RetentionLimits:
    size_bytes = None if table.keep_gb is None else round(table.keep_gb * 1e9)
    return RetentionLimits(table.keep_days, size_bytes)


def _resolve_station(table: StationTable, parts: dict[Part, PartConfig]) -> StationConfig:
    return StationConfig(
        name=table.name,
        board=table.board,
        parts=MappingProxyType(parts),
        voltage_mv=table.voltage_mv,
        off_s=table.off_s,
        processing_wire=table.processing_wire,
        baud=_baud_by_build(table.baud),
        emulated=table.emulated,
        time_base=TimeBase.VIRTUAL if table.emulated else TimeBase(table.time_base),
    )


def _baud_by_build(table: BaudTable) -> Mapping[Build, int]:
    speeds = {Build.PERFORMANCE: table.performance, Build.ENERGY: table.energy}
    return MappingProxyType({build: baud for build, baud in speeds.items() if baud is not None})
