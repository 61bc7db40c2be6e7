"""Frames for live plots: minimum, mean and maximum of power while a trace is written.

A frame is one binary message on ``labd/<lab>/job/<job>/trace`` (QoS 0, not retained), at most
ten per second and trace, all numbers little-endian::

    offset  type     what
    0       4 bytes  "LTF1"
    4       uint16   points in this frame, n
    6       uint16   attempt of the job, from 1
    8       uint32   number of this frame in its trace, from 0
    12      uint16   number of the trace in its attempt, from 0
    14      uint16   flags; bit 0: the trace ends with this frame
    16      uint32   samples per point
    20      uint32   0
    24      uint64   index of the first sample of the first point
    32      uint64   index after the last sample of the last point
    40      float64  sample rate, samples per second
    48      float32  n × (minimum, mean, maximum) of power, watt

Point ``k`` covers the samples from ``first + k × samples per point`` on; the last point of a
trace may cover fewer, as the index at 32 shows. Lost samples do not count; a point with only lost
samples is NaN. If the broker is slow, frames are dropped, not queued: the frame's number and its
first index show the hole. The stored trace is complete.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import TransportError

MAGIC = b"LTF1"
POINTS_PER_SECOND = 200
"""A trace with fewer samples per second has one sample per point."""

MAX_POINTS = 1000
"""Most points per frame; older ones are skipped. Only a frozen bench is faster than that."""

_HEADER = struct.Struct("<4sHHIHHIIQQd")
_POINT_BYTES = 12
_LAST = 1

Points = NDArray[np.float32]
"""Shape (n, 3): minimum, mean, maximum."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A range of a trace, summarised for a live plot.

    Args:
        attempt: of the job.
        trace: number of the trace in the attempt.
        number: of the frame in the trace.
        last: whether it is the last of the trace.
        samples_per_point: of every point but the last of a trace.
        first: index of the first sample.
        stop: index after the last sample.
        sample_rate_hz: nominal samples per second.
        points: minimum, mean and maximum, watt, shape (n, 3); NaN if all samples were lost.
    """

    attempt: int
    trace: int
    number: int
    last: bool
    samples_per_point: int
    first: int
    stop: int
    sample_rate_hz: float
    points: Points

    def to_bytes(self) -> bytes:
        """Return the frame as bytes."""
        head = _HEADER.pack(
            MAGIC,
            len(self.points),
            self.attempt,
            self.number,
            self.trace,
            _LAST if self.last else 0,
            self.samples_per_point,
            0,
            self.first,
            self.stop,
            self.sample_rate_hz,
        )
        return head + self.points.astype("<f4").tobytes()


def decode_frame(payload: bytes) -> Frame:
    """Parse a frame.

    Raises:
        TransportError: ``bad-frame``: it is of another version, or truncated.
    """
    if len(payload) < _HEADER.size or not payload.startswith(MAGIC):
        raise TransportError("bad-frame", f"{len(payload)} bytes are not a frame of this version")
    _, count, attempt, number, trace, flags, per_point, _, first, stop, rate = _HEADER.unpack_from(
        payload
    )
    expected = _HEADER.size + count * _POINT_BYTES
    spanned = -(-(stop - first) // per_point) if per_point else -1
    if len(payload) != expected or spanned != count:
        what = f"a frame of {count} points for {stop - first} samples has {len(payload)} bytes"
        raise TransportError("bad-frame", what)
    points = np.frombuffer(payload, "<f4", offset=_HEADER.size).reshape(count, 3)
    last = bool(flags & _LAST)
    return Frame(attempt, trace, number, last, per_point, first, stop, rate, points)


class FrameMaker:
    """Summarises the samples of one trace into frames.

    Args:
        attempt: of the job.
        trace: number of the trace in the attempt.
        sample_rate_hz: nominal samples per second.
    """

    def __init__(self, attempt: int, trace: int, sample_rate_hz: float) -> None:
        self._attempt = attempt
        self._trace = trace
        self._rate = sample_rate_hz
        self._per_point = max(1, math.ceil(sample_rate_hz / POINTS_PER_SECOND))
        self._number = 0
        self._seen = 0
        self._rest = np.empty(0, np.float32)
        self._points = np.empty((0, 3), np.float32)

    def add_samples(self, power_w: NDArray[np.float32]) -> None:
        """Add the next samples, NaN where lost."""
        self._seen += len(power_w)
        samples = np.concatenate([self._rest, power_w]) if len(self._rest) else power_w
        whole = len(samples) - len(samples) % self._per_point
        self._rest = samples[whole:].copy()
        rows = samples[max(0, whole - MAX_POINTS * self._per_point) : whole]
        made = _summarise_rows(rows.reshape(-1, self._per_point))
        self._points = np.concatenate([self._points, made])[-MAX_POINTS:]

    def take_frame(self, *, last: bool = False) -> Frame | None:
        """Return a frame of the points since the last one; ``None`` if there are none.

        Args:
            last: the trace has ended: include a partly filled point, and return a frame even
                without points.
        """
        stop = self._seen - len(self._rest)
        first = stop - len(self._points) * self._per_point
        points = self._points
        if last and len(self._rest):
            points = np.concatenate([points, _summarise_rows(self._rest.reshape(1, -1))])
            stop = self._seen
        if not len(points) and not last:
            return None
        number, self._number = self._number, self._number + 1
        self._points = self._points[:0]
        return Frame(
            self._attempt,
            self._trace,
            number,
            last,
            self._per_point,
            first,
            stop,
            self._rate,
            points,
        )


def _summarise_rows(rows: NDArray[np.float32]) -> Points:
    """Return minimum, mean and maximum of each row."""
    lost = np.isnan(rows)
    count = rows.shape[1] - lost.sum(axis=1)
    total = np.where(lost, 0.0, rows).sum(axis=1, dtype=np.float64)
    made = np.full((len(rows), 3), np.nan, np.float32)
    made[:, 0] = np.fmin.reduce(rows, axis=1)
    made[:, 1] = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    made[:, 2] = np.fmax.reduce(rows, axis=1)
    return made
