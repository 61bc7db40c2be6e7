"""labctl show: one job."""

from __future__ import annotations

import json

import click

from labd.cli.lab_command import with_client
from labd.cli.options import json_option
from labd.cli.render import show_job
from labd.cli.terminal import print_line
from labd.client.lab_client import LabClient


@click.command("show")
@click.argument("job")
@json_option
@with_client
async def show_command(client: LabClient, job: str, as_json: bool) -> int:
    """Show the scores, windows and evidence of a JOB."""
    status = await client.find_job(job)
    events = await client.list_events(job)
    if as_json:
        whole = status.model_dump(mode="json")
        whole["events"] = [event.model_dump(mode="json") for event in events]
        print_line(json.dumps(whole, indent=2))
    else:
        show_job(status, events)
    return 0
