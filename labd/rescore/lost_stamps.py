"""Detection of lost timestamps by the runner's clock.

A session of the EEMBC runner makes a sync timestamp and then two per batch. The runner pairs
the recorded timestamps in order, so after one lost timestamp all windows are the pauses
between the batches. The log has the time of each timestamp, slightly late. The lost one is
named only if no other choice fits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

STAMP_TOLERANCE_S = 0.2
"""Largest delay between lines of the log: text waits in buffers."""

MIN_RATIO = 2.0
"""Every other choice must be off by more than this many tolerances."""

MAX_LOST = 3
"""With more lost timestamps the choice is arbitrary."""


@dataclass(frozen=True, slots=True)
class LostStamps:
    """Timestamps that are missing.

    Args:
        positions: among the expected ones, the sync timestamp being 0.
        off_s: deviation of the others from the runner's clock.
        next_off_s: the same with the next best choice.
    """

    positions: tuple[int, ...]
    off_s: float
    next_off_s: float


def find_lost(stamps_s: Sequence[float], expected_s: Sequence[float]) -> LostStamps | None:
    """Find which expected timestamps are missing; ``None`` if that is ambiguous.

    A choice deviates by half the spread of the differences between the two clocks. The best
    one may deviate by ``STAMP_TOLERANCE_S``, every other must deviate by more than twice that.

    Args:
        stamps_s: by the power monitor's clock, rising.
        expected_s: by another clock of the same rate, one per expected timestamp.
    """
    missing = len(expected_s) - len(stamps_s)
    if not 0 < missing <= min(MAX_LOST, len(stamps_s) - 1):
        return None
    choices = itertools.combinations(range(len(expected_s)), missing)
    ranked = sorted((_off_s(stamps_s, expected_s, choice), choice) for choice in choices)
    (off_s, positions), (next_off_s, _) = ranked[:2]
    if off_s > STAMP_TOLERANCE_S or next_off_s <= MIN_RATIO * STAMP_TOLERANCE_S:
        return None
    return LostStamps(positions, off_s, next_off_s)


def _off_s(stamps_s: Sequence[float], expected_s: Sequence[float], lost: Sequence[int]) -> float:
    kept = [time for position, time in enumerate(expected_s) if position not in lost]
    apart = [theirs - ours for theirs, ours in zip(kept, stamps_s, strict=True)]
    return (max(apart) - min(apart)) / 2


def pair_stamps(
    stamps_s: Sequence[float], lost: Sequence[int] = ()
) -> list[tuple[float, float] | None]:
    """Return start and stop of every window; ``None`` where one of them is lost.

    Args:
        stamps_s: the recorded ones, the first being the sync timestamp unless it is lost.
        lost: positions of the missing ones; without any, timestamps are paired in order.
    """
    recorded = iter(stamps_s)
    count = len(stamps_s) + len(lost)
    placed = [None if position in lost else next(recorded) for position in range(count)]
    return [
        None if start is None or stop is None else (start, stop)
        for start, stop in zip(placed[1::2], placed[2::2], strict=False)
    ]
