"""The six operators again, from the quantisation specification, in exact rational arithmetic.

Written for clearness: nothing here shares a formula with firmware/nn.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np


@dataclass(frozen=True)
class Requantise:
    """Scale, add the zero point, clamp."""

    multipliers: list[tuple[int, int]]
    zero_point: int
    low: int
    high: int

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """`sums` has the output channels last."""
        flat = sums.reshape(-1, sums.shape[-1])
        out = np.empty(flat.shape, np.int8)
        for row, column in np.ndindex(flat.shape):
            multiplier = self.multipliers[column % len(self.multipliers)]
            value = scaled(int(flat[row, column]), *multiplier) + self.zero_point
            out[row, column] = min(max(value, self.low), self.high)
        return out.reshape(sums.shape)


def scaled(value: int, multiplier: int, shift: int) -> int:
    """TFLite's two roundings: half up at 2^31, then half away from zero at the right shift."""
    high = floor(Fraction(value * 2 ** max(shift, 0) * multiplier, 2**31) + Fraction(1, 2))
    quotient = Fraction(high, 2 ** max(-shift, 0))
    rounded = floor(abs(quotient) + Fraction(1, 2))
    return rounded if quotient >= 0 else -rounded


def padded(image: np.ndarray, pad: tuple[int, int], fill: int) -> np.ndarray:
    """Room before by `pad`, and after as much as any window could need."""
    return np.pad(
        image.astype(np.int64), ((pad[0], 16), (pad[1], 16), (0, 0)), constant_values=fill
    )


def conv(
    image: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    *,
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    zero_point: int,
    depthwise: bool,
) -> np.ndarray:
    """Sums before scaling. Image HWC; weights OHWI, of a depthwise convolution HWC."""
    room = padded(image, pad, zero_point) - zero_point
    height, width = weights.shape[:2] if depthwise else weights.shape[1:3]
    sums = np.zeros((*out, len(bias)), np.int64)
    for y, x in np.ndindex(*out):
        top, left = y * stride[0], x * stride[1]
        patch = room[top : top + height, left : left + width]
        if depthwise:
            sums[y, x] = (patch * weights).sum(axis=(0, 1))
        else:
            sums[y, x] = (patch * weights).sum(axis=(1, 2, 3))
    return sums + bias


def average_pool(
    image: np.ndarray,
    window: tuple[int, int],
    *,
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
) -> np.ndarray:
    """Means of what lies inside the image, half away from zero."""
    values = np.zeros((*out, image.shape[2]), np.int64)
    for y, x in np.ndindex(*out):
        top, left = y * stride[0] - pad[0], x * stride[1] - pad[1]
        rows = slice(max(top, 0), min(top + window[0], image.shape[0]))
        columns = slice(max(left, 0), min(left + window[1], image.shape[1]))
        patch = image[rows, columns].astype(np.int64)
        for channel in range(image.shape[2]):
            mean = Fraction(int(patch[..., channel].sum()), patch[..., channel].size)
            rounded = floor(abs(mean) + Fraction(1, 2))
            values[y, x, channel] = rounded if mean >= 0 else -rounded
    return values


def softmax(row: np.ndarray, scale: float) -> np.ndarray:
    """In real numbers, rounded once: the fixed-point kernel may be one step off."""
    powers = np.exp((row.astype(np.float64) - row.max()) * scale)
    return np.rint(powers / powers.sum() * 256 - 128).clip(-128, 127).astype(int)
