"""labd check: what stations.toml says, and what it will come to, before anything is served."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # pydantic is not for --help
    from labd.station.config import LabConfig, StationConfig

MISTAKES_STATUS = 2


@click.command()
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="LABD_CONFIG",
    default="stations.toml",
    show_default=True,
    help="The lab's stations.  [env: LABD_CONFIG]",
)
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
def check(config: Path, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Read stations.toml as `labd serve` would, and tell what is wrong or odd in it.

    Nothing is opened or started. Exit status: 0 the file can be served (there may be warnings),
    2 it has mistakes: every one of them is listed with its line.
    """
    from drivers.base.registry import Registry  # noqa: PLC0415
    from labd.core.errors import LabdError  # noqa: PLC0415 - not for --help
    from labd.station.config import load_config  # noqa: PLC0415

    try:
        lab = load_config(config, Registry.installed())
    except LabdError as error:
        click.echo(f"labd: {error}", err=True)
        sys.exit(MISTAKES_STATUS)
    stations = [_described(station) for station in lab.stations]
    warnings = list(_lab_warnings(lab))
    if as_json:
        whole = {"lab": lab.name, "stations": stations, "warnings": warnings}
        click.echo(json.dumps(whole, indent=2))
    else:
        _show(config, lab, stations, warnings)


def _described(station: StationConfig) -> dict[str, Any]:
    """One station: ``modes`` maps each to what it lacks for it, empty where it can run it."""
    from labd.core.model import Mode  # noqa: PLC0415 - not for --help
    from labd.core.schedule import incapable  # noqa: PLC0415

    parts = frozenset(station.parts)
    return {
        "station": station.name,
        "board": station.board,
        "emulated": station.emulated is not None,
        "voltage_mv": station.voltage_mv,
        "parts": {str(part): config.driver for part, config in station.parts.items()},
        "modes": {
            str(mode): incapable(mode, parts, sees_timestamps=station.sees_timestamps)
            for mode in Mode
        },
        "warnings": list(_station_warnings(station)),
    }


def _station_warnings(station: StationConfig) -> Iterator[str]:
    from labd.station.config import SEE_TIMESTAMPS  # noqa: PLC0415 - not for --help

    if station.blind:
        yield f"gets no energy jobs, they would be invalid: {station.blind}; {SEE_TIMESTAMPS}"
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


def _show(
    config: Path, lab: LabConfig, stations: list[dict[str, Any]], warnings: list[str]
) -> None:
    from labd.cli.render import check_table, show_table  # noqa: PLC0415 - Rich is not for --help

    show_table(check_table(stations))
    told = [f"{each['station']}: {text}" for each in stations for text in each["warnings"]]
    for text in (*told, *warnings):
        click.echo(f"warning: {text}")
    count = len(told) + len(warnings)
    noted = f"{count} warning{'s' if count > 1 else ''}" if count else "nothing odd"
    click.echo(f"{config}: no mistakes, {noted}; lab {lab.name} keeps its state in {lab.state}")
