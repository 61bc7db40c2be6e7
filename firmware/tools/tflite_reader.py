"""`.tflite` file -> graph. What the kernels cannot run is refused, by file and operator.

The fields are those of TensorFlow Lite's schema.fbs, read by the classes that the package `tflite`
generates from it.
"""

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tflite import (
    AddOptions,
    BuiltinOperator,
    Conv2DOptions,
    DepthwiseConv2DOptions,
    FullyConnectedOptions,
    Model,
    Padding,
    Pool2DOptions,
    SoftmaxOptions,
    TensorType,
)

from fixed_point import INT8_MAX, INT8_MIN
from graph import (
    Activation,
    Add,
    AveragePool,
    Conv,
    ConversionError,
    FullyConnected,
    Graph,
    Operator,
    Softmax,
    Tensor,
    Weights,
    Window,
)

FILE_IDENTIFIER = b"TFL3"


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


TYPE_NAMES = _names(TensorType)
OPERATOR_NAMES = _names(BuiltinOperator)


@dataclass(frozen=True)
class _RawTensor:
    """A tensor of the file, unchecked."""

    name: str
    shape: tuple[int, ...]
    type: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    data: bytes


def read_tflite(path: Path, name: str) -> Graph:
    """Read a model, calling it `name`. Raises ConversionError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConversionError(f"{path}: {error.strerror}") from error
    if data[4:8] != FILE_IDENTIFIER:
        raise ConversionError(f"{path}: not a .tflite file (no {FILE_IDENTIFIER.decode()} mark)")
    try:
        model: Any = Model.GetRootAs(data)  # pyright: ignore[reportUnknownMemberType]
        return _Reader(model).graph(name)
    except (IndexError, TypeError, ValueError, struct.error) as error:  # raised by flatbuffers
        raise ConversionError(f"{path}: damaged .tflite file: {error}") from error
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error


class _Reader:
    def __init__(self, model: Any) -> None:
        if model.SubgraphsLength() != 1:
            raise ConversionError(f"has {model.SubgraphsLength()} subgraphs, not one")
        self._main = model.Subgraphs(0)
        codes = (model.OperatorCodes(k) for k in range(model.OperatorCodesLength()))
        self._codes = [code.BuiltinCode() for code in codes]
        tensors = (self._main.Tensors(k) for k in range(self._main.TensorsLength()))
        self._raw = [_raw_tensor(tensor, model) for tensor in tensors]
        self._activations: dict[int, Tensor] = {}

    def graph(self, name: str) -> Graph:
        inputs = _numbers(self._main.InputsAsNumpy())
        outputs = _numbers(self._main.OutputsAsNumpy())
        if len(inputs) != 1 or len(outputs) != 1:
            raise ConversionError(f"has {len(inputs)} inputs and {len(outputs)} outputs, not one")
        first = self._activation(inputs[0])
        operators: list[Operator] = []
        for index in range(self._main.OperatorsLength()):
            table = self._main.Operators(index)
            code = self._codes[table.OpcodeIndex()]
            try:
                operator = self._operator(code, table)
            except ConversionError as error:
                label = OPERATOR_NAMES.get(code, f"builtin operator {code}")
                raise ConversionError(f"operator {index} ({label}): {error}") from error
            if operator is not None:
                operators.append(operator)
        return Graph(name, first, self._known(outputs[0]), tuple(operators))

    def _operator(self, code: int, table: Any) -> Operator | None:
        """Convert an operator; return None for a reshape, which changes the shape only."""
        inputs = _numbers(table.InputsAsNumpy())
        output = _operand(_numbers(table.OutputsAsNumpy()), 0, "output")
        if code == BuiltinOperator.RESHAPE:
            self._reshape(_operand(inputs, 0, "input"), output)
            return None
        builders = {
            BuiltinOperator.ADD: (AddOptions, self._add),
            BuiltinOperator.AVERAGE_POOL_2D: (Pool2DOptions, self._average_pool),
            BuiltinOperator.CONV_2D: (Conv2DOptions, self._conv),
            BuiltinOperator.DEPTHWISE_CONV_2D: (DepthwiseConv2DOptions, self._depthwise_conv),
            BuiltinOperator.FULLY_CONNECTED: (FullyConnectedOptions, self._fully_connected),
            BuiltinOperator.SOFTMAX: (SoftmaxOptions, self._softmax),
        }
        if code not in builders:
            raise ConversionError("not supported by the int8 kernels")
        options, build = builders[code]
        return build(inputs, output, _options(table, options))

    # ---- tensors

    def _quantised(self, index: int) -> _RawTensor:
        raw = self._raw[index]
        if raw.type != TensorType.INT8:
            kind = TYPE_NAMES.get(raw.type, f"of type {raw.type}").lower()
            raise ConversionError(
                f"tensor {raw.name!r} is {kind}; only fully int8-quantised models are supported"
            )
        if not raw.scales or not all(scale > 0 for scale in raw.scales):
            raise ConversionError(f"tensor {raw.name!r} has no quantisation scale")
        if len(raw.zero_points) != len(raw.scales):
            raise ConversionError(
                f"tensor {raw.name!r} has {len(raw.scales)} scales and {len(raw.zero_points)} zero "
                "points; convert the model again"
            )
        outside = [point for point in raw.zero_points if not INT8_MIN <= point <= INT8_MAX]
        if outside:
            raise ConversionError(
                f"tensor {raw.name!r} has the zero point {outside[0]}, which is no int8; "
                "convert the model again, with int8 inputs and outputs"
            )
        return raw

    def _activation(self, index: int) -> Tensor:
        """Return the tensor that an operator writes, with a new storage."""
        raw = self._quantised(index)
        if len(raw.scales) != 1:
            raise ConversionError(f"activation {raw.name!r} has more than one scale")
        if not raw.shape or min(raw.shape) < 1 or raw.shape[0] != 1:
            raise ConversionError(
                f"tensor {raw.name!r} has shape {raw.shape}; a batch of 1 is required"
            )
        tensor = Tensor(raw.shape, raw.scales[0], raw.zero_points[0], storage=index)
        self._activations[index] = tensor
        return tensor

    def _known(self, index: int) -> Tensor:
        """Return the tensor that an operator reads; an operator before must have written it."""
        if index not in self._activations:
            raise ConversionError(f"tensor {self._raw[index].name!r} is read before it is written")
        return self._activations[index]

    def _input(self, operands: tuple[int, ...], position: int) -> Tensor:
        """Return the activation that an operator reads as one of its operands."""
        index = _operand(operands, position, "input")
        raw = self._raw[index]
        if index not in self._activations and raw.data:
            raise ConversionError(
                f"operand {raw.name!r} is a constant, but the kernels compute with activations "
                "here; fold it into the weights or the bias of another operator"
            )
        return self._known(index)

    def _reshape(self, source: int, target: int) -> None:
        before, raw = self._known(source), self._quantised(target)
        after = Tensor(raw.shape, raw.scales[0], raw.zero_points[0], storage=before.storage)
        if (after.size, after.scale, after.zero_point) != (
            before.size,
            before.scale,
            before.zero_point,
        ):
            raise ConversionError(f"reshape to {raw.name!r} changes more than the shape")
        self._activations[target] = after

    def _weights(self, inputs: tuple[int, ...], output_axis: int) -> Weights:
        raw = self._quantised(_operand(inputs, 1, "weights"))
        if any(raw.zero_points):
            raise ConversionError(f"weights {raw.name!r} have a zero point")
        values = _values(raw, "b")
        outputs = raw.shape[output_axis]
        if len(raw.scales) not in (1, outputs):
            raise ConversionError(f"weights {raw.name!r} have {len(raw.scales)} scales")
        present = [index for index in inputs[2:3] if index >= 0]
        bias = self._bias(present[0]) if present else (0,) * outputs
        if len(bias) != outputs:
            raise ConversionError(f"{len(bias)} bias values for {outputs} outputs")
        return Weights(raw.shape, values, bias, raw.scales)

    def _bias(self, index: int) -> tuple[int, ...]:
        raw = self._raw[index]
        if raw.type != TensorType.INT32:
            raise ConversionError(f"bias {raw.name!r} is not int32")
        return _values(raw, "i")

    # ---- operators

    def _conv(self, inputs: tuple[int, ...], output: int, options: Any) -> Operator:
        source, target = self._input(inputs, 0), self._activation(output)
        weights = self._weights(inputs, output_axis=0)
        _require_shape("weights", weights.shape, (target.shape[-1], None, None, source.shape[-1]))
        _require_no_dilation(options)
        window = _window(options, weights.shape[1], weights.shape[2])
        return Conv(source, target, weights, window, _activation(options))

    def _depthwise_conv(self, inputs: tuple[int, ...], output: int, options: Any) -> Operator:
        source, target = self._input(inputs, 0), self._activation(output)
        weights = self._weights(inputs, output_axis=-1)
        if source.shape[-1] != target.shape[-1]:
            raise ConversionError("a depth multiplier other than 1 is not supported")
        _require_shape("weights", weights.shape, (1, None, None, target.shape[-1]))
        _require_no_dilation(options)
        window = _window(options, weights.shape[1], weights.shape[2])
        activation = _activation(options)
        return Conv(source, target, weights, window, activation, depthwise=True)

    def _fully_connected(self, inputs: tuple[int, ...], output: int, options: Any) -> Operator:
        source, target = self._input(inputs, 0), self._activation(output)
        weights = self._weights(inputs, output_axis=0)
        _require_shape("weights", weights.shape, (target.size, source.size))
        if len(weights.scales) > 1:
            return _as_convolution(source, target, weights, _activation(options))
        return FullyConnected(source, target, weights, _activation(options))

    def _average_pool(self, inputs: tuple[int, ...], output: int, options: Any) -> Operator:
        source, target = self._input(inputs, 0), self._activation(output)
        if (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise ConversionError("input and output differ in quantisation")
        window = _window(options, options.FilterHeight(), options.FilterWidth())
        return AveragePool(source, target, window, _activation(options))

    def _add(self, inputs: tuple[int, ...], output: int, options: Any) -> Operator:
        one = self._input(inputs, 0)
        other = self._input(inputs, 1)
        target = self._activation(output)
        if not one.shape == other.shape == target.shape:
            raise ConversionError(f"shapes {one.shape} and {other.shape} would need broadcasting")
        return Add(one, other, target, _activation(options))

    def _softmax(self, inputs: tuple[int, ...], output: int, options: Any) -> Operator:
        source, target = self._input(inputs, 0), self._activation(output)
        return Softmax(source, target, float(options.Beta()))


def _operand(operands: tuple[int, ...], position: int, what: str) -> int:
    """Return an operand's tensor; TensorFlow Lite marks an absent one with -1."""
    if position >= len(operands) or operands[position] < 0:
        raise ConversionError(f"operand {position} ({what}) is absent, but it is required")
    return operands[position]


