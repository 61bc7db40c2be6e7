"""Session folders and the kinds of their files.

Names changed between the rounds: ``results.txt``, ``accuracy_results.txt``, ``postproc.txt``;
``log.txt``, ``performance_log.txt``; ``script.async``, ``performance_script.txt``; older rounds
name ``energy/`` ``power/``, one submission ``enegy/``. Any file may be gzipped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labd.core.model import Mode
from labd.rescore.tolerant_reading import TextLines, error_text

MODE_WORDS = {
    "accuracy": Mode.ACCURACY,
    "performance": Mode.PERFORMANCE,
    "energy": Mode.ENERGY,
    "enegy": Mode.ENERGY,
    "power": Mode.ENERGY,
}
BENCHMARK_WORDS = {
    word: name
    for name, words in {
        "kws01": "kws kws01 keyword_spotting",
        "ic01": "ic ic01 image_classification",
        "ic02": "ic2 ic02",
        "vww01": "vww vww01 visual_wake_words person_detection",
        "ad01": "ad ad01 anomaly_detection",
        "sww01": "sww sww01 strww01 streaming_wakeword",
    }.items()
    for word in words.split()
}
_KINDS = (
    ("own", re.compile(r"result-(accuracy|performance|energy)\.json")),
    ("script", re.compile(r"(.*[_-])?script([_-].*)?\.(async|txt)|.*\.async")),
    ("data", re.compile(r"(.*[_-])?results?([_-].*)?\.json")),
    ("results", re.compile(r"(.*[_-])?results?([_-].*)?\.txt")),
    ("postproc", re.compile(r"(.*[_-])?postproc([_-].*)?\.txt")),
    ("log", re.compile(r"(.*[_-])?log([_-].*)?\.(txt|log)|log")),
    ("trace", re.compile(r".*energy\.bin|trace.*\.bin")),
    ("stamps", re.compile(r".*timestamps?\.json")),
    ("outputs", re.compile(r"accuracy-outputs\.csv")),
    ("sigmf", re.compile(r".*\.sigmf-meta")),
    ("samples", re.compile(r".*\.sigmf-data")),
)
_SIGNATURE = re.compile(
    r"m-session-start|ulp-ml|Logging initialized|Performance results for|Energy data for"
    r"|Top[- ]1|Power Edition|True positives|\"infer\"|infer \d"
)
_SNIFFED_LINES = 200
_DECISIVE = ("trace", "stamps", "outputs", "sigmf", "samples", "own")
_SKIPPED = re.compile(r"\..*|__pycache__|node_modules")


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """Files of one folder by kind, those with the shortest names first.

    ``damage`` states why the folder could not be listed.
    """

    folder: Path
    kinds: dict[str, tuple[Path, ...]] = field(default_factory=dict[str, tuple[Path, ...]])
    damage: str = ""

    def first_of_kind(self, kind: str) -> Path | None:
        """Return the first file of a kind."""
        found = self.kinds.get(kind)
        return found[0] if found else None

    def all_of_kind(self, kind: str) -> Sequence[Path]:
        """Return all files of a kind."""
        return self.kinds.get(kind, ())


def list_files(folder: Path) -> SessionFiles:
    """Sort a folder's files by kind."""
    kinds: dict[str, list[Path]] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    except OSError as error:
        return SessionFiles(folder, damage=error_text(error))
    for name in sorted(names, key=lambda name: (len(name), name)):
        kind = kind_of(name)
        if kind:
            kinds.setdefault(kind, []).append(folder / name)
    return SessionFiles(folder, {kind: tuple(paths) for kind, paths in kinds.items()})


def kind_of(name: str) -> str | None:
    """Return the kind of a file by its name; ``None`` if it is not part of a session."""
    plain = name.lower().removesuffix(".gz")
    if plain.startswith("."):
        return None
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(plain)), None)


def find_sessions(folder: Path) -> Iterator[SessionFiles]:
    """Yield the session folders at and below a folder, in the order of their paths.

    A folder without any session is yielded itself, so that it is reported.
    """
    found = False
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _SKIPPED.fullmatch(name))
        if not (any(map(kind_of, names)) or _is_emptied(Path(path), folders, names)):
            continue
        files = list_files(Path(path))
        if looks_like_session(files):
            found = True
            yield files
    if not found:
        yield list_files(folder)


def looks_like_session(files: SessionFiles) -> bool:
    """Whether a folder is a session, even a damaged one."""
    if files.damage or files.folder.name.lower() in MODE_WORDS:
        return True
    if any(files.all_of_kind(kind) for kind in _DECISIVE):
        return True
    return any(_has_signature(path) for paths in files.kinds.values() for path in paths)


def _is_emptied(path: Path, folders: Sequence[str], names: Sequence[str]) -> bool:
    """Whether this is an empty folder of a mode among results."""
    return (
        not folders
        and not names
        and path.name.lower() in MODE_WORDS
        and "results" in (part.lower() for part in path.parts)
    )


def _has_signature(path: Path) -> bool:
    lines = zip(range(_SNIFFED_LINES), TextLines(path), strict=False)
    return any(_SIGNATURE.search(line) for _, line in lines)


def mode_of_path(folder: Path) -> Mode | None:
    """Return the mode in the name of a folder or its nearest parent that has one."""
    return next((MODE_WORDS[word] for word in _path_words(folder) if word in MODE_WORDS), None)


def benchmark_of_path(folder: Path) -> str | None:
    """Return the benchmark in the name of a folder or its nearest parent that has one."""
    words = (word for word in _path_words(folder) if word in BENCHMARK_WORDS)
    return next((BENCHMARK_WORDS[word] for word in words), None)


def _path_words(folder: Path) -> Iterator[str]:
    """Path parts from the last one on, each whole and then split."""
    for part in list(reversed(folder.absolute().parts))[:6]:
        name = part.lower()
        yield name
        yield from reversed(re.split(r"[^a-z0-9]+", name))
