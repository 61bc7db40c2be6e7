"""Finds the line on which a value stands in a TOML file, so that an error can point at it.

tomli says what a file means, not where. This walks the same text once more and notes where
every key and list item begins. It is only ever given text that tomli has read without error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import tomli

Key = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a file, both counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        """As compilers write it: line:column."""
        return f"{self.line}:{self.column}"


class Spots:
    """Where each key of one TOML text begins.

    Args:
        text: valid TOML.
    """

    def __init__(self, text: str) -> None:
        self._spots = _Walk(text.replace("\r\n", "\n")).spots

    def find(self, key: Key) -> Spot | None:
        """Where ``key`` begins; for one that is not there, the nearest table around it."""
        for length in range(len(key), 0, -1):
            spot = self._spots.get(key[:length])
            if spot is not None:
                return spot
        return None


_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


class _Walk:
    """One pass over the text; ``spots`` maps key paths to places."""

    def __init__(self, text: str) -> None:
        self.spots: dict[Key, Spot] = {}
        self._text = text
        self._at = 0
        self._counts: dict[Key, int] = {}
        table: Key = ()
        while self._skip(_BLANK) < len(text):
            if text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        start = self._at
        return self._text[start : self._skip(pattern)]

    def _note(self, key: Key, at: int) -> None:
        line = self._text.count("\n", 0, at) + 1
        self.spots.setdefault(key, Spot(line, at - self._text.rfind("\n", 0, at)))

    def _header(self) -> Key:
        """``[a.b]`` or ``[[a.b]]``: the path it opens, with list positions put in."""
        start = self._at
        repeated = self._text.startswith("[[", start)
        self._at += 2 if repeated else 1
        walked: list[int | str] = []
        names = self._dotted()
        for number, name in enumerate(names):
            walked.append(name)
            path = tuple(walked)
            if repeated and number == len(names) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            self._note(path, start)
            if path in self._counts:
                walked.append(self._counts[path])
                self._note(tuple(walked), start)
        self._at += 2 if repeated else 1
        return tuple(walked)

    def _dotted(self) -> list[str]:
        """A key of one or more parts; stops before ``=`` or ``]``."""
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = self._text[self._at] in "\"'"
            part = self._take(_STRING if quoted else _BARE_KEY)
            parts.append(_unquote(part) if quoted else part)
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _pair(self, table: Key) -> None:
        start = self._at
        path = table
        for name in self._dotted():
            path = (*path, name)
            self._note(path, start)
        self._at += 1
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Key) -> None:
        first = self._text[self._at]
        if first == "[":
            self._list(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_STRING if first in "\"'" else _SCALAR)

    def _list(self, path: Key) -> None:
        self._at += 1
        number = 0
        while self._text[self._skip(_BLANK)] != "]":
            self._note((*path, number), self._at)
            self._value((*path, number))
            number += 1
            self._skip_comma()
        self._at += 1

    def _inline_table(self, path: Key) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            self._pair(path)
            self._skip_comma()
        self._at += 1

    def _skip_comma(self) -> None:
        if self._text[self._skip(_BLANK)] == ",":
            self._at += 1


def _unquote(key: str) -> str:
    """A quoted key as text."""
    return next(iter(tomli.loads(f"{key} = 0")))
