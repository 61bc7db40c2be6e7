"""Windows: from edges, samples and clocks to a number, or the reason there is none.

A window is the interval between the two timestamp edges of one ``infer`` command. It is
valid when exactly those two edges came, no gap lies inside, it lasts at least ten seconds
and ten inferences, and an independent clock agrees on its length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import MeasurementInvalid
from labd.core.model import (
    ClockCheck,
    Edge,
    Gap,
    Samples,
    StreamFormat,
    StreamItem,
    TimeMark,
    Window,
)
from labd.core.suite import MIN_INFERENCES, MIN_WINDOW_S

HOST_TOLERANCE_S = 0.15
"""Serial latency at both ends of a window seen by the host (16 ms FTDI timer, scheduling)."""

HOST_TOLERANCE_PPM = 500.0
"""Host clock under NTP slewing against a crystal."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Everything one acquisition yielded, in sample periods from its start.

    ``power_w`` has one value a sample period; lost ones are NaN.
    """

    format: StreamFormat
    power_w: NDArray[np.float64]
    edges: tuple[Edge, ...]
    gaps: tuple[Gap, ...]

    def energy_uj(self, start: int, stop: int) -> float:
        """Energy of the samples [start, stop), µJ; each is a whole sample period.

        Raises:
            MeasurementInvalid: a sample in there was lost, or the recording ends earlier.
        """
        if not 0 <= start < stop <= len(self.power_w):
            raise MeasurementInvalid(
                "window-outside", f"samples {start} to {stop} are not in the recording"
            )
        if any(gap.index < stop and start < gap.end for gap in self.gaps):
            raise MeasurementInvalid("window-gap", "samples were lost inside the window")
        return float(self.power_w[start:stop].sum()) / self.format.sample_rate_hz * 1e6

    def mean_power_uw(self, start: int, stop: int) -> float | None:
        """Mean power of the samples [start, stop), µW; ``None`` where one was lost."""
        part = self.power_w[start:stop]
        if not len(part) or bool(np.isnan(part).any()):
            return None
        return float(part.mean()) * 1e6


def assemble(stream_format: StreamFormat, items: Sequence[StreamItem]) -> Recording:
    """Put stream items together; indices run on without a hole.

    Raises:
        MeasurementInvalid: an index was skipped or came twice (a driver's fault).
    """
    parts: list[NDArray[np.float64]] = []
    edges: list[Edge] = []
    gaps: list[Gap] = []
    at = 0
    for item in items:
        if isinstance(item, Edge):
            edges.append(item)
            continue
        if isinstance(item, TimeMark):
            continue
        if item.index != at:
            raise MeasurementInvalid("stream-order", f"sample {item.index} came, expected {at}")
        at = item.end
        if isinstance(item, Samples):
            parts.append(item.power_w)
        else:
            gaps.append(item)
            parts.append(np.full(item.count, np.nan))
    power = np.concatenate(parts) if parts else np.empty(0)
    return Recording(stream_format, power, tuple(edges), tuple(gaps))


def performance_window(
    number: int, input_file: str, inferences: int, runtime_us: int, check: ClockCheck
) -> Window:
    """Judge a window timed by the DUT's own counter.

    Args:
        number: 1-based, in the order of measuring.
        input_file: the input the batch ran on.
        inferences: N of ``infer N W``.
        runtime_us: difference of the two laps, modulo 2^32 µs.
        check: the length by an independent clock.
    """
    runtime_s = runtime_us / 1e6
    throughput = inferences / runtime_s if runtime_s > 0 else 0.0
    window = Window(number, input_file, inferences, runtime_s, throughput, check)
    return replace(window, problems=length_problems(window))


def energy_window(
    number: int,
    input_file: str,
    inferences: int,
    recording: Recording,
    edges: Sequence[Edge],
    span: tuple[int, int],
    check: ClockCheck,
) -> Window:
    """Judge a window timed by the power monitor's edges and integrate its energy.

    Energy is the sum over the whole sample periods from the one holding the first edge up
    to the one holding the second (method ``mlcommons``; the edges of a sampled stream are
    known to one period).

    Args:
        number: 1-based, in the order of measuring.
        input_file: the input the batch ran on.
        inferences: N of ``infer N W``.
        recording: the acquisition around the window.
        edges: the timestamp edges that came between the command and its end.
        span: the samples from before the command to after its end.
        check: the length by an independent clock.
    """
    if len(edges) != 2:  # noqa: PLR2004 - start and stop
        problem = f"{len(edges)} timestamp edges came during the command instead of 2"
        lost = tuple(
            f"samples {gap.index} to {gap.end - 1} are lost: {gap.reason}"
            for gap in recording.gaps
            if gap.index <= span[1] and span[0] <= gap.end
        )
        return Window(number, input_file, inferences, 0.0, 0.0, check, (problem, *lost))
    rate = recording.format.sample_rate_hz
    first, second = edges[0].index, edges[1].index
    start, stop = math.floor(first), math.floor(second)
    runtime_s = (second - first) / rate
    window = Window(
        number,
        input_file,
        inferences,
        runtime_s,
        inferences / runtime_s if runtime_s > 0 else 0.0,
        check,
        start_index=first,
        stop_index=second,
        samples=stop - start,
    )
    problems = length_problems(window)
    if _touches_gap(recording.gaps, first, second):
        return replace(window, problems=(*problems, "an edge lies in or beside a gap"))
    try:
        energy = recording.energy_uj(start, stop)
    except MeasurementInvalid as error:
        return replace(window, problems=(*problems, error.what))
    if energy <= 0:
        problems = (*problems, f"energy is {energy:.3f} µJ: the monitor did not see the board")
    return replace(
        window,
        problems=problems,
        energy_uj=energy,
        power_uw=energy / ((stop - start) / rate),
        energy_per_inference_uj=energy / inferences,
    )


def length_problems(window: Window) -> tuple[str, ...]:
    """Say what is wrong with a window's length, count or clocks."""
    problems: list[str] = []
    if window.runtime_s < MIN_WINDOW_S:
        problems.append(f"lasts {window.runtime_s:.6f} s, less than {MIN_WINDOW_S:g} s")
    if window.inferences < MIN_INFERENCES:
        problems.append(f"holds {window.inferences} inferences, less than {MIN_INFERENCES}")
    problems.extend(clock_problems(window.runtime_s, window.check))
    return tuple(problems)


def clock_problems(runtime_s: float, check: ClockCheck) -> tuple[str, ...]:
    """Say whether the independent clock disagrees."""
    if check.seconds is None:
        return () if check.clock == "none" else (f"the {check.clock} saw no window: {check.note}",)
    difference = check.seconds - runtime_s
    if abs(difference) <= check.tolerance_s:
        return ()
    problem = (
        f"the {check.clock} clock measured {check.seconds:.6f} s, {difference:+.6f} s off "
        f"(tolerance {check.tolerance_s:.6f} s)"
    )
    return (problem,)


def _touches_gap(gaps: Sequence[Gap], *positions: float) -> bool:
    return any(gap.index - 1 <= position <= gap.end for gap in gaps for position in positions)


def inferences_for_window(probe_inferences: int, probe_s: float, aim_s: float) -> int:
    """How many inferences last ``aim_s``, judged by a probe of known length.

    Never fewer than the rules' minimum.
    """
    return max(MIN_INFERENCES, math.ceil(aim_s * probe_inferences / probe_s))
