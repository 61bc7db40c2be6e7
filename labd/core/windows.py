"""Windows: from edges, samples and clocks to a number, or the reason why there is none.

A window is the interval between the two timestamps of one ``infer`` command. It is valid if
exactly these two edges came, no sample in between was lost, it lasts at least ten seconds and
holds at least ten inferences, and an independent clock agrees on its length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from labd.core.errors import MeasurementInvalid
from labd.core.model import ClockCheck, Edge, EnergyMethod, Gap, Window
from labd.core.recording import Recording, has_whole_milliseconds
from labd.core.runner_arithmetic import (
    WindowEnergy,
    mlcommons_energy,
    sample_times_s,
    sequential_sum,
)
from labd.core.suite import MAX_INFERENCES, MIN_INFERENCES, MIN_WINDOW_S

HOST_TOLERANCE_S = 0.15
"""Serial latency at both ends of a window timed by the host (16 ms FTDI timer, scheduling)."""

MAX_ENERGY_UNCERTAINTY = 0.005
"""Largest share of a window's energy that the edges' uncertainty may leave open.

The spread of the windows within a published trace is 0.19 % in the median and 0.78 % at the
90th percentile (github.com/mlcommons/tiny_results_v0.5 to v1.3)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch of one window: N of ``infer N W``, numbered from 1 in the order of measuring."""

    number: int
    input_file: str
    inferences: int


def performance_window(batch: Batch, runtime_us: int, check: ClockCheck) -> Window:
    """Make a window from the DUT's counter: ``runtime_us`` between the two laps, modulo 2^32."""
    window = _window_without_energy(batch, runtime_us / 1e6, check)
    return replace(window, problems=length_problems(window))


def _window_without_energy(batch: Batch, runtime_s: float, check: ClockCheck) -> Window:
    throughput = batch.inferences / runtime_s if runtime_s > 0 else 0.0
    return Window(batch.number, batch.input_file, batch.inferences, runtime_s, throughput, check)


def energy_window(
    batch: Batch,
    recording: Recording,
    edges: Sequence[Edge],
    span: tuple[int, int],
    check: ClockCheck,
    *,
    method: EnergyMethod = EnergyMethod.LABD,
    idle_power_uw: float | None = None,
    edge_uncertainty_s: float | None = None,
) -> Window:
    """Make a window from two edges and integrate its energy.

    Args:
        batch: that ran in it.
        recording: the samples around the window.
        edges: the timestamp edges from the command to its end.
        span: the samples from before the command to after its end.
        check: its length by an independent clock.
        method: whose energy is the window's; the energy by every method is reported.
        idle_power_uw: of the DUT between batches.
        edge_uncertainty_s: of the edges, if it is not the instrument's.
    """
    if len(edges) != 2:  # noqa: PLR2004 - start and stop
        return _window_without_edges(batch, recording, len(edges), span, check)
    rate = recording.format.sample_rate_hz
    first, second = edges[0].index, edges[1].index
    window = replace(
        _window_without_energy(batch, (second - first) / rate, check),
        start_index=first,
        stop_index=second,
        samples=math.floor(second) - math.floor(first),
        idle_power_uw=idle_power_uw,
    )
    problems = length_problems(window)
    if edge_uncertainty_s is None:
        edge_uncertainty_s = recording.format.edge_uncertainty_s
    reach = max(1, math.ceil(edge_uncertainty_s * rate))
    if _touches_gap(recording.gaps, reach, first, second):
        return replace(window, problems=(*problems, "an edge lies in or beside a gap"))
    try:
        window = _add_energy(window, recording, (first, second), method, edge_uncertainty_s)
    except MeasurementInvalid as error:
        return replace(window, problems=(*problems, error.what))
    return replace(window, problems=(*problems, *_energy_problems(window)))


def _window_without_edges(
    batch: Batch, recording: Recording, edges: int, span: tuple[int, int], check: ClockCheck
) -> Window:
    problem = f"{edges} timestamp edges came during the command instead of 2"
    lost = tuple(
        f"samples {gap.index} to {gap.end - 1} are lost: {gap.reason}"
        for gap in recording.gaps
        if gap.index <= span[1] and span[0] <= gap.end
    )
    return replace(_window_without_energy(batch, 0.0, check), problems=(problem, *lost))


def _add_energy(
    window: Window,
    recording: Recording,
    edges: tuple[float, float],
    method: EnergyMethod,
    edge_uncertainty_s: float,
) -> Window:
    """Fill in the energy by every method, its uncertainty, and the charge.

    Raises:
        MeasurementInvalid: samples in the window were lost, or the method does not apply.
    """
    found = energies_by_method(recording, *edges)
    chosen = found.get(method)
    if chosen is None:
        raise MeasurementInvalid("method", _method_unavailable_reason(method, recording))
    per_inference = chosen.energy_uj / window.inferences
    idle = window.idle_power_uw
    return replace(
        window,
        energy_uj=chosen.energy_uj,
        power_uw=chosen.power_uw,
        energy_per_inference_uj=per_inference,
        charge_uc=recording.charge_uc(*edges),
        energy_uncertainty_uj=recording.energy_uncertainty_uj(*edges, edge_uncertainty_s),
        baseline_per_inference_uj=(
            None if idle is None else idle * window.runtime_s / window.inferences
        ),
        methods={str(name): each.energy_uj / window.inferences for name, each in found.items()},
    )


