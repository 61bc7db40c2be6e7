"""Exact minimum, mean and maximum of any stretch of a trace without reading all of it.

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
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

NODE_SAMPLES = 64
FAN = 16
LEVELS = tuple(NODE_SAMPLES * FAN**level for level in range(4))
"""Samples a node stands for, by level."""

NODE = np.dtype(
    [("sum", "<f8"), ("low", "<f4"), ("high", "<f4"), ("count", "<u4"), ("spare", "<u4")]
)
WHOLE = "whole"

_SPOTS = 8

Nodes = NDArray[np.void]
"""Nodes of shape (n, channels)."""

Values = NDArray[np.float32]
"""Samples of shape (n, channels), NaN where lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Exact figures of consecutive stretches.

    Args:
        bounds: sample indices, shape (points + 1,); stretch ``k`` is ``bounds[k]`` up to and
            without ``bounds[k + 1]``.
        low: minimum of each stretch, shape (points,); NaN where every sample was lost.
        mean: arithmetic mean of those not lost.
        high: maximum.
        count: how many were not lost.
    """

    bounds: NDArray[np.int64]
    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]


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
            self._write(0, _nodes_of_samples(values[:whole]))

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
            self._write(level + 1, _nodes_of_nodes(nodes[:whole]))


@dataclass(frozen=True, slots=True, eq=False)
class Pyramid:
    """Samples and the nodes above them.

    Args:
        values: shape (n, channels).
        levels: nodes by level: all that ``n`` samples fill.
    """

    values: Values
    levels: Sequence[Nodes]

    @classmethod
    def of(cls, values: Values, levels: Sequence[Nodes] = ()) -> Pyramid:
        """Make the nodes in memory, but for those there are already."""
        made: list[Nodes] = []
        for level, size in enumerate(LEVELS):
            wanted = len(values) // size
            there = levels[level][:wanted] if levels else np.empty((0, values.shape[1]), NODE)
            if len(there) < wanted:
                if level == 0:
                    pieces = range(len(there) * size, wanted * size, LEVELS[-1])
                    new = [
                        _nodes_of_samples(values[at : wanted * size][: LEVELS[-1]]) for at in pieces
                    ]
                else:
                    new = [_nodes_of_nodes(made[level - 1][len(there) * FAN : wanted * FAN])]
                there = np.concatenate([there, *new])
            made.append(there)
        return cls(values, made)

    def summary(self, start: int, stop: int, points: int, channel: int = 0) -> Summary:
        """Exact figures of up to ``points`` stretches of the samples [start, stop).

        Stretches differ in length by one sample at most; there are no empty ones. The range
        is cut to the samples there are.
        """
        start = min(max(start, 0), len(self.values))
        stop = min(max(stop, start), len(self.values))
        points = max(0, min(points, stop - start))
        bounds = start + np.arange(points + 1, dtype=np.int64) * (stop - start) // max(points, 1)
        found = self._figures(bounds, channel) if points else _nothing(0)
        mean = np.divide(
            found.total, found.count, out=np.full(points, np.nan), where=found.count > 0
        )
        low, high = found.low.astype(np.float64), found.high.astype(np.float64)
        return Summary(bounds, low, mean, high, found.count)

    def _figures(self, bounds: NDArray[np.int64], channel: int) -> _Figures:
        """Put stretches together from whole nodes and what lies between them and the bounds.

        The whole nodes are of the highest level that fits into every stretch; the node at
        each bound is taken apart, level by level: one side of it belongs to the stretch
        before the bound, the other to that after it.
        """
        shortest = (bounds[-1] - bounds[0]) // (len(bounds) - 1)
        level = sum(size <= shortest for size in LEVELS) - 1
        if level < 0:
            return _of_samples(
                self.values[bounds[0] : bounds[-1], channel], bounds[:-1] - bounds[0]
            )
        split = bounds // LEVELS[level]
        inside = self.levels[level][split[0] : split[-1], channel]
        begins = np.stack([split[:-1], split[:-1] + 1], axis=1).reshape(-1) - split[0]
        begins = np.minimum(begins, len(inside) - 1)
        found = _of_nodes(inside, begins)[1::2].where(split[:-1] + 1 < split[1:])
        while level > 0:
            level -= 1
            found = found.with_parts(
                *_split_nodes(self.levels[level][:, channel], split, bounds // LEVELS[level])
            )
            split = bounds // LEVELS[level]
        return found.with_parts(*_split_samples(self.values[:, channel], split, bounds))


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


@dataclass(frozen=True, slots=True, eq=False)
class _Figures:
    """Figures of many ranges: minimum, maximum, sum and number of the samples not lost."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    total: NDArray[np.float64]
    count: NDArray[np.int64]

    def __getitem__(self, some: slice) -> _Figures:
        return _Figures(self.low[some], self.high[some], self.total[some], self.count[some])

    def where(self, real: NDArray[np.bool_]) -> _Figures:
        """Those of real ranges; an empty one has no samples."""
        return _Figures(
            np.where(real, self.low, np.float32(np.nan)),
            np.where(real, self.high, np.float32(np.nan)),
            np.where(real, self.total, 0.0),
            np.where(real, self.count, 0),
        )

    def with_parts(self, before: _Figures, after: _Figures) -> _Figures:
        """Stretches with what lies before and after each bound (one more than stretches)."""
        head, tail = after[:-1], before[1:]
        return _Figures(
            np.fmin(np.fmin(self.low, head.low), tail.low),
            np.fmax(np.fmax(self.high, head.high), tail.high),
            self.total + head.total + tail.total,
            self.count + head.count + tail.count,
        )


