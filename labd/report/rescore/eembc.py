"""Re-scoring of sessions of the EEMBC runner: from its log and its energy trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from drivers.dut import LAP_MODULUS
from labd.core.methods import WindowEnergy, eembc_energy
from labd.report.rescore.accuracy import Answer, score_eembc
from labd.report.rescore.eembc_log import Inference, Session
from labd.report.rescore.files import read_bytes, read_json
from labd.report.rescore.judge import medians
from labd.report.rescore.model import Recomputed, ScoredWindow

TRACE_MARK = 0xF1
SYNC_STAMPS = 1
"""A session begins with one stamp that belongs to no window."""

_CLOCK_SLACK_S = 0.4
_CLOCK_SLACK = 0.005
"""How far the program's clock may be off: text waits in buffers, so only gross errors show."""


@dataclass(frozen=True, slots=True, eq=False)
class EnergyTrace:
    """What the power monitor recorded.

    Args:
        rate_hz: samples a second.
        samples_uj: energy in each sample period.
        stamps_s: time stamps, the first being the sync mark.
    """

    rate_hz: float
    samples_uj: NDArray[np.float32]
    stamps_s: tuple[float, ...]


def score_performance(session: Session) -> Recomputed:
    """Windows from the DUT's own laps; the score is the median of their throughputs."""
    result = Recomputed()
    for index, inference, laps in _paired_laps(session, result):
        number = 2 * (index + 1)
        runtime_s = ((laps[1] - laps[0]) % LAP_MODULUS) / 1e6
        result.windows.append(_window(number, inference.inferences, runtime_s))
        _check_clock(number, runtime_s, inference, result)
    _note_odd(session, result)
    return result


def score_energy(session: Session, trace: EnergyTrace) -> Recomputed:
    """Windows from the monitor's trace; counts of inferences from the log."""
    result = Recomputed()
    every = _timed_windows(session, trace.stamps_s, result)
    for timed in every:
        number = timed.window.number
        found = eembc_energy(trace.samples_uj, trace.rate_hz, timed.start_s, timed.stop_s)
        if timed.stop_s * trace.rate_hz > len(trace.samples_uj) + 0.5:
            length_s = len(trace.samples_uj) / trace.rate_hz
            text = f"window {number} ends at {timed.stop_s} s, its trace at {length_s:g} s"
            result.spoil(number, "trace-short", text)
        elif not math.isfinite(found.energy_uj):
            text = f"window {number}: the trace holds samples without a value"
            result.spoil(number, "trace-lost", text)
        else:
            result.windows.append(_with_energy(timed.window, found))
            note_negative(f"window {number}", found, result)
        _check_window_clock(timed, session, result)
    if result.damaged:  # the stamps are whole, so the lengths of all windows are known
        throughput = medians([timed.window for timed in every])
        result.score |= throughput
    _note_odd(session, result)
    return result


def _with_energy(window: ScoredWindow, found: WindowEnergy) -> ScoredWindow:
    count = window.inferences
    return replace(
        window,
        energy_uj=found.energy_uj,
        power_uw=found.power_uw,
        energy_per_inference_uj=found.energy_uj / count if count else None,
    )


def note_negative(name: str, found: WindowEnergy, result: Recomputed) -> None:
    """Tell an energy that no device can have drawn."""
    if found.energy_uj < 0:
        text = f"{name}: the samples add up to {found.energy_uj:.6g} µJ, less than nothing"
        result.note("energy-negative", text)


def score_stamps(session: Session, stamps_s: Sequence[float]) -> Recomputed:
    """How long the windows of an energy session were, where its trace is lost."""
    result = Recomputed()
    for timed in _timed_windows(session, stamps_s, result):
        result.windows.append(timed.window)
        _check_window_clock(timed, session, result)
    _note_odd(session, result)
    return result


@dataclass(frozen=True, slots=True)
class _TimedWindow:
    """A window by its two stamps; ``index`` counts from 0."""

    index: int
    start_s: float
    stop_s: float
    window: ScoredWindow


def _timed_windows(
    session: Session, stamps_s: Sequence[float], result: Recomputed
) -> list[_TimedWindow]:
    counts = [each.inferences for each in session.inferences]
    _check_stamps(len(stamps_s), len(counts), result)
    pairs = zip(stamps_s[1::2], stamps_s[2::2], strict=False)
    return [
        _TimedWindow(
            index,
            start_s,
            stop_s,
            _window(
                2 * (index + 1), counts[index] if index < len(counts) else None, stop_s - start_s
            ),
        )
        for index, (start_s, stop_s) in enumerate(pairs)
    ]


def _check_window_clock(timed: _TimedWindow, session: Session, result: Recomputed) -> None:
    if timed.index < len(session.inferences):
        length_s = timed.stop_s - timed.start_s
        _check_clock(timed.window.number, length_s, session.inferences[timed.index], result)


def score_accuracy(session: Session, benchmark: str | None) -> Recomputed:
    """Top-1 and area from the logged results, by the formulas of this runner."""
    result = Recomputed()
    answers = [Answer(each.file, each.results) for each in session.inferences if each.results]
    damaged = [each for each in session.inferences if each.damaged]
    if damaged:
        text = f"{len(damaged)} results are no numbers, the first: {damaged[0].damaged}"
        result.note("results-damaged", text)
    silent = sum(each.results is None and not each.damaged for each in session.inferences)
    if silent or (session.loads and session.loads != len(session.inferences)):
        text = f"{session.loads} inputs were loaded, {len(answers)} results are logged"
        result.note("result-count", text)
    score_eembc(answers, benchmark, result)
    _note_odd(session, result)
    return result


