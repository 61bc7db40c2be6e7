"""labd score: re-score session folders and compare with what was published."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
from rich.progress import Progress

from labd.cli.options import json_option
from labd.cli.render_score import show_scores
from labd.cli.terminal import make_console, print_line
from labd.rescore import SessionFiles, SessionScore, find_tasks, is_sound, rescore_folder

PARALLEL_FROM = 24
"""Fewer folders take less time than the start of another process."""


@click.command("score")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def score_command(folders: tuple[Path, ...], as_json: bool) -> None:
    """Recompute official session folders, or runs of labd, from their raw data.

    FOLDERS are session folders or trees of them (the repository of a whole round). Every
    published number that can be recomputed is compared to the printed digit. With --json every
    session is one JSON object on its own line.

    Exit status: 0 all agree and nothing is damaged, 1 something differs, is missing or
    damaged, 2 wrong usage.
    """
    for file in filter(Path.is_file, folders):
        command = f"labd score {shlex.quote(str(file.parent))}"
        raise click.UsageError(f"{file} is a file; give the folder it is in: {command}")
    for missing in (folder for folder in folders if not folder.exists()):
        raise click.UsageError(f"no such folder: {missing}")
    tasks = list(find_tasks(folders))
    sound = True
    done: list[SessionScore] = []
    for found in _rescore_with_progress(tasks):
        sound = sound and is_sound(found)
        if as_json:
            print_line(json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False))
        else:
            done.append(found)
    if not as_json:
        show_scores(done, folders)
    sys.exit(0 if sound else 1)


def _rescore_with_progress(tasks: Sequence[SessionFiles]) -> Iterator[SessionScore]:
    """Yield scores in the order of the tasks; show a progress bar on a terminal."""
    console = make_console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        row = bar.add_task("re-scoring", total=len(tasks))
        for scores in _rescore_in_parallel(tasks):
            bar.advance(row)
            yield from scores


def _rescore_in_parallel(tasks: Sequence[SessionFiles]) -> Iterator[list[SessionScore]]:
    workers = min(len(os.sched_getaffinity(0)), len(tasks))
    if workers < 2 or len(tasks) < PARALLEL_FROM:  # noqa: PLR2004 - one worker is this process
        yield from map(rescore_folder, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(rescore_folder, tasks, chunksize=4)
