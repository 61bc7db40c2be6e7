"""Traces read back: whole ones, ones being written, and ones that were cut off.

:mod:`labd.store.traces.writer` says what the files hold.
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
    in_order,
)
from labd.store.traces.summary import Pyramid, Summary, Values
from labd.wire.results import WINDOW
from labd.wire.validation import first_mistake


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace read back; one that is being written, or was cut off, as far as it goes.

    Args:
        path: without suffix.
        values: shape (samples, channels), mapped from the file, not read yet; NaN where lost.
        channels: names of the columns: ``power_w`` and, where the instrument measured them,
            ``current_a`` and ``voltage_v``.
        instrument: the power monitor.
        format: what its samples mean.
        edges: by position.
        gaps: by position.
        times: by position.
        windows: by number.
        complete: whether the acquisition ended in good order; if not, samples, edges, gaps
            and windows are those written until then.
        meta: all of the metadata, with the annotations of a trace that was not closed.
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
        """Exact minimum, mean and maximum; see :meth:`labd.store.traces.pyramid.Pyramid.summary`.

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
        what = f"{path} has a window that labd cannot read: {first_mistake(error)}"
        raise ConfigError("no-trace", what) from error
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
        with paths.data.open("r+b") as file:
            file.truncate(trace.values.nbytes)
            described["core:sha512"] = hashlib.file_digest(file, "sha512").hexdigest()
        described["labd:samples"] = len(trace.values)
        whole = annotate_instrument(trace.instrument, len(trace.values))
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
