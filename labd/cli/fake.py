"""labd fake: one simulated instrument."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from labd.cli.options import wire_log_option

INSTRUMENTS = (
    *("serial-dut", "mlcommons-interface", "eembc-io-manager"),
    *("lpm01a", "ppk2", "n6705", "otii", "scpi-meter", "joulescope"),
)
"""By driver name; the last one is only explained."""


@click.command()
@click.argument(
    "instrument", required=False, type=click.Choice(INSTRUMENTS), metavar="[INSTRUMENT]"
)
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    help="Make a symbolic link to its pseudo-terminal: a constant path for stations.toml.",
)
@click.option(
    "--build",
    type=click.Choice(["performance", "energy"]),
    help="Firmware build of its DUT, if it has one: printed laps or pulses.  "
    "[default: performance]",
)
@wire_log_option
def fake(
    instrument: str | None, link: Path | None, build: str | None, wire_log: Path | None
) -> None:
    """Serve one simulated INSTRUMENT, for developing and debugging drivers.

    It speaks the real protocol, byte for byte, on a pseudo-terminal or a socket of this
    machine, and measures the current of a made-up board by the wall clock. Prints one JSON
    line when ready: {"<instrument>": PATH}, and on standard error its table for stations.toml.
    Without INSTRUMENT it lists all instruments. Ends with SIGTERM or Ctrl-C.
    """
    command = [sys.executable, "-m", "labd.simulation.instrument_process"]
    command += [instrument] if instrument else []
    command += ["--link", str(link)] if link else []
    command += ["--build", build] if build else []
    command += ["--wire-log", str(wire_log)] if wire_log else []
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the fake takes this process over
