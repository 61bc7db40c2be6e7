"""Re-scoring of official session folders and of labd's runs, from their raw data.

Every published number is recomputed from the logs and traces beside it and compared to the
printed digit. Whatever is unusual, missing or against the rules is a finding. A damaged folder
is a finding too, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from labd.core.model import Finding
from labd.rescore.finding_codes import DAMAGE, FINDINGS
from labd.rescore.labd_runs import is_labd_run, score_labd_run
from labd.rescore.published import Published
from labd.rescore.rescore_session import score_session
from labd.rescore.session_files import SessionFiles, find_sessions
from labd.rescore.session_score import SessionScore

__all__ = ["FINDINGS", "SessionFiles", "SessionScore", "find_tasks", "is_sound", "rescore_folder"]


def find_tasks(folders: Sequence[Path]) -> Iterator[SessionFiles]:
    """Find every session at and below the folders, each once, by the path the user gave."""
    seen: set[Path] = set()
    for folder in folders:
        for files in find_sessions(folder):
            place = files.folder.resolve()
            if place not in seen:
                seen.add(place)
                yield files


def rescore_folder(files: SessionFiles) -> list[SessionScore]:
    """Re-score one folder: one score, or one per mode for a run of labd."""
    try:
        if is_labd_run(files) and (scores := score_labd_run(files)):
            return scores
        return [score_session(files)]
    except Exception as error:  # noqa: BLE001 - top of a task: the other folders continue
        text = f"a defect of labd stopped the re-scoring: {error!r}"
        finding = Finding("labd-bug", text)
        return [SessionScore(files.folder, None, None, None, (), {}, Published(), None, (finding,))]


def is_sound(score: SessionScore) -> bool:
    """Whether nothing differs from the published values and nothing is damaged or missing."""
    return score.agrees is not False and not any(f.code in DAMAGE for f in score.findings)
