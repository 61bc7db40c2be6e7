"""labd: the daemon's command line."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from labd import __version__
from labd.cli.check import check
from labd.cli.export import export
from labd.cli.score import score
from labd.cli.traces import traces

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
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the embedded broker instead.")
@click.option(
    "--datasets",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="LABD_DATASETS",
    multiple=True,
    help="Search data sets here first; may be repeated.  [env: LABD_DATASETS, ':' between]",
)
@click.option("--log-json", is_flag=True, help="Log as JSON, one object a line.")
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
def serve(
    config: Path,
    state: Path | None,
    port: int | None,
    datasets: tuple[Path, ...],
    log_json: bool,  # noqa: FBT001 - click passes flags by name
    verbose: bool,  # noqa: FBT001
) -> None:
    """Serve the lab described in stations.toml until SIGTERM."""
    from drivers.base.registry import Registry  # noqa: PLC0415
    from labd.core.errors import LabdError, first_fault  # noqa: PLC0415 - not for --help
    from labd.daemon.daemon import Daemon  # noqa: PLC0415
    from labd.station.config import load_config  # noqa: PLC0415

    _set_up_logging(as_json=log_json, verbose=verbose)
    try:
        registry = Registry.installed()
        lab = load_config(config, registry, state=state, port=port)
        lab = replace(lab, datasets=(*(each.absolute() for each in datasets), *lab.datasets))
        asyncio.run(Daemon(lab, registry).serve(lambda url: _announce(lab.name, url)))
    except LabdError as error:
        raise click.ClickException(str(error)) from error
    except ExceptionGroup as group:
        raise click.ClickException(str(first_fault(group))) from group


@main.command()
@config_option
@click.argument("names", nargs=-1)
@click.option("--freeze", is_flag=True, help="Deterministic time: same commands, same bytes.")
@click.option(
    "--firmware",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Start the boards with this ELF.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Where ports and drives appear (<state>/bench-by-hand).",
)
def bench(
    config: Path,
    names: tuple[str, ...],
    freeze: bool,  # noqa: FBT001 - click passes flags by name
    firmware: Path | None,
    directory: Path | None,
) -> None:
    """Run the emulated stations by hand: all those of stations.toml, or NAMES.

    Prints one JSON line when ready: {"<station>": {"dut": PATH, "io": PATH, "power": PATH}}.
    Every path is a pseudo-terminal that any program can open. The boards are supplied by
    their power monitors and start switched off. Under --freeze time stands still while
    nobody sends a command: each is followed by 30 ms and, during an acquisition, by the time
    to the power monitor's next time stamp.
    <directory>/<station>/drive is the board's flash drive: copy an ELF or a raw binary into
    it. Ends with SIGTERM or Ctrl-C.
    """
    from drivers.base.registry import Registry  # noqa: PLC0415
    from labd.core.errors import LabdError  # noqa: PLC0415 - not for --help
    from labd.daemon.emulated_benches import bench_command, emulated_station  # noqa: PLC0415
    from labd.station.config import load_config  # noqa: PLC0415

    try:
        lab = load_config(config, Registry.installed())
        stations = [lab.station(name) for name in names] or [s for s in lab.stations if s.emulated]
        emulated = [emulated_station(lab, station, firmware) for station in stations]
    except LabdError as error:
        raise click.ClickException(str(error)) from error
    if not emulated:
        raise click.ClickException(f"{config} has no emulated station")
    mode = {"mode": "freeze" if freeze else "pace"}
    command = bench_command(
        directory or lab.state / "bench-by-hand",
        [station.model_copy(update=mode) for station in emulated],
    )
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the bench takes this process over


@main.command()
@click.argument("instrument", required=False)
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    help="Make a symbolic link to its pseudo-terminal: a path for stations.toml that stays.",
)
@click.option(
    "--build",
    type=click.Choice(["performance", "energy"]),
    help="What its DUT runs, where it has one: printed laps or pulses (performance).",
)
def fake(instrument: str | None, link: Path | None, build: str | None) -> None:
    """Serve a fake INSTRUMENT by hand, for those who write or debug drivers.

    It speaks the real protocol, byte for byte, behind a pseudo-terminal or a socket on this
    machine, and measures a made-up board by the wall clock. Prints one JSON line when ready:
    {"<instrument>": PATH}, and on standard error what to put into stations.toml. Without
    INSTRUMENT it lists those there are. Ends with SIGTERM or Ctrl-C.
    """
    command = [
        sys.executable,
        "-m",
        "labd.simulation.fake",
        *([instrument] if instrument else ["--help"]),
    ]
    command += ["--link", str(link)] if link else []
    command += ["--build", build] if build else []
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the fake takes this process over


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
    from drivers.base.registry import Registry  # noqa: PLC0415
    from labd.cli.demo import demonstrate  # noqa: PLC0415 - not for --help
    from labd.core.errors import LabdError  # noqa: PLC0415
    from labd.station.config import load_config  # noqa: PLC0415

    try:
        lab = load_config(config, Registry.installed())
        passed = asyncio.run(demonstrate(config, lab.name, directory))
    except LabdError as error:
        raise click.ClickException(str(error)) from error
    except TimeoutError as error:
        raise click.ClickException(f"the lab did not get ready; see {directory}") from error
    sys.exit(0 if passed else 1)


main.add_command(check)
main.add_command(score)
main.add_command(export)
main.add_command(traces)


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
