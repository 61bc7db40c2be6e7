"""Tables that stay readable on a narrow terminal.

No cell is broken or cut: columns of less importance are left out instead, and long texts stand
below their row. If even the columns that must stay are wider than the terminal, a row continues
on its next line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from labd.cli.terminal import styled
from labd.core.visible_text import make_visible

GAP = "  "
NOTE_INDENT = " " * 4


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing.

    Args:
        title: its heading.
        rank: the columns of the highest rank are left out first; those of rank 0 stay.
        right: whether its cells are aligned right.
    """

    title: str
    rank: int = 0
    right: bool = False


class Listing:
    """Rows of cells, each with notes below it; a column without content is left out.

    Args:
        columns: from left to right; names and ids belong into the first.
    """

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[tuple[list[Text], Sequence[str]]] = []

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def add_row(self, *cells: str | Text, notes: Sequence[str] = ()) -> None:
        """Add a row, with a cell per column and texts to show below it."""
        texts = [cell if isinstance(cell, Text) else styled(make_visible(cell)) for cell in cells]
        self._rows.append((texts, notes))

    def format_lines(self, width: int) -> list[Text]:
        """Return the lines, at most ``width`` wide where the columns allow it."""
        widths = [
            max((row[number].cell_len for row, _ in self._rows), default=0)
            for number in range(len(self._columns))
        ]
        shown = self._choose_columns(widths, width)
        full = {number: max(widths[number], len(self._columns[number].title)) for number in shown}
        titles = [styled(column.title, "bold") for column in self._columns]
        rule = styled("─" * (sum(full.values()) + len(GAP) * (len(full) - 1)), "dim")
        lines = [self._format_row(titles, full), rule]
        for cells, notes in self._rows:
            lines.append(self._format_row(cells, full))
            lines += [line for note in notes for line in format_note(note, width)]
        return lines

    def _choose_columns(self, widths: Sequence[int], width: int) -> list[int]:
        """Return the numbers of the columns that are shown."""
        shown = [number for number, content in enumerate(widths) if content]
        needed = {
            number: max(widths[number], len(self._columns[number].title)) + len(GAP)
            for number in shown
        }
        while sum(needed[number] for number in shown) - len(GAP) > width:
            last = max(shown, key=lambda number: self._columns[number].rank)
            if self._columns[last].rank == 0:
                break
            shown.remove(last)
        return shown

    def _format_row(self, cells: Sequence[Text], widths: dict[int, int]) -> Text:
        line = styled("")
        for number, width in widths.items():
            padding = " " * (width - cells[number].cell_len)
            before, after = (padding, "") if self._columns[number].right else ("", padding)
            line.append(GAP if line else "").append(before).append_text(cells[number]).append(after)
        line.rstrip()
        return line


def format_note(text: str, width: int, style: str = "dim", indent: str = NOTE_INDENT) -> list[Text]:
    """Return a text as indented lines that break at blanks only."""
    wrapper = textwrap.TextWrapper(
        width,
        initial_indent=indent,
        subsequent_indent=indent + GAP,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [
        styled(line, style)
        for part in text.splitlines()
        for line in wrapper.wrap(make_visible(part))
    ]
