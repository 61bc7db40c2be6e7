"""Data sets in the official layout: ``y_labels.csv`` beside one ``.bin`` file per input.

Rows without a header: ``file,classes,class[,window_bytes,stride_bytes]``. With the last two, an
input file is cut into overlapping windows whose outputs are averaged (ad01). Source:
github.com/eembc/energyrunner, datasets/README.md.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labd.core.errors import JobError
from labd.core.model import Mode
from labd.core.official_sets import DataJudgement, LabelledFile, judge_files
from labd.core.suite import WINDOWS, Benchmark

LABELS = "y_labels.csv"
MISSING = "data-missing"
NAMED_FILES = 3
"""Files that an error names; it counts the others."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled input file."""

    file: str
    classes: int
    label: int
    window_bytes: int
    stride_bytes: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """The labels of a data set, with the inputs that a job's modes need.

    Args:
        folder: of its files.
        labels: name of the labels file.
        sha256: of the labels file.
        rows: in the order of the labels file.
        window_rows: of performance and energy windows: :data:`WINDOWS` different inputs; empty if
            the job has neither mode.
        judgement: how far it is the benchmark's official set, by files and labels.
    """

    folder: Path
    labels: str
    sha256: str
    rows: tuple[Row, ...]
    window_rows: tuple[Row, ...]
    judgement: DataJudgement

    def read_file(self, row: Row) -> bytes:
        """Read a complete input file.

        Raises:
            JobError: it cannot be read.
        """
        return _read_input(self.folder / row.file)

    def iter_inputs(self, row: Row) -> Iterator[bytes]:
        """Yield the inputs of one file for the DUT: the file, or its windows in order."""
        data = self.read_file(row)
        for start in range(0, len(data) - row.window_bytes + 1, row.stride_bytes):
            yield data[start : start + row.window_bytes]


