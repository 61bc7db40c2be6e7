"""labctl jobs: the list of jobs."""

from __future__ import annotations

import click

from labd.cli.lab_command import with_client
from labd.cli.options import json_option
from labd.cli.render import make_jobs_table, print_models, show_table
from labd.client.lab_client import LabClient


@click.command("jobs")
@click.option("--state", "states", multiple=True, help="queued, leased, running or done.")
@click.option("--mine", is_flag=True, help="Show only your own jobs.")
@click.option(
    "--limit", type=int, metavar="N", default=50, show_default=True, help="Show the N newest jobs."
)
@json_option
@with_client
async def jobs_command(
    client: LabClient, states: tuple[str, ...], mine: bool, limit: int, as_json: bool
) -> int:
    """List jobs, oldest first."""
    user = client.user if mine else None
    found = await client.list_jobs(states=list(states) or None, user=user, limit=limit)
    if as_json:
        print_models(found)
    else:
        show_table(make_jobs_table(found), empty="no jobs")
    return 0
