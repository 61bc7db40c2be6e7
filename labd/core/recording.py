"""A contiguous stretch of an acquisition: its samples, edges and gaps."""

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
        format: of the stream.
        power_w: mean power per sample period, shape (n,), NaN where lost.
        edges: of every digital line in the stretch.
        gaps: the lost samples.
        start: index of the first sample.
        current_a: mean current per sample period, shape (n,), where it was measured.
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
        """Return the energy between two positions, µJ; cut samples count in proportion.

        Raises:
            MeasurementInvalid: a sample in between was lost, or the recording is too short.
        """
        return self._micro_integral(self.power_w, first, second)

    def charge_uc(self, first: float, second: float) -> float | None:
        """Return the charge between two positions, µC; ``None`` if it cannot be known.

        It needs the measured current, or a fixed voltage.

        Raises:
            MeasurementInvalid: as :meth:`energy_uj`.
        """
        if self.current_a is not None:
            return self._micro_integral(self.current_a, first, second)
        if self.format.voltage_v:
            return self.energy_uj(first, second) / self.format.voltage_v
        return None

    def energy_uncertainty_uj(
        self, first: float, second: float, edge_uncertainty_s: float
    ) -> float:
        """Return how far the energy between two edges may be off, µJ, by their uncertainty."""
        reach = max(1, math.ceil(edge_uncertainty_s * self.format.sample_rate_hz))
        return sum(
            float(np.abs(self._samples_around(position, reach)).max(initial=0.0))
            for position in (first, second)
        ) * (edge_uncertainty_s * 1e6)

    def mean_power_uw(self, start: int, stop: int) -> float | None:
        """Return the mean power of the samples [start, stop), µW; ``None`` if one is lost."""
        part = self.power_w[max(0, start - self.start) : max(0, stop - self.start)]
        if len(part) != stop - start or not len(part) or bool(np.isnan(part).any()):
            return None
        return float(part.mean()) * 1e6

    def joules_per_ms(self, start_ms: int, stop_ms: int) -> NDArray[np.float64]:
        """Return the energy per millisecond [start, stop) since the acquisition began, joule.

        Shape (stop_ms - start_ms,), of a stream that :func:`has_whole_milliseconds`. The
        published runners process samples of 1 ms only.

        Raises:
            MeasurementInvalid: a sample in between was lost, or the recording is too short.
        """
        each = round(self.format.sample_rate_hz) // 1000
        first, second = start_ms * each, stop_ms * each
        self._require_samples(first, second)
        part = self.power_w[first - self.start : second - self.start]
        return part.reshape(-1, each).sum(axis=1) / self.format.sample_rate_hz

    def _samples_around(self, position: float, reach: int) -> NDArray[np.float64]:
        at = math.floor(position) - self.start
        return self.power_w[max(0, at - reach) : max(0, at + reach + 1)]

    def _require_samples(self, first: float, second: float) -> None:
        if not self.start <= first < second <= self.end:
            raise MeasurementInvalid(
                "window-outside", f"samples {first:g} to {second:g} are not in the recording"
            )
        if any(gap.index < second and first < gap.end for gap in self.gaps):
            raise MeasurementInvalid("window-gap", "samples were lost inside the window")

    def _micro_integral(self, values: NDArray[np.float64], first: float, second: float) -> float:
        """Integrate over time, times 1e6: µJ of watts, µC of amperes."""
        self._require_samples(first, second)
        total = _integrate_piecewise_constant(values, first - self.start, second - self.start)
        if not math.isfinite(total):
            raise MeasurementInvalid("window-nan", "the power monitor delivered NaN samples")
        return total / self.format.sample_rate_hz * 1e6


def _integrate_piecewise_constant(
    values: NDArray[np.float64], first: float, second: float
) -> float:
    """Integrate a function that is constant per sample period over [first, second]."""
    start, stop = math.floor(first), math.floor(second)
    if start == stop:
        return float(values[start]) * (second - first)
    total = float(values[start]) * (start + 1 - first) + float(values[start + 1 : stop].sum())
    return total + (float(values[stop]) * (second - stop) if second > stop else 0.0)


def assemble_recording(stream_format: StreamFormat, items: Sequence[StreamItem]) -> Recording:
    """Join consecutive stream items.

    Raises:
        MeasurementInvalid: an index was skipped or came twice (a defect of the driver).
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
        _join_with_nan_gaps([item.power_w if isinstance(item, Samples) else item for item in runs]),
        edges,
        tuple(item for item in runs if isinstance(item, Gap)),
        start,
        _join_currents(runs),
    )


def _join_currents(runs: Sequence[Samples | Gap]) -> NDArray[np.float64] | None:
    """Join the measured currents, if every sample has one."""
    parts: list[NDArray[np.float64] | Gap] = []
    for run in runs:
        part = run if isinstance(run, Gap) else run.current_a
        if part is None:
            return None
        parts.append(part)
    return _join_with_nan_gaps(parts) if any(not isinstance(part, Gap) for part in parts) else None


def _join_with_nan_gaps(parts: Sequence[NDArray[np.float64] | Gap]) -> NDArray[np.float64]:
    whole = [np.full(part.count, np.nan) if isinstance(part, Gap) else part for part in parts]
    return np.concatenate(whole) if whole else np.empty(0)


def has_whole_milliseconds(stream_format: StreamFormat) -> bool:
    """Whether the samples divide into whole milliseconds, as the published methods need."""
    return stream_format.sample_rate_hz > 0 and stream_format.sample_rate_hz % 1000 == 0
