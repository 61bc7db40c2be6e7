"""labctl unpin: the opposite of pin."""

from __future__ import annotations

import click

from labd.cli.lab_command import send_and_print_request, with_client
from labd.cli.options import json_option
from labd.client.lab_client import LabClient


@click.command("unpin")
@click.argument("job")
@json_option
@with_client
async def unpin_command(client: LabClient, job: str, as_json: bool) -> int:
    """Allow the removal of the traces of a JOB of your own by the lab's limits."""
    return await send_and_print_request(client, "unpin", as_json=as_json, job=job)
