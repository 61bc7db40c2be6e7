"""Streaming wake word: which spoken words were found, and how long a frame takes.

Source: the published runner's ``streaming_ww_utils`` and its README, which disagree on the
time after a word in which a pulse still counts (rules and metrics §4). Both rules are here;
the code's one is official.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OFFICIAL_GRACE_S = (1.0, 1.0)
"""The runner's code adds its second twice …"""

DOCUMENTED_GRACE_S = (1.0,)
"""… its README names one."""

FALSE_RUN_MS = 1000
"""Left-over pulses up to this long after the first of their run count as one."""

WORDS = 50
MOST_FALSE_POSITIVES = 8
MOST_FALSE_NEGATIVES = 8
"""Limits of the closed division (submission checker)."""


@dataclass(frozen=True, slots=True)
class WakewordScore:
    """Words found and missed, and pulses without a word.

    Args:
        found_s: beginnings of the words found.
        missed_s: beginnings of the words missed.
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
        """Whether a closed submission may have this score."""
        return self.fp <= MOST_FALSE_POSITIVES and self.fn <= MOST_FALSE_NEGATIVES


def score_wakewords(
    detections_ms: Sequence[int],
    words_s: Sequence[tuple[float, float]],
    grace_s: Sequence[float] = OFFICIAL_GRACE_S,
) -> WakewordScore:
    """Match detection pulses with spoken words.

    Args:
        detections_ms: pulse times; the first one marks the beginning of the recording.
        words_s: begin and end of every word, seconds from the beginning.
        grace_s: seconds added to a word's end, one after the other.

    Raises:
        ValueError: there is no pulse, so the beginning is unknown.
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
    return WakewordScore(tuple(found), tuple(missed), tuple(_false_runs(pulses)))


def _false_runs(pulses: NDArray[np.int64]) -> list[float]:
    """The first of every run of left-over pulses, seconds; a run is anchored at its first."""
    runs: list[float] = []
    while len(pulses):
        first = pulses[0]
        runs.append(float(first) / 1000)
        same_run = (pulses > first) & (pulses <= first + FALSE_RUN_MS)
        pulses = pulses[~same_run][1:]
    return runs


@dataclass(frozen=True, slots=True)
class DutyCycle:
    """How busy the DUT is with one frame.

    Args:
        duty_cycle: busy share of a frame period.
        period_s: mean time from one frame to the next.
        busy_s: mean time a frame is worked on.
    """

    duty_cycle: float
    period_s: float
    busy_s: float

    @property
    def throughput_ips(self) -> float:
        """Frames a second if they followed each other at once (the published estimate)."""
        return 1.0 / self.busy_s


def duty_cycle(starts_s: Sequence[float], stops_s: Sequence[float]) -> DutyCycle:
    """Mean busy time over mean period; starts and stops are paired by position.

    Raises:
        ValueError: starts and stops differ in number, are fewer than two, or give no time.
    """
    if len(starts_s) != len(stops_s):
        raise ValueError(f"{len(starts_s)} starts and {len(stops_s)} stops cannot be paired")
    if len(starts_s) < 2:  # noqa: PLR2004 - a period needs two
        raise ValueError(f"{len(starts_s)} frames give no period")
    starts, stops = np.array(starts_s, np.float64), np.array(stops_s, np.float64)
    period_s, busy_s = float(np.mean(np.diff(starts))), float(np.mean(stops - starts))
    if not (period_s > 0 and busy_s > 0):
        raise ValueError(f"mean period {period_s} s and busy time {busy_s} s are no times")
    return DutyCycle(busy_s / period_s, period_s, busy_s)