def _nothing(ranges: int) -> _Figures:
    lost = np.full(ranges, np.nan, np.float32)
    return _Figures(lost, lost, np.zeros(ranges), np.zeros(ranges, np.int64))


def _of_samples(values: NDArray[np.float32], begins: NDArray[np.int64]) -> _Figures:
    """Figures of the ranges of samples that begin there, each up to the next."""
    exact = values.astype(np.float64)
    count = np.diff(begins, append=len(values))
    lost = np.isnan(values)
    if lost.any():
        count = count - np.add.reduceat(lost, begins, dtype=np.int64)
        exact[lost] = 0.0
    low, high = np.fmin.reduceat(values, begins), np.fmax.reduceat(values, begins)
    return _Figures(low, high, np.add.reduceat(exact, begins), count)


def _of_nodes(nodes: NDArray[np.void], begins: NDArray[np.int64]) -> _Figures:
    """Figures of the ranges of nodes that begin there, each up to the next."""
    return _Figures(
        np.fmin.reduceat(nodes["low"], begins),
        np.fmax.reduceat(nodes["high"], begins),
        np.add.reduceat(nodes["sum"], begins),
        np.add.reduceat(nodes["count"], begins, dtype=np.int64),
    )


def _split_nodes(
    nodes: NDArray[np.void], above: NDArray[np.int64], split: NDArray[np.int64]
) -> tuple[_Figures, _Figures]:
    """Nodes under ``above[k]`` that lie before and after the one numbered ``split[k]``."""
    rows = np.arange(len(above)) * FAN
    at = split - above * FAN
    begins = np.stack([rows, rows + at, np.minimum(rows + at + 1, rows[-1] + FAN - 1)], axis=1)
    indices = (above[:, None] * FAN + np.arange(FAN)).reshape(-1)
    found = _of_nodes(_pick(nodes, np.minimum(indices, len(nodes) - 1)), begins.reshape(-1))
    return found[0::3].where(at > 0), found[2::3].where(at < FAN - 1)


def _split_samples(
    values: NDArray[np.float32], above: NDArray[np.int64], split: NDArray[np.int64]
) -> tuple[_Figures, _Figures]:
    """Samples of node ``above[k]`` that lie before sample ``split[k]``, and from it on."""
    at = split - above * NODE_SAMPLES
    count = len(values) // NODE_SAMPLES
    whole = values[: count * NODE_SAMPLES].reshape(count, NODE_SAMPLES)
    some = whole[np.minimum(above, count - 1)]  # whole rows: their samples' indices cost more
    if above[-1] == count:
        rest = values[count * NODE_SAMPLES :]
        some[-1, : len(rest)] = rest
    rows = np.arange(len(above)) * NODE_SAMPLES
    found = _of_samples(some.reshape(-1), np.stack([rows, rows + at], axis=1).reshape(-1))
    return found[0::2].where(at > 0), found[1::2]


def _pick(nodes: NDArray[np.void], indices: NDArray[np.int64]) -> Any:
    """Nodes by number, field by field: NumPy takes records ten times slower."""
    return {key: nodes[key][indices] for key in ("sum", "low", "high", "count")}


def _nodes_of_samples(values: Values) -> Nodes:
    """Nodes of the first level, shape (n / 64, channels)."""
    nodes = np.zeros((len(values) // NODE_SAMPLES, values.shape[1]), NODE)
    for channel in range(values.shape[1]):
        rows = values[:, channel].reshape(-1, NODE_SAMPLES)
        node = nodes[:, channel]
        node["low"] = np.fmin.reduce(rows, axis=1)
        node["high"] = np.fmax.reduce(rows, axis=1)
        node["sum"] = np.add.reduce(rows, axis=1, dtype=np.float64)
        node["count"] = NODE_SAMPLES
        holed = np.flatnonzero(np.isnan(node["sum"]))
        if len(holed):
            known = ~np.isnan(rows[holed])
            some = np.where(known, rows[holed], 0.0)
            node["sum"][holed] = np.add.reduce(some, axis=1, dtype=np.float64)
            node["count"][holed] = known.sum(axis=1)
    return nodes


def _nodes_of_nodes(nodes: Nodes) -> Nodes:
    """Nodes one level up, shape (n / 16, channels)."""
    rows = nodes.reshape(-1, FAN, nodes.shape[1])
    above = np.zeros((len(rows), nodes.shape[1]), NODE)
    above["sum"] = np.add.reduce(rows["sum"], axis=1)
    above["count"] = np.add.reduce(rows["count"], axis=1)
    above["low"] = np.fmin.reduce(rows["low"], axis=1)
    above["high"] = np.fmax.reduce(rows["high"], axis=1)
    return above


def _read(folder: Path, values: Values) -> Pyramid | None:
    """The kept nodes as far as these samples go; ``None`` where they cannot be read."""
    channels = values.shape[1]
    levels: list[Nodes] = []
    try:
        for size in LEVELS:
            path = folder / str(size)
            there = path.stat().st_size // (channels * NODE.itemsize)
            count = min(there, len(values) // size)
            levels.append(map_rows(path, NODE, count, channels))
    except OSError:
        return None
    return Pyramid.of(values, levels)


def map_rows(path: Path, dtype: np.dtype[Any], rows: int, columns: int) -> NDArray[Any]:
    """The first rows of a file of fixed records; mapped, not read.

    Raises:
        OSError: it cannot be mapped.
    """
    if not rows:
        return np.empty((0, columns), dtype)
    return np.asarray(np.memmap(path, dtype, mode="r", shape=(rows, columns)))


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
    made, kept = _nodes_of_samples(pyramid.values[indices.reshape(-1)]), nodes[spots]
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
