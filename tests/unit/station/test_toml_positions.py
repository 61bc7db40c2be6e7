from __future__ import annotations

from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from labd.station.toml_positions import Key, TomlPosition, TomlPositions

TEXT = '''\
# a comment with = and [brackets]
title = "x # no comment"   # a comment

[lab]
name = "lab"
paths = [
    "one",   # first
    'two',
]

[a."b.c".'d\\e']
deep.er = 1
deep.est = { x = 1, y.z = [ { k = "}" }, { k = "]" } ] }

[[station]]
name = "s1"
text = """
[station]
name = "not a key"
""" # behind it
[station.dut]
port = "/dev/x"
  [[station.probe]]
  n = 1
  [[station.probe]]
  n = 2

[[station]]
name = 's2'
when = 2026-11-23 08:00:00
io = { driver = "x", "port" = 'y' }
'''


@pytest.mark.parametrize(
    ("key", "spot"),
    [
        (("title",), (2, 1)),
        (("lab",), (4, 1)),
        (("lab", "name"), (5, 1)),
        (("lab", "paths", 0), (7, 5)),
        (("lab", "paths", 1), (8, 5)),
        (("a", "b.c", "d\\e"), (11, 1)),
        (("a", "b.c", "d\\e", "deep", "er"), (12, 1)),
        (("a", "b.c", "d\\e", "deep", "est", "y", "z", 1, "k"), (13, 44)),
        (("station", 0), (15, 1)),
        (("station", 0, "name"), (16, 1)),
        (("station", 0, "text"), (17, 1)),
        (("station", 0, "dut"), (21, 1)),
        (("station", 0, "dut", "port"), (22, 1)),
        (("station", 0, "probe", 1, "n"), (26, 3)),
        (("station", 1), (28, 1)),
        (("station", 1, "name"), (29, 1)),
        (("station", 1, "io", "port"), (31, 22)),
    ],
)
def test_where_keys_stand(key: Key, spot: tuple[int, int]) -> None:
    tomli.loads(TEXT)
    assert TomlPositions(TEXT).position_of(key) == TomlPosition(*spot)


def test_a_key_that_is_not_there_is_near_its_table() -> None:
    spots = TomlPositions(TEXT)
    assert spots.position_of(("station", 0, "dut", "baud")) == TomlPosition(21, 1)
    assert spots.position_of(("station", 1, "power", "port")) == TomlPosition(28, 1)
    assert spots.position_of(("nothing", "at", "all")) is None


def test_windows_line_ends_change_nothing() -> None:
    for key in (("station", 0, "dut", "port"), ("lab", "paths", 1)):
        assert TomlPositions(TEXT.replace("\n", "\r\n")).position_of(key) == TomlPositions(
            TEXT
        ).position_of(key)


# ---- any document -----------------------------------------------------------------------

keys = st.text(st.sampled_from("ab.\"'\\ #=]}é\n"), max_size=4) | st.sampled_from(["name", "port"])
scalars = st.integers() | st.booleans() | st.text(st.sampled_from("ab\"'\\#]},\n[{=é"), max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(keys, values, max_size=4)


def quote(value: str) -> str:
    """A TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Writer:
    """Writes a document in TOML's many ways and notes where it put every key."""

    def __init__(self) -> None:
        self.text = ""
        self.spots: dict[Key, TomlPosition] = {}

    def note(self, key: Key) -> None:
        line = self.text.count("\n") + 1
        self.spots[key] = TomlPosition(line, len(self.text) - self.text.rfind("\n"))

    def top(self, document: dict[str, Any]) -> None:
        tables = {key: value for key, value in document.items() if is_table(value)}
        for key, value in document.items():
            if key not in tables:
                self.pair((), key, value)
                self.text += "  # [x] = {\n"
        for key, value in tables.items():
            several = isinstance(value, list)
            for number, table in enumerate(value if several else [value]):
                here: Key = (key, number) if several else (key,)
                self.text += "\n"
                self.note(here)
                if number == 0:
                    self.note((key,))
                self.text += f"[[ {quote(key)} ]]\n" if several else f"[{quote(key)}]\n"
                for name, item in table.items():
                    self.pair(here, name, item)
                    self.text += "\n"

    def pair(self, table: Key, name: str, value: Any) -> None:
        self.note((*table, name))
        self.text += f"{quote(name)} = "
        self.value((*table, name), value)

    def value(self, key: Key, value: Any) -> None:
        if isinstance(value, dict):
            self.text += "{ "
            for number, (name, item) in enumerate(value.items()):
                self.text += ", " if number else ""
                self.pair(key, name, item)
            self.text += " }"
        elif isinstance(value, list):
            self.text += "[\n"
            for number, item in enumerate(value):
                self.text += "  "
                self.note((*key, number))
                self.value((*key, number), item)
                self.text += ", # , ] x\n"
            self.text += "]"
        elif isinstance(value, bool):
            self.text += "true" if value else "false"
        else:
            self.text += quote(value) if isinstance(value, str) else str(value)


def is_table(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict)


@given(documents)
def test_every_key_of_any_document_is_found(document: dict[str, Any]) -> None:
    writer = Writer()
    writer.top(document)
    assert tomli.loads(writer.text) == document
    spots = TomlPositions(writer.text)
    assert {key: spots.position_of(key) for key in writer.spots} == writer.spots
