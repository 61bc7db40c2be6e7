"""labctl: the command of a lab's users."""

from __future__ import annotations

import getpass

import click

from labd import __version__
from labd.cli.lazy_group import LazyGroup
from labd.cli.options import Target
from labd.wire.broker_url import parse_broker_url
from labd.wire.topics import to_topic_level

COMMANDS = {
    "cancel": "Cancel a JOB of your own, queued or running.",
    "events": "Print the numbered events of a JOB.",
    "jobs": "List the jobs that run, then those that are next, then those that ended last.",
    "pin": "Keep the traces of a JOB of your own, whatever the lab's limits.",
    "show": "Show the scores, windows and evidence of a JOB.",
    "stations": "List the stations with their health and activity.",
    "submit": "Queue a job for BENCHMARK, for example digits01 or kws01.",
    "trace": "Show the power of a JOB while it is measured.",
    "unpin": "Allow the removal of the traces of a JOB of your own by the lab's limits.",
    "watch": "Follow JOBS until they end; exit with the worst verdict.",
}

EXIT_STATUS_HELP = """\b
Exit status: 0 pass or done, 1 fail, 2 refused or wrong usage, 3 invalid,
4 infra (the bench failed), 5 cancelled, 7 no lab answered."""


@click.group(
    cls=LazyGroup,
    summaries=COMMANDS,
    epilog=EXIT_STATUS_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--broker",
    envvar="LABD_BROKER",
    default="mqtt://127.0.0.1:1883",
    show_default=True,
    help="The lab's MQTT broker: mqtt://[user:password@]host:port.  [env: LABD_BROKER]",
)
@click.option(
    "--lab",
    envvar="LABD_LAB",
    default="lab",
    show_default=True,
    help="The lab's name.  [env: LABD_LAB]",
)
@click.option(
    "--user",
    envvar="LABD_USER",
    help="Submit and cancel as this user.  [env: LABD_USER; default: the broker URL's user, "
    "else your login name]",
)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context, broker: str, lab: str, user: str | None) -> None:
    """Queue MLPerf Tiny jobs on a lab of boards and watch them."""
    user = user or to_topic_level(parse_broker_url(broker).user or getpass.getuser())
    context.obj = Target(broker, lab, user)


if __name__ == "__main__":
    main()
