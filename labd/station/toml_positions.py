"""Line and column of every key in a TOML file, so that an error can point at it.

tomli returns values without positions. This parses the same text once more and records where
every key and list item begins. The text must be one that tomli has read without error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import tomli

Key = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class TomlPosition:
    """Line and column, both counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        """Return ``line:column``."""
        return f"{self.line}:{self.column}"


class TomlPositions:
    """Positions of the keys of one TOML text.

    Args:
        text: valid TOML.
    """

    def __init__(self, text: str) -> None:
        self._positions = _Parser(text.replace("\r\n", "\n")).positions

    def position_of(self, key: Key) -> TomlPosition | None:
        """Return where ``key`` begins; if it is missing, where the table around it begins."""
        for length in range(len(key), 0, -1):
            position = self._positions.get(key[:length])
            if position is not None:
                return position
        return None


_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


class _Parser:
    """One pass over the text; ``positions`` maps key paths to positions."""

    def __init__(self, text: str) -> None:
        self.positions: dict[Key, TomlPosition] = {}
        self._text = text
        self._at = 0
        self._counts: dict[Key, int] = {}
        table: Key = ()
        while self._skip_match(_BLANK) < len(text):
            if text[self._at] == "[":
                table = self._parse_table_header()
            else:
                self._parse_key_value(table)

    def _skip_match(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at

    def _take_match(self, pattern: re.Pattern[str]) -> str:
        start = self._at
        return self._text[start : self._skip_match(pattern)]

    def _record_position(self, key: Key, at: int) -> None:
        line = self._text.count("\n", 0, at) + 1
        self.positions.setdefault(key, TomlPosition(line, at - self._text.rfind("\n", 0, at)))

    def _parse_table_header(self) -> Key:
        """Parse ``[a.b]`` or ``[[a.b]]``; return its path, list indices included."""
        start = self._at
        repeated = self._text.startswith("[[", start)
        self._at += 2 if repeated else 1
        walked: list[int | str] = []
        names = self._parse_dotted_key()
        for number, name in enumerate(names):
            walked.append(name)
            path = tuple(walked)
            if repeated and number == len(names) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            self._record_position(path, start)
            if path in self._counts:
                walked.append(self._counts[path])
                self._record_position(tuple(walked), start)
        self._at += 2 if repeated else 1
        return tuple(walked)

    def _parse_dotted_key(self) -> list[str]:
        """Parse a key of one or more parts, up to ``=`` or ``]``."""
        parts: list[str] = []
        while True:
            self._skip_match(_SPACE)
            quoted = self._text[self._at] in "\"'"
            part = self._take_match(_STRING if quoted else _BARE_KEY)
            parts.append(_unquote_key(part) if quoted else part)
            self._skip_match(_SPACE)
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _parse_key_value(self, table: Key) -> None:
        start = self._at
        path = table
        for name in self._parse_dotted_key():
            path = (*path, name)
            self._record_position(path, start)
        self._at += 1
        self._skip_match(_SPACE)
        self._parse_value(path)

    def _parse_value(self, path: Key) -> None:
        first = self._text[self._at]
        if first == "[":
            self._parse_list(path)
        elif first == "{":
            self._parse_inline_table(path)
        else:
            self._skip_match(_STRING if first in "\"'" else _SCALAR)

    def _parse_list(self, path: Key) -> None:
        self._at += 1
        number = 0
        while self._text[self._skip_match(_BLANK)] != "]":
            self._record_position((*path, number), self._at)
            self._parse_value((*path, number))
            number += 1
            self._skip_comma()
        self._at += 1

    def _parse_inline_table(self, path: Key) -> None:
        self._at += 1
        while self._text[self._skip_match(_BLANK)] != "}":
            self._parse_key_value(path)
            self._skip_comma()
        self._at += 1

    def _skip_comma(self) -> None:
        if self._text[self._skip_match(_BLANK)] == ",":
            self._at += 1


def _unquote_key(key: str) -> str:
    """Return a quoted key without its quotes."""
    return next(iter(tomli.loads(f"{key} = 0")))