def energies_by_method(
    recording: Recording, first: float, second: float
) -> dict[EnergyMethod, WindowEnergy]:
    """Compute a window's energy by every method that applies to the sample rate.

    Raises:
        MeasurementInvalid: samples between the edges were lost, or the recording is too short.
    """
    found = {EnergyMethod.LABD: _labd_energy(recording, first, second)}
    if has_whole_milliseconds(recording.format):
        with suppress(MeasurementInvalid):  # they use samples beyond the edges
            found |= _published_energies(recording, first, second)
    return found


def _method_unavailable_reason(method: EnergyMethod, recording: Recording) -> str:
    if not has_whole_milliseconds(recording.format):
        return f"method {method} needs a multiple of 1000 samples per second"
    return f"samples beside the window are missing that method {method} needs"


def _labd_energy(recording: Recording, first: float, second: float) -> WindowEnergy:
    """Method ``labd``: the exact time between the edges; cut samples count in proportion."""
    energy_uj = recording.energy_uj(first, second)
    runtime_s = (second - first) / recording.format.sample_rate_hz
    whole = math.floor(second) - math.floor(first)
    return WindowEnergy(energy_uj, energy_uj / runtime_s, runtime_s, whole)


def _published_energies(
    recording: Recording, first: float, second: float
) -> dict[EnergyMethod, WindowEnergy]:
    """Compute a window's energy as each published runner does.

    Both process samples of 1 ms. ``mlcommons`` counts from the sample in which an edge fell.
    ``eembc`` has the edges' times to three decimals and finds the samples at them by adding
    1/1000 repeatedly (sources: :mod:`labd.core.runner_arithmetic`).

    Raises:
        MeasurementInvalid: samples were lost, or the recording is too short.
    """
    per_s = recording.format.sample_rate_hz
    first_ms, last_ms = math.floor(first * 1000 / per_s), math.floor(second * 1000 / per_s)
    t0_s, t1_s = round(first / per_s, 3), round(second / per_s, 3)
    times_s = sample_times_s(last_ms + 3, 1000.0)
    start, stop = (int(i) for i in np.searchsorted(times_s, (t0_s, t1_s)))
    origin = min(start, first_ms)
    joules = recording.joules_per_ms(origin, max(stop, last_ms))
    count = max(1, stop - start)
    eembc_uj = sequential_sum(joules[start - origin : stop - origin] * 1e6)
    return {
        EnergyMethod.EEMBC: WindowEnergy(
            eembc_uj, eembc_uj / (count / 1e3), t1_s - t0_s, stop - start
        ),
        EnergyMethod.MLCOMMONS: mlcommons_energy(joules, first_ms - origin, last_ms - origin),
    }


def _energy_problems(window: Window) -> tuple[str, ...]:
    """Return why a window's energy is not valid."""
    energy, uncertainty = window.energy_uj or 0.0, window.energy_uncertainty_uj or 0.0
    if energy <= 0:
        return (f"energy is {energy:.3f} µJ: the power monitor did not measure the board",)
    if uncertainty > MAX_ENERGY_UNCERTAINTY * energy:
        share = 100 * uncertainty / energy
        limit = f"limit {100 * MAX_ENERGY_UNCERTAINTY:g} %"
        return (f"edge uncertainty contributes {share:.2f} % of the energy ({limit})",)
    return ()


def is_too_short(window: Window) -> bool:
    """Whether the only thing wrong with a window is its length or number of inferences."""
    short = shortness_problems(window)
    return bool(short) and window.runtime_s > 0 and set(window.problems) <= set(short)


def is_surely_long_enough(check: ClockCheck) -> bool:
    """Whether an independent clock alone shows that a window is long enough."""
    return check.seconds is not None and check.seconds - check.tolerance_s >= MIN_WINDOW_S


def shortness_problems(window: Window) -> tuple[str, ...]:
    """Return why a window is too short."""
    problems: list[str] = []
    if window.runtime_s < MIN_WINDOW_S:
        problems.append(f"lasts {window.runtime_s:.6f} s, less than {MIN_WINDOW_S:g} s")
    if window.inferences < MIN_INFERENCES:
        problems.append(f"holds {window.inferences} inferences, less than {MIN_INFERENCES}")
    return tuple(problems)


def length_problems(window: Window) -> tuple[str, ...]:
    """Return why a window's length, inferences or clocks are not valid."""
    return (*shortness_problems(window), *clock_problems(window.runtime_s, window.check))


def clock_problems(runtime_s: float, check: ClockCheck) -> tuple[str, ...]:
    """Return how far the independent clock disagrees, if beyond its tolerance."""
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


def _touches_gap(gaps: Sequence[Gap], reach: int, *positions: float) -> bool:
    """Whether a position, uncertain by ``reach`` samples, may lie in a gap."""
    return any(
        gap.index - reach <= position <= gap.end + reach - 1
        for gap in gaps
        for position in positions
    )


def inferences_for_window(measured: int, seconds: float, aim_s: float) -> int:
    """Return how many inferences last ``aim_s``; never fewer than the minimum.

    Args:
        measured: number of inferences in a measured batch.
        seconds: that they took.
        aim_s: planned length of the window.

    Raises:
        MeasurementInvalid: more than :data:`labd.core.suite.MAX_INFERENCES`.
    """
    inferences = max(MIN_INFERENCES, math.ceil(aim_s * measured / seconds))
    if inferences > MAX_INFERENCES:
        raise MeasurementInvalid(
            "inference-too-short",
            f"an inference of {seconds / measured * 1e9:.3g} ns is too short for this protocol: "
            f"N would be {inferences} for a window of {aim_s:g} s, limit {MAX_INFERENCES}",
            "check that infer runs the model: a compiler removes a call without effect",
        )
    return inferences
