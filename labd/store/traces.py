"""Power traces as SigMF, written while they arrive and readable after a kill -9.

``<name>.sigmf-data`` holds power in watt, one little-endian float32 a sample from index 0 on;
a lost sample is NaN, so that a position in the file stays a position in time.
``<name>.sigmf-meta`` says what the numbers mean; it is complete (``labd:complete``, edges,
gaps, windows, hash of the data) once the acquisition has ended in good order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import ConfigError, LabdBug
from labd.core.model import Edge, Gap, Identity, Samples, StreamFormat, StreamItem, TimeMark, Window
from labd.store.artifacts import write_json

DTYPE = np.dtype("<f4")
SIGMF_VERSION = "1.2.0"
EXTENSION = {"name": "labd", "version": "1.0.0", "optional": True}
_NAN_SAMPLES = 65_536
_SUMMARY_SAMPLES = 1 << 20


class TraceFile:
    """One trace being written; every method blocks on the disk.

    Args:
        path: the trace's path without suffix; its folder is made.
        stream_format: what the samples mean.
        instrument: who measured.

    Raises:
        FileExistsError: there is such a trace already: evidence is not overwritten.
        OSError: here and in every method, when the disk refuses.
    """

    def __init__(self, path: Path, stream_format: StreamFormat, instrument: Identity) -> None:
        self._meta_path = path.with_name(f"{path.name}.sigmf-meta")
        self._format = stream_format
        self._instrument = instrument
        self._started = datetime.now(UTC)
        self._samples = 0
        self._items: list[Edge | Gap | TimeMark] = []
        self._windows: list[Window] = []
        self._hash = hashlib.sha512()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._data = path.with_name(f"{path.name}.sigmf-data").open("xb", buffering=0)
        self._write_meta(complete=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, items: Sequence[StreamItem]) -> None:
        """Append what the instrument yielded, in order.

        Raises:
            LabdBug: a sample's index is not the next one; nothing of that item is written.
        """
        for item in items:
            if isinstance(item, (Edge, TimeMark)):
                self._items.append(item)
                continue
            if item.index != self._samples:
                what = f"trace at sample {self._samples} was given sample {item.index}"
                raise LabdBug("trace-order", what)
            if isinstance(item, Gap):
                self._items.append(item)
                self._pad(item.count)
            else:
                self._append(item)

    def mark_windows(self, windows: Sequence[Window]) -> None:
        """Note the windows measured in this trace, in place of those noted before."""
        self._windows = list(windows)

    def close(self, *, complete: bool = True) -> None:
        """Write the metadata and let go of the files; safe to call twice.

        Args:
            complete: whether the acquisition ended in good order.
        """
        if not self._data.closed:
            self._data.close()
            self._write_meta(complete=complete)

    def _append(self, samples: Samples) -> None:
        self._put(samples.power_w.astype(DTYPE).tobytes())
        self._samples += len(samples)

    def _pad(self, count: int) -> None:
        """Lost samples, written piecewise: a long gap must not need long memory."""
        left = count
        while left:
            some = min(left, _NAN_SAMPLES)
            self._put(np.full(some, np.nan, DTYPE).tobytes())
            left -= some
        self._samples += count

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._data.write(rest) :]

    def _write_meta(self, *, complete: bool) -> None:
        form = self._format
        described: dict[str, Any] = {
            "core:datatype": "rf32_le",
            "core:sample_rate": form.sample_rate_hz,
            "core:version": SIGMF_VERSION,
            "core:num_channels": 1,
            "core:description": "power drawn by the device under test, watt; NaN: sample lost",
            "core:hw": " ".join(filter(None, (self._instrument.kind, self._instrument.name))),
            "core:recorder": "labd",
            "core:extensions": [EXTENSION],
            "labd:unit": "W",
            "labd:instrument": asdict(self._instrument),
            "labd:format": asdict(form),
            "labd:complete": complete,
        }
        if complete:
            described["core:sha512"] = self._hash.hexdigest()
            described["labd:samples"] = self._samples
        start = {"core:sample_start": 0, "core:datetime": self._started.isoformat()}
        meta = {"global": described, "captures": [start], "annotations": self._annotations()}
        write_json(self._meta_path, meta)

    def _annotations(self) -> list[dict[str, Any]]:
        """Edges, gaps and windows in the order SigMF asks for: by first sample."""
        found = [_annotate_item(item) for item in self._items]
        found += [_annotate_window(window) for window in self._windows]
        return sorted(found, key=lambda each: each["core:sample_start"])


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A trace read back.

    Args:
        power_w: watt by sample index, NaN where lost; mapped from the file, not read yet.
        sample_rate_hz: nominal samples a second.
        edges: by position.
        gaps: by position.
        windows: the fields of :class:`labd.core.model.Window` of each.
        complete: whether the acquisition ended in good order; if not, edges, gaps and
            windows are missing.
        meta: all of the metadata.
    """

    power_w: NDArray[np.float32]
    sample_rate_hz: float
    edges: tuple[Edge, ...]
    gaps: tuple[Gap, ...]
    windows: tuple[dict[str, Any], ...]
    complete: bool
    meta: dict[str, Any]


