"""Read traces: complete, being written, or truncated by a kill.

:mod:`labd.store.traces.writer` describes the files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from labd.core.errors import ConfigError
from labd.core.model import Edge, Gap, Identity, StreamFormat, TimeMark, Window
from labd.store.state_directory import write_json
from labd.store.traces.pyramid import drop_pyramid, load_pyramid, map_rows
from labd.store.traces.sigmf import (
    DATATYPE,
    DTYPE,
    UNITS,
    Annotation,
    TracePaths,
    annotate_instrument,
    sort_annotations,
)
from labd.store.traces.summary import Pyramid, Summary, Values
from labd.wire.results import WINDOW
from labd.wire.validation import format_first_error


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace as far as it was written.

    Args:
        path: without suffix.
        values: shape (samples, channels), mapped from the file; NaN where lost.
        channels: names of the columns: ``power_w`` and, if the instrument measured them,
            ``current_a`` and ``voltage_v``.
        instrument: the power monitor.
        format: what its samples mean.
        edges: by position.
        gaps: by position.
        times: by position.
        windows: by number.
        complete: whether the acquisition ended without error.
        meta: all metadata, including the annotations of a trace that is not closed.
    """

    path: Path
    values: Values
    channels: tuple[str, ...]
    instrument: Identity
    format: StreamFormat
    edges: tuple[Edge, ...]
    gaps: tuple[Gap, ...]
    times: tuple[TimeMark, ...]
    windows: tuple[Window, ...]
    complete: bool
    meta: dict[str, Any]

    @property
    def sample_rate_hz(self) -> float:
        """Nominal samples per second."""
        return self.format.sample_rate_hz

    @property
    def power_w(self) -> NDArray[np.float32]:
        """Watt by sample index, NaN where lost."""
        return self.values[:, 0]

    @property
    def current_a(self) -> NDArray[np.float32] | None:
        """Ampere by sample index, if the instrument measured it."""
        return self._find_channel("current_a")

    @property
    def voltage_v(self) -> NDArray[np.float32] | None:
        """Volt by sample index, if the instrument measured it."""
        return self._find_channel("voltage_v")

    @cached_property
    def pyramid(self) -> Pyramid:
        """The pyramid of the samples; computed if it is missing or wrong."""
        live = is_being_written(self.path)
        return load_pyramid(TracePaths(self.path).pyramid_folder, self.values, live=live)

    def summarise_range(
        self, points: int, start: int = 0, stop: int | None = None, channel: str = "power_w"
    ) -> Summary:
        """Return exact minimum, mean and maximum; see :meth:`Pyramid.summarise_range`.

        Raises:
            ConfigError: ``no-channel``: the trace has no channel of this name.
        """
        if channel not in self.channels:
            known = ", ".join(self.channels)
            raise ConfigError("no-channel", f"{self.path} has no {channel}", f"it has {known}")
        stop = len(self.values) if stop is None else stop
        return self.pyramid.summarise_range(start, stop, points, self.channels.index(channel))

    def _find_channel(self, name: str) -> NDArray[np.float32] | None:
        return self.values[:, self.channels.index(name)] if name in self.channels else None


def read_trace(path: Path) -> Trace:
    """Read a trace by its path without suffix, also a truncated one.

    Raises:
        ConfigError: ``no-trace``: it is missing, or labd cannot read it.
    """
    paths = TracePaths(path)
    try:
        meta = _read_meta(paths)
        described = meta["global"]
        if described["core:datatype"] != DATATYPE:
            raise ConfigError("no-trace", f"{path} holds {described['core:datatype']} samples")
        channels = _parse_channels(described)
        annotations = meta["annotations"]
        rows = paths.data_file.stat().st_size // (DTYPE.itemsize * len(channels))
        return Trace(
            path=path,
            values=map_rows(paths.data_file, DTYPE, rows, len(channels)),
            channels=channels,
            instrument=Identity(**described["labd:instrument"]),
            format=StreamFormat(**described["labd:format"]),
            edges=tuple(Edge(**each["labd:edge"]) for each in annotations if "labd:edge" in each),
            gaps=tuple(Gap(**each["labd:gap"]) for each in annotations if "labd:gap" in each),
            times=tuple(
                TimeMark(**each["labd:time"]) for each in annotations if "labd:time" in each
            ),
            windows=tuple(
                WINDOW.validate_python(each["labd:window"])
                for each in annotations
                if "labd:window" in each
            ),
            complete=described["labd:complete"],
            meta=meta,
        )
    except ValidationError as error:
        what = f"{path} has a window that labd cannot read: {format_first_error(error)}"
        raise ConfigError("no-trace", what) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "no-trace", f"{path} is not a trace that labd can read: {error}"
        ) from error


def is_being_written(path: Path) -> bool:
    """Whether a live process holds the lock of this trace, i.e. writes it.

    Raises:
        OSError: its data cannot be opened.
    """
    with TracePaths(path).data_file.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def seal_trace(path: Path) -> bool:
    """Close a trace whose writer was killed, so that any SigMF reader finds its annotations.

    Samples and events stay as they were written; the trace stays incomplete.

    Returns:
        False if there is nothing to do: it is closed, or being written.

    Raises:
        ConfigError: ``no-trace``: it cannot be read.
        OSError: a disk operation failed.
    """
    paths = TracePaths(path)
    if not paths.events_file.exists() or is_being_written(path):
        return False
    trace = read_trace(path)
    described = trace.meta["global"]
    if "labd:samples" not in described:
        with paths.data_file.open("r+b") as file:
            file.truncate(trace.values.nbytes)
            described["core:sha512"] = hashlib.file_digest(file, "sha512").hexdigest()
        described["labd:samples"] = len(trace.values)
        whole = annotate_instrument(trace.instrument, len(trace.values))
        trace.meta["annotations"] = sort_annotations([whole, *trace.meta["annotations"]])
        drop_pyramid(paths.pyramid_folder)
        load_pyramid(paths.pyramid_folder, trace.values, live=False)
        write_json(paths.meta_file, trace.meta)
    paths.events_file.unlink()
    return True


def _parse_channels(described: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the columns; the first traces had one, without a name."""
    listed = described.get("labd:channels", [{"name": "power_w"}])
    channels = tuple(each["name"] for each in listed)
    if channels[:1] != ("power_w",) or len(channels) != described["core:num_channels"]:
        raise ValueError(f"labd:channels are {', '.join(channels)}")
    if unknown := [name for name in channels if name not in UNITS]:
        raise ValueError(f"labd:channels names {unknown[0]}")
    return channels


def _read_meta(paths: TracePaths) -> dict[str, Any]:
    """Return the metadata; of a trace that is not closed, with the annotations of its events."""
    meta = json.loads(paths.meta_file.read_text(encoding="utf-8"))
    if "labd:samples" in meta["global"]:
        return meta
    try:
        events = paths.events_file.read_bytes()
    except FileNotFoundError:  # it has been closed meanwhile, or has none
        return json.loads(paths.meta_file.read_text(encoding="utf-8"))
    meta["annotations"] = sort_annotations(_parse_annotations(events))
    return meta


def _parse_annotations(events: bytes) -> list[Annotation]:
    """Parse annotations up to the first line that is truncated or not on the disk."""
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
