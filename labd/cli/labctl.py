"""labctl: queue jobs, watch them, look at the lab.

Heavy imports wait until a command needs them: ``labctl --help`` answers at once.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from labd import __version__

if TYPE_CHECKING:
    from labd.client.lab_client import LabClient
    from labd.wire.messages import JobStatus

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
DEFAULT_LAB = "lab"

VERDICT_STATUS = {"pass": 0, "fail": 1, "invalid": 3, "infra": 4, "cancelled": 5, "expired": 6}
"""Exit status by verdict."""

REFUSED_STATUS = 2
UNREACHABLE_STATUS = 7
CUT_SHORT_STATUS = 141

EXIT_STATUS_HELP = """\b
Exit status: 0 pass or done, 1 fail, 2 refused or wrong usage, 3 invalid,
4 infra (the bench failed), 5 cancelled, 6 expired, 7 no lab answered."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which lab, as whom."""

    broker: str
    lab: str
    user: str


def _login() -> str:
    from labd.wire.topics import as_name  # noqa: PLC0415

    return as_name(getpass.getuser())


@click.group(epilog=EXIT_STATUS_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--broker",
    envvar="LABD_BROKER",
    default=DEFAULT_BROKER,
    show_default=True,
    help="The lab's MQTT broker: mqtt://[user:password@]host:port.  [env: LABD_BROKER]",
)
@click.option(
    "--lab",
    envvar="LABD_LAB",
    default=DEFAULT_LAB,
    show_default=True,
    help="The lab's name.  [env: LABD_LAB]",
)
@click.option(
    "--user",
    envvar="LABD_USER",
    help="Who asks; your login name unless given.  [env: LABD_USER]",
)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context, broker: str, lab: str, user: str | None) -> None:
    """Queue MLPerf Tiny jobs on a lab of boards and watch them."""
    context.obj = Target(broker, lab, user or _login())


json_option = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")


@main.command()
@click.argument("benchmark")
@click.option("--modes", help="Comma separated: accuracy,performance,energy (all).")
@click.option("--station", help="Run there and nowhere else.")
@click.option("--firmware", help="Firmware to flash, if not the benchmark's own.")
@click.option("--priority", help="interactive, normal or overnight (normal).")
@click.option("--voltage-mv", type=int, help="Supply voltage, if not the station's own.")
@click.option(
    "--energy-method",
    help="Whose arithmetic makes the energy score: labd, mlcommons, eembc (labd).",
)
@click.option("--job", help="Your own id for it; submitting one id twice is harmless.")
@click.option("--watch", is_flag=True, help="Stay, show progress, end with the verdict.")
@json_option
@click.pass_obj
def submit(
    target: Target,
    benchmark: str,
    modes: str | None,
    station: str | None,
    firmware: str | None,
    priority: str | None,
    voltage_mv: int | None,
    energy_method: str | None,
    job: str | None,
    watch: bool,  # noqa: FBT001 - click passes flags by name
    as_json: bool,  # noqa: FBT001
) -> None:
    """Queue a job for BENCHMARK, e.g. digits01 or kws01."""
    import secrets  # noqa: PLC0415

    job = job or f"{benchmark[:40]}-{secrets.token_hex(4)}"
    fields: dict[str, Any] = {
        "job": job,
        "benchmark": benchmark,
        "modes": [mode.strip() for mode in modes.split(",")] if modes is not None else None,
        "station": station,
        "firmware": firmware,
        "priority": priority,
        "voltage_mv": voltage_mv,
        "energy_method": energy_method,
    }

    async def work(client: LabClient) -> int:
        reply = await client.ask("submit", **fields)
        if not watch:
            _say(reply.model_dump_json() if as_json else f"{reply.job}: {reply.text}")
            return 0
        return await _watch(client, [job], as_json=as_json)

    _run(target, work)


