"""`.tflite` -> C: what must be refused, and bit-exact agreement with TensorFlow Lite Micro."""

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emit_c import emit_c
from fixed_point import Factor, factor, output_range, padding_before, quantised
from graph import Activation, ConversionError
from tests.unit.firmware import tflite_writer as tflite
from tests.unit.firmware.host import SHARED, HostModel, build_kernels
from tests.unit.firmware.tflite_writer import ModelSpec, OperatorSpec, Scalar, TensorSpec
from tflite_reader import read_tflite
from tflite_to_c import convert, main

MODELS = SHARED / "mlperf-tiny/models"
KWS_SAMPLES = SHARED / "mlperf-tiny/datasets/kws01"


def written(folder: Path, spec: ModelSpec) -> Path:
    path = folder / "made.tflite"
    path.write_bytes(spec.to_bytes())
    return path


# ---- refusals

Damage = Callable[[ModelSpec], None]


def tensor(index: int, **changes: object) -> Damage:
    def damage(spec: ModelSpec) -> None:
        for name, value in changes.items():
            setattr(spec.tensors[index], name, value)

    return damage


def option(field: int, kind: str, value: float) -> Damage:
    def damage(spec: ModelSpec) -> None:
        spec.operators[0].options = {**spec.operators[0].options, field: Scalar(kind, value)}

    return damage


def code(value: int) -> Damage:
    def damage(spec: ModelSpec) -> None:
        spec.operators[0].code = value

    return damage


def model(**changes: object) -> Damage:
    def damage(spec: ModelSpec) -> None:
        for name, value in changes.items():
            setattr(spec, name, value)

    return damage


def operands(*inputs: int) -> Damage:
    def damage(spec: ModelSpec) -> None:
        spec.operators[0].inputs = inputs

    return damage


FC, CONV, POOL, ADD, SOFTMAX = (
    tflite.fully_connected, tflite.conv, tflite.average_pool, tflite.add, tflite.softmax,
)  # fmt: skip

