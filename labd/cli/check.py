"""labd check: errors and warnings of stations.toml, before anything is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from drivers.base.registry import Registry
from labd.cli.options import config_option, json_option
from labd.cli.render import show_table
from labd.cli.tables import StationCheck, make_check_table
from labd.cli.terminal import print_line
from labd.core.model import Mode
from labd.core.schedule import missing_for_mode
from labd.daemon.emulated_benches import describe_emulated_station
from labd.station.config import SEE_TIMESTAMPS, LabConfig, StationConfig, load_config


@click.command("check")
@config_option
@json_option
def check_command(config: Path, as_json: bool) -> None:
    """Check stations.toml as `labd serve` would, and report errors and warnings.

    Opens no port and starts nothing. Exit status: 0 the file can be served (there may be
    warnings), 2 it has mistakes, each of which is listed with its line.
    """
    lab = load_config(config, Registry.from_entry_points())
    for station in lab.stations:
        if station.emulated is not None:
            describe_emulated_station(lab, station)
    stations = [_check_station(station) for station in lab.stations]
    warnings = list(_lab_warnings(lab))
    if as_json:
        whole = {"lab": lab.name, "stations": list(map(asdict, stations)), "warnings": warnings}
        print_line(json.dumps(whole, indent=2))
    else:
        _print_checked_lab(config, lab, stations, warnings)


def _check_station(station: StationConfig) -> StationCheck:
    parts = frozenset(station.parts)
    return StationCheck(
        station=station.name,
        board=station.board,
        emulated=station.emulated is not None,
        voltage_mv=station.voltage_mv,
        parts={str(part): config.driver for part, config in station.parts.items()},
        modes={
            str(mode): missing_for_mode(mode, parts, sees_timestamps=station.sees_timestamps)
            for mode in Mode
        },
        warnings=list(_station_warnings(station)),
    )


def _station_warnings(station: StationConfig) -> Iterator[str]:
    if obstacle := station.energy_obstacle:
        yield f"gets no energy jobs, they would be invalid: {obstacle}; {SEE_TIMESTAMPS}"
    if station.emulated is not None:
        return
    for part, config in station.parts.items():
        for key in ("port", "path"):
            device: object = getattr(config.config, key, None)
            if not isinstance(device, str | Path) or not Path(device).is_absolute():
                continue
            if not Path(device).exists():
                yield f"{part}: there is no {device} on this host now"


def _lab_warnings(lab: LabConfig) -> Iterator[str]:
    for folder in lab.datasets:
        if not folder.is_dir():
            yield f"datasets: there is no folder {folder}"


def _print_checked_lab(
    config: Path, lab: LabConfig, stations: list[StationCheck], warnings: list[str]
) -> None:
    show_table(make_check_table(stations))
    listed = [f"{each.station}: {text}" for each in stations for text in each.warnings]
    for text in (*listed, *warnings):
        print_line(f"warning: {text}")
    count = len(listed) + len(warnings)
    noted = f"{count} warning{'s' if count > 1 else ''}" if count else "no warnings"
    print_line(f"{config}: valid, {noted}; lab {lab.name!r}: state in {lab.state}")