def read_trace(trace: Path, stamps: Path) -> tuple[EnergyTrace | None, str]:
    """An energy trace and its stamps, and what was wrong with them.

    The container: byte 0xF1, sample rate as float32, then energy in µJ as float32, all
    little-endian; stamps are a JSON list of seconds (results format §2).
    """
    content, damage = read_bytes(trace)
    if len(content) < 5 or content[0] != TRACE_MARK:  # noqa: PLR2004 - mark and rate
        return None, damage or f"{trace.name} is no energy trace"
    rate_hz = float(np.frombuffer(content[1:5], "<f4")[0])
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        return None, f"{trace.name} has a sample rate of {rate_hz}"
    if (len(content) - 5) % 4:
        damage = damage or f"{trace.name} ends within a sample"
    samples = np.frombuffer(content, "<f4", (len(content) - 5) // 4, offset=5)
    times, wrong = read_stamps(stamps)
    return (None, wrong) if times is None else (EnergyTrace(rate_hz, samples, times), damage)


def read_stamps(stamps: Path) -> tuple[tuple[float, ...] | None, str]:
    """The time stamps of a session, seconds, and what was wrong with their file."""
    value, wrong = read_json(stamps)
    times = _stamp_list(value)
    return times, "" if times else f"{stamps.name} {wrong or 'is no list of rising times'}"


def logged_stamps(session: Session) -> tuple[float, ...]:
    """The time stamps as the monitor told them in the log, to the six digits of their file."""
    return tuple(float(f"{lap / 1e6:.6g}") for lap in session.monitor_laps_us)


def _stamp_list(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    if not all(isinstance(item, (int, float)) and math.isfinite(item) for item in items):
        return None
    times = tuple(float(item) for item in items)
    return times if all(a <= b for a, b in pairwise(times)) else None


def _window(number: int, inferences: int | None, runtime_s: float) -> ScoredWindow:
    throughput = inferences / runtime_s if inferences is not None and runtime_s > 0 else None
    return ScoredWindow(number, inferences, runtime_s, throughput)


def _paired_laps(
    session: Session, result: Recomputed
) -> list[tuple[int, Inference, tuple[int, int]]]:
    """Each inference with its two laps: those in between, or else by position."""
    inferences = session.inferences
    if all(len(each.laps_us) == 2 for each in inferences):  # noqa: PLR2004 - start, stop
        return [(i, e, (e.laps_us[0], e.laps_us[1])) for i, e in enumerate(inferences)]
    if len(session.laps_us) == SYNC_STAMPS + 2 * len(inferences):
        pairs = zip(session.laps_us[1::2], session.laps_us[2::2], strict=True)
        return [(i, e, p) for i, (e, p) in enumerate(zip(inferences, pairs, strict=True))]
    usable: list[tuple[int, Inference, tuple[int, int]]] = []
    for index, each in enumerate(inferences):
        if len(each.laps_us) == 2:  # noqa: PLR2004
            usable.append((index, each, (each.laps_us[0], each.laps_us[1])))
        else:
            number = 2 * (index + 1)
            text = f"window {number}: {len(each.laps_us)} laps instead of 2"
            result.spoil(number, "lost-stamp", text)
    return usable


def _check_stamps(stamps: int, inferences: int, result: Recomputed) -> None:
    expected = SYNC_STAMPS + 2 * inferences
    if inferences and stamps != expected:
        code = "lost-stamp" if stamps < expected else "extra-stamp"
        windows = max(0, (stamps - SYNC_STAMPS) // 2)
        text = f"{stamps} time stamps instead of {expected}: {windows} windows can be told"
        result.note(code, text)


def _check_clock(number: int, runtime_s: float, inference: Inference, result: Recomputed) -> None:
    """Compare a window with the program's clock, as far as buffered text allows."""
    if inference.done_s is None:
        return
    slack = _CLOCK_SLACK_S + _CLOCK_SLACK * runtime_s
    begun = inference.command_s if inference.command_s is not None else inference.start_s
    longest = math.inf if begun is None else inference.done_s - begun
    shortest = 0.0 if inference.start_s is None else inference.done_s - inference.start_s
    if not shortest - slack <= runtime_s <= longest + slack:
        text = (
            f"window {number} lasts {runtime_s:.3f} s by its stamps, but the program's clock "
            f"saw {shortest:.3f} s from m-infer-start to m-infer-done"
        )
        result.note("clock-disagrees", text)


def _note_laps(session: Session, result: Recomputed) -> None:
    """Tell where the DUT's 32-bit microsecond counter went backwards."""
    falls = [(a, b) for a, b in pairwise(session.laps_us) if b < a]
    wraps = [fall for fall in falls if (fall[1] - fall[0]) % LAP_MODULUS < LAP_MODULUS // 2]
    restarts = [fall for fall in falls if fall not in wraps]
    for code, found, what in (
        ("lap-wrapped", wraps, "wrapped at 2^32"),
        ("lap-restarted", restarts, "started anew"),
    ):
        if found:
            times = "once" if len(found) == 1 else f"{len(found)} times, first"
            text = f"the DUT's lap counter {what} {times} from {found[0][0]} to {found[0][1]}"
            result.note(code, text)


def _note_odd(session: Session, result: Recomputed) -> None:
    _note_laps(session, result)
    if session.errors:
        text = f"the device reported {len(session.errors)} errors, the first: {session.errors[0]}"
        result.note("device-error", text)
    if session.dropped[0]:
        text = f"the monitor dropped {session.dropped[0]} of {session.dropped[1]} packets"
        result.note("dropped-packets", text)
