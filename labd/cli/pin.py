"""labctl pin: keep a job's traces."""

from __future__ import annotations

import click

from labd.cli.lab_command import send_and_print_request, with_client
from labd.cli.options import json_option
from labd.client.lab_client import LabClient


@click.command("pin")
@click.argument("job")
@json_option
@with_client
async def pin_command(client: LabClient, job: str, as_json: bool) -> int:
    """Keep the traces of a JOB of your own, whatever the lab's limits."""
    return await send_and_print_request(client, "pin", as_json=as_json, job=job)