def _as_convolution(
    source: Tensor, target: Tensor, weights: Weights, activation: Activation
) -> Conv:
    """Return a fully connected layer with a scale per output as a convolution of one pixel.

    The arithmetic is the same, and the kernels' convolution has a factor per channel.
    """
    outputs, inputs = weights.shape
    return Conv(
        replace(source, shape=(1, 1, 1, inputs)),
        replace(target, shape=(1, 1, 1, outputs)),
        replace(weights, shape=(outputs, 1, 1, inputs)),
        Window(1, 1, 1, 1, same=False),
        activation,
    )


def _numbers(vector: Any) -> tuple[Any, ...]:
    """Return a NumPy vector as numbers; `tflite` gives 0 for an absent one."""
    return () if isinstance(vector, int) else tuple(vector.tolist())


def _raw_tensor(tensor: Any, model: Any) -> _RawTensor:
    quantisation = tensor.Quantization()
    buffer = model.Buffers(tensor.Buffer())
    if buffer is None:
        raise ConversionError("has no buffers")
    data = buffer.DataAsNumpy()
    return _RawTensor(
        name=(tensor.Name() or b"").decode("utf-8", "replace"),
        shape=_numbers(tensor.ShapeAsNumpy()),
        type=tensor.Type(),
        scales=_numbers(quantisation.ScaleAsNumpy()) if quantisation else (),
        zero_points=_numbers(quantisation.ZeroPointAsNumpy()) if quantisation else (),
        data=b"" if isinstance(data, int) else data.tobytes(),
    )


