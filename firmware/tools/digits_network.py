"""The digits01 network in floating point, trained so that every machine gets the same bits.

IEEE 754 defines the result of each single addition, multiplication, division and square root. A
library may choose the order of a sum, fused multiply-add, and the last digit of exp() and pow().
Therefore

* both operands of every sum of products are first rounded to a grid of 2^-14. Then every product
  lies on a grid of 2^-28, every partial sum fits the 53 bits of a double, and nothing is rounded,
  in whatever order BLAS adds. `exact_product` checks the bound;
* everything else is computed element by element, and exp() by multiplications;
* random numbers are the raw output of PCG64, which NumPy keeps stable (NEP 19).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIDE, CLASSES = 8, 10
FEATURES, CHANNELS = 8, 16
KERNEL, POOL, DEPTHWISE_STRIDE = 3, 2, 2
DEPTHWISE_SIDE = SIDE // DEPTHWISE_STRIDE
POOLED_SIDE = DEPTHWISE_SIDE // POOL

GRID_BITS = 14
MANTISSA_BITS = 53
SEED = 1797
EPOCHS, BATCH = 80, 32
LEARNING_RATE = 0.004
MOMENT_DECAY, SQUARE_DECAY, TINY = 0.9, 0.999, 1e-8


def snap(values: Array, bits: int = GRID_BITS) -> Array:
    """Return the nearest multiples of 2^-bits."""
    return np.rint(values * 2.0**bits) / 2.0**bits


def exact_product(left: Array, right: Array) -> Array:
    """Return the matrix product of the snapped operands, without rounding."""
    a, b = snap(left), snap(right)
    bound = np.abs(a).max() * np.abs(b).max() * a.shape[-1] * 2.0 ** (2 * GRID_BITS)
    if not bound < 2.0**MANTISSA_BITS:
        raise ArithmeticError("the product would round: training left its range")
    return a @ b


def exact_sum(values: Array) -> Array:
    """Return the sum over all axes but the last, without rounding."""
    rows = values.reshape(-1, values.shape[-1])
    return exact_product(np.ones((1, len(rows))), rows)[0]


class Random:
    """Uniform numbers and permutations from raw PCG64 output."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def uniform(self, *shape: int) -> Array:
        """Return numbers in [0, 1)."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Return 0 … count-1 in random order."""
        return np.argsort(self.uniform(count), kind="stable")


@dataclass
class Layers:
    """Values by layer: weights, their gradients, or the moments of these."""

    conv: Array  # (9, FEATURES)
    conv_bias: Array
    depthwise: Array  # (9, FEATURES)
    depthwise_bias: Array
    pointwise: Array  # (FEATURES, CHANNELS)
    pointwise_bias: Array
    dense: Array  # (POOLED_SIDE * POOLED_SIDE * CHANNELS, CLASSES)
    dense_bias: Array


@dataclass(frozen=True)
class Activations:
    """Outputs of the layers for a batch, after ReLU where there is one."""

    patches: Array
    conv: Array
    depthwise_patches: Array
    depthwise: Array
    pointwise: Array
    pooled: Array
    logits: Array


def initial_weights(random: Random) -> Layers:
    """Return uniform random weights, scaled by fan-in."""

    def spread(fan_in: int, *shape: int) -> Array:
        return snap((random.uniform(*shape) * 2.0 - 1.0) * np.sqrt(6.0 / fan_in))

    taps, dense_inputs = KERNEL * KERNEL, POOLED_SIDE * POOLED_SIDE * CHANNELS
    return Layers(
        conv=spread(taps, taps, FEATURES),
        conv_bias=np.zeros(FEATURES),
        depthwise=spread(taps, taps, FEATURES),
        depthwise_bias=np.zeros(FEATURES),
        pointwise=spread(FEATURES, FEATURES, CHANNELS),
        pointwise_bias=np.zeros(CHANNELS),
        dense=spread(dense_inputs, dense_inputs, CLASSES),
        dense_bias=np.zeros(CLASSES),
    )


def windows(images: Array, stride: int) -> Array:
    """Return all 3 x 3 windows with `same` padding: (batch, out, out, channels, 9).

    With an even side, padding before the first pixel is 1 at stride 1 and 0 at stride 2.
    """
    before = 2 - stride
    padded = np.pad(images, ((0, 0), (before, 1), (before, 1), (0, 0)))
    view = sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))[:, ::stride, ::stride]
    return view.reshape(*view.shape[:4], KERNEL * KERNEL)


def relu(values: Array) -> Array:
    """Return the values, with zero for negative ones."""
    return np.maximum(values, 0.0)


def weighted_taps(patches: Array, taps: Array) -> Array:
    """Return the weighted sum over the window, per channel."""
    total = np.zeros(patches.shape[:-1])
    for tap, weights in enumerate(taps):
        total = total + snap(patches[..., tap]) * weights
    return total


def forward(weights: Layers, images: Array) -> Activations:
    """Run the network on images (batch, 8, 8) of values in [0, 1]."""
    count = len(images)
    patches = windows(images[..., None], 1)[:, :, :, 0, :]
    conv = relu(exact_product(patches, weights.conv) + weights.conv_bias)
    depthwise_patches = windows(conv, DEPTHWISE_STRIDE)
    depthwise = relu(weighted_taps(depthwise_patches, weights.depthwise) + weights.depthwise_bias)
    pointwise = relu(exact_product(depthwise, weights.pointwise) + weights.pointwise_bias)
    blocks = pointwise.reshape(count, POOLED_SIDE, POOL, POOLED_SIDE, POOL, CHANNELS)
    corners = (blocks[:, :, y, :, x] for y in range(POOL) for x in range(POOL))
    pooled = np.asarray(sum(corners)) / POOL**2
    logits = exact_product(pooled.reshape(count, -1), weights.dense) + weights.dense_bias
    return Activations(patches, conv, depthwise_patches, depthwise, pointwise, pooled, logits)


