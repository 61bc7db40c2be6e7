"""Foreign text on a terminal: it comes out visible, and it is neither markup nor a command."""

from __future__ import annotations

import ast
import io
import json
import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

import labd.cli
from labd.aio.logs import set_up_logging
from labd.cli.terminal import PlainConsole, print_line, styled
from labd.core.visible_text import make_visible

HOSTILE = "core[/red] [lab] :bomb: \x1b[2J\x9b31m\u202e\rpass \x07"
VISIBLE = "core[/red] [lab] :bomb: \\u001b[2J\\u009b31m\\u202e\\u000dpass \\u0007"
ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
ANY_TEXT = st.text(st.characters(), max_size=60)


def shown(*texts: Any) -> str:
    """Return what a table of these cells prints."""
    console = PlainConsole(
        file=io.StringIO(), width=2000, markup=False, emoji=False, highlight=False
    )
    table = Table()
    table.add_row(*texts)
    console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@given(ANY_TEXT)
def test_no_text_acts_on_a_terminal(text: str) -> None:
    visible = make_visible(text)
    assert not {unicodedata.category(each) for each in visible} & ACTING
    assert visible == text or not text.isprintable()


@given(ANY_TEXT)
def test_json_stays_the_same_json(text: str) -> None:
    line = json.dumps({"text": text}, ensure_ascii=False)
    assert json.loads(make_visible(line)) == {"text": text}


def test_what_is_kept_is_kept() -> None:
    assert make_visible("a\nb\r", keep="\n") == "a\nb\\u000d"


@given(ANY_TEXT.filter(lambda text: text.strip() == text and "\n" not in text))
def test_a_table_shows_any_text(text: str) -> None:
    for output in (shown(text), shown(styled(text, "bold"))):
        assert make_visible(text) in output
        assert not {unicodedata.category(each) for each in output.replace("\n", "")} & ACTING


def test_text_is_no_markup() -> None:
    assert VISIBLE in shown(HOSTILE)
    assert VISIBLE in shown(styled(HOSTILE))


def test_a_line_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(HOSTILE)
    print_line(f"two\nlines {HOSTILE}", err=True)
    output = capsys.readouterr()
    assert output.out == f"{VISIBLE}\n"
    assert output.err == f"two\nlines {VISIBLE}\n"


@pytest.fixture
def root_handlers() -> Iterator[None]:
    """Restore the handlers that logging is set up with."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = before


@pytest.mark.usefixtures("root_handlers")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_record_stays_on_its_line(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    set_up_logging(as_json=as_json, verbose=False)
    logging.getLogger("labd.test").warning("from the DUT: %s", f"{HOSTILE}\nforged")
    structlog.get_logger("labd.test").warning("dut-text", text=f"{HOSTILE}\nforged")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "\\u001b[2J" in line
        assert "\\u000aforged" in line


@pytest.mark.usefixtures("root_handlers")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_shows_no_local_variable_and_no_control_character(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    def fail(url: str) -> None:
        raise ValueError(f"{HOSTILE} {len(url)}")

    secret = "hunter2"[::-1]
    set_up_logging(as_json=as_json, verbose=False)
    try:
        fail(f"mqtt://labd:{secret}@broker")
    except ValueError:
        structlog.get_logger("labd.test").exception("labd-bug")
        logging.getLogger("labd.test").exception("labd-bug")
    output = capsys.readouterr().err
    assert output.count("Traceback") == 2
    assert secret not in output
    assert "\x1b[2J" not in output
    assert "u001b[2J" in output


def test_commands_print_through_one_module() -> None:
    """A module that prints by itself would show foreign text as it is."""
    folder = Path(labd.cli.__file__).parent
    forbidden = {"print", "echo", "secho", "Console", "Text", "TextColumn"}
    for path in folder.glob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                printed_by_rich = isinstance(node.func, ast.Attribute) and name == "print"
                assert name not in forbidden or printed_by_rich, (
                    f"{path.name}:{node.lineno}: {name}"
                )
