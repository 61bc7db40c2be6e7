"""labd traces: the runs on this host, and which of them would be removed."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from drivers.base.registry import Registry
from labd.cli.options import config_option, json_option
from labd.cli.render import show_table
from labd.cli.tables import make_runs_table
from labd.cli.terminal import print_line
from labd.core.errors import ConfigError
from labd.core.retention import RetentionLimits, RunFiles, plan_removals
from labd.station.config import LabConfig, load_config
from labd.store.journal.attempts import read_attempts
from labd.store.journal.journal import Journal
from labd.store.run_files import find_runs
from labd.store.state_directory import StateDirectory


@click.command("traces")
@config_option
@json_option
def traces_command(config: Path, as_json: bool) -> None:
    """List the runs that have files here, and those that the next clean-up would remove.

    The oldest run comes first. Nothing is removed: the daemon does that, hourly and at its
    start, by [traces] keep_days and keep_gb in stations.toml.
    """
    lab = load_config(config, Registry.from_entry_points())
    listed = _runs_with_removal_reason(_read_runs(lab), lab.keep)
    if as_json:
        print_line(json.dumps([_run_to_dict(*each) for each in listed], indent=2))
    else:
        _print_runs(listed, lab)


def _read_runs(lab: LabConfig) -> list[RunFiles]:
    state = StateDirectory(lab.state)
    if not state.journal_file.exists():
        what = f"no labd has served this lab here: there is no {state.journal_file}"
        raise ConfigError("no-journal", what, "name the lab's file with --config")
    journal = Journal(state.journal_url)
    try:
        attempts = read_attempts(journal)
    finally:
        journal.close()
    return [run for run in find_runs(state.traces_directory, attempts) if not run.removed]


def _runs_with_removal_reason(
    runs: list[RunFiles], limits: RetentionLimits
) -> list[tuple[RunFiles, str]]:
    """Return every run, oldest first, with the reason for its removal, or ``""``."""
    reasons = dict(plan_removals(runs, limits, time.time_ns()))
    return [(run, reasons.get(run, "")) for run in sorted(runs, key=lambda run: run.ended_ns)]


def _run_to_dict(run: RunFiles, goes: str) -> dict[str, Any]:
    row = asdict(run) | {"stays": run.protected, "goes": goes}
    del row["removed"], row["protected"]
    return row


def _print_runs(listed: list[tuple[RunFiles, str]], lab: LabConfig) -> None:
    show_table(make_runs_table(listed, time.time_ns()), empty="no runs with files")
    total = sum(run.size_bytes for run, _ in listed)
    going = sum(run.size_bytes for run, goes in listed if goes)
    free = shutil.disk_usage(lab.state).free
    keep = lab.keep
    days = "any age" if keep.days is None else f"{keep.days:g} days"
    size = "any size" if keep.size_bytes is None else f"{keep.size_bytes / 1e9:g} GB"
    print_line(
        f"{total / 1e9:.3f} GB in {len(listed)} runs, {going / 1e9:.3f} GB will be removed; "
        f"{free / 1e9:.1f} GB free; kept: {days}, {size}"
    )