REFUSALS = [
    (FC, code(17), r"operator 0 \(MAX_POOL_2D\): not supported"),
    (FC, code(999), r"operator 0 \(builtin operator 999\): not supported"),
    (FC, tensor(0, type=0), "tensor 'in' is float32; only fully int8-quantised"),
    (FC, tensor(1, type=0), r"operator 0 \(FULLY_CONNECTED\): tensor 'out' is float32"),
    (FC, tensor(0, type=77), "tensor 'in' is of type 77"),
    (FC, tensor(0, scales=()), "tensor 'in' has no quantisation scale"),
    (FC, tensor(0, scales=(0.0,)), "tensor 'in' has no quantisation scale"),
    (FC, tensor(0, scales=(1.0, 2.0)), "activation 'in' has more than one scale"),
    (FC, tensor(0, shape=(2, 3)), r"shape \(2, 3\); a batch of 1"),
    (FC, tensor(2, zero_point=3), "weights 'weights' have a zero point"),
    (FC, tensor(2, scales=(1.0, 2.0, 3.0)), "weights 'weights' have 3 scales"),
    (FC, operands(-1, 2, 3), r"\(FULLY_CONNECTED\): operand 0 \(input\) is absent"),
    (FC, operands(0, -1, 3), r"\(FULLY_CONNECTED\): operand 1 \(weights\) is absent"),
    (FC, operands(0), r"\(FULLY_CONNECTED\): operand 1 \(weights\) is absent"),
    (ADD, operands(0, -1), r"\(ADD\): operand 1 \(input\) is absent"),
    (FC, tensor(0, zero_point=128), "tensor 'in' has the zero point 128, which is no int8"),
    (FC, tensor(1, zero_point=-129), "tensor 'out' has the zero point -129, which is no int8"),
    (CONV, tensor(2, scales=(1.0, 2.0, 3.0)), "weights 'weights' have 3 scales"),
    (FC, tensor(2, data=b"123"), r"'weights' is no constant of shape \(2, 3\)"),
    (FC, tensor(2, shape=(0, 2**31 - 1), data=b""), "'weights' is no constant"),
    (FC, tensor(1, shape=(1, 2**31 - 1)), "do not fit; 2147483647 x 3 is required"),
    (FC, tensor(2, shape=(3, 2)), r"3 outputs"),
    (FC, tensor(3, type=tflite.INT8), "bias 'bias' is not int32"),
    (FC, tensor(3, shape=(1,), data=bytes(4)), "1 bias values for 2 outputs"),
    (FC, tensor(0, scales=(1e30,)), "scale ratio .* is out of range"),
    (FC, option(0, "b", 4), "fused activation 4 is not supported"),
    (FC, model(inputs=(0, 0)), "has 2 inputs and 1 outputs, not one"),
    (FC, model(subgraphs=2), "has 2 subgraphs"),
    (FC, model(outputs=(3,)), "tensor 'bias' is read before it is written"),
    (CONV, option(4, "i", 2), r"operator 0 \(CONV_2D\): dilation is not supported"),
    (CONV, option(1, "i", 0), r"made.tflite: step 0 \(Conv\): window .* is empty"),
    (CONV, option(1, "i", 2), r"output is \(4, 4\), but \(4, 2\) follows from the input"),
    (CONV, tensor(2, shape=(2, 3, 6, 1)), "weights .* do not fit; 2 x any x any x 2 is required"),
    (POOL, tensor(1, zero_point=1), "input and output differ in quantisation"),
    (POOL, tensor(1, shape=(1, 2, 2, 3)), "input and output differ in channels"),
    (POOL, tensor(1, shape=(1, 4, 2)), "are not NHWC"),
    (ADD, tensor(1, shape=(1, 2, 2)), "would need broadcasting"),
    (SOFTMAX, tensor(1, scales=(1 / 128,)), "the output scale must be 1/256"),
    (SOFTMAX, tensor(1, zero_point=0), "the output scale must be 1/256"),
    (SOFTMAX, tensor(0, shape=(1, 2, 2)), "needs one row"),
    (SOFTMAX, tensor(0, scales=(1e-9,)), "softmax input scale .* is too small"),
]


@pytest.mark.parametrize(("make", "damage", "reason"), REFUSALS, ids=[r[2][:40] for r in REFUSALS])
def test_what_the_kernels_cannot_run_is_refused(
    tmp_path: Path, make: Callable[[], ModelSpec], damage: Damage, reason: str
) -> None:
    spec = make()
    convert(written(tmp_path, spec), "made")  # undamaged, it converts
    damage(spec)
    with pytest.raises(ConversionError, match=reason) as refusal:
        convert(written(tmp_path, spec), "made")
    assert "made.tflite: " in str(refusal.value)


def test_a_constant_operand_of_an_addition_is_refused_as_one(tmp_path: Path) -> None:
    spec = tflite.add()
    spec.tensors.append(TensorSpec((1, 4), name="offset", data=bytes(4)))
    spec.operators[0].inputs = (0, 2)
    reason = r"operator 0 \(ADD\): operand 'offset' is a constant, .*; fold it into"
    with pytest.raises(ConversionError, match=reason):
        convert(written(tmp_path, spec), "made")


def test_a_depth_multiplier_is_refused(tmp_path: Path) -> None:
    spec = tflite.conv(depthwise=True)
    spec.tensors[0].shape = (1, 4, 4, 1)
    with pytest.raises(ConversionError, match=r"DEPTHWISE_CONV_2D\): a depth multiplier"):
        convert(written(tmp_path, spec), "made")


def test_more_classes_than_softmax_can_sum_are_refused(tmp_path: Path) -> None:
    convert(written(tmp_path, tflite.softmax(255)), "made")
    with pytest.raises(ConversionError, match="at most 255 classes"):
        convert(written(tmp_path, tflite.softmax(256)), "made")


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.c")
    absent, noise = tmp_path / "absent.tflite", tmp_path / "noise.tflite"
    noise.write_bytes(b"PK\x03\x04 something else altogether")
    for path, reason in ((absent, "No such file"), (noise, "not a .tflite file")):
        assert main([str(path), "--name", "x", "--out", out]) == 1
        assert f"tflite_to_c: {path}: {reason}" in capsys.readouterr().err
    assert not Path(out).exists()


