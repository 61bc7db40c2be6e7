"""Live frames: the layout to the byte, and the same figures however the samples came."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labd.core.errors import TransportError
from labd.wire.frames import MAX_POINTS, Frame, FrameMaker, decode_frame

POINTS = np.array([[0.5, 0.75, 1.0], [np.nan, np.nan, np.nan]], np.float32)
FRAME = Frame(
    attempt=3,
    trace=1,
    number=7,
    last=True,
    samples_per_point=500,
    first=100_000,
    stop=100_900,
    sample_rate_hz=1e5,
    points=POINTS,
)


def test_a_frame_is_as_documented() -> None:
    payload = FRAME.to_bytes()
    assert payload[:48] == bytes.fromhex(
        "4c544631"  # LTF1
        "0200"  # points
        "0300"  # attempt
        "07000000"  # number
        "0100"  # trace
        "0100"  # last
        "f4010000"  # samples a point
        "00000000"
        "a086010000000000"  # first
        "248a010000000000"  # stop
        "00000000006af840"  # rate
    )
    assert struct.unpack("<3f", payload[48:60]) == (0.5, 0.75, 1.0)
    assert len(payload) == 48 + 24


def test_a_frame_comes_back() -> None:
    found = decode_frame(FRAME.to_bytes())
    for key in ("attempt", "trace", "number", "last", "samples_per_point", "first", "stop"):
        assert getattr(found, key) == getattr(FRAME, key)
    assert found.sample_rate_hz == 1e5
    np.testing.assert_array_equal(found.points, POINTS)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"LTF1",
        FRAME.to_bytes()[:-1],
        FRAME.to_bytes() + b"\0",
        b"LTF2" + FRAME.to_bytes()[4:],
        FRAME.to_bytes()[:16] + bytes(4) + FRAME.to_bytes()[20:],
        FRAME.to_bytes()[:32] + struct.pack("<Q", 99_000) + FRAME.to_bytes()[40:],
    ],
)
def test_what_is_no_frame(payload: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        decode_frame(payload)
    assert caught.value.code == "bad-frame"


powers = arrays(
    np.float32, st.integers(0, 300), elements=st.floats(0, 2, width=32) | st.just(float("nan"))
)


@given(power=powers, cuts=st.lists(st.integers(0, 300), max_size=8), rate=st.integers(1, 4000))
def test_frames_tell_what_the_samples_say(power: np.ndarray, cuts: list[int], rate: int) -> None:
    maker = FrameMaker(1, 0, float(rate))
    frames = []
    at = 0
    for cut in [*sorted(min(cut, len(power)) for cut in cuts), len(power)]:
        maker.add_samples(power[at:cut])
        at = cut
        frames.append(maker.take_frame())
    frames = [frame for frame in (*frames, maker.take_frame(last=True)) if frame is not None]
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert [frame.last for frame in frames] == [False] * (len(frames) - 1) + [True]
    at = 0
    for frame in (decode_frame(each.to_bytes()) for each in frames):
        assert frame.first == at
        for point, (low, mean, high) in enumerate(frame.points):
            start = at + point * frame.samples_per_point
            some = power[start : min(start + frame.samples_per_point, frame.stop)]
            known = some[~np.isnan(some)].astype(float)
            if not len(known):
                assert np.isnan([low, mean, high]).all()
                continue
            assert (low, high) == (known.min(), known.max())
            assert mean == pytest.approx(known.mean(), rel=1e-6)
        at = frame.stop
    assert at == len(power)


def test_more_than_a_frame_holds_is_skipped_not_kept() -> None:
    """A frozen bench makes hours a second."""
    maker = FrameMaker(1, 0, 200.0)
    maker.add_samples(np.arange(MAX_POINTS + 500, dtype=np.float32))
    maker.add_samples(np.arange(10, dtype=np.float32))
    frame = maker.take_frame()
    assert frame is not None
    assert len(frame.points) == MAX_POINTS
    assert (frame.first, frame.stop) == (510, MAX_POINTS + 510)
    assert frame.points[0, 1] == 510
    assert frame.points[-1, 1] == 9
    assert maker.take_frame() is None
    assert frame.to_bytes()
