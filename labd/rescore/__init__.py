"""Re-scoring: official session folders and labd's own runs, recomputed from their raw data.

Every number a runner published is recomputed from the logs and traces beside it and compared
to the printed digit; whatever is odd, missing or against the rules is a finding. A damaged
folder is a finding too, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labd.core.model import Finding
from labd.rescore.discover import SessionFiles, find_sessions
from labd.rescore.finding_codes import DAMAGE, FINDINGS
from labd.rescore.labd_runs import is_own, score_own
from labd.rescore.published import Published
from labd.rescore.rescore_session import score_session
from labd.rescore.session_report import SessionScore

__all__ = ["FINDINGS", "SessionFiles", "SessionScore", "Task", "find_tasks", "is_sound", "rescore"]


@dataclass(frozen=True, slots=True)
class Task:
    """A folder to re-score, and what the user calls it."""

    files: SessionFiles
    name: Path


def find_tasks(folders: Sequence[Path]) -> Iterator[Task]:
    """Every session at and below the folders, each once, named as the user named it."""
    seen: set[Path] = set()
    for folder in folders:
        for files in find_sessions(folder):
            place = files.folder.resolve()
            if place not in seen:
                seen.add(place)
                yield Task(files, files.folder)


def rescore(task: Task) -> list[SessionScore]:
    """Re-score one folder: one score, or one a mode for a run of labd."""
    try:
        if is_own(task.files) and (scores := score_own(task.files, task.name)):
            return scores
        return [score_session(task.files, task.name)]
    except Exception as error:  # noqa: BLE001 - the top of a folder's task: the others go on
        text = f"a defect of labd stopped the re-scoring: {error!r}"
        finding = Finding("labd-bug", text)
        return [SessionScore(task.name, None, None, None, (), {}, Published(), None, (finding,))]


def is_sound(score: SessionScore) -> bool:
    """Whether nothing differs from what was published and nothing is damaged or missing."""
    return score.agrees is not False and not any(f.code in DAMAGE for f in score.findings)
