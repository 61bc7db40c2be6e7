"""labctl submit: queue a job."""

from __future__ import annotations

import secrets
from typing import Any

import click

from labd.cli.lab_command import request, with_client
from labd.cli.options import json_option
from labd.cli.watch import watch_jobs
from labd.client.lab_client import LabClient


@click.command()
@click.argument("benchmark")
@click.option("--modes", help="Comma-separated: accuracy,performance,energy.  [default: all]")
@click.option("--station", help="Run on this station only.")
@click.option("--firmware", help="Firmware to flash.  [default: that of the benchmark]")
@click.option(
    "--priority",
    help="Class: interactive starts before normal, normal before overnight.  [default: normal]",
)
@click.option("--voltage-mv", type=int, help="Supply voltage.  [default: that of the station]")
@click.option(
    "--energy-method",
    help="Arithmetic of the energy score: labd, mlcommons or eembc.  [default: labd]",
)
@click.option("--job", help="Job id; submitting the same id twice is harmless.  [default: random]")
@click.option("--watch", is_flag=True, help="Follow until the job ends; exit with its verdict.")
@json_option
@with_client
async def submit(
    client: LabClient,
    benchmark: str,
    modes: str | None,
    job: str | None,
    watch: bool,
    as_json: bool,
    **fields: Any,
) -> int:
    """Queue a job for BENCHMARK, for example digits01 or kws01."""
    job = job or f"{benchmark[:40]}-{secrets.token_hex(4)}"
    fields |= {"job": job, "benchmark": benchmark}
    if modes is not None:
        fields["modes"] = [mode.strip() for mode in modes.split(",")]
    if not watch:
        return await request(client, "submit", as_json=as_json, **fields)
    await client.ask("submit", **fields)
    return await watch_jobs(client, [job], as_json=as_json)
