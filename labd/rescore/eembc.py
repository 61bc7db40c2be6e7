"""Re-scoring of sessions of the EEMBC runner, from its log and its energy trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from labd.core.model import Finding
from labd.core.runner_arithmetic import WindowEnergy, eembc_energy
from labd.protocol.words import COUNTER_MODULUS
from labd.rescore.accuracy_scores import LoggedAnswer, judge_answers, score_eembc
from labd.rescore.compare import median_scores
from labd.rescore.eembc_log import EembcSession, Inference
from labd.rescore.lost_stamps import LostStamps, find_lost, pair_stamps
from labd.rescore.session_score import Recomputed, ScoredWindow
from labd.rescore.tolerant_reading import read_bytes, read_json

TRACE_MARK = 0xF1
SYNC_STAMPS = 1
"""Timestamps before the first window: the sync timestamp."""

_CLOCK_SLACK_S = 0.4
_CLOCK_SLACK = 0.005
"""Tolerance of the runner's clock: text waits in buffers, so only gross errors are visible."""


@dataclass(frozen=True, slots=True, eq=False)
class EnergyTrace:
    """Recording of the power monitor.

    Args:
        rate_hz: samples per second.
        samples_uj: energy per sample period.
        stamps_s: timestamps, the first being the sync timestamp.
    """

    rate_hz: float
    samples_uj: NDArray[np.float32]
    stamps_s: tuple[float, ...]


def score_performance(session: EembcSession) -> Recomputed:
    """Recompute windows from the DUT's laps; the score is their median throughput."""
    result = Recomputed()
    for index, inference, laps in _paired_laps(session, result):
        number = 2 * (index + 1)
        runtime_s = ((laps[1] - laps[0]) % COUNTER_MODULUS) / 1e6
        result.windows.append(ScoredWindow.from_runtime(number, inference.inferences, runtime_s))
        _check_clock(number, runtime_s, inference, result)
    note_device_findings(session, result)
    return result


def score_energy(
    session: EembcSession, stamps_s: Sequence[float], trace: EnergyTrace | None
) -> list[Recomputed]:
    """Recompute windows between timestamps, with their energy if there is a trace.

    The first result pairs the timestamps in order, as the runner does. If some are lost and the
    log shows which, the second result pairs those that belong together.
    """
    lost = find_lost(stamps_s, _expected_stamps(session))
    by_order = _score_pairs(session, pair_stamps(stamps_s), trace)
    expected = SYNC_STAMPS + 2 * len(session.inferences)
    text = _stamp_text(len(stamps_s), expected)
    results = [by_order]
    if lost is not None:
        repaired = _score_pairs(session, pair_stamps(stamps_s, lost.positions), trace)
        text = f"{text}; {_lost_text(lost)}; {_windows_text(repaired)}"
        results.append(repaired)
    for result in results:
        if text:
            code = "lost-stamp" if len(stamps_s) < expected else "extra-stamp"
            result.findings.insert(0, Finding(code, text))
        note_device_findings(session, result)
    return results


def _score_pairs(
    session: EembcSession, pairs: Sequence[tuple[float, float] | None], trace: EnergyTrace | None
) -> Recomputed:
    result = Recomputed()
    every: list[ScoredWindow] = []
    counts = [each.inferences for each in session.inferences]
    for index, pair in enumerate(pairs):
        number = 2 * (index + 1)
        if pair is None:
            result.damaged.append(number)
            continue
        count = counts[index] if index < len(counts) else None
        window = ScoredWindow.from_runtime(number, count, pair[1] - pair[0])
        every.append(window)
        if trace is None:
            result.windows.append(window)
        else:
            _add_energy(window, pair, trace, result)
        if index < len(counts):
            _check_clock(number, pair[1] - pair[0], session.inferences[index], result)
    if result.damaged and len(every) == len(pairs):  # all timestamps exist, so all lengths do
        result.score |= median_scores(every)
    return result


