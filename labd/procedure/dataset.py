"""Accuracy sets in the official layout: ``y_labels.csv`` beside one ``.bin`` file per input.

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
from labd.core.suite import Benchmark

LABELS = "y_labels.csv"


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
    """A complete accuracy set; ``sha256`` is that of the labels file."""

    folder: Path
    rows: tuple[Row, ...]
    sha256: str

    def read_file(self, row: Row) -> bytes:
        """Read a complete input file.

        Raises:
            JobError: it cannot be read.
        """
        try:
            return (self.folder / row.file).read_bytes()
        except OSError as error:
            raise JobError("data-missing", f"{self.folder / row.file}: {error.strerror}") from error

    def iter_inputs(self, row: Row) -> Iterator[bytes]:
        """Yield the inputs of one file for the DUT: the file, or its windows in order."""
        data = self.read_file(row)
        for start in range(0, len(data) - row.window_bytes + 1, row.stride_bytes):
            yield data[start : start + row.window_bytes]


def find_dataset(folders: Sequence[Path], benchmark: Benchmark) -> Dataset:
    """Find and check a benchmark's accuracy set in the lab's data set folders.

    Raises:
        JobError: there is none, a row is malformed, or an input file is missing or has the
            wrong size; the text names the file, the line and the expected value.
    """
    for folder in folders:
        labels = folder / benchmark.name / LABELS
        if labels.is_file():
            return _load_dataset(labels, benchmark)
    searched = ", ".join(str(folder / benchmark.name) for folder in folders) or "nothing"
    raise JobError(
        "dataset-missing",
        f"the accuracy set of {benchmark.name} is missing: no {LABELS} in {searched}",
        "put the set there or add its folder to [lab] datasets in stations.toml",
    )


def _load_dataset(labels: Path, benchmark: Benchmark) -> Dataset:
    try:
        content = labels.read_bytes()
        lines = list(csv.reader(content.decode("utf-8").splitlines()))
    except OSError as error:
        raise JobError("labels-unreadable", f"{labels}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise JobError("labels-malformed", f"{labels} is not a CSV file: {error}") from error
    rows = tuple(
        _parse_row(fields, f"{labels}:{number}", benchmark)
        for number, fields in enumerate(lines, 1)
        if fields
    )
    if not rows:
        raise JobError("labels-empty", f"{labels} lists no input file")
    for row in rows:
        _check_input_size(labels.parent / row.file, row)
    return Dataset(labels.parent, rows, hashlib.sha256(content).hexdigest())


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
    if window != benchmark.input_bytes:
        takes = f"{benchmark.name} takes {benchmark.input_bytes}"
        raise JobError("labels-malformed", f"{where}: windows of {window} bytes, but {takes}")
    return Row(file, classes, label, window, stride)


def _check_input_size(path: Path, row: Row) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        what = f"{path}: {error.strerror}"
        raise JobError("data-missing", what, "complete the data set") from error
    whole = size >= row.window_bytes and (size - row.window_bytes) % row.stride_bytes == 0
    single = row.stride_bytes == row.window_bytes
    if not whole or (single and size != row.window_bytes):
        expected = f"{row.window_bytes}"
        if not single:
            expected += f" plus a multiple of {row.stride_bytes}"
        raise JobError("data-size", f"{path} has {size} bytes, expected {expected}")
