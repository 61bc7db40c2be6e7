"""labctl watch: the progress of jobs, as bars on a terminal, as one line per event elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID

from labd.cli.lab_command import with_client
from labd.cli.options import json_option
from labd.cli.render import format_event_data, make_results_table, show_reasons, show_table
from labd.cli.terminal import make_console, print_line, text_column
from labd.client.lab_client import LabClient
from labd.core.errors import first_fault
from labd.wire.job_events import (
    Event,
    FinishedEvent,
    PhaseEvent,
    ProgressEvent,
    QueuedEvent,
    RequeuedEvent,
)
from labd.wire.messages import JobStatus

VERDICT_STATUS = {"pass": 0, "fail": 1, "invalid": 3, "infra": 4, "cancelled": 5, "expired": 6}
"""Exit status by verdict."""


@click.command("watch")
@click.argument("jobs", nargs=-1, required=True)
@json_option
@with_client
async def watch_command(client: LabClient, jobs: tuple[str, ...], as_json: bool) -> int:
    """Follow JOBS until they end; exit with the worst verdict."""
    return await watch_jobs(client, list(jobs), as_json=as_json)


async def watch_jobs(client: LabClient, jobs: list[str], *, as_json: bool) -> int:
    """Follow jobs to their ends, show their results and return the worst verdict's exit status."""
    for job in jobs:
        await client.find_job(job)
    ended = await follow_jobs(client, jobs, as_json=as_json)
    if not as_json:
        show_table(make_results_table(ended))
        show_reasons(ended)
    return max(VERDICT_STATUS[status.verdict or "infra"] for status in ended)


async def follow_jobs(client: LabClient, jobs: list[str], *, as_json: bool) -> list[JobStatus]:
    """Show the events of jobs until all have ended, and return their final states."""
    if as_json:
        await _follow_jobs_concurrently(
            client, jobs, lambda event: print_line(event.model_dump_json())
        )
    else:
        console = make_console()
        if console.is_terminal:
            await _follow_with_bars(client, jobs, console)
        else:
            await _follow_jobs_concurrently(
                client, jobs, lambda event: _print_event(console, event)
            )
    return [await client.find_job(job) for job in jobs]


async def _follow_with_bars(client: LabClient, jobs: list[str], console: Console) -> None:
    columns = (
        text_column("{task.fields[job]}"),
        text_column("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        text_column("{task.fields[unit]}"),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {
            job: progress.add_task("waiting", job=job, unit="", total=None) for job in jobs
        }

        def show_event(event: Event) -> None:
            _update_bar(progress, bars[event.job], event)
            _print_event(progress.console, event)

        await _follow_jobs_concurrently(client, jobs, show_event)


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


def _print_event(console: Console, event: Event) -> None:
    if not isinstance(event, ProgressEvent):  # it moves the bar
        line = f"{event.job:24} {event.type:9} {format_event_data(event)}"
        console.print(line.rstrip(), soft_wrap=True)


def _update_bar(progress: Progress, bar: TaskID, event: Event) -> None:
    match event:
        case ProgressEvent(data=step):
            progress.update(bar, completed=step.done, total=step.total, unit=step.unit)
        case PhaseEvent(data=phase):
            text = f"{event.station} {phase.mode} {phase.phase}"
            progress.update(bar, description=text, completed=0, total=None, unit="")
        case FinishedEvent(data=end):
            progress.update(bar, description=end.verdict, completed=1, total=1, unit="")
        case QueuedEvent() | RequeuedEvent():
            progress.update(bar, description="waiting", completed=0, total=None, unit="")
        case _:
            return
