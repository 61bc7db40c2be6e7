"""Which of a session's time stamps were lost, told by the program's clock.

A session of the EEMBC runner makes a sync stamp and then two an inference. The runner pairs
what its monitor kept in order, so one lost stamp turns all later windows into the pauses
between the inferences. The log tells, a little late, when each stamp was made: only one
choice of the lost one may fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

STAMP_TOLERANCE_S = 0.2
"""How far the log's lines may be off, one against the other: text waits in buffers."""

CLEARLY = 2.0
"""Every other choice must be off by more than this many tolerances."""

MOST_LOST = 3
"""With more of them lost, chance decides."""


@dataclass(frozen=True, slots=True)
class LostStamps:
    """The stamps that are missing.

    Args:
        positions: among those expected, the sync mark being 0.
        off_s: how far the others are off the program's clock.
        next_off_s: how far they would be with the next best choice.
    """

    positions: tuple[int, ...]
    off_s: float
    next_off_s: float


def find_lost(stamps_s: Sequence[float], expected_s: Sequence[float]) -> LostStamps | None:
    """Which expected stamps are not among those there are; ``None`` when that is not clear.

    Args:
        stamps_s: by the monitor's clock, rising.
        expected_s: by another clock of the same rate, one for every stamp there should be.

    A choice is off by half the spread of the differences between the two clocks. The best
    one must be off by at most ``STAMP_TOLERANCE_S``, every other by more than twice that.
    """
    missing = len(expected_s) - len(stamps_s)
    if not 0 < missing <= min(MOST_LOST, len(stamps_s) - 1):
        return None
    choices = itertools.combinations(range(len(expected_s)), missing)
    ranked = sorted((_off_s(stamps_s, expected_s, choice), choice) for choice in choices)
    (off_s, positions), (next_off_s, _) = ranked[:2]
    if off_s > STAMP_TOLERANCE_S or next_off_s <= CLEARLY * STAMP_TOLERANCE_S:
        return None
    return LostStamps(positions, off_s, next_off_s)


def _off_s(stamps_s: Sequence[float], expected_s: Sequence[float], lost: Sequence[int]) -> float:
    kept = [time for position, time in enumerate(expected_s) if position not in lost]
    apart = [theirs - ours for theirs, ours in zip(kept, stamps_s, strict=True)]
    return (max(apart) - min(apart)) / 2


def pair_stamps(
    stamps_s: Sequence[float], lost: Sequence[int] = ()
) -> list[tuple[float, float] | None]:
    """Start and stop of every window; ``None`` where one of them is lost.

    Args:
        stamps_s: those there are, the first being the sync mark unless that is lost.
        lost: positions of the missing ones; without any, stamps are paired in their order.
    """
    there = iter(stamps_s)
    count = len(stamps_s) + len(lost)
    placed = [None if position in lost else next(there) for position in range(count)]
    return [
        None if start is None or stop is None else (start, stop)
        for start, stop in zip(placed[1::2], placed[2::2], strict=False)
    ]
