"""Write traces as SigMF while the samples arrive; readable after a kill -9.

``<name>.sigmf-data`` has one little-endian float32 per channel for each sample from index 0 on:
power in watts first, then current (A) and voltage (V) if the instrument measured them. A lost
sample is NaN, so that the position in the file is the sample index. ``<name>.sigmf-meta`` is the
metadata. While the trace is written, edges, gaps, time marks and windows are appended to
``<name>.sigmf-events``, one JSON annotation per line; closing the trace moves them into the
metadata. ``<name>.sigmf-pyramid/`` is described in :mod:`labd.store.traces.pyramid`.

After a kill -9 everything passed to :meth:`TraceFile.write_items` is on the disk; after a power
failure of the host, everything but the last five seconds (``SYNC_S``).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import LabdBug
from labd.core.model import Edge, Gap, Identity, Samples, StreamFormat, StreamItem, TimeMark, Window
from labd.store.state_directory import write_json
from labd.store.traces.pyramid import PyramidFile, write_all
from labd.store.traces.sigmf import (
    DTYPE,
    Annotation,
    TracePaths,
    annotate_instrument,
    annotate_item,
    annotate_window,
    capture_segment,
    global_metadata,
    sort_annotations,
)
from labd.store.traces.summary import Values

SYNC_S = 5.0
"""Interval of fdatasync for data and events."""

_BLOCK_SAMPLES = 65_536
"""Samples per write; it limits the memory that a long gap needs."""


class TraceFile:
    """One trace being written; every method blocks on the disk.

    Args:
        path: of the trace, without suffix; its folder is created.
        stream_format: of the samples.
        instrument: the power monitor.
        watch: called with the power (float32, NaN where lost) of every block written, in
            order, by the writing thread.

    Raises:
        FileExistsError: the trace exists: evidence is not overwritten.
        OSError: here and in every method, if a disk operation fails.
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
        self._data = self._paths.data_file.open("xb", buffering=0)
        fcntl.flock(self._data, fcntl.LOCK_EX)
        self._events = self._paths.events_file.open("xb", buffering=0)
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

    def write_items(self, items: Sequence[StreamItem]) -> None:
        """Append stream items, in order.

        Raises:
            LabdBug: the index of a sample is not the next one, or it has a channel that earlier
                samples do not have; nothing of that item is written.
        """
        if self._broken is not None:
            raise self._broken
        try:
            for item in items:
                self._write_item(item)
        finally:
            self._flush_samples()
            self._flush_events()
            self._sync_to_disk()

    def annotate_windows(self, windows: Sequence[Window]) -> None:
        """Annotate the windows measured in this trace; replaces earlier ones."""
        self._windows = [annotate_window(window) for window in windows]
        self._unwritten.append({"windows": self._windows})
        self._flush_events()

    def close(self, *, complete: bool = True) -> None:
        """Write the metadata and close the files; safe to call twice.

        Args:
            complete: whether the acquisition ended without error.
        """
        if self._data.closed:
            return
        try:
            if self._broken is None:
                self._open_channels(("power_w",))
                self._flush_samples()
            os.fsync(self._data.fileno())
            if self._pyramid is not None and self._broken is None:
                self._pyramid.close()
            self._write_meta(closed=True, complete=complete and self._broken is None)
            self._paths.events_file.unlink(missing_ok=True)
        finally:
            if self._pyramid is not None:
                self._pyramid.close_incomplete()
            self._events.close()
            self._data.close()

    # ---- items ---------------------------------------------------------------------------

    def _write_item(self, item: StreamItem) -> None:
        if isinstance(item, (Edge, TimeMark)):
            self._annotate_item(item)
            return
        if item.index != self._samples:
            what = f"trace at sample {self._samples} was given sample {item.index}"
            raise LabdBug("trace-order", what)
        if isinstance(item, Samples):
            self._append_samples(item)
        else:
            self._annotate_item(item)
            self._append_nan(item.count)

    def _annotate_item(self, item: Edge | Gap | TimeMark) -> None:
        annotation = annotate_item(item)
        self._annotations.append(annotation)
        self._unwritten.append(annotation)

    def _append_samples(self, samples: Samples) -> None:
        given = {"power_w": samples.power_w, "current_a": samples.current_a}
        given["voltage_v"] = samples.voltage_v
        there = {name: values for name, values in given.items() if values is not None}
        self._open_channels(tuple(there))
        if unknown := [name for name in there if name not in self._channels]:
            what = f"sample {samples.index} has {unknown[0]}, earlier samples do not"
            raise LabdBug("trace-channels", what)
        values = np.full((len(samples), len(self._channels)), np.nan, DTYPE)
        for column, name in enumerate(self._channels):
            if name in there:
                values[:, column] = there[name]
        self._put_block(values)
        self._samples += len(samples)

    def _append_nan(self, count: int) -> None:
        self._samples += count
        if not self._channels:
            self._leading += count
            return
        for at in range(0, count, _BLOCK_SAMPLES):
            some = min(count - at, _BLOCK_SAMPLES)
            self._put_block(np.full((some, len(self._channels)), np.nan, DTYPE))

    def _open_channels(self, channels: tuple[str, ...]) -> None:
        """Take the channels of the first samples, then write the gap before them."""
        if self._channels:
            return
        self._channels = channels
        self._write_meta(closed=False, complete=False)
        self._pyramid = PyramidFile(self._paths.pyramid_folder, len(channels))
        leading, self._leading = self._leading, 0
        self._samples -= leading
        self._append_nan(leading)

    # ---- the disk ------------------------------------------------------------------------

    def _put_block(self, values: Values) -> None:
        self._block.append(values)
        if self._samples + len(values) - self._written >= _BLOCK_SAMPLES:
            self._flush_samples()

    def _flush_samples(self) -> None:
        """Write the collected block: the samples first, then their pyramid."""
        if not self._block:
            return
        values = self._block[0] if len(self._block) == 1 else np.concatenate(self._block)
        self._block = []
        try:
            self._write_samples(values)
            if self._pyramid is not None:
                self._pyramid.append_samples(values)
        except OSError as error:
            self._broken = error
            raise
        if self._watch is not None:
            self._watch(values[:, 0])

    def _write_samples(self, values: Values) -> None:
        """Write all samples or none: a partial write would shift the rest."""
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

    def _sync_to_disk(self) -> None:
        if time.monotonic() - self._synced >= SYNC_S:
            os.fdatasync(self._data.fileno())
            os.fdatasync(self._events.fileno())
            self._synced = time.monotonic()

    def _write_meta(self, *, closed: bool, complete: bool) -> None:
        described = global_metadata(self._format, self._instrument, self._channels or ("power_w",))
        described["labd:complete"] = complete
        annotations: list[Annotation] = []
        if closed:
            described["core:sha512"] = self._hash.hexdigest()
            described["labd:samples"] = self._written
            whole = annotate_instrument(self._instrument, self._written)
            annotations = sort_annotations([whole, *self._annotations, *self._windows])
        meta = {
            "global": described,
            "captures": [capture_segment(self._started)],
            "annotations": annotations,
        }
        write_json(self._paths.meta_file, meta)
