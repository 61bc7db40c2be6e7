"""labctl jobs: what runs, what is next, and what ended last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from labd.cli.lab_command import with_client
from labd.cli.options import json_option
from labd.cli.render import print_models, show_table
from labd.cli.tables import make_jobs_table
from labd.cli.terminal import print_line
from labd.client.lab_client import JobPage, LabClient
from labd.core.jobs import JobState

SECTIONS = {
    "running": [JobState.LEASED, JobState.RUNNING],
    "queued": [JobState.QUEUED],
    "done": [JobState.DONE],
}
"""The sections of the list by name, in order."""


@click.command("jobs")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([each.value for each in JobState]),
    help="Show only jobs in this state; may be repeated.",
)
@click.option("--mine", is_flag=True, help="Show only your own jobs.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=20,
    show_default=True,
    help="Show at most N queued jobs and N that have ended.",
)
@click.option("--all", "show_all", is_flag=True, help="Show every job.")
@json_option
@with_client
async def jobs_command(
    client: LabClient,
    states: tuple[str, ...],
    mine: bool,
    limit: int,
    show_all: bool,
    as_json: bool,
) -> int:
    """List the jobs that run, then those that are next, then those that ended last."""
    user = client.user if mine else None
    wanted = {
        name: [state for state in section if not states or state in states]
        for name, section in SECTIONS.items()
    }
    names = [name for name, section in wanted.items() if section]
    limits = [None if show_all or name == "running" else limit for name in names]
    pages = await asyncio.gather(
        *(
            client.list_schedule(wanted[name], user, most)
            for name, most in zip(names, limits, strict=True)
        )
    )
    found = [job for page in pages for job in page.jobs]
    if as_json:
        print_models(found)
    else:
        show_table(make_jobs_table(found), empty="no jobs")
        if found:
            print_line("\n" + _format_counts(names, pages))
    return 0


def _format_counts(names: Sequence[str], pages: Sequence[JobPage]) -> str:
    """Count the jobs of each section, and say which are not listed."""
    counts = [
        f"{page.total} {name}" + (f" ({len(page.jobs)} shown)" if page.is_part else "")
        for name, page in zip(names, pages, strict=True)
    ]
    hint = "; --all shows every job" if any(page.is_part for page in pages) else ""
    return ", ".join(counts) + hint
