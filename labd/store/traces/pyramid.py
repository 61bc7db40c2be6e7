"""The pyramid file of a trace: exact minimum, mean and maximum without reading every sample.

A folder beside the samples has one file per level. A node of the first level covers 64
consecutive samples, a node of the next level 16 nodes, and so on::

    <name>.sigmf-pyramid/64        64 samples per node
    <name>.sigmf-pyramid/1024      16 of those
    <name>.sigmf-pyramid/16384
    <name>.sigmf-pyramid/262144
    <name>.sigmf-pyramid/whole     JSON; only once the trace is closed: samples, channels

A node has 24 bytes per channel, little-endian: sum (float64), minimum and maximum (float32) of
its samples, their number (uint32), and 4 bytes of zero. Lost samples do not count; if all are
lost, minimum and maximum are NaN. A pyramid that is missing, or does not belong to the samples,
is computed from them again.

Why labd has its own: files are only appended to, in complete nodes, so that after a kill -9
samples and pyramid are correct as far as they go, and the samples beside it stay plain SigMF.
JLS, the Joulescope's format, has such summaries too and survives a killed writer, but it updates
indices in place, interpolates missing samples (README of https://github.com/jetperch/jls,
Features) and needs its library to be read; ``labd export --format jls`` writes it.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from labd.store.traces.summary import (
    FAN,
    LEVELS,
    NODE,
    NODE_SAMPLES,
    Nodes,
    Pyramid,
    Values,
    nodes_of_nodes,
    nodes_of_samples,
)

WHOLE = "whole"

_SPOTS = 8
_AT_ONCE_BYTES = 1 << 25


class PyramidFile:
    """A pyramid being written beside its trace; every method blocks on the disk.

    Args:
        folder: is created; must not exist.
        channels: of the trace.

    Raises:
        OSError: here and in every method, if a disk operation fails.
    """

    def __init__(self, folder: Path, channels: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._samples = 0
        self._tail: Values = np.empty((0, channels), "<f4")
        self._tails: list[Nodes] = [np.empty((0, channels), NODE) for _ in LEVELS[1:]]
        self._files: list[IO[bytes]] = []
        for samples in LEVELS:
            self._files.append((folder / str(samples)).open("xb", buffering=0))

    def append_samples(self, values: Values) -> None:
        """Append the next samples."""
        self._samples += len(values)
        values = np.concatenate([self._tail, values]) if len(self._tail) else values
        whole = len(values) - len(values) % NODE_SAMPLES
        self._tail = values[whole:].copy()
        if whole:
            self._write_level(0, nodes_of_samples(values[:whole]))

    def close(self) -> None:
        """Mark it as complete and close the files; safe to call twice."""
        if self._files:
            for file in self._files:
                os.fsync(file.fileno())
            self.close_incomplete()
            described = {"samples": self._samples, "channels": self._tail.shape[1]}
            (self._folder / WHOLE).write_text(json.dumps(described), encoding="utf-8")

    def close_incomplete(self) -> None:
        """Close the files without marking it as complete; safe to call twice."""
        while self._files:
            self._files.pop().close()

    def _write_level(self, level: int, nodes: Nodes) -> None:
        write_all(self._files[level], nodes.tobytes())
        if level + 1 == len(LEVELS):
            return
        nodes = np.concatenate([self._tails[level], nodes])
        whole = len(nodes) - len(nodes) % FAN
        self._tails[level] = nodes[whole:].copy()
        if whole:
            self._write_level(level + 1, nodes_of_nodes(nodes[:whole]))


def load_pyramid(folder: Path, values: Values, *, live: bool) -> Pyramid:
    """Load the pyramid of these samples; compute and store it if it is missing or wrong.

    Args:
        folder: of the pyramid.
        values: the samples.
        live: whether a daemon is writing them.
    """
    kept = _read_stored_levels(folder, values)
    if kept is not None and (live or _is_complete(folder, values)) and _agrees_with_samples(kept):
        return kept
    made = Pyramid.from_samples(values)
    if not live:
        _store_pyramid(folder, made)
    return made


def drop_pyramid(folder: Path) -> None:
    """Remove a pyramid, if there is one.

    Raises:
        OSError: a disk operation failed.
    """
    if folder.exists():
        shutil.rmtree(folder)


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write everything to an unbuffered file, in as many writes as it takes.

    Raises:
        OSError: a disk operation failed.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _read_stored_levels(folder: Path, values: Values) -> Pyramid | None:
    """Read the stored nodes of these samples; ``None`` if that fails."""
    channels = values.shape[1]
    levels: list[Nodes] = []
    try:
        for size in LEVELS:
            path = folder / str(size)
            there = path.stat().st_size // (channels * NODE.itemsize)
            count = min(there, len(values) // size)
            levels.append(map_rows(path, NODE, count, channels, at_once=True))
    except (OSError, ValueError):
        return None
    return Pyramid.from_samples(values, levels)


def map_rows(
    path: Path, dtype: np.dtype[Any], rows: int, columns: int, *, at_once: bool = False
) -> NDArray[Any]:
    """Map the first rows of a file of fixed-size records into memory.

    Args:
        path: the file.
        dtype: of a record.
        rows: how many; the file has them.
        columns: records per row.
        at_once: map all pages of a small file at once, because most will be read.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """
    if not rows:
        return np.empty((0, columns), dtype)
    size = rows * columns * dtype.itemsize
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if at_once and size <= _AT_ONCE_BYTES else 0)
    with path.open("rb", buffering=0) as file:
        mapped = mmap.mmap(file.fileno(), size, flags=flags, prot=mmap.PROT_READ)
    return np.frombuffer(mapped, dtype).reshape(rows, columns)


def _is_complete(folder: Path, values: Values) -> bool:
    """Whether the pyramid is marked as complete, for this number of samples and channels."""
    try:
        marked = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
        sizes = [(folder / str(size)).stat().st_size for size in LEVELS]
    except (OSError, ValueError):
        return False
    samples, channels = values.shape
    row = channels * NODE.itemsize
    expected = [samples // size * row for size in LEVELS]
    return marked == {"samples": samples, "channels": channels} and sizes == expected


def _agrees_with_samples(pyramid: Pyramid) -> bool:
    """Whether the first, the last and some other nodes match the samples."""
    nodes = pyramid.levels[0]
    if not len(nodes):
        return True
    spots = np.linspace(0, len(nodes) - 1, _SPOTS).astype(np.int64)
    indices = spots[:, None] * NODE_SAMPLES + np.arange(NODE_SAMPLES)
    made, kept = nodes_of_samples(pyramid.values[indices.reshape(-1)]), nodes[spots]
    same = all(
        np.array_equal(made[key], kept[key], equal_nan=key != "count")
        for key in ("low", "high", "count")
    )
    return same and np.allclose(made["sum"], kept["sum"], rtol=1e-9, atol=0)


def _store_pyramid(folder: Path, pyramid: Pyramid) -> None:
    """Replace the stored pyramid, if the disk allows it."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError:
        return
    try:
        temporary.chmod(0o755)
        for size, nodes in zip(LEVELS, pyramid.levels, strict=True):
            (temporary / str(size)).write_bytes(nodes.tobytes())
        samples, channels = pyramid.values.shape
        described = {"samples": samples, "channels": channels}
        (temporary / WHOLE).write_text(json.dumps(described), encoding="utf-8")
        drop_pyramid(folder)
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
