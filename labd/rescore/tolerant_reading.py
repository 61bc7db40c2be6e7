"""Tolerant reading of text, JSON and binary files that may be damaged.

Text may be gzipped, have a byte order mark or be UTF-16, use any line ends, and hold stray
bytes or endless lines. Damage never raises: the readers return what could be read and a
description of the damage.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_LINE = 1 << 20
"""Longer lines are cut, so that binary data cannot exhaust the memory."""

GZIP_MAGIC = b"\x1f\x8b"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BROKEN = (OSError, EOFError, zlib.error)


class TextLines:
    """Lines of a text file, without their line ends.

    After or during iteration, ``damage`` describes the damage of the file or is empty, and
    ``open_ended`` is true if the last line had no line end: its last number may be cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.open_ended = False

    def __iter__(self) -> Iterator[str]:
        """Read until the end or the first damage."""
        try:
            with _open_unpacked(self.path) as raw:
                text = io.TextIOWrapper(raw, _detect_encoding(raw), errors="replace", newline=None)
                while line := text.readline(MAX_LINE):
                    self.open_ended = not line.endswith("\n")
                    yield line.rstrip("\n")
        except _BROKEN as error:
            self.damage = error_text(error)


def read_bytes(path: Path) -> tuple[bytes, str]:
    """Return a file's unpacked content and a description of its damage."""
    content = io.BytesIO()
    try:
        with _open_unpacked(path) as raw:
            while some := raw.read(MAX_LINE):
                content.write(some)
    except _BROKEN as error:
        return content.getvalue(), error_text(error)
    return content.getvalue(), ""


def read_json(path: Path) -> tuple[Any, str]:
    """Return a JSON file's value (``None`` without one) and a description of its damage."""
    content, damage = read_bytes(path)
    if damage:
        return None, damage
    if not content.strip():
        return None, "is empty"
    try:
        return json.loads(content), ""
    except (ValueError, RecursionError, MemoryError) as error:
        return None, f"is no JSON: {error_text(error)}"


def error_text(error: BaseException) -> str:
    """Format an error in one short line, without the path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((text or type(error).__name__).split())[:200]


def _open_unpacked(path: Path) -> io.BufferedReader:
    if path.exists() and not path.is_file():
        raise OSError(0, "is no regular file")
    with path.open("rb") as plain:
        packed = plain.read(2) == GZIP_MAGIC
    return io.BufferedReader(gzip.open(path)) if packed else path.open("rb")


def _detect_encoding(raw: io.BufferedReader) -> str:
    mark = raw.peek(2)[:2]
    return "utf-16" if mark in UTF16_MARKS else "utf-8-sig"