def test_lengths_beyond_the_file_are_refused(tmp_path: Path) -> None:
    """A vector of 2^32 - 1 bytes, in a file of a few hundred."""
    spec = tflite.fully_connected()
    path = written(tmp_path, spec)
    content = bytearray(path.read_bytes())
    at = content.index(spec.tensors[2].data) - 4
    assert content[at : at + 4] == struct.pack("<I", len(spec.tensors[2].data))
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"made.tflite: damaged .tflite file: "):
        convert(path, "made")


def test_a_name_must_fit_into_file_names_and_replies(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="'a/b' is no name for a benchmark"):
        convert(written(tmp_path, tflite.add()), "a/b")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_converts_but_never_crashes(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([FC, CONV, POOL, ADD, SOFTMAX]))().to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(8, len(content)))

    class Damaged(type(Path())):
        def read_bytes(self) -> bytes:
            return bytes(content[:cut])

    with contextlib.suppress(ConversionError):
        emit_c(read_tflite(Damaged("damaged.tflite"), "damaged"), "damaged.tflite")


# ---- constants


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (1.0, Factor(1 << 30, 1)),
        (0.5, Factor(1 << 30, 0)),
        (0.75, Factor(3 << 29, 0)),
        (1 - 2**-40, Factor(1 << 30, 1)),
        (2.0**-40, Factor(0, 0)),
    ],
)
def test_factor(real: float, expected: Factor) -> None:
    assert factor(real) == expected


@pytest.mark.parametrize("real", [0.0, -1.0, float("nan"), float("inf"), 2.0**31])
def test_factor_out_of_range(real: float) -> None:
    with pytest.raises(ConversionError, match="out of range"):
        factor(real)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (Activation.NONE, (-128, 127)),
        (Activation.RELU, (-100, 127)),
        (Activation.RELU6, (-100, 20)),
        (Activation.RELU_N1_TO_1, (-120, -80)),
    ],
)
def test_output_range(activation: Activation, expected: tuple[int, int]) -> None:
    assert output_range(activation, 0.05, -100) == expected


def test_quantised_rounds_ties_away_from_zero() -> None:
    assert [quantised(x, 1.0, 10) for x in (0.5, 1.5, -0.5, -1.5)] == [11, 12, 9, 8]


@pytest.mark.parametrize(
    ("length", "window", "stride", "before"),
    [(49, 10, 2, 4), (10, 4, 2, 1), (8, 3, 1, 1), (8, 3, 2, 0), (96, 3, 2, 0), (4, 1, 1, 0)],
)
def test_padding_puts_the_odd_one_behind(
    length: int, window: int, stride: int, before: int
) -> None:
    assert padding_before(length, window, stride, same=True) == before
    assert padding_before(length, window, stride, same=False) == 0


# ---- running what was converted


def built(folder: Path, path: Path, *, dsp: bool) -> HostModel:
    generated = folder / f"{path.stem}.c"
    generated.write_text(convert(path, path.stem)[1], encoding="ascii")
    return HostModel(build_kernels(folder, dsp=dsp, model=generated))


def test_reshape_changes_the_shape_only(tmp_path: Path) -> None:
    """in -> reshape -> fully connected, on values small enough to check by hand."""
    spec = tflite.fully_connected(inputs=4, outputs=2)
    spec.tensors[0].shape = (1, 2, 2)
    spec.tensors.append(TensorSpec((1, 4), name="flat"))
    spec.operators = [OperatorSpec(22, (0,), 4), OperatorSpec(9, (4, 2, 3), 1, {0: Scalar("b", 0)})]
    model_on_host = built(tmp_path, written(tmp_path, spec), dsp=False)
    # weights 0..7, bias 0 and 1; scales 0.5 * 0.5 / 0.5
    assert model_on_host.run(np.array([1, 2, 3, 4])).tolist() == [10, 31]


