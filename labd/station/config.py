"""stations.toml: the lab as its operator describes it, checked to the last key.

A file with mistakes is refused as a whole, with every one of them, its line, and what is
allowed there.
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
    Checked,
    StationsFile,
    StationTable,
    TracesTable,
    check,
)
from labd.station.toml_positions import Spot, Spots
from labd.wire.emulation import Emulation

SEE_TIMESTAMPS = (
    "wire a pin to the I/O manager and say so (processing_wire, or the io table's "
    "timestamp_wire), or let the monitor see the timestamp pin"
)
"""What to do about :attr:`StationConfig.blind`."""


@dataclass(frozen=True, slots=True)
class StationConfig:
    """One station.

    Args:
        name: topic level.
        board: names the folder of its firmware images.
        parts: its drivers and their configurations.
        voltage_mv: supply of the DUT unless a job wants another.
        off_s: how long the supply stays off for a true reset.
        processing_wire: the DUT's processing pin is wired to the I/O manager.
        baud: of the DUT's UART, for the builds where it is not the reference's.
        emulated: how labd plays it; ``None`` for a real one.
    """

    name: str
    board: str
    parts: Mapping[Part, PartConfig]
    voltage_mv: int
    off_s: float
    processing_wire: bool
    baud: Mapping[Build, int]
    emulated: Emulation | None

    @property
    def time_base(self) -> TimeBase:
        """Whose time the instruments follow: an emulated bench has a time of its own."""
        return TimeBase.HOST if self.emulated is None else TimeBase.VIRTUAL

    @property
    def flasher(self) -> PartConfig | None:
        """What puts firmware into the board, if labd can."""
        return self.parts.get(Part.FLASHER)

    @property
    def sees_timestamps(self) -> bool:
        """Whether the power monitor, or a wire to the I/O manager, shows the DUT's batches."""
        power, io = self.parts.get(Part.POWER), self.parts.get(Part.IO)
        if power is not None and not _never_sees(power.config):
            return True
        wired = io is not None and isinstance(io.config, IoConfig) and io.config.times_timestamps
        return wired or (io is not None and self.processing_wire)

    @property
    def blind(self) -> str:
        """Why no energy can be measured in spite of a power monitor; empty where it can."""
        power = self.parts.get(Part.POWER)
        if power is None or self.sees_timestamps:
            return ""
        return (
            f"{power.driver} does not see the DUT's timestamps as it is set up, and no I/O "
            "manager times the batches"
        )


@dataclass(frozen=True, slots=True)
class LabConfig:
    """A lab. Every path is absolute.

    Args:
        file: the stations.toml it was read from.
        name: topic level.
        state: where jobs, traces and the embedded broker's files are kept.
        firmware: where images are searched, in order.
        datasets: where data sets are searched, in order.
        broker: which broker.
        keep: how many of its runs' files are kept.
        stations: in the file's order.
    """

    file: Path
    name: str
    state: Path
    firmware: tuple[Path, ...]
    datasets: tuple[Path, ...]
    broker: BrokerTable
    keep: RetentionLimits
    stations: tuple[StationConfig, ...]

    @property
    def bench(self) -> Path:
        """Where the emulated stations' ports and drives appear."""
        return self.state / "bench"

    def station(self, name: str) -> StationConfig:
        """One station.

        Raises:
            ConfigError: the lab has none of this name.
        """
        for station in self.stations:
            if station.name == name:
                return station
        known = ", ".join(station.name for station in self.stations)
        raise ConfigError("no-station", f"there is no station {name}", f"known: {known}")


def load_config(
    path: Path, registry: Registry, *, state: Path | None = None, port: int | None = None
) -> LabConfig:
    """Read stations.toml; the ports of emulated stations are filled in.

    Args:
        path: the file.
        registry: the drivers there are.
        state: use this state directory instead of the file's.
        port: use this port for the embedded broker instead of the file's.

    Raises:
        ConfigError: the file is missing or has mistakes: all of them are in the text.
    """
    text = _read(path)
    document = _parse(path, text)
    base = path.absolute().parent
    checked = check(document, registry, base)
    if checked.found or checked.file is None:
        raise _refusal(path, text, checked)
    lab = _resolve(path, checked.file, checked.parts)
    if state is not None:
        lab = replace(lab, state=state.absolute())
    if port is not None:
        lab = replace(lab, broker=lab.broker.model_copy(update={"port": port}))
    stations = tuple(with_bench(station, lab.bench, registry) for station in lab.stations)
    return replace(lab, stations=stations)


