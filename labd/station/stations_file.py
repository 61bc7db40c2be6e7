"""The schema of stations.toml, and the search for every mistake in one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from drivers.base.interfaces import MonitorConfig
from drivers.base.registry import PartConfig, Registry
from labd.core.errors import ConfigError
from labd.core.model import Part
from labd.wire.broker_url import DEFAULT_PORT, parse_broker_url
from labd.wire.emulation import Emulation
from labd.wire.messages import Name
from labd.wire.validation import Loc, Mistake, format_location, to_mistake, unknown_value_mistake

EMULATED_BOARDS = ("nucleo-l4r5zi",)
"""Boards that labd can emulate."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LabTable(_Table):
    """``[lab]``: the lab as a whole."""

    name: Name = "lab"
    state: Text = "var"
    firmware: list[Text] = ["build/firmware"]
    datasets: list[Text] = []
    expire_after_days: float = Field(default=7.0, gt=0, le=3650)


class BrokerTable(_Table):
    """``[broker]``: a broker elsewhere, or the port of the embedded one."""

    url: Text | None = None
    port: int = Field(default=DEFAULT_PORT, ge=1, le=65535)


class TracesTable(_Table):
    """``[traces]``: limits of the files kept per run; without a limit they stay."""

    keep_days: float | None = Field(default=None, gt=0, le=36_500)
    keep_gb: float | None = Field(default=None, gt=0, le=1e6)


class BaudTable(_Table):
    """``baud``: speed of the DUT's UART; the default is that of the reference firmware."""

    performance: int | None = Field(default=None, ge=1200, le=12_000_000)
    energy: int | None = Field(default=None, ge=1200, le=12_000_000)


class StationTable(_Table):
    """``[[station]]``: a bench position. Its parts' tables are checked by their drivers."""

    name: Name
    board: Name
    voltage_mv: int = Field(default=3000, ge=1000, le=5500)
    off_s: float = Field(default=0.5, ge=0, le=60)
    processing_wire: bool = False
    baud: BaudTable = BaudTable()
    emulated: Emulation | None = None
    time_base: Literal["host", "virtual"] = "host"
    dut: dict[str, Any] | None = None
    io: dict[str, Any] | None = None
    power: dict[str, Any] | None = None
    flasher: dict[str, Any] | None = None


class StationsFile(_Table):
    """The whole file."""

    lab: LabTable = LabTable()
    broker: BrokerTable = BrokerTable()
    traces: TracesTable = TracesTable()
    station: list[StationTable] = Field(min_length=1)


_TABLES: dict[tuple[str, ...], type[BaseModel]] = {
    (): StationsFile,
    ("lab",): LabTable,
    ("broker",): BrokerTable,
    ("traces",): TracesTable,
    ("station",): StationTable,
    ("station", "emulated"): Emulation,
    ("station", "baud"): BaudTable,
}


@dataclass(frozen=True, slots=True)
class PlacedMistake:
    """A mistake and its key."""

    key: Loc
    mistake: Mistake


Mistakes = Iterator[PlacedMistake]


@dataclass(slots=True)
class CheckedFile:
    """A checked document: its valid part and its mistakes.

    ``file`` is ``None`` when it violates the schema; ``parts`` lists each station's parts.
    """

    file: StationsFile | None = None
    parts: list[dict[Part, PartConfig]] = field(default_factory=list[dict[Part, PartConfig]])
    mistakes: list[PlacedMistake] = field(default_factory=list[PlacedMistake])


def check_stations_file(document: dict[str, Any], registry: Registry, base: Path) -> CheckedFile:
    """Check a whole document, the drivers' tables included.

    Args:
        document: as tomli reads it.
        registry: the installed drivers.
        base: directory of its relative paths.
    """
    checked = CheckedFile()
    try:
        checked.file = StationsFile.model_validate(document)
    except ValidationError as error:
        checked.mistakes += [_explain_schema_error(details) for details in _pydantic_errors(error)]
    for number, table in enumerate(_raw_stations(document)):
        parts, found = _check_parts(number, table, registry)
        checked.parts.append(parts)
        checked.mistakes += found
    checked.mistakes += _check_broker(document.get("broker"))
    for number, table in enumerate(_raw_stations(document)):
        checked.mistakes += _check_station(number, table)
        checked.mistakes += _check_board(number, table, _boards_with_images(document, base))
        monitor = checked.parts[number].get(Part.POWER) or _emulated_monitor_part(table, registry)
        checked.mistakes += _check_voltage(number, table, monitor)
    checked.mistakes += _check_unique(document, checked.parts)
    return checked