def _add_energy(
    window: ScoredWindow, pair: tuple[float, float], trace: EnergyTrace, result: Recomputed
) -> None:
    number, count = window.number, window.inferences
    found = eembc_energy(trace.samples_uj, trace.rate_hz, *pair)
    if pair[1] * trace.rate_hz > len(trace.samples_uj) + 0.5:
        length_s = len(trace.samples_uj) / trace.rate_hz
        text = f"window {number} ends at {pair[1]} s, its trace at {length_s:g} s"
        result.drop_window(number, "trace-short", text)
        return
    if not math.isfinite(found.energy_uj):
        text = f"window {number}: the trace holds lost samples"
        result.drop_window(number, "trace-lost", text)
        return
    result.windows.append(ScoredWindow.from_runtime(number, count, pair[1] - pair[0], found))
    note_negative(f"window {number}", found, result)


def note_negative(name: str, found: WindowEnergy, result: Recomputed) -> None:
    """Report a negative energy."""
    if found.energy_uj < 0:
        text = f"{name}: its energy is negative: {found.energy_uj:.6g} µJ"
        result.add_finding("energy-negative", text)


def score_accuracy(session: EembcSession, benchmark: str | None) -> Recomputed:
    """Recompute top-1 and AUC from the logged results, by this runner's formulas."""
    result = Recomputed()
    answers = [LoggedAnswer(each.file, each.results) for each in session.inferences if each.results]
    damaged = [each for each in session.inferences if each.damaged]
    if damaged:
        text = f"{len(damaged)} results are no numbers, the first: {damaged[0].damaged}"
        result.add_finding("results-damaged", text)
    silent = sum(each.results is None and not each.damaged for each in session.inferences)
    if silent or (session.loads and session.loads != len(session.inferences)):
        text = f"{session.loads} inputs were loaded, {len(answers)} results are logged"
        result.add_finding("result-count", text)
    judge_answers(answers, benchmark, result)
    score_eembc(answers, benchmark, result)
    note_device_findings(session, result)
    return result


def read_energy_trace(trace: Path, stamps: Path) -> tuple[EnergyTrace | None, str]:
    """Read an energy trace and its timestamps; return them and their damage.

    Format of the published traces (github.com/mlcommons/tiny_results_v0.5 to v1.3,
    trace1-energy.bin): byte 0xF1, sample rate as float32, then energy per sample in µJ as
    float32, little-endian. trace1-timestamps.json is a list of seconds.
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
    """Read the timestamps of a session, seconds; return them and their file's damage."""
    value, wrong = read_json(stamps)
    times = _stamp_list(value)
    return times, "" if times else f"{stamps.name} {wrong or 'is no list of rising times'}"


def logged_stamps(session: EembcSession) -> tuple[float, ...]:
    """Return the power monitor's timestamps in the log, to the six digits of their file."""
    return tuple(float(f"{lap / 1e6:.6g}") for lap in session.monitor_laps_us)


