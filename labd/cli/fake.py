"""labd fake: one simulated instrument."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from labd.cli.options import wire_log_option
from labd.cli.terminal import print_line
from labd.wire.simulated_instruments import INSTRUMENTS, JOULESCOPE_NOTE

JOULESCOPE = "joulescope"
"""Driver whose simulated instrument is not served, only explained."""


@click.command("fake")
@click.argument(
    "instrument",
    required=False,
    type=click.Choice([*INSTRUMENTS, JOULESCOPE]),
    metavar="[INSTRUMENT]",
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
def fake_command(
    instrument: str | None, link: Path | None, build: str | None, wire_log: Path | None
) -> None:
    """Serve one simulated INSTRUMENT, for developing and debugging drivers.

    It speaks the real protocol, byte for byte, on a pseudo-terminal or a socket of this
    machine, and measures the current of a made-up board by the wall clock. Prints one JSON
    line when ready: {"<instrument>": PATH}, and on standard error its table for stations.toml.
    Without INSTRUMENT it lists all instruments. Ends with SIGTERM or Ctrl-C.
    """
    if instrument is None:
        print_line(_format_instruments())
        return
    if instrument == JOULESCOPE:
        raise click.UsageError(JOULESCOPE_NOTE)
    if build and not INSTRUMENTS[instrument].has_dut:
        raise click.UsageError(f"--build: {instrument} has no DUT in it")
    command = [sys.executable, "-m", "labd.simulation.instrument_process", instrument]
    command += ["--link", str(link)] if link else []
    command += ["--energy"] if build == "energy" else []
    command += ["--wire-log", str(wire_log)] if wire_log else []
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the fake takes this process over


def _format_instruments() -> str:
    """Return the list of the instruments, one per line."""
    lines = [f"  {name:20} {each.description}" for name, each in INSTRUMENTS.items()]
    return "\n".join(("instruments:", *lines, "", JOULESCOPE_NOTE))
