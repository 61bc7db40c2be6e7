"""labctl cancel: end a job."""

from __future__ import annotations

import click

from labd.cli.lab_command import send_and_print_request, with_client
from labd.cli.options import json_option, keep_option
from labd.client.lab_client import LabClient


@click.command("cancel")
@click.argument("job")
@click.option("--reason", default="", help="Reason, for the record.")
@keep_option
@json_option
@with_client
async def cancel_command(
    client: LabClient, job: str, reason: str, lifetime_s: float, as_json: bool
) -> int:
    """Cancel a JOB of your own, queued or running."""
    return await send_and_print_request(
        client, "cancel", as_json=as_json, lifetime_s=lifetime_s, job=job, reason=reason
    )
