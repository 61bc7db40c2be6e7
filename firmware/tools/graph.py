"""A quantised network, as an intermediate form of the converter.

It can express what the int8 kernels can run: int8 activations with one scale, a batch of one,
NHWC. `tflite_reader` builds graphs from `.tflite` files, `train_digits01` from its own
training; `emit_c` turns either into C tables.
"""

import math
from dataclasses import dataclass
from enum import Enum


class ConversionError(Exception):
    """The model cannot be converted; the text names the file, the operator and the reason."""


class Activation(Enum):
    """An activation function fused into an operator; values as in the tflite schema."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3


@dataclass(frozen=True, eq=False)
class Tensor:
    """An activation. Tensors that differ in shape only (reshape) share a `storage`."""

    shape: tuple[int, ...]
    scale: float
    zero_point: int
    storage: int

    @property
    def size(self) -> int:
        """Return the number of elements, which is the number of bytes too."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Weights:
    """Constant operands: int8 weights with zero point 0, and one int32 bias per output."""

    shape: tuple[int, ...]
    values: tuple[int, ...]
    bias: tuple[int, ...]
    scales: tuple[float, ...]
    """One for all outputs, or one per output channel."""


@dataclass(frozen=True)
class Window:
    """The sliding window of a convolution or pool. `same`: padded so that out = ceil(in/stride)."""

    height: int
    width: int
    stride_y: int
    stride_x: int
    same: bool


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution; weights are OHWI, those of a depthwise convolution 1HWO."""

    input: Tensor
    output: Tensor
    weights: Weights
    window: Window
    activation: Activation
    depthwise: bool = False


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """Fully connected layer; weights are outputs x inputs, with one scale."""

    input: Tensor
    output: Tensor
    weights: Weights
    activation: Activation


@dataclass(frozen=True, eq=False)
class AveragePool:
    """Average pool; input and output have the same scale and zero point."""

    input: Tensor
    output: Tensor
    window: Window
    activation: Activation


@dataclass(frozen=True, eq=False)
class Add:
    """Sum of two tensors of the same shape."""

    input: Tensor
    other: Tensor
    output: Tensor
    activation: Activation


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax; output scale 1/256, zero point -128."""

    input: Tensor
    output: Tensor
    beta: float


Operator = Conv | FullyConnected | AveragePool | Add | Softmax


def inputs_of(operator: Operator) -> tuple[Tensor, ...]:
    """Return the activations that an operator reads."""
    if isinstance(operator, Add):
        return (operator.input, operator.other)
    return (operator.input,)


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in the order they run, from one input to one output."""

    name: str
    input: Tensor
    output: Tensor
    operators: tuple[Operator, ...]
