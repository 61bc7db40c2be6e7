"""labd: the daemon's command line."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from labd import __version__

DEFAULT_CONFIG = "stations.toml"

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="LABD_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The lab's stations.  [env: LABD_CONFIG]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Run MLPerf Tiny benchmarks on a lab full of boards."""


@main.command()
@config_option
@click.option("--state", type=click.Path(path_type=Path), help="Use this state directory instead.")
@click.option("--port", type=int, help="Port of the embedded broker instead.")
@click.option("--log-json", is_flag=True, help="Log as JSON, one object a line.")
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
def serve(
    config: Path,
    state: Path | None,
    port: int | None,
    log_json: bool,  # noqa: FBT001 - click passes flags by name
    verbose: bool,  # noqa: FBT001
) -> None:
    """Serve the lab described in stations.toml until SIGTERM."""
    from labd.core.errors import LabdError  # noqa: PLC0415 - not for --help
    from labd.lab.daemon import Daemon  # noqa: PLC0415
    from labd.station.config import load_config  # noqa: PLC0415
    from labd.station.registry import Registry  # noqa: PLC0415

    _set_up_logging(as_json=log_json, verbose=verbose)
    try:
        registry = Registry.installed()
        lab = load_config(config, registry, state=state, port=port)
        asyncio.run(Daemon(lab, registry).serve(lambda url: _announce(lab.name, url)))
    except LabdError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@config_option
@click.argument("names", nargs=-1)
@click.option("--freeze", is_flag=True, help="Deterministic time; else it follows the wall clock.")
@click.option("--firmware", type=click.Path(exists=True, path_type=Path), help="ELF to start with.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default="var/bench",
    show_default=True,
    help="Where the stations' ports and drives appear.",
)
def bench(
    config: Path,
    names: tuple[str, ...],
    freeze: bool,  # noqa: FBT001
    firmware: Path | None,
    directory: Path,
) -> None:
    """Run the emulated stations by hand, all of stations.toml's or those NAMED.

    Prints one JSON line when ready: {"<station>": {"dut": PATH, "io": PATH, "power": PATH}}.
    Every path is a pseudo-terminal that any program can open. DIRECTORY/<station>/drive is
    the board's flash drive: copy an ELF or a raw binary into it.
    """


@main.command()
@config_option
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default="var/demo",
    show_default=True,
    help="Files of the demonstration; what is there is replaced.",
)
def demo(config: Path, directory: Path) -> None:
    """Show a lab at work: three jobs of two users on two emulated stations."""
    from labd.cli.demo import demonstrate  # noqa: PLC0415 - not for --help
    from labd.core.errors import LabdError  # noqa: PLC0415
    from labd.station.config import load_config  # noqa: PLC0415
    from labd.station.registry import Registry  # noqa: PLC0415

    try:
        lab = load_config(config, Registry.installed())
        passed = asyncio.run(demonstrate(config, lab.name, directory))
    except LabdError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if passed else 1)


def _announce(lab: str, url: str) -> None:
    click.echo(f"labd: lab {lab} is ready at {url}", err=True)


def _set_up_logging(*, as_json: bool, verbose: bool) -> None:
    """Logs to standard error: lines for people, or JSON for collectors."""
    import structlog  # noqa: PLC0415 - not for --help

    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