def _stamp_list(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    if not all(isinstance(item, (int, float)) and math.isfinite(item) for item in items):
        return None
    times = tuple(float(item) for item in items)
    return times if all(a <= b for a, b in pairwise(times)) else None


def _paired_laps(
    session: EembcSession, result: Recomputed
) -> list[tuple[int, Inference, tuple[int, int]]]:
    """Pair each batch with its two laps: those in between, else by position."""
    every, inferences = session.laps_us, session.inferences
    laps = [each.laps_us for each in inferences]
    if {*map(len, laps)} != {2} and len(every) == SYNC_STAMPS + 2 * len(laps):
        laps = [every[place : place + 2] for place in range(SYNC_STAMPS, len(every), 2)]
    usable: list[tuple[int, Inference, tuple[int, int]]] = []
    for index, (each, found) in enumerate(zip(inferences, laps, strict=True)):
        if len(found) == 2:  # noqa: PLR2004 - start, stop
            usable.append((index, each, (found[0], found[1])))
        else:
            number = 2 * (index + 1)
            text = f"window {number}: {len(found)} laps instead of 2"
            result.drop_window(number, "lost-stamp", text)
    return usable


def _expected_stamps(session: EembcSession) -> list[float]:
    """Return the time of each timestamp by the runner's clock; empty if a line is lost."""
    times = [session.sync_s]
    for each in session.inferences:
        times += [each.start_s, each.done_s]
    known = [time for time in times if time is not None]
    return known if len(known) == len(times) else []


def _stamp_text(stamps: int, expected: int) -> str:
    if expected in (SYNC_STAMPS, stamps):
        return ""
    windows = max(0, (stamps - SYNC_STAMPS) // 2)
    return f"{stamps} timestamps instead of {expected}: enough for {windows} windows"


def _lost_text(lost: LostStamps) -> str:
    names = " and ".join(_stamp_name(position) for position in lost.positions)
    shifted = 2 * ((lost.positions[0] + 1) // 2)
    return (
        f"by the runner's clock {names} is missing (the others then fit to {lost.off_s:.3f} s, "
        f"any other choice to {lost.next_off_s:.1f} s), so from window {max(2, shifted)} on, "
        "timestamps paired in order do not enclose the batches"
    )


def _stamp_name(position: int) -> str:
    if position == 0:
        return "timestamp 1, the sync timestamp,"
    edge = "start" if position % 2 else "stop"
    return f"timestamp {position + 1}, the {edge} of window {2 * ((position + 1) // 2)},"


def _windows_text(repaired: Recomputed) -> str:
    """Describe the windows between the timestamps that belong together."""
    windows = [
        f"window {w.number} {w.runtime_s:.3f} s"
        + (f" {w.energy_per_inference_uj:.3f} uJ/inf" if w.energy_per_inference_uj else "")
        for w in repaired.windows
    ]
    score = median_scores(repaired.windows)
    units = (("median_energy_uj", "uJ/inf"), ("median_throughput_ips", "inf/s"))
    middle = " and ".join(f"{score[key]:.3f} {unit}" for key, unit in units if key in score)
    return f"paired correctly: {', '.join(windows) or 'no window'}; median {middle or 'none'}"


def _check_clock(number: int, runtime_s: float, inference: Inference, result: Recomputed) -> None:
    """Compare a window with the runner's clock, as far as buffered text allows."""
    if inference.done_s is None:
        return
    slack = _CLOCK_SLACK_S + _CLOCK_SLACK * runtime_s
    begun = inference.command_s if inference.command_s is not None else inference.start_s
    longest = math.inf if begun is None else inference.done_s - begun
    shortest = 0.0 if inference.start_s is None else inference.done_s - inference.start_s
    if not shortest - slack <= runtime_s <= longest + slack:
        text = (
            f"window {number} lasts {runtime_s:.3f} s by its timestamps, but {shortest:.3f} s from "
            "m-infer-start to m-infer-done by the runner's clock"
        )
        result.add_finding("clock-disagrees", text)


def _note_laps(session: EembcSession, result: Recomputed) -> None:
    """Report where the DUT's 32-bit microsecond counter fell."""
    falls = [(a, b) for a, b in pairwise(session.laps_us) if b < a]
    wraps = [fall for fall in falls if (fall[1] - fall[0]) % COUNTER_MODULUS < COUNTER_MODULUS // 2]
    restarts = [fall for fall in falls if fall not in wraps]
    for code, found, what in (
        ("lap-wrapped", wraps, "wrapped at 2^32"),
        ("lap-restarted", restarts, "restarted"),
    ):
        if found:
            times = "once" if len(found) == 1 else f"{len(found)} times, first"
            text = f"the DUT's lap counter {what} {times} from {found[0][0]} to {found[0][1]}"
            result.add_finding(code, text)


def note_device_findings(session: EembcSession, result: Recomputed) -> None:
    """Report what the DUT and the power monitor said or did wrong."""
    _note_laps(session, result)
    if session.errors:
        text = f"the device reported {len(session.errors)} errors, the first: {session.errors[0]}"
        result.add_finding("device-error", text)
    if session.dropped[0]:
        text = f"the monitor dropped {session.dropped[0]} of {session.dropped[1]} packets"
        result.add_finding("dropped-packets", text)
