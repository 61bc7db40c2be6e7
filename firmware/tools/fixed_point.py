"""Constants of the fixed-point kernels, computed as in TensorFlow Lite."""

import math
import struct
from dataclasses import dataclass

from graph import Activation, ConversionError

MULTIPLIER_BITS = 31
INT8_MIN, INT8_MAX = -128, 127


@dataclass(frozen=True)
class Factor:
    """A real factor as multiplier * 2^(shift - 31)."""

    multiplier: int
    shift: int


def factor(real: float) -> Factor:
    """Return the factor nearest to a positive real.

    A real too small for the shift becomes 0, as in the reference; 2^31 or more raises
    ConversionError.
    """
    if not 0.0 < real < 2.0**31:
        raise ConversionError(f"scale ratio {real!r} is out of range")
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << MULTIPLIER_BITS) + 0.5)
    if multiplier == 1 << MULTIPLIER_BITS:
        multiplier //= 2
        shift += 1
    if shift < -MULTIPLIER_BITS:
        return Factor(0, 0)
    return Factor(multiplier, shift)


def float32(value: float) -> float:
    """Return the nearest float32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def quantised(real: float, scale: float, zero_point: int) -> int:
    """Return the step nearest to a real, ties away from zero, not clipped to int8."""
    steps = float32(real / scale)
    return zero_point + math.floor(abs(steps) + 0.5) * (1 if steps >= 0 else -1)


def output_range(activation: Activation, scale: float, zero_point: int) -> tuple[int, int]:
    """Return the least and the greatest output of an activation function."""
    bounds = {
        Activation.NONE: (-math.inf, math.inf),
        Activation.RELU: (0.0, math.inf),
        Activation.RELU_N1_TO_1: (-1.0, 1.0),
        Activation.RELU6: (0.0, 6.0),
    }
    low, high = bounds[activation]
    least = INT8_MIN if math.isinf(low) else max(INT8_MIN, quantised(low, scale, zero_point))
    greatest = INT8_MAX if math.isinf(high) else min(INT8_MAX, quantised(high, scale, zero_point))
    return least, greatest


def output_length(length: int, window: int, stride: int, *, same: bool) -> int:
    """Return the number of window positions along an axis."""
    return -(-length // stride) if same else (length - window) // stride + 1


def padding_before(length: int, window: int, stride: int, *, same: bool) -> int:
    """Return the padding before the first element of an axis; an odd one is added at the end."""
    if not same:
        return 0
    covered = (output_length(length, window, stride, same=True) - 1) * stride + window
    return max(0, covered - length) // 2


SOFTMAX_INTEGER_BITS = 5
SOFTMAX_FRACTION_BITS = 31 - SOFTMAX_INTEGER_BITS


def softmax_factor(beta: float, scale: float) -> tuple[Factor, int]:
    """Return the factor from steps to Q5.26, and the least difference that is not zero."""
    real = min(beta * scale * (1 << SOFTMAX_FRACTION_BITS), (1 << 31) - 1.0)
    result = factor(real)
    if result.shift < 0:
        raise ConversionError(f"softmax input scale {scale!r} is too small")
    largest = ((1 << SOFTMAX_INTEGER_BITS) - 1) * 2.0**SOFTMAX_FRACTION_BITS
    return result, -math.floor(largest / (1 << result.shift))
