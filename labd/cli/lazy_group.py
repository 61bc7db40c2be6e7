"""A click group that imports a command when it is used, so that ``--help`` answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from labd.core.errors import ConfigError, LabdError
from labd.core.visible_text import make_visible

OWN_PACKAGES = {"labd", "drivers"}
EXTRAS = {
    "matplotlib": "report",
    "pyarrow": "export",
    "pyjls": "export",
    "tflite": "firmware",
    "unicorn": "emulator",
    "ziglang": "firmware",
}
"""The extra that installs a package, by import name; the others are in ``daemon``."""


class _MistakeError(click.ClickException):
    """stations.toml or the command line is wrong."""

    exit_code = 2


def exit_status_of(error: LabdError) -> int:
    """Return the exit status of a command that an error ends."""
    kind = _MistakeError if isinstance(error, ConfigError) else click.ClickException
    return kind.exit_code


class LazyGroup(click.Group):
    """A group whose command ``name`` is ``<name>_command`` of the module ``labd.cli.<name>``.

    Args:
        summaries: the help line of every command: the first sentence of its docstring.
        settings: of the group, as for :class:`click.Group`.
    """

    def __init__(self, *, summaries: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        self.summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in alphabetical order."""
        del ctx
        return sorted(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; ``None`` if there is none of this name."""
        del ctx
        if cmd_name not in self.summaries:
            return None
        module = import_module(f"labd.cli.{cmd_name}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summaries[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a :class:`LabdError` ends it with one line and its exit status."""
        try:
            return super().invoke(ctx)
        except LabdError as error:
            kind = _MistakeError if isinstance(error, ConfigError) else click.ClickException
            raise kind(make_visible(str(error), keep="\n")) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in OWN_PACKAGES:
                raise
            what = f"this command needs the package {package}, which is not installed"
            extra = EXTRAS.get(package, "daemon")
            raise click.ClickException(f"{what} (pip install 'labd[{extra}]')") from error