class SentInputs:
    """SHA-256 over the inputs that were sent to the DUT, each once, in order of first sending."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: set[tuple[str, int]] = set()

    def add(self, data: bytes, file: str, number: int) -> None:
        """Add input ``number`` of a file, unless it was sent before."""
        if (file, number) not in self._seen:
            self._seen.add((file, number))
            self._hash.update(data)

    @property
    def count(self) -> int:
        """Number of inputs."""
        return len(self._seen)

    @property
    def sha256(self) -> str:
        """Hash of their bytes."""
        return self._hash.hexdigest()


def find_dataset(
    folders: Sequence[Path], benchmark: Benchmark, modes: Sequence[Mode], labels: str = LABELS
) -> Dataset:
    """Find the first of the lab's data set folders that has every input the modes need.

    Accuracy needs every input of the list, the other modes the first five different ones.

    Raises:
        JobError: there is none, a row is malformed, or an input file is missing or has the
            wrong size; the text names the file, the line and the expected value.
    """
    incomplete: list[JobError] = []
    for folder in folders:
        path = folder / benchmark.name / labels
        if path.is_file():
            try:
                return _load_dataset(path, benchmark, modes)
            except JobError as error:
                if error.code != MISSING:
                    raise
                incomplete.append(error)
    if incomplete:
        where = "docs/official-benchmarks.md states where to get them"
        what = "; ".join(error.what for error in incomplete)
        raise JobError(MISSING, what, where if benchmark.official else "complete the data set")
    searched = ", ".join(str(folder / benchmark.name) for folder in folders) or "nothing"
    raise JobError(
        "dataset-missing",
        f"the data set of {benchmark.name} is missing: no {labels} in {searched}",
        "put the set there or add its folder to [lab] datasets in stations.toml",
    )


def _load_dataset(labels: Path, benchmark: Benchmark, modes: Sequence[Mode]) -> Dataset:
    content, rows = _read_rows(labels, benchmark)
    folder = labels.parent
    needed = rows if Mode.ACCURACY in modes else rows[:WINDOWS]
    inputs = _count_inputs(folder, needed)
    timed = any(mode is not Mode.ACCURACY for mode in modes)
    files = [LabelledFile(row.file, row.label, inputs.get(row.file), row.classes) for row in rows]
    return Dataset(
        folder,
        labels.name,
        hashlib.sha256(content).hexdigest(),
        rows,
        _choose_window_rows(labels, rows) if timed else (),
        judge_files(benchmark.name, files),
    )


def _read_rows(labels: Path, benchmark: Benchmark) -> tuple[bytes, tuple[Row, ...]]:
    try:
        content = labels.read_bytes()
        lines = list(csv.reader(content.decode("utf-8-sig").splitlines()))
    except OSError as error:
        raise JobError("labels-unreadable", f"{labels}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise JobError("labels-malformed", f"{labels} is not a CSV file: {error}") from error
    rows: dict[str, Row] = {}
    for number, fields in enumerate(lines, 1):
        if not fields:
            continue
        row = _parse_row(fields, f"{labels}:{number}", benchmark)
        if row.file in rows:
            what = f"{labels}:{number}: {row.file} is listed a second time"
            raise JobError("labels-malformed", what, "list every input once")
        rows[row.file] = row
    if not rows:
        raise JobError("labels-empty", f"{labels} lists no input file")
    return content, tuple(rows.values())


def _parse_row(fields: list[str], where: str, benchmark: Benchmark) -> Row:
    if len(fields) not in {3, 5}:
        what = f"{where}: {len(fields)} fields; a row is file,classes,class[,window,stride]"
        raise JobError("labels-malformed", what)
    file = fields[0].strip()
    if not file or Path(file).name != file:
        raise JobError("labels-malformed", f"{where}: {file!r} is not a plain file name")
    try:
        classes, label, *cut = (int(field) for field in fields[1:])
    except ValueError:
        what = f"{where}: {','.join(fields[1:])} are not whole numbers"
        raise JobError("labels-malformed", what) from None
    window, stride = cut or (benchmark.input_bytes, benchmark.input_bytes)
    if not 0 <= label < classes or stride < 1:
        raise JobError("labels-malformed", f"{where}: class {label} of {classes}, stride {stride}")
    if classes != benchmark.classes:
        what = f"{where}: {classes} classes, but {benchmark.name} has {benchmark.classes}"
        raise JobError("labels-malformed", what)
    if window != benchmark.input_bytes:
        takes = f"{benchmark.name} takes {benchmark.input_bytes}"
        raise JobError("labels-malformed", f"{where}: windows of {window} bytes, but {takes}")
    return Row(file, classes, label, window, stride)


def _count_inputs(folder: Path, rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of inputs that each file is cut into.

    Raises:
        JobError: files are missing (all are counted), or one has the wrong size.
    """
    sizes: dict[str, int] = {}
    missing: list[str] = []
    for row in rows:
        try:
            sizes[row.file] = (folder / row.file).stat().st_size
        except OSError as error:
            missing.append(f"{row.file}: {error.strerror}")
    if missing:
        more = ", …" if len(missing) > NAMED_FILES else ""
        named = ", ".join(missing[:NAMED_FILES])
        what = f"{len(missing)} of {len(rows)} inputs are missing in {folder} ({named}{more})"
        raise JobError(MISSING, what)
    return {row.file: _inputs_in(folder / row.file, sizes[row.file], row) for row in rows}


def _inputs_in(path: Path, size: int, row: Row) -> int:
    beyond = size - row.window_bytes
    single = row.stride_bytes == row.window_bytes
    if beyond < 0 or beyond % row.stride_bytes or (single and beyond):
        expected = f"{row.window_bytes}"
        if not single:
            expected += f" plus a multiple of {row.stride_bytes}"
        raise JobError("data-size", f"{path} has {size} bytes, expected {expected}")
    return 1 + beyond // row.stride_bytes


def _choose_window_rows(labels: Path, rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the first rows whose first inputs differ, one per window.

    Raises:
        JobError: the set has fewer different inputs than a mode has windows.
    """
    chosen: dict[bytes, Row] = {}
    for row in rows:
        chosen.setdefault(_read_input(labels.parent / row.file)[: row.window_bytes], row)
        if len(chosen) == WINDOWS:
            return tuple(chosen.values())
    raise JobError(
        "too-few-inputs",
        f"{labels} lists {len(chosen)} different inputs; performance and energy need {WINDOWS}",
        "add inputs, or measure accuracy only",
    )


def _read_input(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JobError(MISSING, f"{path}: {error.strerror}") from error
