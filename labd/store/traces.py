"""Traces as SigMF, written while they arrive and readable after a kill -9.

``<name>.sigmf-data`` holds, for each sample from index 0 on, one little-endian float32 a
channel: power in watt first, then current (ampere) and voltage (volt) where the instrument
measured them. A lost sample is NaN, so that a position in the file stays a position in time.
``<name>.sigmf-meta`` says what the numbers mean. While the trace is written, edges, gaps, time
marks and windows go into ``<name>.sigmf-events``, one JSON annotation a line; closing the trace
moves them into the metadata. ``<name>.sigmf-pyramid/`` is :mod:`labd.store.pyramid`'s.

What is promised: after a kill -9 everything given to :meth:`TraceFile.write` is there; after
the host's power was cut, everything but the last five seconds (``SYNC_S``).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import ConfigError, LabdBug
from labd.core.model import Edge, Gap, Identity, Samples, StreamFormat, StreamItem, TimeMark, Window
from labd.store.artifacts import write_json
from labd.store.pyramid import (
    Pyramid,
    PyramidFile,
    Summary,
    Values,
    drop_pyramid,
    load_pyramid,
    map_rows,
    write_all,
)
from labd.store.sigmf import (
    DATATYPE,
    UNITS,
    Annotation,
    annotate_instrument,
    annotate_item,
    annotate_window,
    capture,
    describe,
    in_order,
)

DATA, META, EVENTS, PYRAMID = (f".sigmf-{kind}" for kind in ("data", "meta", "events", "pyramid"))
DTYPE = np.dtype("<f4")
SYNC_S = 5.0
"""So often data and events are forced to the disk while a trace is written."""

_BLOCK_SAMPLES = 65_536
"""So many samples are written at once; a long gap must not need long memory."""


@dataclass(frozen=True, slots=True)
class TracePaths:
    """The files of one trace, by its path without suffix."""

    trace: Path

    @property
    def data(self) -> Path:
        """The samples."""
        return self._with(DATA)

    @property
    def meta(self) -> Path:
        """What they mean."""
        return self._with(META)

    @property
    def events(self) -> Path:
        """Annotations of a trace that is not closed."""
        return self._with(EVENTS)

    @property
    def pyramid(self) -> Path:
        """Its pyramid's folder."""
        return self._with(PYRAMID)

    def _with(self, suffix: str) -> Path:
        return self.trace.with_name(f"{self.trace.name}{suffix}")


