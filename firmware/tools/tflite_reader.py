"""`.tflite` file -> graph. Whatever the kernels cannot run is refused, by file and operator."""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flatbuffer import FlatBufferError, Table
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
INT8, INT32 = 9, 2
TYPE_NAMES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
RESHAPE = 22
# every builtin operator that people meet, so that a refusal can name it
OPERATOR_NAMES = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL",
    19: "RELU", 21: "RELU6", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 25: "SOFTMAX", 27: "SVDF",
    28: "TANH", 32: "CUSTOM", 34: "PAD", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 43: "SQUEEZE",
    45: "STRIDED_SLICE", 49: "SPLIT", 67: "TRANSPOSE_CONV", 70: "EXPAND_DIMS",
    83: "PACK", 97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU", 114: "QUANTIZE",
    117: "HARD_SWISH",
}  # fmt: skip
PADDING_SAME = 0


@dataclass(frozen=True)
class _RawTensor:
    """A tensor as the file has it."""

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
        return _Reader(Table.root(data)).graph(name)
    except (FlatBufferError, IndexError, struct.error) as error:
        raise ConversionError(f"{path}: damaged .tflite file: {error}") from error
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error


class _Reader:
    def __init__(self, model: Table) -> None:
        subgraphs = model.tables(2)
        if len(subgraphs) != 1:
            raise ConversionError(f"has {len(subgraphs)} subgraphs, not one")
        self._main = subgraphs[0]
        # the older field of the two holds codes up to 127 only
        self._codes = [max(c.integer(0, "b"), c.integer(3, "i")) for c in model.tables(1)]
        buffers = model.tables(4)
        self._raw = [_raw_tensor(table, buffers) for table in self._main.tables(0)]
        self._activations: dict[int, Tensor] = {}

    def graph(self, name: str) -> Graph:
        inputs, outputs = self._main.vector(1, "i"), self._main.vector(2, "i")
        if len(inputs) != 1 or len(outputs) != 1:
            raise ConversionError(f"has {len(inputs)} inputs and {len(outputs)} outputs, not one")
        first = self._activation(inputs[0])
        operators = []
        for index, table in enumerate(self._main.tables(3)):
            code = self._codes[table.integer(0, "I")]
            try:
                operator = self._operator(code, table)
            except ConversionError as error:
                label = OPERATOR_NAMES.get(code, f"builtin operator {code}")
                raise ConversionError(f"operator {index} ({label}): {error}") from error
            if operator is not None:
                operators.append(operator)
        return Graph(name, first, self._known(outputs[0]), tuple(operators))

    def _operator(self, code: int, table: Table) -> Operator | None:
        """None for a reshape, which only gives its input another shape."""
        inputs, outputs = table.vector(1, "i"), table.vector(2, "i")
        if code == RESHAPE:
            self._reshape(inputs[0], outputs[0])
            return None
        builders: dict[int, Callable[[tuple[int, ...], int, Table], Operator]] = {
            0: self._add,
            1: self._average_pool,
            3: self._conv,
            4: self._depthwise_conv,
            9: self._fully_connected,
            25: self._softmax,
        }
        if code not in builders:
            raise ConversionError("not supported by the int8 kernels")
        options = table.table(4)
        if options is None:
            raise ConversionError("has no options")
        return builders[code](inputs, outputs[0], options)

    # ---- tensors

    def _quantised(self, index: int) -> _RawTensor:
        raw = self._raw[index]
        if raw.type != INT8:
            kind = TYPE_NAMES.get(raw.type, f"of type {raw.type}")
            raise ConversionError(
                f"tensor {raw.name!r} is {kind}; only fully int8-quantised models are supported"
            )
        if not raw.scales or not all(scale > 0 for scale in raw.scales):
            raise ConversionError(f"tensor {raw.name!r} has no quantisation scale")
        return raw

    def _activation(self, index: int) -> Tensor:
        """A tensor that is written here: a new storage."""
        raw = self._quantised(index)
        if len(raw.scales) != 1:
            raise ConversionError(f"activation {raw.name!r} has more than one scale")
        if not raw.shape or min(raw.shape) < 1 or raw.shape[0] != 1:
            raise ConversionError(f"tensor {raw.name!r} has shape {raw.shape}; a batch of 1 is due")
        tensor = Tensor(raw.shape, raw.scales[0], raw.zero_points[0], storage=index)
        self._activations[index] = tensor
        return tensor

    def _known(self, index: int) -> Tensor:
        """A tensor that is read here: an operator before wrote it."""
        if index not in self._activations:
            raise ConversionError(f"tensor {self._raw[index].name!r} is read before it is written")
        return self._activations[index]

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
        raw = self._quantised(inputs[1])
        if any(raw.zero_points):
            raise ConversionError(f"weights {raw.name!r} have a zero point")
        values = _values(raw, "b")
        outputs = raw.shape[output_axis]
        if len(raw.scales) not in (1, outputs):
            raise ConversionError(f"weights {raw.name!r} have {len(raw.scales)} scales")
        has_bias = len(inputs) > 2 and inputs[2] >= 0  # noqa: PLR2004
        bias = self._bias(inputs[2]) if has_bias else (0,) * outputs
        if len(bias) != outputs:
            raise ConversionError(f"{len(bias)} bias values for {outputs} outputs")
        return Weights(raw.shape, values, bias, raw.scales)

    def _bias(self, index: int) -> tuple[int, ...]:
        raw = self._raw[index]
        if raw.type != INT32:
            raise ConversionError(f"bias {raw.name!r} is not int32")
        return _values(raw, "i")

    # ---- operators, by the field numbers of the tflite schema

    def _conv(self, inputs: tuple[int, ...], output: int, options: Table) -> Operator:
        source, target = self._known(inputs[0]), self._activation(output)
        weights = self._weights(inputs, output_axis=0)
        _require_shape("weights", weights.shape, (target.shape[-1], None, None, source.shape[-1]))
        _require_no_dilation(options, 4)
        window = _window(options, weights.shape[1], weights.shape[2])
        return Conv(source, target, weights, window, _activation(options, 3))

    def _depthwise_conv(self, inputs: tuple[int, ...], output: int, options: Table) -> Operator:
        source, target = self._known(inputs[0]), self._activation(output)
        weights = self._weights(inputs, output_axis=-1)
        if source.shape[-1] != target.shape[-1]:
            raise ConversionError("a depth multiplier other than 1 is not supported")
        _require_shape("weights", weights.shape, (1, None, None, target.shape[-1]))
        _require_no_dilation(options, 5)
        window = _window(options, weights.shape[1], weights.shape[2])
        activation = _activation(options, 4)
        return Conv(source, target, weights, window, activation, depthwise=True)

    def _fully_connected(self, inputs: tuple[int, ...], output: int, options: Table) -> Operator:
        source, target = self._known(inputs[0]), self._activation(output)
        weights = self._weights(inputs, output_axis=0)
        _require_shape("weights", weights.shape, (target.size, source.size))
        if len(weights.scales) != 1:
            raise ConversionError("a scale an output channel is not supported")
        return FullyConnected(source, target, weights, _activation(options, 0))

    def _average_pool(self, inputs: tuple[int, ...], output: int, options: Table) -> Operator:
        source, target = self._known(inputs[0]), self._activation(output)
        if (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise ConversionError("input and output differ in quantisation")
        window = _window(options, options.integer(4, "i"), options.integer(3, "i"))
        return AveragePool(source, target, window, _activation(options, 5))

    def _add(self, inputs: tuple[int, ...], output: int, options: Table) -> Operator:
        one, other = self._known(inputs[0]), self._known(inputs[1])
        target = self._activation(output)
        if not one.shape == other.shape == target.shape:
            raise ConversionError(f"shapes {one.shape} and {other.shape} would need broadcasting")
        return Add(one, other, target, _activation(options, 0))

    def _softmax(self, inputs: tuple[int, ...], output: int, options: Table) -> Operator:
        source, target = self._known(inputs[0]), self._activation(output)
        return Softmax(source, target, float(options.number(0, "f")))


def _raw_tensor(table: Table, buffers: list[Table]) -> _RawTensor:
    quantisation = table.table(4)
    return _RawTensor(
        name=table.text(3),
        shape=table.vector(0, "i"),
        type=table.integer(1, "b"),
        scales=quantisation.vector(2, "f") if quantisation else (),
        zero_points=quantisation.vector(3, "q") if quantisation else (),
        data=buffers[table.integer(2, "I")].octets(0),
    )


def _values(raw: _RawTensor, kind: str) -> tuple[int, ...]:
    """The elements of a constant; every length of its shape is within the size of its data."""
    count = math.prod(raw.shape)
    no_constant = not raw.shape or min(raw.shape) < 1
    if no_constant or len(raw.data) != count * struct.calcsize(kind):
        raise ConversionError(f"{raw.name!r} is no constant of shape {raw.shape}")
    return struct.unpack(f"<{count}{kind}", raw.data)


def _window(options: Table, height: int, width: int) -> Window:
    """Convolutions and pools keep padding and strides in the same fields."""
    stride_x, stride_y = options.integer(1, "i"), options.integer(2, "i")
    same = options.integer(0, "b") == PADDING_SAME
    return Window(height, width, stride_y, stride_x, same)


def _activation(options: Table, field: int) -> Activation:
    code = options.integer(field, "b")
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
        raise ConversionError(f"{what} of shape {shape} do not fit; {wanted} is due")


def _require_no_dilation(options: Table, field: int) -> None:
    if (options.integer(field, "i", 1), options.integer(field + 1, "i", 1)) != (1, 1):
        raise ConversionError("dilation is not supported")
