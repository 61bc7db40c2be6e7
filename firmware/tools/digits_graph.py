"""Trained digits01 network -> int8 graph: post-training quantisation, as in TensorFlow Lite.

Weights are symmetric, with one scale per output channel in convolutions; the ranges of activations
are those of the training images.
"""

import numpy as np

from digits_network import (
    CHANNELS,
    CLASSES,
    DEPTHWISE_SIDE,
    DEPTHWISE_STRIDE,
    FEATURES,
    KERNEL,
    POOL,
    POOLED_SIDE,
    SIDE,
    Activations,
    Array,
    Layers,
)
from fixed_point import float32
from graph import (
    Activation,
    AveragePool,
    Conv,
    FullyConnected,
    Graph,
    Softmax,
    Tensor,
    Weights,
    Window,
)

LEVELS, ZERO, WEIGHT_MAX = 255, -128, 127


def quantise(weights: Layers, seen: Activations) -> Graph:
    """Return the int8 graph; `seen` are the activations of the training images."""
    image = Tensor((1, SIDE, SIDE, 1), float32(1 / LEVELS), ZERO, 0)
    conv = _rectified((1, SIDE, SIDE, FEATURES), seen.conv, 1)
    depthwise = _rectified((1, DEPTHWISE_SIDE, DEPTHWISE_SIDE, FEATURES), seen.depthwise, 2)
    pointwise = _rectified((1, DEPTHWISE_SIDE, DEPTHWISE_SIDE, CHANNELS), seen.pointwise, 3)
    pooled_shape = (1, POOLED_SIDE, POOLED_SIDE, CHANNELS)
    pooled = Tensor(pooled_shape, pointwise.scale, pointwise.zero_point, 4)
    logits = _signed((1, CLASSES), seen.logits, 5)
    classes = Tensor((1, CLASSES), 1 / 256, ZERO, 6)

    taps = weights.conv.T.reshape(FEATURES, KERNEL, KERNEL, 1)
    depthwise_taps = weights.depthwise.reshape(1, KERNEL, KERNEL, FEATURES)
    mix = weights.pointwise.T.reshape(CHANNELS, 1, 1, FEATURES)
    operators = (
        Conv(
            image, conv, _by_channel(taps, weights.conv_bias, 0, image.scale),
            Window(KERNEL, KERNEL, 1, 1, same=True), Activation.RELU,
        ),
        Conv(
            conv, depthwise, _by_channel(depthwise_taps, weights.depthwise_bias, 3, conv.scale),
            Window(KERNEL, KERNEL, DEPTHWISE_STRIDE, DEPTHWISE_STRIDE, same=True),
            Activation.RELU, depthwise=True,
        ),
        Conv(
            depthwise, pointwise, _by_channel(mix, weights.pointwise_bias, 0, depthwise.scale),
            Window(1, 1, 1, 1, same=True), Activation.RELU,
        ),
        AveragePool(pointwise, pooled, Window(POOL, POOL, POOL, POOL, same=False), Activation.NONE),
        FullyConnected(
            pooled, logits, _whole(weights.dense.T, weights.dense_bias, pooled.scale),
            Activation.NONE,
        ),
        Softmax(logits, classes, beta=1.0),
    )  # fmt: skip
    return Graph("digits01", image, classes, operators)


def _rectified(shape: tuple[int, ...], values: Array, storage: int) -> Tensor:
    """Return the tensor of values after ReLU, where zero is the lowest step."""
    return Tensor(shape, float32(values.max() / LEVELS), ZERO, storage)


def _signed(shape: tuple[int, ...], values: Array, storage: int) -> Tensor:
    low, high = values.min(), values.max()
    scale = float32((high - low) / LEVELS)
    return Tensor(shape, scale, int(np.rint(ZERO - low / scale)), storage)


def _by_channel(values: Array, bias: Array, axis: int, input_scale: float) -> Weights:
    """Quantise with one scale per output channel, which is the given axis."""
    others = tuple(k for k in range(values.ndim) if k != axis)
    scales = [float32(peak / WEIGHT_MAX) for peak in np.abs(values).max(axis=others)]
    shape = [1] * values.ndim
    shape[axis] = -1
    return _rounded(values, np.reshape(scales, shape), bias, scales, input_scale)


def _whole(values: Array, bias: Array, input_scale: float) -> Weights:
    scale = float32(np.abs(values).max() / WEIGHT_MAX)
    return _rounded(values, np.array(scale), bias, [scale], input_scale)


def _rounded(
    values: Array, steps: Array, bias: Array, scales: list[float], input_scale: float
) -> Weights:
    quantised = np.rint(values / steps).astype(int)
    biases = np.rint(bias / (input_scale * np.array(scales))).astype(int)
    return Weights(
        shape=values.shape,
        values=tuple(quantised.ravel().tolist()),
        bias=tuple(biases.tolist()),
        scales=tuple(scales),
    )
