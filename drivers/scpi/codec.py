"""Decoder of SCPI responses: text lines, IEEE 488.2 blocks, error queue, numbers. Pure.

Framing after IEEE 488.2-1992, 8.7.9 and 8.7.10: a response ends with a line feed; a definite
length block ``#<n><length><data>`` may hold any byte; an indefinite length block ``#0<data>``
ends with the transport's message, or after a number of bytes that is known otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MAX_BLOCK = 64 << 20
MAX_TEXT = 16 << 20
SENTINEL = 9.8e37
"""SCPI-99, 7.2.1: ±9.9e37 is infinity (overload), 9.91e37 is not a number."""

NumberFormat = Literal["ascii", "real32", "real64"]
ByteOrder = Literal["big", "little"]


@dataclass(frozen=True, slots=True)
class ScpiText:
    """A response that is a line of text."""

    text: str


@dataclass(frozen=True, slots=True)
class ScpiBlock:
    """A response that is a block of bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ScpiDamage:
    """Bytes that are no response; the start of the next one is unknown."""

    what: str


ScpiReply = ScpiText | ScpiBlock | ScpiDamage


class ScpiDecoder:
    """Split a byte stream into responses, whatever its chunks.

    After a :class:`ScpiDamage` everything is ignored: make a new decoder.

    Attributes:
        indefinite_bytes: length of the data of a ``#0`` block, 0 if unknown.
    """

    def __init__(self, indefinite_bytes: int = 0) -> None:
        self.indefinite_bytes = indefinite_bytes
        self._buffer = bytearray()
        self._searched = 0  # no line feed before this
        self._dead = False

    @property
    def incomplete_response(self) -> bytes:
        """The beginning of an incomplete response."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[ScpiReply]:
        """Take more bytes; return the responses they completed."""
        if self._dead:
            return []
        self._buffer += data
        return self._parse_responses(whole=False)

    def end_message(self) -> list[ScpiReply]:
        """Take the end of a message as the transport reports it; return what it completed."""
        return [] if self._dead else self._parse_responses(whole=True)

    def _parse_responses(self, *, whole: bool) -> list[ScpiReply]:
        replies: list[ScpiReply] = []
        while self._buffer and (reply := self._parse_response(whole=whole)):
            replies.append(reply)
            if isinstance(reply, ScpiDamage):
                self._dead = True
                self._buffer.clear()
        return replies

    def _parse_response(self, *, whole: bool) -> ScpiReply | None:
        buffer = self._buffer
        if buffer[0] != ord("#"):
            return self._parse_text(whole=whole)
        if len(buffer) == 1:
            return ScpiDamage("a response that is '#' alone") if whole else None
        if not buffer[1:2].isdigit():  # a number such as #H1F
            return self._parse_text(whole=whole)
        if buffer[1] == ord("0"):
            return self._parse_indefinite_block(whole=whole)
        return self._parse_definite_block(whole=whole)

    def _parse_text(self, *, whole: bool) -> ScpiReply | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0 and not whole:
            self._searched = len(self._buffer)
            return ScpiDamage("a line that does not end") if self._searched > MAX_TEXT else None
        end = end if end >= 0 else len(self._buffer)
        raw = self._take_bytes(end, 1)
        if not raw.isascii():
            return ScpiDamage(f"a line with bytes that are no text: {raw[:40]!r}")
        return ScpiText(raw.decode("ascii").strip())

    def _parse_definite_block(self, *, whole: bool) -> ScpiReply | None:
        head = 2 + self._buffer[1] - ord("0")
        digits = bytes(self._buffer[2:head])
        if digits and not digits.isdigit():
            return ScpiDamage(f"a block whose length is {digits!r}")
        if len(self._buffer) < head:
            return ScpiDamage("a block that ends inside its length") if whole else None
        if int(digits) > MAX_BLOCK:
            return ScpiDamage(f"a block of {int(digits)} bytes")
        return self._take_block(head, int(digits), whole=whole)

    def _parse_indefinite_block(self, *, whole: bool) -> ScpiReply | None:
        size = self.indefinite_bytes
        if size:
            return self._take_block(2, size, whole=whole)
        if not whole:
            return (
                None if len(self._buffer) <= MAX_BLOCK else ScpiDamage("a block that does not end")
            )
        return ScpiBlock(self._take_bytes(len(self._buffer), 0)[2:].removesuffix(b"\n"))

    def _take_block(self, head: int, size: int, *, whole: bool) -> ScpiReply | None:
        """Take a block of known size; it is valid only if the response ends after it."""
        have, end = len(self._buffer), head + size
        if have < end:
            what = f"a block that ends after {have - head} of {size} bytes"
            return ScpiDamage(what) if whole else None
        after = bytes(self._buffer[end : end + 2])
        if after in (b"", b"\r") and not whole:
            return None
        ending = 2 if after == b"\r\n" else 1 if after[:1] == b"\n" else 0
        if after and not ending:
            return ScpiDamage(f"{after[:1]!r} after a block of {size} bytes instead of its end")
        return ScpiBlock(self._take_bytes(end, ending)[head:])

    def _take_bytes(self, end: int, ending: int) -> bytes:
        """Remove and return ``end_message`` bytes; remove the ``ending`` after them."""
        taken = bytes(self._buffer[:end])
        del self._buffer[: end + ending]
        self._searched = 0
        return taken


# ---- contents of responses ---------------------------------------------------------------

_ERROR = re.compile(r"([+-]?\d+)\s*(?:,.*)?")


def parse_error(answer: str) -> str:
    """Return the error in a response to ``SYST:ERR?``, empty for ``+0,"No error"``.

    Raises:
        ValueError: this is no such response.
    """
    found = _ERROR.fullmatch(answer)
    if not found:
        raise ValueError(answer)
    return answer if int(found[1]) else ""


def parse_on_off(answer: str) -> list[bool]:
    """Return the on/off states in a response such as ``1,0,0,0``.

    Raises:
        ValueError: one of them is neither on nor off.
    """
    states = {"0": False, "1": True, "OFF": False, "ON": True}
    words = [word.strip().upper().removeprefix("+") for word in answer.split(",")]
    if not set(words) <= set(states):
        raise ValueError(answer)
    return [states[word] for word in words]


def parse_values(payload: bytes, form: NumberFormat, order: ByteOrder) -> NDArray[np.float64]:
    """Return the numbers of a response; NaN for an overload or a reading not taken.

    Raises:
        ValueError: the payload is not made of whole numbers of this form.
    """
    if form == "ascii":
        text = payload.decode("ascii").strip()
        if not text:
            return np.empty(0)
        values = np.loadtxt([text], delimiter=",", comments=None, ndmin=1)
    else:
        sign = ">" if order == "big" else "<"
        kind = np.dtype(f"{sign}f{4 if form == 'real32' else 8}")
        values = np.frombuffer(payload, kind).astype(np.float64)
    values[~(np.abs(values) < SENTINEL)] = np.nan
    return values