def read_trace(path: Path) -> Trace:
    """Read a trace by its path without suffix; one cut off in the middle too.

    Raises:
        ConfigError: ``no-trace``: it is not there, or is no trace labd wrote.
    """
    data_path = path.with_name(f"{path.name}.sigmf-data")
    try:
        meta = json.loads(path.with_name(f"{path.name}.sigmf-meta").read_text(encoding="utf-8"))
        described, annotations = meta["global"], meta["annotations"]
        if described["core:datatype"] != "rf32_le":
            raise ConfigError("no-trace", f"{path} holds {described['core:datatype']} samples")
        return Trace(
            power_w=_map(data_path),
            sample_rate_hz=described["core:sample_rate"],
            edges=tuple(Edge(**each["labd:edge"]) for each in annotations if "labd:edge" in each),
            gaps=tuple(Gap(**each["labd:gap"]) for each in annotations if "labd:gap" in each),
            windows=tuple(each["labd:window"] for each in annotations if "labd:window" in each),
            complete=described["labd:complete"],
            meta=meta,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("no-trace", f"{path} is no trace labd can read: {error}") from error


def summarise(
    power_w: NDArray[np.floating[Any]], points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Exact minimum, mean and maximum of up to ``points`` equal stretches.

    Stretches differ in length by one sample at most; lost samples (NaN) do not count, and a
    stretch of nothing else is NaN.

    Returns:
        Three arrays of shape (min(points, samples),), in that order.
    """
    points = min(points, len(power_w))
    bounds = np.linspace(0, len(power_w), points + 1).astype(np.int64)
    lows, means, highs = (np.full(points, np.nan) for _ in range(3))
    first = 0
    while first < points:
        limit = max(int(bounds[first]) + _SUMMARY_SAMPLES, int(bounds[first + 1]))
        last = int(np.searchsorted(bounds, limit, side="right")) - 1
        part = slice(first, last)
        some = np.asarray(power_w[bounds[first] : bounds[last]], np.float64)
        lows[part], means[part], highs[part] = _reduce(some, bounds[part] - bounds[first])
        first = last
    return lows, means, highs


def _reduce(
    power_w: NDArray[np.float64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(power_w)
    counts = np.add.reduceat(known, starts, dtype=np.int64)
    sums = np.add.reduceat(np.where(known, power_w, 0.0), starts)
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return np.fmin.reduceat(power_w, starts), means, np.fmax.reduceat(power_w, starts)


def _map(path: Path) -> NDArray[np.float32]:
    """The samples there are; a last one that was cut off does not count."""
    count = path.stat().st_size // DTYPE.itemsize
    if not count:
        return np.empty(0, DTYPE)
    return np.memmap(path, DTYPE, mode="r", shape=(count,))


def _annotate_item(item: Edge | Gap | TimeMark) -> dict[str, Any]:
    if isinstance(item, Gap):
        place = {"core:sample_start": item.index, "core:sample_count": item.count}
        return place | {"core:label": "gap", "labd:gap": asdict(item)}
    if isinstance(item, TimeMark):
        place = {"core:sample_start": math.floor(item.index)}
        return place | {"core:label": f"{item.clock} time", "labd:time": asdict(item)}
    label = f"{item.line} {'rises' if item.rising else 'falls'}"
    start = {"core:sample_start": math.floor(item.index)}
    return start | {"core:label": label, "labd:edge": asdict(item)}


def _annotate_window(window: Window) -> dict[str, Any]:
    """A window; one without edges of its own stands at the beginning."""
    place: dict[str, Any] = {"core:sample_start": 0}
    if window.start_index is not None and window.stop_index is not None:
        first = math.floor(window.start_index)
        count = math.ceil(window.stop_index) - first
        place = {"core:sample_start": first, "core:sample_count": count}
    return place | {"core:label": f"window {window.number}", "labd:window": asdict(window)}
