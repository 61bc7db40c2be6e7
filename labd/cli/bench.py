"""labd bench: the emulated stations without a daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from drivers.base.registry import Registry
from labd.cli.options import config_option, wire_log_option
from labd.daemon.emulated_benches import describe_emulated_station, format_bench_command
from labd.station.config import load_config


@click.command("bench")
@config_option
@click.argument("names", nargs=-1)
@click.option("--freeze", is_flag=True, help="Deterministic time: same commands, same bytes.")
@click.option(
    "--firmware",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Start the boards with this ELF.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Folder for ports and flash drives.  [default: <state>/bench-by-hand]",
)
@wire_log_option
def bench_command(
    config: Path,
    names: tuple[str, ...],
    freeze: bool,
    firmware: Path | None,
    directory: Path | None,
    wire_log: Path | None,
) -> None:
    """Run the emulated stations of stations.toml, or NAMES of them, without a daemon.

    Prints one JSON line when ready: {"<station>": {"dut": PATH, "io": PATH, "power": PATH}}.
    Every path is a pseudo-terminal that any program can open. The boards are supplied by
    their power monitors and start switched off. Under --freeze time advances with commands only: by
    30 ms each and, during an acquisition, to the power monitor's next time stamp.
    <directory>/<station>/drive is the board's flash drive: copy an ELF or a raw binary into
    it. Ends with SIGTERM or Ctrl-C.
    """
    lab = load_config(config, Registry.from_entry_points())
    stations = [lab.find_station(name) for name in names] or [s for s in lab.stations if s.emulated]
    emulated = [describe_emulated_station(lab, station, firmware) for station in stations]
    if not emulated:
        raise click.ClickException(f"{config} has no emulated station")
    mode = {"mode": "freeze" if freeze else "pace"}
    command = format_bench_command(
        directory or lab.state / "bench-by-hand",
        [station.model_copy(update=mode) for station in emulated],
    )
    command += ["--wire-log", str(wire_log)] if wire_log else []
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the bench takes this process over