def probabilities(logits: Array) -> Array:
    """Softmax, with exp(x) as (1 + x / 2^16)^(2^16)."""
    doublings = 16
    shifted = np.maximum(logits - logits.max(axis=1, keepdims=True), -30.0)
    power = 1.0 + shifted / 2.0**doublings
    for _ in range(doublings):
        power = power * power
    power = snap(power, 30)  # the sum of ten is then exact
    return power / power.sum(axis=1, keepdims=True)


def backward(weights: Layers, seen: Activations, labels: NDArray[np.int64]) -> Layers:
    """Return the gradients of the cross entropy, summed over the batch."""
    count = len(labels)
    d_logits = probabilities(seen.logits) - np.eye(CLASSES)[labels]
    flat = seen.pooled.reshape(count, -1)
    d_pooled = exact_product(d_logits, weights.dense.T).reshape(seen.pooled.shape)
    d_pointwise = d_pooled.repeat(POOL, axis=1).repeat(POOL, axis=2) / POOL**2
    d_pointwise = d_pointwise * (seen.pointwise > 0)
    d_depthwise = exact_product(d_pointwise, weights.pointwise.T) * (seen.depthwise > 0)
    d_conv = _depthwise_to_input(weights.depthwise, d_depthwise) * (seen.conv > 0)
    return Layers(
        conv=_weight_gradient(seen.patches, d_conv),
        conv_bias=exact_sum(d_conv),
        depthwise=np.stack(
            [exact_sum(snap(seen.depthwise_patches[..., t]) * snap(d_depthwise)) for t in range(9)]
        ),
        depthwise_bias=exact_sum(d_depthwise),
        pointwise=_weight_gradient(seen.depthwise, d_pointwise),
        pointwise_bias=exact_sum(d_pointwise),
        dense=exact_product(flat.T, d_logits),
        dense_bias=exact_sum(d_logits),
    )


def _weight_gradient(inputs: Array, d_outputs: Array) -> Array:
    left = inputs.reshape(-1, inputs.shape[-1])
    return exact_product(left.T, d_outputs.reshape(-1, d_outputs.shape[-1]))


def _depthwise_to_input(taps: Array, d_outputs: Array) -> Array:
    """Add each output's gradient to the pixels of its window."""
    count = len(d_outputs)
    padded = np.zeros((count, SIDE + 1, SIDE + 1, FEATURES))
    for tap, weights in enumerate(taps):
        y, x = divmod(tap, KERNEL)
        rows = slice(y, y + SIDE - 1, DEPTHWISE_STRIDE)
        columns = slice(x, x + SIDE - 1, DEPTHWISE_STRIDE)
        padded[:, rows, columns] += d_outputs * weights
    return padded[:, :SIDE, :SIDE]


class Adam:
    """The Adam optimiser (Kingma and Ba, arXiv:1412.6980), with weights on the grid."""

    def __init__(self, weights: Layers) -> None:
        self._weights = weights
        self._first = {name: np.zeros_like(value) for name, value in vars(weights).items()}
        self._second = {name: np.zeros_like(value) for name, value in vars(weights).items()}
        self._first_power = self._second_power = 1.0

    def step(self, gradients: Layers, rate: float) -> None:
        """Move every weight."""
        self._first_power *= MOMENT_DECAY
        self._second_power *= SQUARE_DECAY
        for name, gradient in vars(gradients).items():
            first, second = self._first[name], self._second[name]
            first += (1.0 - MOMENT_DECAY) * (gradient - first)
            second += (1.0 - SQUARE_DECAY) * (gradient * gradient - second)
            mean = first / (1.0 - self._first_power)
            spread = np.sqrt(second / (1.0 - self._second_power)) + TINY
            moved = getattr(self._weights, name) - rate * mean / spread
            setattr(self._weights, name, snap(moved))


def jittered(images: Array, random: Random) -> Array:
    """Return the images, half of them moved by up to one pixel in each direction."""
    count = len(images)
    offsets = np.floor(random.uniform(count, 2) * 3.0).astype(np.int64)
    offsets[random.uniform(count) < 0.5] = 1  # noqa: PLR2004
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return np.stack([padded[k, y : y + SIDE, x : x + SIDE] for k, (y, x) in enumerate(offsets)])


def train(images: Array, labels: NDArray[np.int64]) -> Layers:
    """Train from scratch; the learning rate falls linearly to zero."""
    random = Random(SEED)
    weights = initial_weights(random)
    adam = Adam(weights)
    bounds = [*range(0, len(images), BATCH), len(images)]
    steps = EPOCHS * (len(bounds) - 1)
    done = 0
    for _ in range(EPOCHS):
        order = random.permutation(len(images))
        moved = jittered(images, random)
        for start, end in pairwise(bounds):
            batch = order[start:end]
            seen = forward(weights, moved[batch])
            gradients = backward(weights, seen, labels[batch])
            adam.step(gradients, LEARNING_RATE * (steps - done) / steps)
            done += 1
    return weights
