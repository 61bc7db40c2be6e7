"""Files of session folders, read as tolerantly as a decade of submissions needs.

Text may be gzipped, carry a byte order mark or be UTF-16, end lines in any way, hold stray
bytes or lines without end. Damage never raises: what could be read is given out, and the
reader says what was wrong.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_LINE = 1 << 20
"""Longer lines are cut: binary junk must not need memory without end."""

GZIP_MAGIC = b"\x1f\x8b"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BROKEN = (OSError, EOFError, zlib.error)


class Lines:
    """The lines of a text file, without their ends.

    After (or during) iteration ``damage`` says what was wrong with the file, or is empty;
    ``open_ended`` whether the line given out last had no end: its last number may be cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.open_ended = False

    def __iter__(self) -> Iterator[str]:
        """Read on until the end or the first damage."""
        try:
            with _open(self.path) as raw:
                text = io.TextIOWrapper(raw, _encoding(raw), errors="replace", newline=None)
                while line := text.readline(MOST_LINE):
                    self.open_ended = not line.endswith("\n")
                    yield line.rstrip("\n")
        except _BROKEN as error:
            self.damage = explain(error)


def read_bytes(path: Path) -> tuple[bytes, str]:
    """A file's content, unpacked, and what was wrong with it."""
    content = io.BytesIO()
    try:
        with _open(path) as raw:
            while some := raw.read(MOST_LINE):
                content.write(some)
    except _BROKEN as error:
        return content.getvalue(), explain(error)
    return content.getvalue(), ""


def read_json(path: Path) -> tuple[Any, str]:
    """A JSON file's value (``None`` when there is none), and what was wrong with it."""
    content, damage = read_bytes(path)
    if damage:
        return None, damage
    if not content.strip():
        return None, "is empty"
    try:
        return json.loads(content), ""
    except (ValueError, RecursionError, MemoryError) as error:
        return None, f"is no JSON: {explain(error)}"


def explain(error: BaseException) -> str:
    """What an error says, in one short line and without the path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((text or type(error).__name__).split())[:200]


def _open(path: Path) -> io.BufferedReader:
    if path.exists() and not path.is_file():
        raise OSError(0, "is no regular file")
    with path.open("rb") as plain:
        packed = plain.read(2) == GZIP_MAGIC
    return io.BufferedReader(gzip.open(path)) if packed else path.open("rb")


def _encoding(raw: io.BufferedReader) -> str:
    mark = raw.peek(2)[:2]
    return "utf-16" if mark in UTF16_MARKS else "utf-8-sig"
