"""Export traces as CSV and Parquet; :mod:`labd.store.traces.jls` exports JLS.

A trace is exported in pieces. The file gets its name when it is complete.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import ConfigError
from labd.core.model import Edge
from labd.store.traces.reader import Trace
from labd.store.traces.sigmf import UNITS

PIECE_ROWS = 1 << 17
EXTRA = "pip install 'labd[export]'"

Progress = Callable[[int], None]
"""Called with the number of samples that were written since the last call."""


class Format(StrEnum):
    """Export formats."""

    CSV = "csv"
    PARQUET = "parquet"
    JLS = "jls"


@dataclass(frozen=True, slots=True)
class TraceRange:
    """The samples [start, stop) of a trace, ``decimate`` of them per row."""

    start: int
    stop: int
    decimate: int = 1

    def __len__(self) -> int:
        """Number of samples."""
        return self.stop - self.start


def choose_range(
    trace: Trace,
    *,
    window: int | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    decimate: int = 1,
) -> TraceRange:
    """Select the samples to export.

    Args:
        trace: the trace.
        window: number of a window: select its whole sample periods.
        start_s: seconds since the acquisition began; limited to the window, if there is one.
        stop_s: likewise.
        decimate: samples per row.

    Raises:
        ConfigError: ``no-window``, ``no-samples``: the trace does not have them;
            ``bad-seconds``, ``bad-decimate``: a number is out of range.
    """
    length_s = len(trace.values) / trace.sample_rate_hz
    _check_seconds(start_s, stop_s, length_s)
    first, last = 0, len(trace.values)
    if window is not None:
        first, last = _sample_range_of_window(trace, window)
    if start_s is not None:
        first = max(first, round(start_s * trace.sample_rate_hz))
    if stop_s is not None:
        last = min(last, round(stop_s * trace.sample_rate_hz))
    if first >= last:
        what = f"{trace.path} has no samples there"
        raise ConfigError("no-samples", what, f"it is {length_s:g} s long")
    if not 1 <= decimate <= last - first:
        what = f"{decimate} samples per row, but there are {last - first}"
        raise ConfigError("bad-decimate", what, f"use 1 to {last - first}")
    return TraceRange(first, last, decimate)


def _check_seconds(start_s: float | None, stop_s: float | None, length_s: float) -> None:
    """Check that both are seconds since the beginning of the trace, and in order."""
    allowed = f"use 0 to {length_s:g}, the trace's seconds"
    for seconds in (start_s, stop_s):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigError("bad-seconds", f"{seconds:g} s is not in a trace", allowed)
    if start_s is not None and stop_s is not None and start_s >= stop_s:
        what = f"the start at {start_s:g} s is not before the end at {stop_s:g} s"
        raise ConfigError("bad-seconds", what, allowed)


def export_csv(trace: Trace, part: TraceRange, output: Path, progress: Progress) -> None:
    """Write comma-separated values: a description in ``#`` lines, a header, the rows.

    A lost sample is an empty field.

    Raises:
        OSError: a disk operation failed.
    """
    with write_then_replace(output) as path, path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {line}\n" for line in _describe_export(trace, part))
        names = [*_column_names(trace, part), "window", "edges"]
        file.write(",".join(names) + "\n")
        template = ",".join([*(_FORMATS.get(name, "%.9g") for name in names[:-2]), "%s,%s\n"])
        for piece in _row_pieces(trace, part):
            columns = [column.tolist() for column in piece.columns.values()]
            rows = zip(*columns, _format_window_numbers(piece.windows), piece.edges, strict=True)
            flat = tuple(itertools.chain.from_iterable(rows))
            file.write(_LOST.sub("", template * len(piece.edges) % flat))
            progress(piece.samples)


def export_parquet(trace: Trace, part: TraceRange, output: Path, progress: Progress) -> None:
    """Write Parquet: the columns of the CSV, null if lost, all metadata under ``labd``.

    The metadata of each column with a physical quantity holds its ``unit``.

    Raises:
        ConfigError: ``no-pyarrow``: it is not installed.
        OSError: a disk operation failed.
    """
    arrow: Any = import_extra("pyarrow", "Parquet")
    parquet: Any = import_extra("pyarrow.parquet", "Parquet")
    types = {"index": arrow.int64(), "t_s": arrow.float64(), "samples": arrow.int64()}
    fields = [
        arrow.field(name, types.get(name, arrow.float32()), metadata=_unit_of(name))
        for name in _column_names(trace, part)
    ]
    fields += [arrow.field("window", arrow.int32()), arrow.field("edges", arrow.string())]
    schema = arrow.schema(fields, metadata={"labd": json.dumps(trace.meta)})
    with write_then_replace(output) as path, parquet.ParquetWriter(path, schema) as writer:
        for piece in _row_pieces(trace, part):
            arrays = [
                arrow.array(column, schema.field(name).type, from_pandas=True)
                for name, column in piece.columns.items()
            ]
            windows = arrow.array(piece.windows, arrow.int32(), mask=piece.windows == 0)
            arrays += [windows, arrow.array([text or None for text in piece.edges])]
            cast = [each.cast(field.type) for each, field in zip(arrays, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(cast, schema=schema))
            progress(piece.samples)


@contextmanager
def write_then_replace(output: Path) -> Generator[Path]:
    """Yield a temporary file that replaces ``output`` after the body.

    Raises:
        OSError: a disk operation failed.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(output)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def import_extra(module: str, purpose: str) -> ModuleType:
    """Import an optional library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ConfigError(f"no-{name}", f"{purpose} files need {name}: {error}", EXTRA) from error


def format_start_time(trace: Trace) -> str:
    """Return the UTC time of the first sample by the host."""
    return str(trace.meta["captures"][0]["core:datetime"])


# ---- pieces ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Rows: columns by name, and for each row its window (0: none) and its edges."""

    samples: int
    columns: dict[str, NDArray[Any]]
    windows: NDArray[np.int32]
    edges: list[str]


