"""What an acquisition yielded, put together: samples, edges and gaps of one stretch of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import MeasurementInvalid
from labd.core.model import Edge, Gap, Samples, StreamFormat, StreamItem


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A stretch of an acquisition, in sample periods from the acquisition's start.

    Args:
        format: what the numbers mean.
        power_w: mean power in each sample period, shape (n,), NaN where lost.
        edges: the edges of every line in the stretch.
        gaps: what is lost in it.
        start: index of the first sample.
        current_a: mean current in each sample period, shape (n,), where it was measured.
    """

    format: StreamFormat
    power_w: NDArray[np.float64]
    edges: tuple[Edge, ...]
    gaps: tuple[Gap, ...]
    start: int = 0
    current_a: NDArray[np.float64] | None = None

    @property
    def end(self) -> int:
        """Index of the first sample after the stretch."""
        return self.start + len(self.power_w)

    def energy_uj(self, first: float, second: float) -> float:
        """Energy between two positions, µJ; a sample cut by one counts by its share.

        Raises:
            MeasurementInvalid: a sample in there was lost, or the recording ends earlier.
        """
        self._require(first, second)
        joules = _integral(self.power_w, first - self.start, second - self.start)
        return self._known(joules) / self.format.sample_rate_hz * 1e6

    def charge_uc(self, first: float, second: float) -> float | None:
        """Charge between two positions, µC; ``None`` where neither current nor voltage is known.

        Raises:
            MeasurementInvalid: as :meth:`energy_uj`.
        """
        self._require(first, second)
        if self.current_a is not None:
            coulombs = _integral(self.current_a, first - self.start, second - self.start)
            return self._known(coulombs) / self.format.sample_rate_hz * 1e6
        if self.format.voltage_v:
            return self.energy_uj(first, second) / self.format.voltage_v
        return None

    def edge_energy_uj(self, first: float, second: float, uncertainty_s: float) -> float:
        """How much the energy between two positions changes when both are off by so much, µJ."""
        reach = max(1, math.ceil(uncertainty_s * self.format.sample_rate_hz))
        return sum(
            float(np.abs(self._around(position, reach)).max(initial=0.0))
            for position in (first, second)
        ) * (uncertainty_s * 1e6)

    def mean_power_uw(self, start: int, stop: int) -> float | None:
        """Mean power of the samples [start, stop), µW; ``None`` where one was lost."""
        part = self.power_w[max(0, start - self.start) : max(0, stop - self.start)]
        if len(part) != stop - start or not len(part) or bool(np.isnan(part).any()):
            return None
        return float(part.mean()) * 1e6

    def joules_per_ms(self, start_ms: int, stop_ms: int) -> NDArray[np.float64]:
        """Energy in each whole millisecond [start, stop) since the acquisition began, joule.

        The published runners know no other samples. Shape (stop_ms - start_ms,).

        Raises:
            MeasurementInvalid: a sample in there was lost, or the recording ends earlier.
        """
        each = samples_per_ms(self.format)
        first, second = start_ms * each, stop_ms * each
        self._require(first, second)
        part = self.power_w[first - self.start : second - self.start]
        return part.reshape(-1, each).sum(axis=1) / self.format.sample_rate_hz

    def _around(self, position: float, reach: int) -> NDArray[np.float64]:
        at = math.floor(position) - self.start
        return self.power_w[max(0, at - reach) : max(0, at + reach + 1)]

    def _require(self, first: float, second: float) -> None:
        if not self.start <= first < second <= self.end:
            raise MeasurementInvalid(
                "window-outside", f"samples {first:g} to {second:g} are not in the recording"
            )
        if any(gap.index < second and first < gap.end for gap in self.gaps):
            raise MeasurementInvalid("window-gap", "samples were lost inside the window")

    @staticmethod
    def _known(total: float) -> float:
        if not math.isfinite(total):
            raise MeasurementInvalid("window-nan", "the monitor gave samples that are no numbers")
        return total


def _integral(values: NDArray[np.float64], first: float, second: float) -> float:
    """Integral of a piecewise constant function, value by sample period, over [first, second]."""
    start, stop = math.floor(first), math.floor(second)
    if start == stop:
        return float(values[start]) * (second - first)
    total = float(values[start]) * (start + 1 - first) + float(values[start + 1 : stop].sum())
    return total + (float(values[stop]) * (second - stop) if second > stop else 0.0)


def assemble(stream_format: StreamFormat, items: Sequence[StreamItem]) -> Recording:
    """Put consecutive stream items together; indices run on without a hole.

    Raises:
        MeasurementInvalid: an index was skipped or came twice (a driver's fault).
    """
    edges = tuple(item for item in items if isinstance(item, Edge))
    runs = [item for item in items if isinstance(item, (Samples, Gap))]
    start = at = runs[0].index if runs else 0
    for run in runs:
        if run.index != at:
            raise MeasurementInvalid("stream-order", f"sample {run.index} came, expected {at}")
        at = run.end
    return Recording(
        stream_format,
        _joined([item.power_w if isinstance(item, Samples) else item for item in runs]),
        edges,
        tuple(item for item in runs if isinstance(item, Gap)),
        start,
        _currents(runs),
    )


def _currents(runs: Sequence[Samples | Gap]) -> NDArray[np.float64] | None:
    """The measured current, if every sample has one."""
    parts: list[NDArray[np.float64] | Gap] = []
    for run in runs:
        part = run if isinstance(run, Gap) else run.current_a
        if part is None:
            return None
        parts.append(part)
    return _joined(parts) if any(not isinstance(part, Gap) for part in parts) else None


def _joined(parts: Sequence[NDArray[np.float64] | Gap]) -> NDArray[np.float64]:
    whole = [np.full(part.count, np.nan) if isinstance(part, Gap) else part for part in parts]
    return np.concatenate(whole) if whole else np.empty(0)


def publishable(stream_format: StreamFormat) -> bool:
    """Whether whole milliseconds can be made of the samples, as the published methods need."""
    return stream_format.sample_rate_hz > 0 and stream_format.sample_rate_hz % 1000 == 0


def samples_per_ms(stream_format: StreamFormat) -> int:
    """Samples in a millisecond of a :func:`publishable` stream."""
    return round(stream_format.sample_rate_hz) // 1000
