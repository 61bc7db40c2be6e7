"""The int8 kernels, portable and SMLAD, against an independent reference."""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_int8, c_int16, c_int32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.firmware import kernel_reference as reference
from tests.unit.firmware.host import build_kernels

EXAMPLES = settings(max_examples=80, deadline=None)
BYTES = st.integers(-128, 127)
MULTIPLIERS = st.tuples(st.integers(2**30, 2**31 - 1), st.integers(-14, 1))


class Factor(ctypes.Structure):
    _fields_ = (("multiplier", c_int32), ("shift", c_int32))


class Shape(ctypes.Structure):
    _fields_ = (("height", c_int32), ("width", c_int32), ("channels", c_int32))


class Window(ctypes.Structure):
    _fields_ = tuple(
        (name, c_int32)
        for name in ("height", "width", "stride_y", "stride_x", "pad_top", "pad_left")
    )


class Range(ctypes.Structure):
    _fields_ = (("min", c_int32), ("max", c_int32))


class ConvParams(ctypes.Structure):
    _fields_ = (
        ("input", Shape), ("output", Shape), ("window", Window),
        ("in_zero_point", c_int32), ("out_zero_point", c_int32),
        ("weights", POINTER(c_int8)), ("bias", POINTER(c_int32)), ("factors", POINTER(Factor)),
        ("range", Range),
    )  # fmt: skip


class FullyConnectedParams(ctypes.Structure):
    _fields_ = (
        ("inputs", c_int32), ("outputs", c_int32),
        ("in_zero_point", c_int32), ("out_zero_point", c_int32),
        ("weights", POINTER(c_int8)), ("bias", POINTER(c_int32)),
        ("factor", Factor), ("range", Range),
    )  # fmt: skip


class AveragePoolParams(ctypes.Structure):
    _fields_ = (("input", Shape), ("output", Shape), ("window", Window), ("range", Range))


class AddParams(ctypes.Structure):
    _fields_ = (
        ("count", c_int32),
        ("a_zero_point", c_int32), ("b_zero_point", c_int32), ("out_zero_point", c_int32),
        ("a_factor", Factor), ("b_factor", Factor), ("out_factor", Factor), ("range", Range),
    )  # fmt: skip


class SoftmaxParams(ctypes.Structure):
    _fields_ = (("count", c_int32), ("factor", Factor), ("difference_min", c_int32))


@pytest.fixture(scope="module", params=["portable", "smlad"])
def kernels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    return build_kernels(tmp_path_factory.mktemp("kernels"), dsp=request.param == "smlad")


def pointer(array: np.ndarray, kind: type) -> ctypes.Array:
    return array.ctypes.data_as(POINTER(kind))


def factors_of(multipliers: list[tuple[int, int]]) -> ctypes.Array:
    return (Factor * len(multipliers))(*(Factor(*multiplier) for multiplier in multipliers))


