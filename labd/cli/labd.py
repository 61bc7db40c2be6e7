"""labd: the command of a bench's host."""

from __future__ import annotations

import click

from labd import __version__
from labd.cli.lazy_group import LazyGroup

COMMANDS = {
    "bench": "Run the emulated stations of stations.toml, or NAMES of them, without a daemon.",
    "check": "Check stations.toml as `labd serve` would, and report errors and warnings.",
    "demo": "Run a demonstration: three jobs of two users on two emulated stations.",
    "export": "Write a trace as CSV, Parquet or JLS.",
    "fake": "Serve one simulated INSTRUMENT, for developing and debugging drivers.",
    "init": "Write a commented stations.toml into DIRECTORY.",
    "schema": "Print the JSON Schemas of the wire protocol and of results, or of NAME alone.",
    "score": "Recompute official session folders, or runs of labd, from their raw data.",
    "serve": "Serve the lab described in stations.toml until SIGTERM.",
    "traces": "List the runs that have files here, and those that the next clean-up would remove.",
}


EXIT_STATUS_HELP = """\b
Exit status: 0 done, 1 failed (of score: something differs or is damaged),
2 stations.toml is wrong, refused, or wrong usage."""


@click.group(
    cls=LazyGroup,
    summaries=COMMANDS,
    epilog=EXIT_STATUS_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def main() -> None:
    """Run MLPerf Tiny benchmarks on a lab of microcontroller boards."""


if __name__ == "__main__":
    main()
