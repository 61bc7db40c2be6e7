"""A quantised network as the converter understands it, whoever made it.

Only what the int8 kernels can run can be expressed: int8 activations with one scale, a batch of
one, NHWC. `tflite_reader` builds graphs from `.tflite` files, `train_digits01` from its own
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
    """An activation. Tensors that only differ in shape (reshape) share their `storage`."""

    shape: tuple[int, ...]
    scale: float
    zero_point: int
    storage: int

    @property
    def size(self) -> int:
        """Elements, which are bytes too."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Weights:
    """Constant operands: int8 weights with zero point 0, and an int32 bias an output."""

    shape: tuple[int, ...]
    values: tuple[int, ...]
    bias: tuple[int, ...]
    scales: tuple[float, ...]
    """One for all outputs, or one an output channel."""


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
    """Convolution; weights are OHWI, of a depthwise one 1HWO."""

    input: Tensor
    output: Tensor
    weights: Weights
    window: Window
    activation: Activation
    depthwise: bool = False


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """Weights are outputs x inputs, with one scale."""

    input: Tensor
    output: Tensor
    weights: Weights
    activation: Activation


@dataclass(frozen=True, eq=False)
class AveragePool:
    """Input and output have the same scale and zero point."""

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
    """Output scale 1/256, zero point -128."""

    input: Tensor
    output: Tensor
    beta: float


Operator = Conv | FullyConnected | AveragePool | Add | Softmax


def inputs_of(operator: Operator) -> tuple[Tensor, ...]:
    """The activations an operator reads."""
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