def int8s(draw: Callable, *shape: int) -> np.ndarray:
    """Random contents by seed: drawing each element would be slow, and shrinks to nothing."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.integers(-128, 128, shape)
    extreme = generator.random(shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return np.where(extreme, np.where(values < 0, -128, 127), values).astype(np.int8)


def int32s(draw: Callable, count: int, limit: int = 20_000) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.integers(-limit, limit, count).astype(np.int32)


def ranges(draw: Callable) -> tuple[int, int]:
    low, high = sorted((draw(BYTES), draw(BYTES)))
    return draw(st.sampled_from([(-128, 127), (low, high)]))


def positions(length: int, window: int, stride: int, pad: int) -> int:
    """As many as fit with each window touching the input, at least one."""
    return max(1, (length + pad - 1) // stride + 1) if window > pad else 1


class Geometry:
    """Shapes of an image operator in which every window touches the image."""

    def __init__(self, draw: Callable) -> None:
        side, reach = st.integers(1, 7), st.integers(1, 4)
        self.image = (draw(side), draw(side))
        self.window = (draw(reach), draw(reach))
        self.stride = (draw(reach), draw(reach))
        self.pad = tuple(draw(st.integers(0, reach - 1)) for reach in self.window)
        self.out = tuple(
            positions(*axis)
            for axis in zip(self.image, self.window, self.stride, self.pad, strict=True)
        )

    def c_window(self) -> Window:
        return Window(*self.window, *self.stride, *self.pad)


@EXAMPLES
@given(data=st.data(), depthwise=st.booleans())
def test_convolutions(kernels: ctypes.CDLL, data: st.DataObject, *, depthwise: bool) -> None:
    geometry = Geometry(data.draw)
    channels = data.draw(st.integers(1, 9))
    outputs = channels if depthwise else data.draw(st.integers(1, 5))
    image = int8s(data.draw, *geometry.image, channels)
    shape = (*geometry.window, channels) if depthwise else (outputs, *geometry.window, channels)
    weights, bias = int8s(data.draw, *shape), int32s(data.draw, outputs)
    multipliers = data.draw(st.lists(MULTIPLIERS, min_size=outputs, max_size=outputs))
    zero_point, out_zero_point, limits = data.draw(BYTES), data.draw(BYTES), ranges(data.draw)
    factors = factors_of(multipliers)
    params = ConvParams(
        Shape(*geometry.image, channels), Shape(*geometry.out, outputs), geometry.c_window(),
        zero_point, out_zero_point,
        pointer(weights, c_int8), pointer(bias, c_int32), factors, Range(*limits),
    )  # fmt: skip
    got = np.empty((*geometry.out, outputs), np.int8)
    arguments = [ctypes.byref(params), pointer(image, c_int8), pointer(got, c_int8)]
    if depthwise:
        kernels.nn_depthwise_conv(*arguments)
    else:
        column = np.empty(geometry.window[0] * geometry.window[1] * channels, np.int16)
        kernels.nn_conv(*arguments, pointer(column, c_int16))
    sums = reference.conv(
        image, weights, bias, out=geometry.out, stride=geometry.stride, pad=geometry.pad,
        zero_point=zero_point, depthwise=depthwise,
    )  # fmt: skip
    expected = reference.Requantise(multipliers, out_zero_point, *limits)(sums)
    np.testing.assert_array_equal(got, expected)


@EXAMPLES
@given(data=st.data())
def test_fully_connected(kernels: ctypes.CDLL, data: st.DataObject) -> None:
    inputs, outputs = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 9))
    row, weights = int8s(data.draw, inputs), int8s(data.draw, outputs, inputs)
    bias, multiplier = int32s(data.draw, outputs), data.draw(MULTIPLIERS)
    zero_point, out_zero_point, limits = data.draw(BYTES), data.draw(BYTES), ranges(data.draw)
    params = FullyConnectedParams(
        inputs, outputs, zero_point, out_zero_point,
        pointer(weights, c_int8), pointer(bias, c_int32), Factor(*multiplier), Range(*limits),
    )  # fmt: skip
    got, column = np.empty(outputs, np.int8), np.empty(inputs, np.int16)
    kernels.nn_fully_connected(
        ctypes.byref(params), pointer(row, c_int8), pointer(got, c_int8), pointer(column, c_int16)
    )
    sums = weights.astype(np.int64) @ (row.astype(np.int64) - zero_point) + bias
    expected = reference.Requantise([multiplier], out_zero_point, *limits)(sums)
    np.testing.assert_array_equal(got, expected)


@EXAMPLES
@given(data=st.data())
def test_average_pool(kernels: ctypes.CDLL, data: st.DataObject) -> None:
    geometry, limits = Geometry(data.draw), ranges(data.draw)
    channels = data.draw(st.integers(1, 5))
    image = int8s(data.draw, *geometry.image, channels)
    params = AveragePoolParams(
        Shape(*geometry.image, channels),
        Shape(*geometry.out, channels),
        geometry.c_window(),
        Range(*limits),
    )
    got = np.empty((*geometry.out, channels), np.int8)
    kernels.nn_average_pool(ctypes.byref(params), pointer(image, c_int8), pointer(got, c_int8))
    means = reference.average_pool(
        image, geometry.window, out=geometry.out, stride=geometry.stride, pad=geometry.pad
    )
    np.testing.assert_array_equal(got, means.clip(*limits))


@EXAMPLES
@given(data=st.data())
def test_add(kernels: ctypes.CDLL, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 50))
    one, other = int8s(data.draw, count), int8s(data.draw, count)
    zero_points = [data.draw(BYTES) for _ in range(3)]
    inward = st.tuples(st.integers(2**30, 2**31 - 1), st.integers(-8, -1))
    outward = st.tuples(st.integers(2**30, 2**31 - 1), st.integers(-22, -16))
    factors = [data.draw(inward), data.draw(inward), data.draw(outward)]
    limits = ranges(data.draw)
    params = AddParams(count, *zero_points, *(Factor(*f) for f in factors), Range(*limits))
    got = np.empty(count, np.int8)
    kernels.nn_add(
        ctypes.byref(params), pointer(one, c_int8), pointer(other, c_int8), pointer(got, c_int8)
    )
    for a, b, result in zip(one.tolist(), other.tolist(), got.tolist(), strict=True):
        raised = [(a - zero_points[0]) << 20, (b - zero_points[1]) << 20]
        total = sum(reference.scaled(r, *f) for r, f in zip(raised, factors[:2], strict=True))
        value = reference.scaled(total, *factors[2]) + zero_points[2]
        assert result == min(max(value, limits[0]), limits[1])


@EXAMPLES
@given(data=st.data())
def test_softmax_is_within_a_step_of_real_numbers(
    kernels: ctypes.CDLL, data: st.DataObject
) -> None:
    from fixed_point import softmax_factor  # noqa: PLC0415  the tools come by conftest

    row = int8s(data.draw, data.draw(st.integers(1, 255)))
    scale = data.draw(st.floats(2.0**-10, 1.0))
    factor, difference_min = softmax_factor(1.0, scale)
    params = SoftmaxParams(len(row), Factor(factor.multiplier, factor.shift), difference_min)
    got = np.empty(len(row), np.int8)
    kernels.nn_softmax(ctypes.byref(params), pointer(row, c_int8), pointer(got, c_int8))
    assert np.abs(got - reference.softmax(row, scale)).max() <= 1


def test_the_smlad_variant_is_really_another(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Or comparing both with the reference would prove the same code twice."""
    folder = tmp_path_factory.mktemp("variants")
    texts = []
    for dsp in (False, True):
        build_kernels(folder, dsp=dsp)
        name = "kernels-dsp.so" if dsp else "kernels-portable.so"
        texts.append((folder / name).read_bytes())
    assert texts[0] != texts[1]
