"""A pyramid of nodes beside a trace, for exact summaries without reading all of it.

Beside the samples lies a folder with one file a level. A node of the first level stands for
64 consecutive samples, one of the next for 16 nodes, and so on::

    <name>.sigmf-pyramid/64        64 samples a node
    <name>.sigmf-pyramid/1024      16 of those
    <name>.sigmf-pyramid/16384
    <name>.sigmf-pyramid/262144
    <name>.sigmf-pyramid/whole     JSON; only once the trace is closed: samples, channels

A node is 24 bytes for each channel, little-endian: the sum (float64), minimum and maximum
(float32) of the samples it stands for, how many those are (uint32; lost ones do not count,
and without any the minimum and maximum are NaN), and 4 bytes of zero. Files only grow and
hold complete nodes alone, so that what a killed daemon left is right as far as it goes. A
pyramid that is missing, or does not belong to the samples, is made anew from them.
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
        folder: is made; must not exist.
        channels: of the trace.

    Raises:
        OSError: here and in every method, when the disk refuses.
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

    def append(self, values: Values) -> None:
        """Take the next samples in."""
        self._samples += len(values)
        values = np.concatenate([self._tail, values]) if len(self._tail) else values
        whole = len(values) - len(values) % NODE_SAMPLES
        self._tail = values[whole:].copy()
        if whole:
            self._write(0, nodes_of_samples(values[:whole]))

    def close(self) -> None:
        """Say that it is whole and let go of the files; safe to call twice."""
        if self._files:
            for file in self._files:
                os.fsync(file.fileno())
            self.abandon()
            described = {"samples": self._samples, "channels": self._tail.shape[1]}
            (self._folder / WHOLE).write_text(json.dumps(described), encoding="utf-8")

    def abandon(self) -> None:
        """Let go of the files; safe to call twice."""
        while self._files:
            self._files.pop().close()

    def _write(self, level: int, nodes: Nodes) -> None:
        write_all(self._files[level], nodes.tobytes())
        if level + 1 == len(LEVELS):
            return
        nodes = np.concatenate([self._tails[level], nodes])
        whole = len(nodes) - len(nodes) % FAN
        self._tails[level] = nodes[whole:].copy()
        if whole:
            self._write(level + 1, nodes_of_nodes(nodes[:whole]))


def load_pyramid(folder: Path, values: Values, *, live: bool) -> Pyramid:
    """The pyramid of these samples; one that is not to be trusted is made anew, and kept.

    Args:
        folder: where it is kept.
        values: the samples.
        live: whether a daemon is writing them just now.
    """
    kept = _read(folder, values)
    if kept is not None and (live or _is_whole(folder, values)) and _agrees(kept):
        return kept
    made = Pyramid.of(values)
    if not live:
        _keep(folder, made)
    return made


def drop_pyramid(folder: Path) -> None:
    """Remove a pyramid; none is harmless.

    Raises:
        OSError: the disk refuses.
    """
    if folder.exists():
        shutil.rmtree(folder)


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all of it to an unbuffered file, which may take less at a time.

    Raises:
        OSError: the disk refuses.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _read(folder: Path, values: Values) -> Pyramid | None:
    """The kept nodes as far as these samples go; ``None`` where they cannot be read."""
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
    return Pyramid.of(values, levels)


def map_rows(
    path: Path, dtype: np.dtype[Any], rows: int, columns: int, *, at_once: bool = False
) -> NDArray[Any]:
    """The first rows of a file of fixed records; mapped, not read.

    Args:
        path: the file.
        dtype: of a record.
        rows: how many; the file has them.
        columns: records a row.
        at_once: most pages will be wanted: one fault for all of a small file costs less.

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


def _is_whole(folder: Path, values: Values) -> bool:
    """Whether the pyramid was closed as that of as many samples and channels."""
    try:
        said = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
        sizes = [(folder / str(size)).stat().st_size for size in LEVELS]
    except (OSError, ValueError):
        return False
    samples, channels = values.shape
    row = channels * NODE.itemsize
    expected = [samples // size * row for size in LEVELS]
    return said == {"samples": samples, "channels": channels} and sizes == expected


def _agrees(pyramid: Pyramid) -> bool:
    """Whether a few nodes, the first and the last among them, are what the samples say."""
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


def _keep(folder: Path, pyramid: Pyramid) -> None:
    """Put a pyramid made anew in the place of the old one, where the disk allows it."""
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