def test_the_input_survives_an_inference(tmp_path: Path) -> None:
    spec = tflite.add()
    spec.tensors += [TensorSpec((1, 4), name=f"t{k}", scales=(1.0,)) for k in range(4)]
    spec.operators = [
        OperatorSpec(0, (a, a), b, {0: Scalar("b", 0)})
        for a, b in ((0, 2), (2, 3), (3, 4), (4, 5), (5, 1))
    ]
    model_on_host = built(tmp_path, written(tmp_path, spec), dsp=False)
    values = np.array([1, -2, 3, -4])
    first = model_on_host.run(values)
    assert model_on_host.tensor("input").tolist() == values.tolist()
    assert model_on_host.run(values).tolist() == first.tolist()


def test_bias_may_be_absent(tmp_path: Path) -> None:
    spec = tflite.fully_connected()
    spec.operators[0].inputs = (0, 2)
    model_on_host = built(tmp_path, written(tmp_path, spec), dsp=False)
    assert model_on_host.run(np.array([2, 0, 0])).tolist() == [0, 3]


@pytest.mark.parametrize("variant", ["portable", "smlad"])
@pytest.mark.parametrize("activation", [0, 1, 3])
def test_one_scale_per_output_agrees_with_tflite_micro_to_the_bit(
    tmp_path: Path, activation: int, variant: str
) -> None:
    """What converters make of a fully connected layer since TensorFlow 2.17."""
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    generator = np.random.default_rng(7)
    spec = tflite.fully_connected(inputs=37, outputs=9)
    spec.tensors[0].scales, spec.tensors[0].zero_point = (0.037,), -11
    spec.tensors[1].scales, spec.tensors[1].zero_point = (0.29,), 5
    spec.tensors[2].data = generator.integers(-127, 128, (9, 37)).astype(np.int8).tobytes()
    spec.tensors[2].scales = tuple(float(x) for x in generator.uniform(0.001, 0.02, 9))
    spec.tensors[3].data = generator.integers(-3000, 3000, 9).astype("<i4").tobytes()
    spec.operators[0].options = {0: Scalar("b", activation)}
    path = written(tmp_path, spec)
    golden = runtime.Interpreter.from_file(str(path))
    ours = built(tmp_path, path, dsp=variant == "smlad")
    outputs = set()
    for _ in range(200):
        values = generator.integers(-128, 128, (1, 37)).astype(np.int8)
        golden.set_input(values, 0)
        golden.invoke()
        expected = golden.get_output(0).ravel()
        np.testing.assert_array_equal(ours.run(values), expected)
        outputs |= set(expected.tolist())
    assert len(outputs) > 15


official = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"no official models in {MODELS} (set LABD_SHARED)"
)


@official
@pytest.mark.parametrize("variant", ["portable", "smlad"])
@pytest.mark.parametrize(
    ("name", "count"), [("kws01", 60), ("ic01", 20), ("vww01", 8), ("ad01", 100), ("sww01", 60)]
)
def test_official_models_agree_with_tflite_micro_to_the_bit(
    tmp_path: Path, name: str, count: int, variant: str
) -> None:
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    path = MODELS / f"{name}_int8.tflite"
    golden = runtime.Interpreter.from_file(str(path))
    shape = golden.get_input_details(0)["shape"]
    ours = built(tmp_path, path, dsp=variant == "smlad")
    for values in inputs(name, shape, count):
        golden.set_input(values, 0)
        golden.invoke()
        np.testing.assert_array_equal(ours.run(values), golden.get_output(0).ravel())


def inputs(name: str, shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    """Official samples where they are small enough to have; otherwise noise, smooth and rough."""
    samples = sorted(KWS_SAMPLES.glob("*.bin"))[:count] if name == "kws01" else []
    if samples:
        return [np.fromfile(path, np.int8).reshape(shape) for path in samples]
    generator = np.random.default_rng(1)
    spread = generator.integers(1, 100, count)
    return [
        generator.normal(0, width, shape).round().clip(-128, 127).astype(np.int8)
        for width in spread
    ]
