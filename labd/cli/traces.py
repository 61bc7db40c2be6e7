"""labd traces: the runs on this host, and which would go."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # SQLAlchemy and NumPy are not for --help
    from labd.core.retention import KeptRun, Limits
    from labd.station.config import LabConfig


@click.command()
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="LABD_CONFIG",
    default="stations.toml",
    show_default=True,
    help="The lab.  [env: LABD_CONFIG]",
)
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
def traces(config: Path, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List the runs that have files here, oldest first, and which would go at the next sweep.

    Nothing is removed: the daemon does that, hourly and at its start, by [traces] keep_days
    and keep_gb in stations.toml.
    """
    from drivers.base.registry import Registry  # noqa: PLC0415
    from labd.core.errors import LabdError  # noqa: PLC0415 - not for --help
    from labd.station.config import load_config  # noqa: PLC0415

    try:
        lab = load_config(config, Registry.installed())
        runs = _runs(lab)
    except LabdError as error:
        raise click.ClickException(str(error)) from error
    listed = _listed(runs, lab.keep)
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        _show(listed, lab)


def _runs(lab: LabConfig) -> list[KeptRun]:
    from labd.core.errors import ConfigError  # noqa: PLC0415 - not for --help
    from labd.store.journal.journal import Journal  # noqa: PLC0415
    from labd.store.journal.kept_runs import run_records  # noqa: PLC0415
    from labd.store.run_files import assess, find_runs  # noqa: PLC0415
    from labd.store.state_directory import StateDirectory  # noqa: PLC0415

    state = StateDirectory(lab.state)
    if not state.journal.exists():
        what = f"no labd has served this lab here: there is no {state.journal}"
        raise ConfigError("no-journal", what, "name the lab's file with --config")
    journal = Journal(state.journal_url)
    try:
        records = run_records(journal)
    finally:
        journal.close()
    return assess(find_runs(state.all_traces), records)


def _listed(runs: list[KeptRun], limits: Limits) -> list[dict[str, Any]]:
    """Every run, oldest first; ``goes`` says why it would, ``stays`` why it must not."""
    from labd.core.retention import plan_removals  # noqa: PLC0415 - not for --help

    planned = plan_removals(runs, limits, time.time_ns())
    reasons = {(each.run.job, each.run.attempt): each.reason for each in planned}
    found: list[dict[str, Any]] = []
    for run in sorted(runs, key=lambda run: run.ended_ns):
        told = asdict(run)
        told["stays"] = told.pop("protected")
        told["goes"] = reasons.get((run.job, run.attempt), "")
        found.append(told)
    return found


def _show(listed: list[dict[str, Any]], lab: LabConfig) -> None:
    from labd.cli.render import runs_table, show_table  # noqa: PLC0415 - Rich is not for --help

    show_table(runs_table(listed, time.time_ns()), empty="no runs with files")
    total = sum(run["size_bytes"] for run in listed)
    going = sum(run["size_bytes"] for run in listed if run["goes"])
    free = shutil.disk_usage(lab.state).free
    keep = lab.keep
    days = "for ever" if keep.days is None else f"{keep.days:g} days"
    size = "any size" if keep.size_bytes is None else f"{keep.size_bytes / 1e9:g} GB"
    click.echo(
        f"{total / 1e9:.3f} GB in {len(listed)} runs, {going / 1e9:.3f} GB would go; "
        f"{free / 1e9:.1f} GB free; kept: {days}, {size}"
    )
