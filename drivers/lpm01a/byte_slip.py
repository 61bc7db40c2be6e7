"""Byte slips: stretches of binary samples read one byte off, by a lost and a doubled byte.

Both in one block cancel: the count of samples is right, and all samples between the two are
made of one sample's low byte and the next one's high byte. Where the current varies, such pairs
soon exceed what the instrument can measure. Where it hardly varies, this module finds them: the
low bytes of the stretch are constant at the value of the high bytes beside it, and its high
bytes are like the low bytes beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CONTEXT = 16
"""Samples on either side with which a stretch is compared."""

MIN_STRETCH = 16
"""A shorter one of nearly constant current is not found."""

_STEP = 1  # what a high byte may change by from sample to sample in a current that hardly does
_MOSTLY = 0.9
_APART = 2
_DRIFT = 1.5  # two neighbouring stretches of a ramp lie a little further apart than each reaches
_SPREAD = 4  # by how much a stretch's noise may be less than its neighbours'


def has_byte_slip(data: bytes, before: bytes) -> bool:
    """Return whether a stretch of a block of samples was read one byte off.

    False alarm: a current that jumps and comes back within a block, if the two levels happen to
    be each other's bytes swapped, as one pair of levels in some thousand is.

    Args:
        data: the block, two bytes per sample.
        before: the last confirmed samples before it; may be empty.
    """
    pairs = before + data
    high = np.frombuffer(pairs[::2], np.uint8)
    if not len(high) or int(high.max()) - int(high.min()) <= _STEP:
        return False  # aligned throughout: a misaligned stretch would stand out
    high, low = high.astype(np.int16), np.frombuffer(pairs[1::2], np.uint8).astype(np.int16)
    breaks = np.flatnonzero(np.abs(np.diff(low)) > _STEP) + 1
    starts, ends = np.concatenate(([0], breaks)), np.concatenate((breaks, [len(low)]))
    long = np.flatnonzero(ends - starts >= MIN_STRETCH)
    return any(_is_slipped(high, low, int(starts[i]), int(ends[i])) for i in long)


def _is_slipped(high: NDArray[np.int16], low: NDArray[np.int16], start: int, end: int) -> bool:
    """Whether the samples [start, end), whose low bytes stand still, are one byte off."""
    within = high[start + 1 : end - 1]
    if np.mean(np.abs(within - low[start + 1 : end - 1]) > _STEP) < _MOSTLY:
        return False
    if start and not _continues_as_high_byte(low[start], high[max(start - 2, 0) : start + 1]):
        return False
    if end + 1 < len(low) and not _continues_as_high_byte(low[end - 1], high[end - 1 : end + 2]):
        return False
    return _resembles_neighbours(
        within[:CONTEXT], low[max(start - CONTEXT, 0) : start]
    ) or _resembles_neighbours(within[-CONTEXT:], low[end : end + CONTEXT])


def _continues_as_high_byte(low: np.int16, high: NDArray[np.int16]) -> bool:
    """Whether the low byte at a stretch's end goes on as a high byte beyond it."""
    return bool((np.abs(high - low) <= _STEP).any())


def _resembles_neighbours(within: NDArray[np.int16], beside: NDArray[np.int16]) -> bool:
    """Whether a stretch's high bytes are what the low bytes beside it are."""
    if not len(beside):
        return False
    noise, noise_within = (
        float(np.subtract(*np.percentile(x, (90, 10)))) for x in (beside, within)
    )
    apart = abs(float(np.median(within)) - float(np.median(beside)))
    return apart <= max(_APART, _DRIFT * noise) and noise_within >= noise / _SPREAD - 1
