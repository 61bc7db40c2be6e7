"""Lines of the text protocol: cut from bytes, ended by ``m-ready``, quoted in errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labd.protocol.words import READY

MAX_LINE = 16 * 1024

QUOTE = 200
"""Characters of a reply that an error message quotes."""

_READABLE = bytes(code for code in range(1, 0x80))
_NOISE = bytes(code for code in range(0x100) if code not in _READABLE)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text from a device, with the host's monotonic time of its arrival."""

    text: str
    t_ns: int


class LineSplitter:
    """Cuts a byte stream into lines, however it is chunked.

    A line feed ends a line. Carriage returns and blanks at its ends are removed, as are NUL and
    bytes from 0x80 on, which no protocol here uses: they are line noise. Blank lines are left
    out. A line longer than :data:`MAX_LINE` is cut there, which bounds the memory.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Take more bytes; return the lines they completed."""
        self._rest += data.translate(None, _NOISE)
        *whole, self._rest = self._rest.split(b"\n")
        while len(self._rest) >= MAX_LINE:
            whole.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        texts = (line.decode("ascii").strip() for line in whole)
        return [text for text in texts if text]

    @property
    def partial_line(self) -> str:
        """The beginning of a line that has not ended yet."""
        return self._rest.decode("ascii")


def text_before_ready(text: str) -> str | None:
    """Return what precedes ``m-ready`` in a line, ``None`` if the line does not contain it."""
    head, mark, _ = text.partition(READY)
    return head.strip() if mark else None


def has_word(word: str, lines: Iterable[Line]) -> bool:
    """Return whether any of these lines contains ``word``."""
    return any(word in line.text for line in lines)


def format_quote(text: str) -> str:
    """Return the end of ``text`` as an error message quotes it."""
    if not text:
        return "nothing"
    return repr(text if len(text) <= QUOTE else "…" + text[-QUOTE:])
