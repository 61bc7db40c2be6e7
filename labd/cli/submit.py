"""labctl submit: queue a job."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import click

from labd.cli.lab_command import send_and_print_request, with_client
from labd.cli.options import Duration, json_option, keep_option, patience_option
from labd.cli.terminal import print_line
from labd.cli.watch import watch_jobs
from labd.client.lab_client import LabClient
from labd.core.model import EnergyMethod, Mode, Priority
from labd.wire.topics import NAME_RULE, is_topic_level
from labd.wire.validation import unknown_value_mistake


def _parse_modes(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> list[str] | None:
    modes = None if text is None else [mode.strip() for mode in text.split(",")]
    for mode in modes or ():
        if mode not in list(Mode):
            raise click.BadParameter(str(unknown_value_mistake("", mode, list(Mode))))
    return modes


def _check_job_id(_context: click.Context, _option: click.Parameter, job: str | None) -> str | None:
    """Refuse an empty id, as of an unset variable: a random one would make the job run again."""
    if job is not None and not is_topic_level(job):
        raise click.BadParameter(f"{job!r} is not a job id: {NAME_RULE}")
    return job


@click.command("submit")
@click.argument("benchmark")
@click.option(
    "--modes",
    callback=_parse_modes,
    help="Comma-separated: accuracy,performance,energy.  [default: all]",
)
@click.option("--station", help="Run on this station only.")
@click.option("--firmware", help="Firmware to flash.  [default: that of the benchmark]")
@click.option(
    "--priority",
    type=click.Choice([each.value for each in Priority]),
    help="Interactive starts before normal, normal before overnight.  [default: normal]",
)
@click.option("--voltage-mv", type=int, help="Supply voltage.  [default: that of the station]")
@click.option(
    "--energy-method",
    type=click.Choice([each.value for each in EnergyMethod]),
    help="Arithmetic of the energy score.  [default: labd]",
)
@click.option(
    "--job",
    callback=_check_job_id,
    help="Job id; submitting the same id twice is harmless.  [default: random]",
)
@click.option("--labels", help="Labels file of the data set.  [default: y_labels.csv]")
@click.option(
    "--custom-data",
    is_flag=True,
    default=None,
    help="Accept a data set other than the official one; without it, the verdict is invalid.",
)
@click.option(
    "--expires",
    "expire_after_s",
    type=Duration(),
    metavar="TIME",
    help="End the job if it has not started after this time in the queue, e.g. 2h.  "
    "[default: expire_after_days of the lab]",
)
@click.option("--watch", is_flag=True, help="Follow until the job ends; exit with its verdict.")
@patience_option
@keep_option
@json_option
@with_client
async def submit_command(
    client: LabClient,
    benchmark: str,
    job: str | None,
    watch: bool,
    patience_s: float | None,
    as_json: bool,
    **fields: Any,
) -> int:
    """Queue a job for BENCHMARK, for example digits01 or kws01."""
    job = job or f"{benchmark[:40]}-{secrets.token_hex(4)}"
    fields |= {"job": job, "benchmark": benchmark}
    try:
        if not watch:
            return await send_and_print_request(client, "submit", as_json=as_json, **fields)
        await client.send_request("submit", **fields)
    except asyncio.CancelledError:  # Ctrl-C
        what = f"job {job} may be queued all the same"
        print_line(f"labctl: {what} (labctl cancel {job})", err=True)
        raise
    client.patience_s = patience_s
    return await watch_jobs(client, [job], as_json=as_json)
