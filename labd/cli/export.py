"""labd export: a trace in another program's format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # NumPy is not for --help
    from labd.store.traces.export_formats import Part
    from labd.store.traces.reader import Trace

FORMATS = ("csv", "parquet", "jls")


@click.command()
@click.argument("trace")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(FORMATS),
    help="csv unless --output's suffix says otherwise; parquet and jls need labd[export].",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; named after the trace, here, unless given.",
)
@click.option("--window", type=int, help="Only this window's samples.")
@click.option("--from", "start_s", type=float, help="Only from this second on.")
@click.option("--to", "stop_s", type=float, help="Only up to this second.")
@click.option(
    "--decimate",
    type=click.IntRange(1, 2**31),
    default=1,
    show_default=True,
    help="Samples a row: minimum, mean and maximum of so many.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="LABD_CONFIG",
    default="stations.toml",
    show_default=True,
    help="The lab whose job TRACE names.  [env: LABD_CONFIG]",
)
def export(
    trace: str,
    form: str | None,
    output: Path | None,
    window: int | None,
    start_s: float | None,
    stop_s: float | None,
    decimate: int,
    force: bool,  # noqa: FBT001 - click's way
    config: Path,
) -> None:
    """Write a trace as CSV, Parquet or JLS.

    TRACE is a trace's file or folder, or a job of this host's lab: JOB (its last attempt) or
    JOB/ATTEMPT. One that is being written is exported as far as it goes.
    """
    from labd.cli.find_runs import find_trace  # noqa: PLC0415 - not for --help
    from labd.core.errors import LabdError  # noqa: PLC0415
    from labd.store.traces.export_formats import choose_part  # noqa: PLC0415
    from labd.store.traces.reader import read_trace  # noqa: PLC0415

    try:
        form = form or _format_of(output)
        path, name = find_trace(trace, config)
        target = output or Path(f"{name}.{form}")
        _check_target(target, force=force)
        read = read_trace(path)
        part = choose_part(read, window=window, start_s=start_s, stop_s=stop_s, decimate=decimate)
        _write(read, part, form, target)
    except LabdError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot write {output or 'the file'}: {error}") from error
    rows = -(-len(part) // decimate)
    click.echo(f"{target}: {rows} rows of {path}" + ("" if read.complete else " (incomplete)"))


def _format_of(output: Path | None) -> str:
    """What a file's suffix says; CSV for one without a suffix."""
    from labd.core.errors import ConfigError  # noqa: PLC0415 - not for --help

    suffix = output.suffix.removeprefix(".").lower() if output else ""
    if suffix and suffix not in FORMATS:
        known = ", ".join(f".{each}" for each in FORMATS)
        todo = f"name it {known}, or say which with --format"
        raise ConfigError("bad-format", f"{output}: labd does not write .{suffix} files", todo)
    return suffix or FORMATS[0]


def _check_target(target: Path, *, force: bool) -> None:
    from labd.core.errors import ConfigError  # noqa: PLC0415

    if target.exists() and not force:
        raise ConfigError("file-exists", f"{target} is there already", "--force replaces it")
    if not target.absolute().parent.is_dir():
        raise ConfigError("no-folder", f"there is no folder {target.parent}")


def _write(trace: Trace, part: Part, form: str, target: Path) -> None:
    from labd.store.traces.export_formats import export_csv, export_parquet  # noqa: PLC0415
    from labd.store.traces.jls import export_jls  # noqa: PLC0415

    write = {"csv": export_csv, "parquet": export_parquet, "jls": export_jls}[form]
    with _progress(len(part)) as advance:
        write(trace, part, target, advance)


@contextmanager
def _progress(samples: int) -> Generator[Callable[[int], None]]:
    """A bar for people, nothing for pipes."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - not for --help
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("samples", total=samples)
        yield lambda done: progress.update(bar, advance=done)