_LOST = re.compile(r"(?<=,)nan(?=,)")
_SYMBOLS = {"s": "s"} | {name.rpartition("_")[2]: unit for name, unit in UNITS.items()}
"""Unit symbols by the last part of a column's name."""

_FORMATS = {"index": "%d", "t_s": "%.9f", "samples": "%d"}


def _column_names(trace: Trace, part: TraceRange) -> list[str]:
    """Return the names of the numeric columns."""
    if part.decimate == 1:
        return ["index", "t_s", *trace.channels]
    split = [channel.rpartition("_") for channel in trace.channels]
    figures = [
        f"{stem}_{what}_{unit}" for stem, _, unit in split for what in ("min", "mean", "max")
    ]
    return ["index", "t_s", "samples", *figures]


def _unit_of(column: str) -> dict[str, str] | None:
    """Return the unit of a column as its metadata holds it; ``None`` for a plain number."""
    unit = _SYMBOLS.get(column.rpartition("_")[2])
    return {"unit": unit} if unit else None


def _row_pieces(trace: Trace, part: TraceRange) -> Iterator[_Piece]:
    edges = _edges_by_row(trace, part)
    step = PIECE_ROWS * part.decimate
    for start in range(part.start, part.stop, step):
        stop = min(start + step, part.stop)
        index = np.arange(start, stop, part.decimate)
        numbers = (
            _raw_columns(trace, start, stop)
            if part.decimate == 1
            else _decimated_columns(trace, start, stop, part)
        )
        arrays = [index, index / trace.sample_rate_hz, *numbers]
        columns = dict(zip(_column_names(trace, part), arrays, strict=True))
        texts = [edges.get(row, "") for row in index.tolist()] if edges else [""] * len(index)
        yield _Piece(stop - start, columns, _window_number_per_row(trace, index), texts)


def _raw_columns(trace: Trace, start: int, stop: int) -> list[NDArray[Any]]:
    return [trace.values[start:stop, column] for column in range(len(trace.channels))]


def _decimated_columns(trace: Trace, start: int, stop: int, part: TraceRange) -> list[NDArray[Any]]:
    """Return the count of samples not lost, then minimum, mean and maximum per channel."""
    whole = start + (stop - start) // part.decimate * part.decimate
    count: NDArray[np.int64] = np.empty(0, np.int64)
    figures: list[NDArray[Any]] = []
    for channel in trace.channels:
        parts = [
            trace.summarise_range(-(-(last - first) // part.decimate), first, last, channel)
            for first, last in ((start, whole), (whole, stop))
        ]
        if channel == trace.channels[0]:
            count = np.concatenate([each.count for each in parts])
        figures += [
            np.concatenate([getattr(each, key) for each in parts])
            for key in ("low", "mean", "high")
        ]
    return [count, *figures]


def _edges_by_row(trace: Trace, part: TraceRange) -> dict[int, str]:
    """Return edges by the first sample of their row: ``d7:fall@1234.5``, separated by blanks."""
    rows: defaultdict[int, list[Edge]] = defaultdict(list)
    for edge in trace.edges:
        if part.start <= edge.index < part.stop:
            rows[int(edge.index - (edge.index - part.start) % part.decimate)].append(edge)
    return {
        row: " ".join(
            f"{edge.line}:{'rise' if edge.rising else 'fall'}@{edge.index:.12g}" for edge in some
        )
        for row, some in rows.items()
    }


def _window_number_per_row(trace: Trace, index: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the number of the window that each row begins in; 0 for none."""
    found = np.zeros(len(index), np.int32)
    for window in trace.windows:
        if window.edge_span is not None:
            first, last = map(int, window.edge_span)
            found[(index >= first) & (index < last)] = window.number
    return found


def _format_window_numbers(windows: NDArray[np.int32]) -> Sequence[str]:
    if not windows.any():
        return [""] * len(windows)
    return [str(number) if number else "" for number in windows.tolist()]


def _sample_range_of_window(trace: Trace, number: int) -> tuple[int, int]:
    spans = {each.number: each.edge_span for each in trace.windows if each.edge_span is not None}
    if number in spans:
        first, last = spans[number]
        return int(first), int(last)
    numbers = [str(each) for each in spans]
    known = f"it has {', '.join(numbers)}" if numbers else "it has none with edges"
    raise ConfigError("no-window", f"{trace.path} has no window {number}", known)


def _describe_export(trace: Trace, part: TraceRange) -> list[str]:
    """Return the description of a trace, one line per item."""
    who = trace.instrument
    named = " ".join(filter(None, (who.kind, who.name, who.serial, who.firmware)))
    units = ", ".join(f"{channel} in {UNITS[channel]}" for channel in trace.channels)
    lines = [
        f"labd trace {trace.path.name}: {units}",
        f"instrument: {named}{', simulated' if who.simulated else ''}",
        f"sample rate: {trace.sample_rate_hz!r} Hz, first sample at {format_start_time(trace)}",
        f"samples: {part.start} to {part.stop - 1} of {len(trace.values)}"
        + (f", {part.decimate} per row" if part.decimate > 1 else ""),
    ]
    if not trace.complete:
        lines.append("incomplete: the acquisition ended with an error")
    return [line.replace("\n", " ") for line in lines]
