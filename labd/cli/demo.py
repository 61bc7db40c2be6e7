"""labd demo: a lab of emulated stations runs three jobs of two users."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
from asyncio.subprocess import Process
from pathlib import Path

import click
from click.core import ParameterSource

from drivers.base.registry import Registry
from labd.cli.options import config_option
from labd.cli.render import show_table
from labd.cli.tables import latest_summary, make_results_table
from labd.cli.terminal import print_line
from labd.cli.watch import follow_jobs
from labd.client.lab_client import LabClient
from labd.core.errors import ConfigError, InfraError, TransportError
from labd.core.model import Mode, Verdict
from labd.data import bundled
from labd.report.plot import plot_trace
from labd.station.config import load_config
from labd.store.state_directory import StateDirectory
from labd.wire.messages import JobStatus

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 30.0
JOBS_DEADLINE_S = 300.0

JOBS = (
    ("alice", "alice-1", ["accuracy", "performance", "energy"]),
    ("bob", "bob-1", ["accuracy", "performance", "energy"]),
    ("alice", "alice-2", ["accuracy"]),
)
"""User, job id, modes."""


@click.command("demo")
@config_option
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default="var/demo",
    show_default=True,
    help="Folder for the files of the demonstration; its content is replaced.",
)
@click.pass_context
def demo_command(context: click.Context, config: Path, directory: Path) -> None:
    """Run a demonstration: three jobs of two users on two emulated stations.

    Without a stations.toml here it uses the one that `labd init` writes.
    """
    unnamed = context.get_parameter_source("config") is ParameterSource.DEFAULT
    if unnamed and not config.exists():
        config = bundled("stations.toml")
    lab = load_config(config, Registry.from_entry_points())
    passed = asyncio.run(_run_demonstration(config, lab.name, directory))
    sys.exit(0 if passed else 1)


async def _run_demonstration(config: Path, lab: str, directory: Path) -> bool:
    """Run the demonstration and return whether every job passed.

    Raises:
        LabdError: the daemon did not start, or did not answer.
    """
    port = _find_free_port()
    print_line(
        f"starting a lab of emulated stations on mqtt://127.0.0.1:{port}; its files: {directory}"
    )
    with _clear_directory(directory).open("wb") as stream:
        log = Path(stream.name)
        arguments = ("--config", str(config), "--state", str(directory), "--port", str(port))
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "labd.cli.labd", "serve", *arguments), stderr=stream
        )
        try:
            ended = await _submit_and_follow_jobs(daemon, f"mqtt://127.0.0.1:{port}", lab, log)
        finally:
            await _stop_daemon(daemon)
    show_table(make_results_table(ended))
    _plot_first_energy_trace(ended, directory)
    return all(status.verdict is Verdict.PASS for status in ended)


async def _submit_and_follow_jobs(
    daemon: Process, broker: str, lab: str, log: Path
) -> list[JobStatus]:
    """Submit the jobs of both users at once and follow them until they end."""
    await _wait_until_lab_answers(daemon, broker, lab, log)
    async with LabClient(broker, lab, "alice") as alice, LabClient(broker, lab, "bob") as bob:
        clients = {"alice": alice, "bob": bob}
        await asyncio.gather(
            *(
                clients[user].send_request("submit", job=job, benchmark="digits01", modes=modes)
                for user, job, modes in JOBS
            )
        )
        try:
            async with asyncio.timeout(JOBS_DEADLINE_S):
                return await follow_jobs(alice, [job for _, job, _ in JOBS], as_json=False)
        except TimeoutError:
            why = "; ".join(f"{s.station} {s.health} {s.why}" for s in await alice.list_stations())
            raise InfraError(
                "demo-slow", f"the jobs did not end in {JOBS_DEADLINE_S:g} s: {why}", f"see {log}"
            ) from None


async def _wait_until_lab_answers(daemon: Process, broker: str, lab: str, log: Path) -> None:
    """Wait until the lab answers; a daemon that ended is reported with its log."""
    try:
        async with asyncio.timeout(START_DEADLINE_S):
            while not await _lab_answers(broker, lab):
                if daemon.returncode is not None:
                    raise InfraError(
                        "demo-start", f"the daemon did not start:\n{_last_log_lines(log)}"
                    )
                await asyncio.sleep(0.3)
    except TimeoutError:
        raise InfraError("demo-start", "the lab did not get ready", f"see {log}") from None


async def _lab_answers(broker: str, lab: str) -> bool:
    try:
        async with LabClient(broker, lab, "demo") as client:
            await client.list_stations()
    except TransportError:
        return False
    return True


def _clear_directory(directory: Path) -> Path:
    """Clear the demonstration's directory; return the path of the daemon's log in it."""
    log = directory / "labd.log"
    if directory.exists():
        if any(directory.iterdir()) and not log.is_file():
            raise ConfigError(
                "demo-directory", f"{directory} holds other files", "name an empty directory"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    return log


def _last_log_lines(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


async def _stop_daemon(daemon: Process) -> None:
    if daemon.returncode is not None:
        return
    daemon.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_DEADLINE_S):
            await daemon.wait()
    except TimeoutError:
        daemon.kill()
        await daemon.wait()
        print_line("the daemon did not stop by itself and was killed", err=True)


def _plot_first_energy_trace(ended: list[JobStatus], directory: Path) -> None:
    """Draw the trace of the first energy result."""
    for status in ended:
        summary = latest_summary(status, Mode.ENERGY)
        if summary is None:
            continue
        traces = StateDirectory(directory.absolute()).traces_of_attempt(status.job, status.attempt)
        picture = directory / "power-trace.png"
        median = summary.score.get("median_energy_uj", float("nan"))
        title = (
            f"{status.benchmark} on {status.station}: {median:.3f} µJ/inference "
            f"({summary.verdict}, {'simulated' if status.simulated else 'real'})"
        )
        plot_trace(traces / "energy", picture, title)
        print_line(f"power trace with its windows: {picture}")
        return


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