class TraceFile:
    """One trace being written; every method blocks on the disk.

    Args:
        path: the trace's path without suffix; its folder is made.
        stream_format: what the samples mean.
        instrument: who measured.
        watch: called with the power (float32, NaN where lost) of every block written, in
            order, from the thread that writes.

    Raises:
        FileExistsError: there is such a trace already: evidence is not overwritten.
        OSError: here and in every method, when the disk refuses.
    """

    def __init__(
        self,
        path: Path,
        stream_format: StreamFormat,
        instrument: Identity,
        watch: Callable[[NDArray[np.float32]], None] | None = None,
    ) -> None:
        self._paths = TracePaths(path)
        self._format = stream_format
        self._instrument = instrument
        self._watch = watch
        self._started = datetime.now(UTC)
        self._samples = 0
        self._channels: tuple[str, ...] = ()
        self._leading = 0
        self._block: list[Values] = []
        self._written = 0
        self._broken: OSError | None = None
        self._annotations: list[Annotation] = []
        self._windows: list[Annotation] = []
        self._unwritten: list[dict[str, Any]] = []
        self._hash = hashlib.sha512()
        self._synced = time.monotonic()
        self._pyramid: PyramidFile | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._data = self._paths.data.open("xb", buffering=0)
        fcntl.flock(self._data, fcntl.LOCK_EX)
        self._events = self._paths.events.open("xb", buffering=0)
        self._write_meta(closed=False, complete=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(complete=kind is None)

    def write(self, items: Sequence[StreamItem]) -> None:
        """Append what the instrument yielded, in order.

        Raises:
            LabdBug: a sample's index is not the next one, or it has a channel that those
                before it had not; nothing of that item is written.
        """
        if self._broken is not None:
            raise self._broken
        try:
            for item in items:
                self._take(item)
        finally:
            self._flush()
            self._flush_events()
            self._sync()

    def mark_windows(self, windows: Sequence[Window]) -> None:
        """Note the windows measured in this trace, in place of those noted before."""
        self._windows = [annotate_window(window) for window in windows]
        self._unwritten.append({"windows": self._windows})
        self._flush_events()

    def close(self, *, complete: bool = True) -> None:
        """Write the metadata and let go of the files; safe to call twice.

        Args:
            complete: whether the acquisition ended in good order.
        """
        if self._data.closed:
            return
        try:
            if self._broken is None:
                self._open_channels(("power_w",))
                self._flush()
            os.fsync(self._data.fileno())
            if self._pyramid is not None and self._broken is None:
                self._pyramid.close()
            self._write_meta(closed=True, complete=complete and self._broken is None)
            self._paths.events.unlink(missing_ok=True)
        finally:
            if self._pyramid is not None:
                self._pyramid.abandon()
            self._events.close()
            self._data.close()

    # ---- items ---------------------------------------------------------------------------

    def _take(self, item: StreamItem) -> None:
        if isinstance(item, (Edge, TimeMark)):
            self._note(item)
            return
        if item.index != self._samples:
            what = f"trace at sample {self._samples} was given sample {item.index}"
            raise LabdBug("trace-order", what)
        if isinstance(item, Samples):
            self._append(item)
        else:
            self._note(item)
            self._pad(item.count)

    def _note(self, item: Edge | Gap | TimeMark) -> None:
        annotation = annotate_item(item)
        self._annotations.append(annotation)
        self._unwritten.append(annotation)

    def _append(self, samples: Samples) -> None:
        given = {"power_w": samples.power_w, "current_a": samples.current_a}
        given["voltage_v"] = samples.voltage_v
        there = {name: values for name, values in given.items() if values is not None}
        self._open_channels(tuple(there))
        if unknown := [name for name in there if name not in self._channels]:
            what = f"sample {samples.index} has {unknown[0]}, those before it had not"
            raise LabdBug("trace-channels", what)
        values = np.full((len(samples), len(self._channels)), np.nan, DTYPE)
        for column, name in enumerate(self._channels):
            if name in there:
                values[:, column] = there[name]
        self._put(values)
        self._samples += len(samples)

    def _pad(self, count: int) -> None:
        self._samples += count
        if not self._channels:
            self._leading += count
            return
        for at in range(0, count, _BLOCK_SAMPLES):
            some = min(count - at, _BLOCK_SAMPLES)
            self._put(np.full((some, len(self._channels)), np.nan, DTYPE))

    def _open_channels(self, channels: tuple[str, ...]) -> None:
        """The first samples say which channels there are; a gap before them had to wait."""
        if self._channels:
            return
        self._channels = channels
        self._write_meta(closed=False, complete=False)
        self._pyramid = PyramidFile(self._paths.pyramid, len(channels))
        leading, self._leading = self._leading, 0
        self._samples -= leading
        self._pad(leading)

    # ---- the disk ------------------------------------------------------------------------

    def _put(self, values: Values) -> None:
        self._block.append(values)
        if self._samples + len(values) - self._written >= _BLOCK_SAMPLES:
            self._flush()

    def _flush(self) -> None:
        """Write the block gathered so far: samples first, then what is derived from them."""
        if not self._block:
            return
        values = self._block[0] if len(self._block) == 1 else np.concatenate(self._block)
        self._block = []
        try:
            self._write_samples(values)
            if self._pyramid is not None:
                self._pyramid.append(values)
        except OSError as error:
            self._broken = error
            raise
        if self._watch is not None:
            self._watch(values[:, 0])

    def _write_samples(self, values: Values) -> None:
        """All of them or none: what was cut off by a full disk would shift the rest."""
        data = values.tobytes()
        try:
            write_all(self._data, data)
        except OSError:
            self._data.truncate(self._written * values.shape[1] * DTYPE.itemsize)
            raise
        self._hash.update(data)
        self._written += len(values)

    def _flush_events(self) -> None:
        if self._unwritten:
            lines = [json.dumps(each, allow_nan=False) for each in self._unwritten]
            self._unwritten = []
            write_all(self._events, "".join(f"{line}\n" for line in lines).encode())

    def _sync(self) -> None:
        if time.monotonic() - self._synced >= SYNC_S:
            os.fdatasync(self._data.fileno())
            os.fdatasync(self._events.fileno())
            self._synced = time.monotonic()

    def _write_meta(self, *, closed: bool, complete: bool) -> None:
        described = describe(self._format, self._instrument, self._channels or ("power_w",))
        described["labd:complete"] = complete
        annotations: list[Annotation] = []
        if closed:
            described["core:sha512"] = self._hash.hexdigest()
            described["labd:samples"] = self._written
            whole = annotate_instrument(self._instrument, self._written)
            annotations = in_order([whole, *self._annotations, *self._windows])
        meta = {
            "global": described,
            "captures": [capture(self._started)],
            "annotations": annotations,
        }
        write_json(self._paths.meta, meta)


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace read back; one that is being written, or was cut off, as far as it goes.

    Args:
        path: without suffix.
        values: shape (samples, channels), mapped from the file, not read yet; NaN where lost.
        channels: names of the columns: ``power_w`` and, where the instrument measured them,
            ``current_a`` and ``voltage_v``.
        sample_rate_hz: nominal samples a second.
        edges: by position.
        gaps: by position.
        times: by position.
        windows: the fields of :class:`labd.core.model.Window` of each.
        complete: whether the acquisition ended in good order; if not, samples, edges, gaps
            and windows are those written until then.
        meta: all of the metadata, with the annotations of a trace that was not closed.
    """

    path: Path
    values: Values
    channels: tuple[str, ...]
    sample_rate_hz: float
    edges: tuple[Edge, ...]
    gaps: tuple[Gap, ...]
    times: tuple[TimeMark, ...]
    windows: tuple[dict[str, Any], ...]
    complete: bool
    meta: dict[str, Any]

    @property
    def power_w(self) -> NDArray[np.float32]:
        """Watt by sample index, NaN where lost."""
        return self.values[:, 0]

    @property
    def current_a(self) -> NDArray[np.float32] | None:
        """Ampere by sample index, where the instrument measured it."""
        return self._channel("current_a")

    @property
    def voltage_v(self) -> NDArray[np.float32] | None:
        """Volt by sample index, where the instrument measured it."""
        return self._channel("voltage_v")

    @cached_property
    def pyramid(self) -> Pyramid:
        """What summaries come from; made anew where it is missing or does not fit."""
        live = is_live(self.path)
        return load_pyramid(TracePaths(self.path).pyramid, self.values, live=live)

    def summary(
        self, points: int, start: int = 0, stop: int | None = None, channel: str = "power_w"
    ) -> Summary:
        """Exact minimum, mean and maximum; see :meth:`labd.store.pyramid.Pyramid.summary`.

        Raises:
            ConfigError: ``no-channel``: the trace has none of this name.
        """
        if channel not in self.channels:
            known = ", ".join(self.channels)
            raise ConfigError("no-channel", f"{self.path} has no {channel}", f"it has {known}")
        stop = len(self.values) if stop is None else stop
        return self.pyramid.summary(start, stop, points, self.channels.index(channel))

    def _channel(self, name: str) -> NDArray[np.float32] | None:
        return self.values[:, self.channels.index(name)] if name in self.channels else None


def read_trace(path: Path) -> Trace:
    """Read a trace by its path without suffix; one cut off in the middle too.

    Raises:
        ConfigError: ``no-trace``: it is not there, or is no trace labd wrote.
    """
    paths = TracePaths(path)
    try:
        meta = _read_meta(paths)
        described = meta["global"]
        if described["core:datatype"] != DATATYPE:
            raise ConfigError("no-trace", f"{path} holds {described['core:datatype']} samples")
        channels = _channels(described)
        annotations = meta["annotations"]
        rows = paths.data.stat().st_size // (DTYPE.itemsize * len(channels))
        return Trace(
            path=path,
            values=map_rows(paths.data, DTYPE, rows, len(channels)),
            channels=channels,
            sample_rate_hz=described["core:sample_rate"],
            edges=tuple(Edge(**each["labd:edge"]) for each in annotations if "labd:edge" in each),
            gaps=tuple(Gap(**each["labd:gap"]) for each in annotations if "labd:gap" in each),
            times=tuple(
                TimeMark(**each["labd:time"]) for each in annotations if "labd:time" in each
            ),
            windows=tuple(each["labd:window"] for each in annotations if "labd:window" in each),
            complete=described["labd:complete"],
            meta=meta,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("no-trace", f"{path} is no trace labd can read: {error}") from error


def is_live(path: Path) -> bool:
    """Whether somebody is writing this trace just now; the kernel knows, whoever was killed.

    Raises:
        OSError: its data cannot be opened.
    """
    with TracePaths(path).data.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def seal_trace(path: Path) -> bool:
    """Close a trace whose writer was killed: then any SigMF reader finds its edges too.

    Its samples and events stay as they were written; it stays incomplete.

    Returns:
        False when there is nothing to do: it is closed, or being written.

    Raises:
        ConfigError: ``no-trace``: it cannot be read.
        OSError: the disk refuses.
    """
    paths = TracePaths(path)
    if not paths.events.exists() or is_live(path):
        return False
    trace = read_trace(path)
    described = trace.meta["global"]
    if "labd:samples" not in described:
        instrument = Identity(**described["labd:instrument"])
        with paths.data.open("r+b") as file:
            file.truncate(trace.values.nbytes)
            described["core:sha512"] = hashlib.file_digest(file, "sha512").hexdigest()
        described["labd:samples"] = len(trace.values)
        whole = annotate_instrument(instrument, len(trace.values))
        trace.meta["annotations"] = in_order([whole, *trace.meta["annotations"]])
        drop_pyramid(paths.pyramid)
        load_pyramid(paths.pyramid, trace.values, live=False)
        write_json(paths.meta, trace.meta)
    paths.events.unlink()
    return True


def _channels(described: dict[str, Any]) -> tuple[str, ...]:
    """Names of the columns; the first traces had one and did not say its name."""
    listed = described.get("labd:channels", [{"name": "power_w"}])
    channels = tuple(each["name"] for each in listed)
    if channels[:1] != ("power_w",) or len(channels) != described["core:num_channels"]:
        raise ValueError(f"labd:channels are {', '.join(channels)}")
    if unknown := [name for name in channels if name not in UNITS]:
        raise ValueError(f"labd:channels names {unknown[0]}")
    return channels


def _read_meta(paths: TracePaths) -> dict[str, Any]:
    """The metadata; while the trace is not closed, with what its events say."""
    meta = json.loads(paths.meta.read_text(encoding="utf-8"))
    if "labd:samples" in meta["global"]:
        return meta
    try:
        events = paths.events.read_bytes()
    except FileNotFoundError:  # it was closed just now, or there never were any
        return json.loads(paths.meta.read_text(encoding="utf-8"))
    meta["annotations"] = in_order(_annotations(events))
    return meta


def _annotations(events: bytes) -> list[Annotation]:
    """Annotations up to the first line that was cut off or never reached the disk."""
    annotations: list[Annotation] = []
    windows: list[Annotation] = []
    for line in events.split(b"\n")[:-1]:
        try:
            found = json.loads(line)
        except ValueError:
            break
        if "windows" in found:
            windows = found["windows"]
        else:
            annotations.append(found)
    return annotations + windows
