"""The files of runs on this host: their sizes, and how they are removed.

``traces/<job>/<attempt>/`` is one run. A removal renames the folder first, so that a partly
removed run is never taken for a complete one; a later clean-up deletes what is left of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from labd.core.retention import RunFiles
from labd.store.journal.attempts import Attempt
from labd.store.traces.reader import is_being_written
from labd.store.traces.sigmf import DATA, EVENTS

GOING = ".going-"
"""Prefix of the name of a run's folder that is being removed."""

UNKNOWN = "not in the journal"


def find_runs(traces: Path, attempts: Iterable[Attempt] = ()) -> list[RunFiles]:
    """Return every run that has files, with its state in the journal."""
    known = {(each.job, each.attempt): each for each in attempts}
    return [
        _total_size_bytes(run, job.name, int(run.name), known.get((job.name, int(run.name))))
        for job in _attempt_folders(traces)
        for run in _attempt_folders(job)
        if run.name.isdecimal()
    ]


def remove_run(traces: Path, job: str, attempt: int) -> None:
    """Remove a run's files, and the job's folder if that is empty then.

    Raises:
        OSError: a disk operation failed; the next :func:`delete_interrupted_removals` tries again.
    """
    folder = traces / job / str(attempt)
    if folder.exists():
        folder.rename(folder.with_name(f"{GOING}{attempt}"))
    _delete_interrupted_removals_of_job(traces / job)


def delete_interrupted_removals(traces: Path) -> None:
    """Delete what interrupted removals left.

    Raises:
        OSError: a disk operation failed.
    """
    for job in _attempt_folders(traces):
        if any(each.name.startswith(GOING) for each in _attempt_folders(job)):
            _delete_interrupted_removals_of_job(job)


def unsealed_traces(traces: Path) -> list[Path]:
    """Return every trace that is being written, or was when its daemon was killed."""
    return [
        path.with_name(path.name.removesuffix(EVENTS))
        for job in _attempt_folders(traces)
        for run in _attempt_folders(job)
        for path in sorted(run.glob(f"*{EVENTS}"))
    ]


def _total_size_bytes(folder: Path, job: str, number: int, attempt: Attempt | None) -> RunFiles:
    """Describe a run; a file that vanishes meanwhile does not count."""
    size = changed = 0
    live = False
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
            if path.name.endswith(DATA):
                live = live or is_being_written(path.with_name(path.name.removesuffix(DATA)))
        except OSError:  # it is being removed
            continue
        size += stat.st_size
        changed = max(changed, stat.st_mtime_ns)
    if attempt is None:
        return RunFiles(job, number, size, changed, UNKNOWN)
    pinned = "pinned" if attempt.pinned else ""
    return RunFiles(
        job,
        number,
        size,
        ended_ns=changed if attempt.ended_ns is None else attempt.ended_ns,
        protected="in progress" if live or attempt.busy else pinned,
        removed=attempt.removed and not attempt.pinned,
    )


def _delete_interrupted_removals_of_job(job: Path) -> None:
    for folder in _attempt_folders(job):
        if folder.name.startswith(GOING):
            shutil.rmtree(folder)
    if job.exists() and not any(job.iterdir()):
        job.rmdir()


def _attempt_folders(parent: Path) -> Iterator[Path]:
    """Yield the folders in a folder, in order; none if it does not exist."""
    if parent.is_dir():
        yield from sorted(each for each in parent.iterdir() if each.is_dir())
