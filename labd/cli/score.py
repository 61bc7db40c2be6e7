"""labd score: re-score session folders and compare with what was published."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # NumPy and its friends are not for --help
    from labd.rescore import SessionScore, Task

PARALLEL_FROM = 24
"""Fewer folders are done before another process has started."""


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a session, one a line.")
def score(folders: tuple[Path, ...], as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Recompute official session folders, or runs of labd, from their raw data.

    FOLDERS are sessions or trees of them (a round's whole repository). Every number that was
    published and can be recomputed is compared to the printed digit. With --json every
    session is one object on a line of its own, so one session is one JSON document.

    Exit status: 0 all agree and nothing is damaged, 1 something differs, is missing or
    damaged, 2 wrong usage.
    """
    from labd.rescore import find_tasks, is_sound  # noqa: PLC0415 - not for --help

    for file in filter(Path.is_file, folders):
        command = f"labd score {shlex.quote(str(file.parent))}"
        raise click.UsageError(f"{file} is a file; give the folder it is in: {command}")

    tasks = list(find_tasks(folders))
    sound = True
    done: list[SessionScore] = []
    for found in _with_progress(tasks):
        sound = sound and is_sound(found)
        if as_json:
            click.echo(json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False))
        else:
            done.append(found)
    if not as_json:
        from labd.cli.render_score import show_scores  # noqa: PLC0415

        show_scores(done, folders)
    sys.exit(0 if sound else 1)


def _with_progress(tasks: Sequence[Task]) -> Iterator[SessionScore]:
    """Scores in the order of the tasks; a bar on a terminal's standard error."""
    from rich.console import Console  # noqa: PLC0415 - not for --help
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        row = bar.add_task("re-scoring", total=len(tasks))
        for scores in _rescored(tasks):
            bar.advance(row)
            yield from scores


def _rescored(tasks: Sequence[Task]) -> Iterator[list[SessionScore]]:
    from labd.rescore import rescore  # noqa: PLC0415 - not for --help

    workers = min(len(os.sched_getaffinity(0)), len(tasks))
    if workers < 2 or len(tasks) < PARALLEL_FROM:  # noqa: PLR2004 - nobody to share with
        yield from map(rescore, tasks)
        return
    import multiprocessing  # noqa: PLC0415 - not for --help
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(rescore, tasks, chunksize=4)