def _pydantic_errors(error: ValidationError) -> list[Any]:
    """Return pydantic's errors, without 'too short' for a list whose items are invalid."""
    errors: list[Any] = list(error.errors(include_url=False))
    around = {each["loc"][:length] for each in errors for length in range(len(each["loc"]))}
    return [each for each in errors if each["type"] != "too_short" or each["loc"] not in around]


def _explain_schema_error(details: Any) -> PlacedMistake:
    """Explain a violation of the schema."""
    key: Loc = details["loc"]
    if key == ("station",) and details["type"] in ("list_type", "missing", "too_short"):
        return _placed_mistake(key, "a lab needs at least one [[station]], with two brackets")
    table = _TABLES.get(tuple(name for name in key[:-1] if isinstance(name, str)), StationsFile)
    return PlacedMistake(key, to_mistake(details, list(table.model_fields)))


def _raw_stations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the station tables of an unchecked document; an item that is no table is empty."""
    stations: object = document.get("station")
    if not isinstance(stations, list):
        return []
    tables = cast("list[object]", stations)
    return [cast("dict[str, Any]", t) if isinstance(t, dict) else {} for t in tables]


def _check_parts(
    number: int, table: Mapping[str, Any], registry: Registry
) -> tuple[dict[Part, PartConfig], list[PlacedMistake]]:
    """Check the parts of one station against their drivers' models."""
    parts: dict[Part, PartConfig] = {}
    found: list[PlacedMistake] = []
    for part in Part:
        part_table: object = table.get(part)
        if isinstance(part_table, dict):
            key = ("station", number, str(part))
            config = _check_part(key, part, cast("dict[str, Any]", part_table), registry)
            if isinstance(config, PartConfig):
                parts[part] = config
            else:
                found += config
    return parts, found


def _check_part(
    key: Loc, part: Part, table: dict[str, Any], registry: Registry
) -> PartConfig | list[PlacedMistake]:
    """Check one part's table against its driver's model."""
    name: object = table.get("driver")
    at: Loc = (*key, "driver")
    if not isinstance(name, str):
        what = "is missing" if name is None else "is not a string"
        return [
            _placed_mistake(
                at, f"{what}: it names the driver, one of {', '.join(registry.driver_names(part))}"
            )
        ]
    try:
        driver = registry.find_driver(name)
    except ConfigError as error:
        return [_placed_mistake(at, str(error))]
    if driver is None or driver.part is not part:
        return [
            PlacedMistake(
                at, unknown_value_mistake(format_location(at), name, registry.driver_names(part))
            )
        ]
    model = driver.config_model
    try:
        rest = {each: value for each, value in table.items() if each != "driver"}
        return PartConfig(part, name, model.model_validate(rest))
    except ValidationError as error:
        keys = ["driver", *model.model_fields]
        return [_explain_part_error(key, details, keys) for details in _pydantic_errors(error)]


def _explain_part_error(key: Loc, details: Any, keys: list[str]) -> PlacedMistake:
    details["loc"] = (*key, *details["loc"])
    return PlacedMistake(details["loc"], to_mistake(details, keys))


def _check_broker(table: object) -> Mistakes:
    if not isinstance(table, dict) or "url" not in table:
        return
    broker = cast("dict[str, object]", table)
    if "port" in broker:
        text = "is for the embedded broker; with `url` the port stands in the URL"
        yield _placed_mistake(("broker", "port"), text)
    try:
        parse_broker_url(str(broker["url"]))
    except ConfigError as error:
        yield _placed_mistake(("broker", "url"), str(error))


def _check_station(number: int, table: Mapping[str, Any]) -> Mistakes:
    """Check the rules between the keys of one station; the table may have other mistakes."""
    emulated = "emulated" in table
    own = [part for part in Part if part in table]
    ways = {part for part in (Part.DUT, Part.IO) if part in own}
    if emulated:
        for part in own:
            text = "an emulated station's parts are made by labd: take out one of the two"
            yield _placed_mistake(("station", number, str(part)), text)
        listed: object = _get_from_table(table["emulated"], "parts", [Part.DUT])
        ways = {part for part in (Part.DUT, Part.IO) if part in _as_list(listed)}
    if emulated and "time_base" in table:
        text = "an emulated station follows virtual time: take it out"
        yield _placed_mistake(("station", number, "time_base"), text)
    if not ways:
        text = "has neither dut nor io: there is no serial way to the board"
        yield _placed_mistake(("station", number), text)
    if table.get("processing_wire") is True and not emulated and Part.IO not in own:
        text = "the wire ends at the I/O manager, and this station has no io"
        yield _placed_mistake(("station", number, "processing_wire"), text)