def _options(operator: Any, kind: type) -> Any:
    """Return the options of an operator, which the schema has as a union, as their type."""
    table = operator.BuiltinOptions()
    if table is None:
        raise ConversionError("has no options")
    options = kind()
    options.Init(table.Bytes, table.Pos)
    return options


def _values(raw: _RawTensor, kind: str) -> tuple[int, ...]:
    """Return the elements of a constant, whose shape must fit the size of its data."""
    count = math.prod(raw.shape)
    no_constant = not raw.shape or min(raw.shape) < 1
    if no_constant or len(raw.data) != count * struct.calcsize(kind):
        raise ConversionError(f"{raw.name!r} is no constant of shape {raw.shape}")
    return struct.unpack(f"<{count}{kind}", raw.data)


def _window(options: Any, height: int, width: int) -> Window:
    same = options.Padding() == Padding.SAME
    return Window(height, width, options.StrideH(), options.StrideW(), same)


def _activation(options: Any) -> Activation:
    code = options.FusedActivationFunction()
    try:
        return Activation(code)
    except ValueError as error:
        raise ConversionError(f"fused activation {code} is not supported") from error


def _require_shape(what: str, shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    fits = len(shape) == len(expected) and all(
        want in (None, have) for have, want in zip(shape, expected, strict=True)
    )
    if not fits:
        wanted = " x ".join("any" if want is None else str(want) for want in expected)
        raise ConversionError(f"{what} of shape {shape} do not fit; {wanted} is required")


def _require_no_dilation(options: Any) -> None:
    if (options.DilationHFactor(), options.DilationWFactor()) != (1, 1):
        raise ConversionError("dilation is not supported")
