"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click


@dataclass(frozen=True, slots=True)
class Target:
    """The lab that labctl addresses, and its user: the options before the command."""

    broker: str
    lab: str
    user: str


config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="LABD_CONFIG",
    default="stations.toml",
    show_default=True,
    help="Configuration of the lab.  [env: LABD_CONFIG]",
)
wire_log_option = click.option(
    "--wire-log",
    type=click.Path(path_type=Path),
    help="Log every byte of every port, with its time, to this file (appended), or to one file "
    "per port in this directory.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
