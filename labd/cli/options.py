"""Options that several commands share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import click


@dataclass(frozen=True, slots=True)
class Target:
    """The lab that labctl addresses, and its user: the options before the command."""

    broker: str
    lab: str
    user: str


class Duration(click.ParamType[float]):
    """A time such as 90s, 30m, 2h or 7d, in seconds."""

    name = "duration"
    units_s: ClassVar[dict[str, float]] = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value).strip())
        if found is None or float(found[1]) == 0:
            self.fail(f"{value!r} is not a time such as 90s, 30m, 2h or 7d", param, ctx)
        return float(found[1]) * self.units_s[found[2]]


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
keep_option = click.option(
    "--keep-for",
    "lifetime_s",
    type=Duration(),
    metavar="TIME",
    default="60s",
    show_default=True,
    help="If no daemon answers, let the broker keep the request this long, e.g. 2h.",
)
patience_option = click.option(
    "--patience",
    "patience_s",
    type=Duration(),
    metavar="TIME",
    help="Give up if broker or lab are away for longer, e.g. 30m.  [default: wait for ever]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