def _emulated_monitor_part(table: Mapping[str, Any], registry: Registry) -> PartConfig | None:
    """Return the power monitor of an emulated station whose table is valid."""
    try:
        emulated = Emulation.model_validate(table.get("emulated"))
    except ValidationError:
        return None
    if Part.POWER not in emulated.parts or registry.find_driver(emulated.monitor) is None:
        return None
    return registry.configure_part(Part.POWER, emulated.monitor, {"port": "its bench's"})


def _check_voltage(number: int, table: Mapping[str, Any], monitor: PartConfig | None) -> Mistakes:
    """Check that the power monitor supplies, or tolerates, the board's supply voltage."""
    default = StationTable.model_fields["voltage_mv"].default
    voltage: object = table.get("voltage_mv", default)
    if monitor is None or not isinstance(monitor.config, MonitorConfig):
        return
    span = monitor.config.supply_range_mv
    if type(voltage) is not int or span is None or span[0] <= voltage <= span[1]:
        return
    which = "" if "voltage_mv" in table else " (the default)"
    limits = f"{span[0]} to {span[1]} mV, which {monitor.driver} is for"
    text = f"{voltage} mV{which} is not within {limits}"
    yield _placed_mistake(("station", number, "voltage_mv"), text)


def _placed_mistake(key: Loc, text: str) -> PlacedMistake:
    return PlacedMistake(key, Mistake(at=format_location(key), text=text))


def _get_from_table(table: object, key: str, default: object) -> object:
    """Return a value of what should be a table."""
    return (
        cast("dict[str, object]", table).get(key, default) if isinstance(table, dict) else default
    )


def _as_list(value: object) -> list[object]:
    """Return the items of what should be a list."""
    return cast("list[object]", value) if isinstance(value, list) else []


def _boards_with_images(document: dict[str, Any], base: Path) -> list[str]:
    """Return the boards that have firmware images."""
    folders = _get_from_table(document.get("lab"), "firmware", LabTable().firmware)
    parents = [base / folder for folder in _as_list(folders) if isinstance(folder, str)]
    names = {each.name for parent in parents if parent.is_dir() for each in parent.iterdir()}
    return sorted(names.union(EMULATED_BOARDS))


def _check_board(number: int, table: Mapping[str, Any], boards: list[str]) -> Mistakes:
    """Check that there are images for a board that labd flashes."""
    board: object = table.get("board")
    allowed = EMULATED_BOARDS if "emulated" in table else boards
    flashed = "emulated" in table or Part.FLASHER in table
    if flashed and isinstance(board, str) and board not in allowed:
        key = ("station", number, "board")
        yield PlacedMistake(key, unknown_value_mistake(format_location(key), board, allowed))


def _check_unique(document: dict[str, Any], parts: list[dict[Part, PartConfig]]) -> Mistakes:
    """Find names and ports that are used more than once."""
    names: dict[str, int] = {}
    ports: dict[str, str] = {}
    for number, table in enumerate(_raw_stations(document)):
        name: object = table.get("name")
        if isinstance(name, str) and names.setdefault(name, number) != number:
            text = f"{name!r} is the name of station[{names[name]}] already"
            yield _placed_mistake(("station", number, "name"), text)
        for part, config in parts[number].items():
            for key_name, port in _ports_and_paths(config):
                key: Loc = ("station", number, str(part), key_name)
                first = ports.setdefault(port, format_location(key))
                if first != format_location(key):
                    yield _placed_mistake(key, f"{port} is in use already by {first}")


def _ports_and_paths(part: PartConfig) -> Iterator[tuple[str, str]]:
    """Return the ports and paths of a part; links are resolved."""
    for name in ("port", "path"):
        value: object = getattr(part.config, name, None)
        if isinstance(value, str | Path):
            text = str(value)
            yield name, os.path.realpath(text) if text.startswith("/") else text
