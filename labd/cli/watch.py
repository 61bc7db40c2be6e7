"""labctl watch: the progress of jobs, as bars on a terminal, as one line per event elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import click
from rich.console import Console

from labd.cli.job_bars import JobBars
from labd.cli.lab_command import with_client
from labd.cli.options import json_option, patience_option
from labd.cli.outages import print_outage, report_outages, running_beside
from labd.cli.render import format_event_data, show_table
from labd.cli.tables import make_results_table
from labd.cli.terminal import make_console, print_line
from labd.client.lab_client import LabClient
from labd.core.errors import TransportError, first_fault
from labd.wire.job_events import Event, ProgressEvent
from labd.wire.messages import JobStatus

VERDICT_STATUS = {"pass": 0, "fail": 1, "invalid": 3, "infra": 4, "cancelled": 5, "expired": 6}
"""Exit status by verdict."""

REFRESH_S = 3.0
"""Interval at which the position of a waiting job is asked for."""


@click.command("watch")
@click.argument("jobs", nargs=-1, required=True)
@patience_option
@json_option
@with_client
async def watch_command(
    client: LabClient, jobs: tuple[str, ...], patience_s: float | None, as_json: bool
) -> int:
    """Follow JOBS until they end; exit with the worst verdict.

    While the broker or the lab is away, nothing is lost: it waits until they are back.
    """
    client.patience_s = patience_s
    return await watch_jobs(client, list(jobs), as_json=as_json)


async def watch_jobs(client: LabClient, jobs: list[str], *, as_json: bool) -> int:
    """Follow jobs to their ends, show their results and return the worst verdict's exit status."""
    for job in jobs:
        await client.find_job(job)
    try:
        ended = await follow_jobs(client, jobs, as_json=as_json)
    except asyncio.CancelledError:  # Ctrl-C
        going_on = " ".join(jobs)
        print_line(f"labctl: {going_on} not cancelled; follow: labctl watch {going_on}", err=True)
        raise
    if not as_json:
        show_table(make_results_table(ended))
    return max(VERDICT_STATUS[status.verdict or "infra"] for status in ended)


async def follow_jobs(client: LabClient, jobs: list[str], *, as_json: bool) -> list[JobStatus]:
    """Show the events of jobs until all have ended, and return their final states."""
    console = make_console()
    job_width = max(map(len, jobs))
    if as_json:
        await _follow_with_lines(client, jobs, lambda event: print_line(event.model_dump_json()))
    elif console.is_terminal:
        await _follow_with_bars(client, jobs, console)
    else:
        await _follow_with_lines(
            client, jobs, lambda event: _print_event(console, event, job_width)
        )
    return [await client.wait_out_outages(partial(client.find_job, job)) for job in jobs]


async def _follow_with_lines(
    client: LabClient, jobs: list[str], show: Callable[[Event], None]
) -> None:
    async with running_beside(report_outages(client, print_outage)):
        await _follow_jobs_concurrently(client, jobs, show)


async def _follow_with_bars(client: LabClient, jobs: list[str], console: Console) -> None:
    job_width = max(map(len, jobs))
    with JobBars(jobs, console) as bars:

        def show_event(event: Event) -> None:
            bars.update(event)
            _print_event(console, event, job_width)

        async with (
            running_beside(_refresh_waiting_jobs(client, bars)),
            running_beside(report_outages(client, bars.show_outage)),
        ):
            await _follow_jobs_concurrently(client, jobs, show_event)


async def _refresh_waiting_jobs(client: LabClient, bars: JobBars) -> None:
    """Show the position of waiting jobs and why they wait, until cancelled."""
    while True:
        for job in bars.waiting_jobs():
            with suppress(TransportError):  # the broker or the lab is away for now
                bars.show_waiting(await client.find_job(job))
        await asyncio.sleep(REFRESH_S)


async def _follow_jobs_concurrently(
    client: LabClient, jobs: list[str], show: Callable[[Event], None]
) -> None:
    async def follow_one_job(job: str) -> None:
        async for event in client.follow_events(job):
            show(event)

    try:
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(follow_one_job(job), name=f"follow {job}")
    except ExceptionGroup as group:
        raise first_fault(group) from group


def _print_event(console: Console, event: Event, job_width: int) -> None:
    if not isinstance(event, ProgressEvent):  # it moves the bar
        line = f"{event.job:{job_width}}  {event.type:9} {format_event_data(event)}"
        console.print(line.rstrip(), soft_wrap=True)
