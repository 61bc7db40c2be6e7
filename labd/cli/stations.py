"""labctl stations: the list of stations."""

from __future__ import annotations

import click

from labd.cli.lab_command import with_client
from labd.cli.options import json_option
from labd.cli.render import print_models, show_table
from labd.cli.tables import make_stations_table
from labd.client.lab_client import LabClient


@click.command("stations")
@json_option
@with_client
async def stations_command(client: LabClient, as_json: bool) -> int:
    """List the stations with their health and activity."""
    found = await client.list_stations()
    if as_json:
        print_models(found)
    else:
        show_table(make_stations_table(found), empty="no stations")
    return 0
