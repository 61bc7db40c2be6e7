"""SigMF 1.2 metadata of a trace (https://sigmf.org).

Fields of the namespace ``labd`` hold what SigMF has no field for: unit, channels, instrument,
positions between samples, windows. Any SigMF reader understands the core fields beside them. The
windows are copies; the journal holds the original.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from labd.core.model import Edge, Gap, Identity, StreamFormat, TimeMark, Window
from labd.wire.results import WINDOW

SIGMF_VERSION = "1.2.0"
EXTENSION = {"name": "labd", "version": "1.1.0", "optional": True}
DATATYPE, DTYPE = "rf32_le", np.dtype("<f4")
"""Format of a stored sample, in SigMF and in NumPy."""

DATA, META, EVENTS, PYRAMID = (f".sigmf-{kind}" for kind in ("data", "meta", "events", "pyramid"))

UNITS = {"power_w": "W", "current_a": "A", "voltage_v": "V"}
"""The possible channels and their units; power is always the first."""

Annotation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TracePaths:
    """The files of one trace, by its path without suffix."""

    trace: Path

    @property
    def data_file(self) -> Path:
        """The samples."""
        return self._path_with_suffix(DATA)

    @property
    def meta_file(self) -> Path:
        """The metadata."""
        return self._path_with_suffix(META)

    @property
    def events_file(self) -> Path:
        """Annotations of a trace that is not closed."""
        return self._path_with_suffix(EVENTS)

    @property
    def pyramid_folder(self) -> Path:
        """Its pyramid's folder."""
        return self._path_with_suffix(PYRAMID)

    def _path_with_suffix(self, suffix: str) -> Path:
        return self.trace.with_name(f"{self.trace.name}{suffix}")


def global_metadata(
    stream_format: StreamFormat, instrument: Identity, channels: Sequence[str]
) -> dict[str, Any]:
    """Return the global object, as far as it is known when the trace begins."""
    drawn = ", ".join(channel.rpartition("_")[0] for channel in channels)
    return {
        "core:datatype": DATATYPE,
        "core:sample_rate": stream_format.sample_rate_hz,
        "core:version": SIGMF_VERSION,
        "core:num_channels": len(channels),
        "core:description": f"{drawn} of the device under test; NaN: sample lost",
        "core:hw": " ".join(filter(None, (instrument.kind, instrument.name))),
        "core:recorder": "labd",
        "core:extensions": [EXTENSION],
        "labd:unit": UNITS[channels[0]],
        "labd:channels": [{"name": name, "unit": UNITS[name]} for name in channels],
        "labd:instrument": asdict(instrument),
        "labd:format": asdict(stream_format),
    }


def capture_segment(started: datetime) -> dict[str, Any]:
    """Return the capture segment; ``started`` (UTC) is when the host opened the trace."""
    moment = started.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"core:sample_start": 0, "core:global_index": 0, "core:datetime": moment}


def annotate_item(item: Edge | Gap | TimeMark) -> Annotation:
    """Annotate an edge, a gap or a time mark.

    An edge and a time mark take the one sample period that they fall in: SigMF readers take an
    annotation without ``core:sample_count`` as lasting to the end of the recording.
    """
    if isinstance(item, Gap):
        place = {"core:sample_start": item.index, "core:sample_count": item.count}
        comment = {"core:comment": item.reason} if item.reason else {}
        return place | {"core:label": "gap", **comment, "labd:gap": asdict(item)}
    start = {"core:sample_start": max(0, math.floor(item.index)), "core:sample_count": 1}
    if isinstance(item, TimeMark):
        return start | {"core:label": f"{item.clock} time", "labd:time": asdict(item)}
    label = f"{item.line} {'rises' if item.rising else 'falls'}"
    return start | {"core:label": label, "labd:edge": asdict(item)}


def annotate_window(window: Window) -> Annotation:
    """Annotate a window; one without edges covers no sample and is placed at sample 0.

    A comment says why a window does not count.
    """
    place: dict[str, Any] = {"core:sample_start": 0, "core:sample_count": 0}
    if window.edge_span is not None:
        first = math.floor(window.edge_span[0])
        count = math.ceil(window.edge_span[1]) - first
        place = {"core:sample_start": first, "core:sample_count": count}
    comment = {} if window.is_counted else {"core:comment": f"not counted: {window.not_counted}"}
    return place | {
        "core:label": f"window {window.number}",
        **comment,
        "labd:window": WINDOW.dump_python(window, mode="json"),
    }


def annotate_instrument(instrument: Identity, samples: int) -> Annotation:
    """Annotate the whole trace with its instrument."""
    numbers = (("serial", instrument.serial), ("firmware", instrument.firmware))
    what = [f"{name} {value}" for name, value in numbers if value]
    simulated = ["simulated"] if instrument.simulated else []
    return {
        "core:sample_start": 0,
        "core:sample_count": samples,
        "core:label": instrument.name or instrument.kind,
        "core:comment": ", ".join([instrument.kind, *what, *simulated]),
        "core:generator": "labd",
        "labd:instrument": asdict(instrument),
    }


def sort_annotations(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Sort annotations by first sample, as SigMF requires."""
    return sorted(annotations, key=lambda each: each["core:sample_start"])