@main.command()
@click.argument("jobs", nargs=-1, required=True)
@json_option
@click.pass_obj
def watch(target: Target, jobs: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Show JOBS' progress until they end; the exit status is the worst verdict."""
    _run(target, lambda client: _watch(client, list(jobs), as_json=as_json))


@main.command(name="jobs")
@click.option("--state", "states", multiple=True, help="queued, leased, running or done.")
@click.option("--mine", is_flag=True, help="Only your own.")
@click.option("--limit", type=int, default=50, show_default=True, help="The newest so many.")
@json_option
@click.pass_obj
def list_jobs(
    target: Target,
    states: tuple[str, ...],
    mine: bool,  # noqa: FBT001
    limit: int,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List jobs, oldest first."""

    async def work(client: LabClient) -> int:
        found = await client.jobs(
            states=list(states) or None, user=target.user if mine else None, limit=limit
        )
        if as_json:
            _say(_dump(found))
        else:
            from labd.cli.render import jobs_table, show_table  # noqa: PLC0415

            show_table(jobs_table(found), empty="no jobs")
        return 0

    _run(target, work)


@main.command()
@click.argument("job")
@json_option
@click.pass_obj
def show(target: Target, job: str, as_json: bool) -> None:  # noqa: FBT001
    """Show all that is known of one JOB: scores, windows, evidence."""

    async def work(client: LabClient) -> int:
        status = await client.job(job)
        events = await client.events(job)
        if as_json:
            whole = status.model_dump(mode="json")
            whole["events"] = [event.model_dump(mode="json") for event in events]
            _say(json.dumps(whole, indent=2))
        else:
            from labd.cli.render import show_job  # noqa: PLC0415

            show_job(status, events)
        return 0

    _run(target, work)


@main.command()
@json_option
@click.pass_obj
def stations(target: Target, as_json: bool) -> None:  # noqa: FBT001
    """List the stations, their health and what they do."""

    async def work(client: LabClient) -> int:
        found = await client.stations()
        if as_json:
            _say(_dump(found))
        else:
            from labd.cli.render import show_table, stations_table  # noqa: PLC0415

            show_table(stations_table(found), empty="no stations")
        return 0

    _run(target, work)


@main.command()
@click.argument("job")
@click.option("--reason", default="", help="Why, for the record.")
@json_option
@click.pass_obj
def cancel(target: Target, job: str, reason: str, as_json: bool) -> None:  # noqa: FBT001
    """Give up a JOB of your own, queued or running."""

    async def work(client: LabClient) -> int:
        reply = await client.ask("cancel", job=job, reason=reason)
        _say(reply.model_dump_json() if as_json else f"{reply.job}: {reply.text}")
        return 0

    _run(target, work)


@main.command()
@click.argument("job")
@click.option("--from", "from_seq", type=int, default=0, help="First event number.")
@click.option("--follow", "-f", is_flag=True, help="Stay until the job has finished.")
@json_option
@click.pass_obj
def events(
    target: Target,
    job: str,
    from_seq: int,
    follow: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Print a JOB's events, each with its number."""

    async def work(client: LabClient) -> int:
        from labd.cli.render import event_line  # noqa: PLC0415

        if follow:
            async for event in client.follow(job):
                if event.seq >= from_seq:
                    _say(event.model_dump_json() if as_json else event_line(event))
            return 0
        for event in await client.events(job, from_seq):
            _say(event.model_dump_json() if as_json else event_line(event))
        return 0

    _run(target, work)


@main.command()
@click.argument("job")
@json_option
@click.pass_obj
def trace(target: Target, job: str, as_json: bool) -> None:  # noqa: FBT001
    """Show what a JOB draws while it is measured: a line a second, or every frame as JSON."""

    async def work(client: LabClient) -> int:
        from labd.cli.live_trace import follow_trace  # noqa: PLC0415

        await follow_trace(client, job, as_json=as_json)
        return 0

    _run(target, work)


@main.command()
@click.argument("job")
@json_option
@click.pass_obj
def pin(target: Target, job: str, as_json: bool) -> None:  # noqa: FBT001
    """Keep the traces of a JOB of your own, whatever the lab's limits."""
    _run(target, lambda client: _tell(client, "pin", job, as_json=as_json))


@main.command()
@click.argument("job")
@json_option
@click.pass_obj
def unpin(target: Target, job: str, as_json: bool) -> None:  # noqa: FBT001
    """Let the traces of a JOB of your own go by the lab's limits."""
    _run(target, lambda client: _tell(client, "unpin", job, as_json=as_json))


async def _tell(client: LabClient, verb: str, job: str, *, as_json: bool) -> int:
    reply = await client.ask(verb, job=job)
    _say(reply.model_dump_json() if as_json else f"{reply.job}: {reply.text}")
    return 0


async def _watch(client: LabClient, jobs: list[str], *, as_json: bool) -> int:
    """Follow jobs to their ends and return the worst verdict's exit status."""
    from labd.cli.watch import follow_jobs  # noqa: PLC0415

    for job in jobs:
        await client.job(job)
    ended: list[JobStatus] = await follow_jobs(client, jobs, as_json=as_json)
    if not as_json:
        from labd.cli.render import results_table, show_reasons, show_table  # noqa: PLC0415

        show_table(results_table(ended))
        show_reasons(ended)
    return max(VERDICT_STATUS[status.verdict or "infra"] for status in ended)


def _run(target: Target, work: Callable[[LabClient], Awaitable[int]]) -> None:
    """Connect, work, and turn faults into one line and an exit status."""
    from labd.client.lab_client import LabClient  # noqa: PLC0415
    from labd.core.errors import LabdError, TransportError  # noqa: PLC0415

    async def connected() -> int:
        async with LabClient(target.broker, target.lab, target.user) as client:
            return await work(client)

    try:
        status = _finish(connected())
    except BrokenPipeError:  # whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = CUT_SHORT_STATUS
    except TransportError as error:
        click.echo(f"labctl: {error}", err=True)
        status = UNREACHABLE_STATUS
    except LabdError as error:
        click.echo(f"labctl: {error}", err=True)
        status = REFUSED_STATUS
    sys.exit(status)


def _finish(work: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        click.echo("labctl: stopped watching; the job goes on (labctl cancel ends it)", err=True)
        return 130


def _say(text: str) -> None:
    click.echo(text)


def _dump(models: list[Any]) -> str:
    return json.dumps([model.model_dump(mode="json") for model in models], indent=2)


if __name__ == "__main__":
    main()
