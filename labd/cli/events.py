"""labctl events: the events of a job."""

from __future__ import annotations

import click

from labd.cli.lab_command import with_client
from labd.cli.options import json_option, patience_option
from labd.cli.outages import print_outage, report_outages, running_beside
from labd.cli.render import format_event_line
from labd.cli.terminal import print_line
from labd.client.lab_client import LabClient
from labd.wire.job_events import Event


@click.command("events")
@click.argument("job")
@click.option("--from", "from_seq", type=int, default=0, help="First event number.")
@click.option("--follow", "-f", is_flag=True, help="Follow until the job has finished.")
@patience_option
@json_option
@with_client
async def events_command(
    client: LabClient,
    job: str,
    from_seq: int,
    follow: bool,
    patience_s: float | None,
    as_json: bool,
) -> int:
    """Print the numbered events of a JOB."""

    def print_event(event: Event) -> None:
        print_line(event.model_dump_json() if as_json else format_event_line(event))

    if follow:
        client.patience_s = patience_s
        async with running_beside(report_outages(client, print_outage)):
            async for event in client.follow_events(job):
                if event.seq >= from_seq:
                    print_event(event)
    else:
        for event in await client.list_events(job, from_seq):
            print_event(event)
    return 0
