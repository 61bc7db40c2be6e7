"""Small `.tflite` files to order: a FlatBuffers writer and the tables of the tflite schema."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

INT8, INT32 = 9, 2
OPTIONS_TYPES = {0: 11, 1: 5, 3: 1, 4: 2, 9: 8, 22: 17, 25: 9}
"""Number of an operator's options in the union BuiltinOptions, by its code."""


@dataclass(frozen=True)
class Scalar:
    kind: str
    value: float


@dataclass(frozen=True)
class Vector:
    kind: str
    values: Sequence[float]


Field = "Scalar | Vector | Mapping[int, Field] | list[Mapping[int, Field]]"


class Writer:
    """Children follow their parents, so every offset is positive, as FlatBuffers wants it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def table(self, fields: Mapping[int, Field]) -> int:
        """Append a table and all it holds; gives its position."""
        self._align()
        count = max(fields, default=-1) + 1
        places, size = {}, 4
        for index, value in fields.items():
            width = struct.calcsize(value.kind) if isinstance(value, Scalar) else 4
            size = -(-size // width) * width
            places[index] = size
            size += width
        vtable = struct.pack(
            f"<HH{count}H", 4 + 2 * count, size, *(places.get(i, 0) for i in range(count))
        )
        start = len(self.data)
        self.data += vtable
        self._align()
        table = len(self.data)
        self.data += struct.pack("<i", table - start) + bytes(size - 4)
        for index, value in fields.items():
            self._put(table + places[index], value)
        return table

    def _put(self, at: int, value: Field) -> None:
        if isinstance(value, Scalar):
            struct.pack_into("<" + value.kind, self.data, at, value.value)
            return
        target = self._child(value)
        struct.pack_into("<I", self.data, at, target - at)

    def _child(self, value: Field) -> int:
        if isinstance(value, Mapping):
            return self.table(value)
        self._align()
        start = len(self.data)
        if isinstance(value, Vector):
            # the elements are aligned, so the length may need room before it
            self.data += bytes(-(start + 4) % struct.calcsize(value.kind))
            start = len(self.data)
            count = len(value.values)
            self.data += struct.pack(f"<I{count}{value.kind}", count, *value.values)
            return start
        self.data += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for index, child in enumerate(value):
            at = start + 4 + 4 * index
            struct.pack_into("<I", self.data, at, self.table(child) - at)
        return start

    def _align(self) -> None:
        self.data += bytes(-len(self.data) % 8)


@dataclass
class TensorSpec:
    shape: Sequence[int]
    scales: Sequence[float] = (0.5,)
    zero_point: int = 0
    type: int = INT8
    data: bytes = b""
    name: str = "tensor"


@dataclass
class OperatorSpec:
    code: int
    inputs: Sequence[int]
    output: int
    options: Mapping[int, Field] = field(default_factory=dict)


@dataclass
class ModelSpec:
    tensors: list[TensorSpec]
    operators: list[OperatorSpec]
    inputs: Sequence[int] = (0,)
    outputs: Sequence[int] = (1,)
    subgraphs: int = 1

    def to_bytes(self) -> bytes:
        codes = sorted({operator.code for operator in self.operators})
        subgraph = {
            0: [self._tensor(index, spec) for index, spec in enumerate(self.tensors)],
            1: Vector("i", self.inputs),
            2: Vector("i", self.outputs),
            3: [
                {
                    0: Scalar("I", codes.index(spec.code)),
                    1: Vector("i", spec.inputs),
                    2: Vector("i", [spec.output]),
                    3: Scalar("B", OPTIONS_TYPES.get(spec.code, 0)),
                    4: dict(spec.options),
                }
                for spec in self.operators
            ],
        }
        model = {
            0: Scalar("I", 3),
            1: [{0: Scalar("b", min(code, 127)), 3: Scalar("i", code)} for code in codes],
            2: [subgraph] * self.subgraphs,
            4: [{}, *({0: Vector("B", spec.data)} for spec in self.tensors)],
        }
        writer = Writer()
        writer.data += bytes(4) + b"TFL3"
        struct.pack_into("<I", writer.data, 0, writer.table(model))
        return bytes(writer.data)

    @staticmethod
    def _tensor(index: int, spec: TensorSpec) -> Mapping[int, Field]:
        return {
            0: Vector("i", spec.shape),
            1: Scalar("b", spec.type),
            2: Scalar("I", index + 1),
            3: Vector("B", spec.name.encode()),
            4: {
                2: Vector("f", spec.scales),
                3: Vector("q", [spec.zero_point] * len(spec.scales)),
            },
        }


def fully_connected(inputs: int = 3, outputs: int = 2) -> ModelSpec:
    """in 0 -> out 1, weights 2, bias 3."""
    weights = bytes(value % 128 for value in range(inputs * outputs))
    return ModelSpec(
        tensors=[
            TensorSpec((1, inputs), name="in"),
            TensorSpec((1, outputs), name="out"),
            TensorSpec((outputs, inputs), name="weights", data=weights),
            TensorSpec(
                (outputs,),
                type=INT32,
                name="bias",
                data=struct.pack(f"<{outputs}i", *range(outputs)),
            ),
        ],
        operators=[OperatorSpec(9, (0, 2, 3), 1, {0: Scalar("b", 0)})],
    )


def conv(*, depthwise: bool = False) -> ModelSpec:
    """4 x 4 x 2 -> 4 x 4 x 2 with a 3 x 3 window, `same`; weights 2, bias 3."""
    shape = (1, 3, 3, 2) if depthwise else (2, 3, 3, 2)
    size = 18 if depthwise else 36
    scales = (0.25, 0.125)
    strides: dict[int, Field] = {1: Scalar("i", 1), 2: Scalar("i", 1)}
    return ModelSpec(
        tensors=[
            TensorSpec((1, 4, 4, 2), name="in"),
            TensorSpec((1, 4, 4, 2), name="out"),
            TensorSpec(shape, scales=scales, name="weights", data=bytes(range(size))),
            TensorSpec((2,), type=INT32, name="bias", data=bytes(8)),
        ],
        operators=[OperatorSpec(4 if depthwise else 3, (0, 2, 3), 1, strides)],
    )


def average_pool() -> ModelSpec:
    """4 x 4 x 2 -> 2 x 2 x 2."""
    window: dict[int, Field] = {k: Scalar("i", 2) for k in (1, 2, 3, 4)}
    return ModelSpec(
        tensors=[TensorSpec((1, 4, 4, 2), name="in"), TensorSpec((1, 2, 2, 2), name="out")],
        operators=[OperatorSpec(1, (0,), 1, {0: Scalar("b", 1), **window})],
    )


def add() -> ModelSpec:
    """The input added to itself."""
    return ModelSpec(
        tensors=[TensorSpec((1, 4), name="in"), TensorSpec((1, 4), name="out", scales=(1.0,))],
        operators=[OperatorSpec(0, (0, 0), 1, {0: Scalar("b", 0)})],
    )


def softmax(classes: int = 4) -> ModelSpec:
    return ModelSpec(
        tensors=[
            TensorSpec((1, classes), name="in"),
            TensorSpec((1, classes), name="out", scales=(1 / 256,), zero_point=-128),
        ],
        operators=[OperatorSpec(25, (0,), 1, {0: Scalar("f", 1.0)})],
    )
