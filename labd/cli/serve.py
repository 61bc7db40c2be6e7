"""labd serve: the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import structlog

from drivers.base.registry import Registry
from labd.aio.logs import set_up_logging
from labd.aio.wire_log import log_wires_to
from labd.cli.lazy_group import exit_status_of
from labd.cli.options import config_option, wire_log_option
from labd.core.errors import LabdError, first_fault
from labd.daemon.daemon import serve_lab
from labd.station.config import load_config
from labd.wire.broker_url import parse_broker_url

log = structlog.get_logger(__name__)


@click.command("serve")
@config_option
@click.option(
    "--state", type=click.Path(path_type=Path), help="State directory, instead of the file's."
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port of the embedded broker, instead of the file's.",
)
@click.option(
    "--datasets",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="LABD_DATASETS",
    multiple=True,
    help="Folder of data sets to search first; may be repeated.  [env: LABD_DATASETS, "
    "separated by ':']",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Serve the lab although its jobs are in the journal of another state directory; they "
    "are not known here.",
)
@wire_log_option
@click.option("--log-json", is_flag=True, help="Log as JSON, one object per line.")
@click.option("--verbose", "-v", is_flag=True, help="Log debug messages too.")
def serve_command(
    config: Path,
    state: Path | None,
    port: int | None,
    datasets: tuple[Path, ...],
    take_over: bool,
    wire_log: Path | None,
    log_json: bool,
    verbose: bool,
) -> None:
    """Serve the lab described in stations.toml until SIGTERM."""
    set_up_logging(as_json=log_json, verbose=verbose)
    with _fatal_error_logged(as_json=log_json):
        registry = Registry.from_entry_points()
        lab = load_config(config, registry, state=state, port=port)
        lab = replace(lab, datasets=(*(each.absolute() for each in datasets), *lab.datasets))
        with log_wires_to(wire_log):
            announce = partial(_log_ready, lab.name)
            asyncio.run(serve_lab(lab, registry, announce, take_over=take_over))


@contextmanager
def _fatal_error_logged(*, as_json: bool) -> Generator[None]:
    """Let the error that ends the daemon be the last line of a log in JSON."""
    try:
        try:
            yield
        except ExceptionGroup as group:
            fault = first_fault(group)
            known = isinstance(fault, LabdError)
            raise (fault if known else click.ClickException(str(fault))) from group
    except LabdError as error:
        if not as_json:
            raise
        log.critical("serve-failed", code=error.code, error=str(error))
        raise SystemExit(exit_status_of(error)) from error


def _log_ready(lab: str, url: str) -> None:
    log.info("ready", lab=lab, url=str(parse_broker_url(url)))
