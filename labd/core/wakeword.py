"""Streaming wake word: matching of detections with spoken words, and the duty cycle.

Source: github.com/mlcommons/tiny, benchmark/runner/streaming_ww_utils.py and README.md, which
disagree on the time after a word within which a detection counts. Both rules are implemented;
the code's rule is the official one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OFFICIAL_GRACE_S = (1.0, 1.0)
"""Time after a word: the runner's code adds one second twice."""

DOCUMENTED_GRACE_S = (1.0,)
"""Time after a word by the runner's README."""

FALSE_RUN_MS = 1000
"""Unmatched pulses up to this long after the first one count as one false positive."""

WORDS = 50
MAX_FALSE_POSITIVES = 8
MAX_FALSE_NEGATIVES = 8
"""Limits of the closed division (tools/submission/submission_checker.py)."""


@dataclass(frozen=True, slots=True)
class WakewordScore:
    """Words found, words missed, and pulses without a word.

    Args:
        found_s: start times of the words found.
        missed_s: start times of the words missed.
        false_s: times of the false positives.
    """

    found_s: tuple[float, ...]
    missed_s: tuple[float, ...]
    false_s: tuple[float, ...]

    @property
    def tp(self) -> int:
        """Words found."""
        return len(self.found_s)

    @property
    def fn(self) -> int:
        """Words missed."""
        return len(self.missed_s)

    @property
    def fp(self) -> int:
        """False positives."""
        return len(self.false_s)

    @property
    def within_limits(self) -> bool:
        """Whether the closed division allows this score."""
        return self.fp <= MAX_FALSE_POSITIVES and self.fn <= MAX_FALSE_NEGATIVES


def score_wakewords(
    detections_ms: Sequence[int],
    words_s: Sequence[tuple[float, float]],
    grace_s: Sequence[float] = OFFICIAL_GRACE_S,
) -> WakewordScore:
    """Match detection pulses with spoken words.

    Args:
        detections_ms: pulse times; the first marks the start of the recording.
        words_s: start and end of each word, seconds from the start of the recording.
        grace_s: seconds added to the end of a word, one after the other.

    Raises:
        ValueError: there is no pulse, so the start is unknown.
    """
    if not detections_ms:
        raise ValueError("there is no detection pulse, not even the one that marks time zero")
    pulses = np.array(detections_ms[1:], np.int64) - detections_ms[0]
    found: list[float] = []
    missed: list[float] = []
    for begin, end in words_s:
        limit = end
        for seconds in grace_s:
            limit += seconds
        hit = (pulses / 1000 >= begin) & (pulses / 1000 <= limit)
        (found if bool(hit.any()) else missed).append(begin)
        pulses = pulses[~hit]
    return WakewordScore(tuple(found), tuple(missed), tuple(_group_false_detections(pulses)))


def _group_false_detections(pulses: NDArray[np.int64]) -> list[float]:
    """First of each run of unmatched pulses, seconds; a run is anchored at its first pulse."""
    runs: list[float] = []
    while len(pulses):
        first = pulses[0]
        runs.append(float(first) / 1000)
        same_run = (pulses > first) & (pulses <= first + FALSE_RUN_MS)
        pulses = pulses[~same_run][1:]
    return runs


@dataclass(frozen=True, slots=True)
class DutyCycle:
    """Processing time of the DUT per frame.

    Args:
        duty_cycle: processing time as a share of the frame period.
        period_s: mean frame period.
        busy_s: mean processing time per frame.
    """

    duty_cycle: float
    period_s: float
    busy_s: float

    @property
    def throughput_ips(self) -> float:
        """Frames per second without pauses between them (the published estimate)."""
        return 1.0 / self.busy_s


def compute_duty_cycle(starts_s: Sequence[float], stops_s: Sequence[float]) -> DutyCycle:
    """Compute mean processing time over mean period; starts and stops are paired in order.

    Raises:
        ValueError: starts and stops differ in number, are fewer than two, or give no positive
            time.
    """
    if len(starts_s) != len(stops_s):
        raise ValueError(f"{len(starts_s)} starts and {len(stops_s)} stops cannot be paired")
    if len(starts_s) < 2:  # noqa: PLR2004 - a period needs two
        raise ValueError(f"{len(starts_s)} frames give no period")
    starts, stops = np.array(starts_s, np.float64), np.array(stops_s, np.float64)
    period_s, busy_s = float(np.mean(np.diff(starts))), float(np.mean(stops - starts))
    if not (period_s > 0 and busy_s > 0):
        raise ValueError(
            f"mean period {period_s} s and processing time {busy_s} s must be positive"
        )
    return DutyCycle(busy_s / period_s, period_s, busy_s)
