"""Output of the commands. Text of devices, users and files is never markup or a control sequence.

Commands print through this module only; a test checks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import StyleType
from rich.text import Text

from labd.core.visible_text import make_visible

PIPE_WIDTH = 200
"""Width if the output is not a terminal."""


class PlainConsole(Console):
    """A console that shows text as it is: no markup, no emoji codes, no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Make text of a string before it is measured."""
        return super().render_str(make_visible(text, keep="\n"), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render, with control characters made visible."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(make_visible(segment.text, keep="\n"), segment.style)


def make_console(*, stderr: bool = False) -> PlainConsole:
    """Return a console that is wide enough for a pipe."""
    console = PlainConsole(markup=False, emoji=False, highlight=False, stderr=stderr)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def styled(text: str, style: StyleType = "") -> Text:
    """Return text of one style, with control characters made visible."""
    return Text(make_visible(text, keep="\n"), style)


def print_line(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print text or JSON; line ends stay, other control characters are made visible."""
    click.echo(make_visible(text, keep="\n") + end, err=err, nl=False)