def with_bench(station: StationConfig, directory: Path, registry: Registry) -> StationConfig:
    """Give an emulated station drivers for the ports its bench makes; a real one is unchanged.

    Args:
        station: any station.
        directory: where the bench makes ``<station>/{dut,io,power,drive}``.
        registry: must have labd's own drivers.

    Raises:
        ConfigError: it does not.
    """
    if station.emulated is None:
        return station
    ports = directory / station.name
    monitor = (station.emulated.monitor, "port", "power")
    parts = {
        part: registry.configure(part, driver, {key: str(ports / port)})
        for part, (driver, key, port) in (_BENCH | {Part.POWER: monitor}).items()
        if part in station.emulated.parts or part is Part.FLASHER
    }
    wire = Part.IO in station.emulated.parts
    return replace(station, parts=MappingProxyType(parts), processing_wire=wire, off_s=0.0)


def _never_sees(config: DriverConfig) -> bool:
    """Whether a monitor says of itself that it sees no timestamps."""
    return isinstance(config, MonitorConfig) and not config.sees_timestamps


_BENCH = {
    Part.DUT: ("serial-dut", "port", "dut"),
    Part.IO: ("mlcommons-interface", "port", "io"),
    Part.FLASHER: ("nucleo-drive", "path", "drive"),
}


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        todo = "name it with --config, or let `labd init` write one"
        raise ConfigError("no-config", f"there is no {path}", todo) from error
    except OSError as error:
        raise ConfigError("no-config", f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = f"{path}:{line}: not UTF-8, which TOML must be"
        raise ConfigError("bad-config", what) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        what = f"{path}:{error.lineno}:{error.colno}: not TOML: {error.msg}"
        raise ConfigError("bad-config", what) from error
    except RecursionError as error:
        raise ConfigError("bad-config", f"{path}: nested far too deep") from error


def _refusal(path: Path, text: str, checked: Checked) -> ConfigError:
    """Every mistake on a line of its own, in the file's order."""
    spots = Spots(text)
    first = Spot(1, 1)
    placed = [(spots.find(found.key) or first, found.mistake) for found in checked.found]
    placed.sort(key=lambda each: (each[0].line, each[0].column))
    lines = [f"{path}:{spot}: {mistake}" for spot, mistake in placed]
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return ConfigError("bad-config", "\n  ".join([f"{path} has {count}:", *lines]))


def _resolve(path: Path, file: StationsFile, parts: list[dict[Part, PartConfig]]) -> LabConfig:
    base = path.absolute().parent
    return LabConfig(
        file=path.absolute(),
        name=file.lab.name,
        state=base / file.lab.state,
        firmware=(*(base / folder for folder in file.lab.firmware), bundled("firmware")),
        datasets=(*(base / folder for folder in file.lab.datasets), bundled("datasets")),
        broker=file.broker,
        keep=_limits(file.traces),
        stations=tuple(map(_station, file.station, parts)),
    )


def _limits(table: TracesTable) -> RetentionLimits:
    size_bytes = None if table.keep_gb is None else round(table.keep_gb * 1e9)
    return RetentionLimits(table.keep_days, size_bytes)


def _station(table: StationTable, parts: dict[Part, PartConfig]) -> StationConfig:
    return StationConfig(
        name=table.name,
        board=table.board,
        parts=MappingProxyType(parts),
        voltage_mv=table.voltage_mv,
        off_s=table.off_s,
        processing_wire=table.processing_wire,
        baud=_baud(table.baud),
        emulated=table.emulated,
    )


def _baud(table: BaudTable) -> Mapping[Build, int]:
    told = {Build.PERFORMANCE: table.performance, Build.ENERGY: table.energy}
    return MappingProxyType({build: baud for build, baud in told.items() if baud is not None})
