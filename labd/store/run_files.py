"""The files of runs: how much room they take, and how they go.

``traces/<job>/<attempt>/`` is one run. Removing one renames it first, so that a half removed
run is never taken for a whole one; a later sweep takes away what is left of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labd.core.retention import KeptRun
from labd.store.journal.kept_runs import RunRecord
from labd.store.traces.reader import is_live
from labd.store.traces.sigmf import DATA, EVENTS

GOING = ".going-"
"""Begins the name of a run's folder that is being removed."""

UNKNOWN = "not in the journal"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's files.

    Args:
        job: the job.
        attempt: the attempt.
        path: their folder.
        size_bytes: all of them together.
        changed_ns: when one of them was last written, ns since the epoch.
        live: one of its traces is being written.
    """

    job: str
    attempt: int
    path: Path
    size_bytes: int
    changed_ns: int
    live: bool


def find_runs(traces: Path) -> list[RunFolder]:
    """Every run that has files; what vanishes meanwhile does not count."""
    return [
        _measure(job.name, int(run.name), run)
        for job in _folders(traces)
        for run in _folders(job)
        if run.name.isdecimal()
    ]


def assess(folders: Iterable[RunFolder], records: Iterable[RunRecord]) -> list[KeptRun]:
    """Which of these runs may go, and why the others must stay.

    A run whose removal was begun may go; it is left out, for :func:`leftovers` has it.
    """
    known = {(record.job, record.attempt): record for record in records}
    runs: list[KeptRun] = []
    for folder in folders:
        record = known.get((folder.job, folder.attempt))
        if record is not None and record.removed and not record.pinned:
            continue
        ended_ns = folder.changed_ns
        if record is not None and record.ended_ns is not None:
            ended_ns = record.ended_ns
        why = _protected(folder, record)
        runs.append(KeptRun(folder.job, folder.attempt, folder.size_bytes, ended_ns, why))
    return runs


def leftovers(folders: Iterable[RunFolder], records: Iterable[RunRecord]) -> list[RunFolder]:
    """Runs whose removal was written down, but not done before labd ended."""
    begun = {(each.job, each.attempt) for each in records if each.removed and not each.pinned}
    return [each for each in folders if (each.job, each.attempt) in begun and not each.live]


def remove_run(traces: Path, job: str, attempt: int) -> None:
    """Remove a run's files, and the job's folder if nothing else is in it.

    Raises:
        OSError: the disk refuses; the next :func:`sweep_rests` tries again.
    """
    folder = traces / job / str(attempt)
    if folder.exists():
        folder.rename(folder.with_name(f"{GOING}{attempt}"))
    _remove_rests(traces / job)


def sweep_rests(traces: Path) -> None:
    """Remove what earlier removals left behind.

    Raises:
        OSError: the disk refuses.
    """
    for job in _folders(traces):
        if any(each.name.startswith(GOING) for each in _folders(job)):
            _remove_rests(job)


def unsealed_traces(traces: Path) -> list[Path]:
    """Every trace that is being written, or was when its daemon was killed."""
    return [
        path.with_name(path.name.removesuffix(EVENTS))
        for job in _folders(traces)
        for run in _folders(job)
        for path in sorted(run.glob(f"*{EVENTS}"))
    ]


def _protected(folder: RunFolder, record: RunRecord | None) -> str:
    if record is None:
        return UNKNOWN
    if folder.live or record.busy:
        return "in progress"
    return "pinned" if record.pinned else ""


def _measure(job: str, attempt: int, folder: Path) -> RunFolder:
    size = changed = 0
    live = False
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
            if path.name.endswith(DATA):
                live = live or is_live(path.with_name(path.name.removesuffix(DATA)))
        except OSError:  # it is being removed
            continue
        size += stat.st_size
        changed = max(changed, stat.st_mtime_ns)
    return RunFolder(job, attempt, folder, size, changed, live)


def _remove_rests(job: Path) -> None:
    for rest in _folders(job):
        if rest.name.startswith(GOING):
            shutil.rmtree(rest)
    if job.exists() and not any(job.iterdir()):
        job.rmdir()


def _folders(parent: Path) -> Iterator[Path]:
    """The folders in a folder, in order; none where there is no such."""
    if parent.is_dir():
        yield from sorted(each for each in parent.iterdir() if each.is_dir())
