"""labd init: a stations.toml to start from."""

from __future__ import annotations

from pathlib import Path

import click

from labd.cli.terminal import print_line
from labd.core.errors import ConfigError
from labd.data import bundled


@click.command("init")
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
def init_command(directory: Path) -> None:
    """Write a commented stations.toml into DIRECTORY.

    It describes two emulated stations that work as they stand, and has examples of real ones.
    DIRECTORY is the current directory unless given; it is made if it does not exist.
    """
    target = directory / "stations.toml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(bundled("stations.toml").read_bytes())
    except FileExistsError as error:
        remedy = "edit it, or name another directory"
        raise ConfigError("file-exists", f"{target} is there already", remedy) from error
    except OSError as error:
        raise ConfigError("not-written", f"cannot write {target}: {error.strerror}") from error
    print_line(f"{target}: two emulated stations; `labd check` checks it, `labd serve` serves it")
