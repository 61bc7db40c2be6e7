"""SCPI framing: any chunking gives the same responses, and damage is never a response."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.scpi.codec import (
    MAX_TEXT,
    ScpiBlock,
    ScpiDamage,
    ScpiDecoder,
    ScpiReply,
    ScpiText,
    parse_error,
    parse_on_off,
    parse_values,
)

PAYLOAD = np.linspace(0.001, 0.02, 60).astype(">f4").tobytes() + b"\n\r\n#15abcde\n#0;,"
ANSWERS: list[ScpiReply] = [
    ScpiText("Keysight Technologies,N6705C,MY50000001,E.03.06"),
    ScpiText('+0,"No error"'),
    ScpiBlock(PAYLOAD),
    ScpiText("#H1F"),
    ScpiBlock(b""),
    ScpiText(""),
    ScpiBlock(b"\n" * 12),
    ScpiText("-1.25E-03,+9.91E+37"),
]


def framed(answer: ScpiReply, ending: bytes = b"\n") -> bytes:
    if isinstance(answer, ScpiText):
        return answer.text.encode() + ending
    assert isinstance(answer, ScpiBlock)
    size = str(len(answer.data))
    return f"#{len(size)}{size}".encode() + answer.data + ending


STREAM = b"".join(map(framed, ANSWERS))


def decode(data: bytes, cuts: tuple[int, ...] = (), indefinite_bytes: int = 0) -> list[ScpiReply]:
    decoder = ScpiDecoder(indefinite_bytes)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [
        reply
        for start, end in itertools.pairwise(places)
        for reply in decoder.feed(data[start:end])
    ]


def test_responses_are_split_at_their_ends() -> None:
    assert decode(STREAM) == ANSWERS


def test_a_carriage_return_before_the_line_feed_is_ignored() -> None:
    data = b"".join(framed(answer, b"\r\n") for answer in ANSWERS)
    assert decode(data) == ANSWERS


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40).map(tuple))
def test_any_chunking_gives_the_same_responses(cuts: tuple[int, ...]) -> None:
    assert decode(STREAM, cuts) == ANSWERS


def test_single_bytes_give_the_same_responses() -> None:
    assert decode(STREAM, tuple(range(len(STREAM)))) == ANSWERS


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=12).map(tuple))
def test_any_chunking_of_any_bytes_gives_the_same_responses(
    data: bytes, cuts: tuple[int, ...]
) -> None:
    assert decode(data, cuts) == decode(data)


@settings(max_examples=400, deadline=None)
@given(at=st.integers(0, len(framed(ANSWERS[2])) - 1), lost=st.booleans())
def test_a_block_with_a_lost_or_doubled_byte_is_never_confirmed(at: int, *, lost: bool) -> None:
    """The next response, complete and alone, confirms a block."""
    block = framed(ANSWERS[2])
    damaged = block[:at] + block[at + 1 :] if lost else block[: at + 1] + block[at:]
    replies = decode(damaged + framed(ANSWERS[1]))
    confirmed = len(replies) == 2 and replies[1] == ANSWERS[1]
    assert not confirmed or replies[0] == ANSWERS[2]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"#2a0xx", "length is b'a0'"),
        (b"#15helloX\n", "b'X' after a block of 5 bytes"),
        (b"#15hello\rX", "b'\\r' after a block"),
        (b"#9999999999", "a block of 999999999 bytes"),
        (b"+1.0\xff2E-3\n", "no text"),
        (b"x" * (MAX_TEXT + 1), "does not end"),
    ],
)
def test_damage_is_reported_and_ends_decoding(data: bytes, what: str) -> None:
    decoder = ScpiDecoder()
    (damage,) = decoder.feed(data)
    assert isinstance(damage, ScpiDamage)
    assert what in damage.what
    assert decoder.feed(b"1\n") == []
    assert decoder.end_message() == []


def test_responses_before_the_damage_are_kept() -> None:
    assert decode(b"1\n2\n#x") == [ScpiText("1"), ScpiText("2")]
    assert decode(b"1\n#19") == [ScpiText("1")]
    first, second = decode(b"1\n#11ab\n")
    assert first == ScpiText("1")
    assert isinstance(second, ScpiDamage)


def test_an_indefinite_length_block_ends_after_the_known_length() -> None:
    data = b"\n\n34567\n"
    assert decode(b"#0" + data + b"\n1\n", (3, 7), indefinite_bytes=8) == [
        ScpiBlock(data),
        ScpiText("1"),
    ]
    decoder = ScpiDecoder()
    assert decoder.feed(b"#0" + data + b"\n") == []
    assert decoder.end_message() == [ScpiBlock(data)]


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"1.5", ScpiText("1.5")),
        (b"1.5\n", ScpiText("1.5")),
        (b"#15hello", ScpiBlock(b"hello")),
        (b"#15hello\n", ScpiBlock(b"hello")),
        (b"#0", ScpiBlock(b"")),
    ],
)
def test_a_transport_that_marks_the_end_needs_no_line_feed(data: bytes, reply: ScpiReply) -> None:
    decoder = ScpiDecoder()
    assert decoder.feed(data) + decoder.end_message() == [reply]
    assert decoder.end_message() == []


@pytest.mark.parametrize("data", [b"#", b"#3", b"#31", b"#15hell"])
def test_a_message_that_ends_too_early_is_damage(data: bytes) -> None:
    decoder = ScpiDecoder()
    assert decoder.feed(data) == []
    (damage,) = decoder.end_message()
    assert isinstance(damage, ScpiDamage)


def test_what_has_begun_is_known() -> None:
    decoder = ScpiDecoder()
    decoder.feed(b"1\n#15he")
    assert decoder.incomplete_response == b"#15he"


@pytest.mark.parametrize("answer", ['+0,"No error"', '0,"No error"', "0", "+0, No error", "-0"])
def test_no_error_is_none(answer: str) -> None:
    assert parse_error(answer) == ""


def test_an_error_is_returned_as_received() -> None:
    assert parse_error('-222,"Data out of range"') == '-222,"Data out of range"'
    assert parse_error('+308,"This model; no"') == '+308,"This model; no"'
    for answer in ("", "No error", "1.5E-3", "#H0"):
        with pytest.raises(ValueError, match=f"^{answer}$"):
            parse_error(answer)


def test_switches_are_read_in_every_spelling() -> None:
    assert parse_on_off("1,0, +1 ,off,ON") == [True, False, True, False, True]
    for answer in ("", "1,2", "1;0", "-1"):
        with pytest.raises(ValueError, match=f"^{answer}$"):
            parse_on_off(answer)


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("form", "kind"), [("real32", "f4"), ("real64", "f8")])
def test_numbers_of_a_block_to_the_byte(order: str, form: str, kind: str) -> None:
    numbers = np.array([0.5, -2.0, 1e-6, 9.9e37, -9.9e37, 9.91e37, np.nan, np.inf])
    data = numbers.astype((">" if order == "big" else "<") + kind).tobytes()
    values = parse_values(data, form, order)  # type: ignore[arg-type]
    np.testing.assert_array_equal(values[:3], numbers[:3].astype(kind).astype(float))
    assert np.isnan(values[3:]).all()
    with pytest.raises(ValueError, match="multiple"):
        parse_values(data[:-1], form, order)  # type: ignore[arg-type]


def test_known_bytes_are_known_numbers() -> None:
    data = bytes.fromhex("3f800000 c0000000 3a83126f")
    np.testing.assert_array_equal(
        parse_values(data, "real32", "big"), [1.0, -2.0, float(np.float32(0.001))]
    )


def test_numbers_of_a_line() -> None:
    values = parse_values(b"+1.5E-03,-2,9.91E+37, 4 \n", "ascii", "big")
    np.testing.assert_array_equal(values, [1.5e-3, -2.0, np.nan, 4.0])
    assert parse_values(b"\n", "ascii", "big").shape == (0,)
    for text in (b"1.0E-32.0E-3", b"1,,2", b"1;2", b"\xff", b"one"):
        with pytest.raises(ValueError):  # noqa: PT011 - the library's own words
            parse_values(text, "ascii", "big")
