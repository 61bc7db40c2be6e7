"""labd export: a trace in another program's format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import Progress

from labd.cli.find_trace import find_trace
from labd.cli.options import config_option
from labd.cli.terminal import make_console, print_line
from labd.core.errors import ConfigError
from labd.store.traces.export_formats import TraceRange, choose_range, export_csv, export_parquet
from labd.store.traces.jls import export_jls
from labd.store.traces.reader import Trace, read_trace

FORMATS = ("csv", "parquet", "jls")


@click.command("export")
@click.argument("trace")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(FORMATS),
    help="Default: the suffix of --output, else csv. parquet and jls need labd[export].",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.  [default: the trace's name, in the current folder]",
)
@click.option("--window", type=int, help="Only this window's samples.")
@click.option("--from", "start_s", type=float, help="Start at this time, in seconds.")
@click.option("--to", "stop_s", type=float, help="End at this time, in seconds.")
@click.option(
    "--decimate",
    type=click.IntRange(1, 2**31),
    metavar="N",
    default=1,
    show_default=True,
    help="Aggregate N samples per row (min/mean/max).",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@config_option
def export_command(
    trace: str,
    form: str | None,
    output: Path | None,
    window: int | None,
    start_s: float | None,
    stop_s: float | None,
    decimate: int,
    force: bool,
    config: Path,
) -> None:
    """Write a trace as CSV, Parquet or JLS.

    TRACE is the file or the folder of a trace, or a job of this host's lab: JOB (its last
    attempt) or JOB/ATTEMPT. A trace that is being written is exported up to its current end.
    """
    form = form or _format_by_suffix(output)
    try:
        path, name = find_trace(trace, config)
        target = output or Path(f"{name}.{form}")
        _check_target(target, force=force)
        read = read_trace(path)
        part = choose_range(read, window=window, start_s=start_s, stop_s=stop_s, decimate=decimate)
        _write_export(read, part, form, target)
    except OSError as error:
        raise click.ClickException(f"cannot write {output or 'the file'}: {error}") from error
    rows = -(-len(part) // decimate)
    print_line(f"{target}: {rows} rows of {path}" + ("" if read.complete else " (incomplete)"))


def _format_by_suffix(output: Path | None) -> str:
    """Return the format by a file's suffix; CSV for one without a suffix."""
    suffix = output.suffix.removeprefix(".").lower() if output else ""
    if suffix and suffix not in FORMATS:
        known = ", ".join(f".{each}" for each in FORMATS)
        remedy = f"name it {known}, or give --format"
        raise ConfigError("bad-format", f"{output}: labd does not write .{suffix} files", remedy)
    return suffix or FORMATS[0]


def _check_target(target: Path, *, force: bool) -> None:
    if target.exists() and not force:
        raise ConfigError("file-exists", f"{target} is there already", "--force replaces it")
    if not target.absolute().parent.is_dir():
        raise ConfigError("no-folder", f"there is no folder {target.parent}")


def _write_export(trace: Trace, part: TraceRange, form: str, target: Path) -> None:
    write = {"csv": export_csv, "parquet": export_parquet, "jls": export_jls}[form]
    with _show_progress_bar(len(part)) as advance:
        write(trace, part, target, advance)


@contextmanager
def _show_progress_bar(samples: int) -> Generator[Callable[[int], None]]:
    """Show a progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        bar = progress.add_task("samples", total=samples)
        yield lambda done: progress.update(bar, advance=done)
