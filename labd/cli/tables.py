"""The tables of the commands: jobs, results, stations, windows and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from labd.cli.listing import Column, Listing
from labd.cli.render_energy import OWN_METHOD
from labd.cli.terminal import styled
from labd.core.jobs import JobState
from labd.core.local_time import format_local_time
from labd.core.model import ClockCheck, Mode, Verdict, Window
from labd.core.retention import DAY_NS, RunFiles
from labd.wire.messages import JobStatus, ModeSummary, StationStatus
from labd.wire.results import MeasuredWindow

VERDICT_STYLE = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.INVALID: "magenta",
    Verdict.INFRA: "yellow",
    Verdict.CANCELLED: "dim",
    Verdict.EXPIRED: "dim",
}
_SCORES = tuple(Column(title, right=True) for title in ("accuracy", "inf/s", "µJ/inf"))
"""Columns of the scores, in the order of :class:`Mode`."""

HEALTH_STYLE = {"good": "green", "unknown": "yellow", "bad": "red"}


def make_jobs_table(jobs: Sequence[JobStatus]) -> Listing:
    """Tabulate jobs with their states and scores, and why they wait or did not pass."""
    table = Listing(
        Column("job"),
        Column("user", rank=4),
        Column("benchmark", rank=5),
        Column("modes", rank=8),
        Column("state"),
        Column("station", rank=1),
        *_SCORES,
        Column("bench", rank=3),
        Column("submitted", rank=7),
    )
    for job in jobs:
        table.add_row(
            job.job,
            job.user,
            job.benchmark,
            " ".join(job.modes),
            _format_state(job),
            job.wanted_station if job.state is JobState.QUEUED else job.station,
            *_format_scores(job, missing=""),
            _format_reality(job),
            format_local_time(job.submitted_ns),
            notes=format_job_notes(job),
        )
    return table


def make_results_table(jobs: Sequence[JobStatus]) -> Listing:
    """Tabulate scores and verdicts of jobs, and why they did not pass."""
    table = Listing(
        Column("job"),
        Column("user", rank=4),
        Column("benchmark", rank=3),
        Column("station", rank=1),
        *_SCORES,
        Column("verdict"),
        Column("bench"),
    )
    for job in jobs:
        table.add_row(
            job.job,
            job.user,
            job.benchmark,
            job.station,
            *_format_scores(job, missing="–"),
            _format_state(job),
            _format_reality(job),
            notes=format_job_notes(job),
        )
    return table


def format_job_notes(job: JobStatus) -> list[str]:
    """Return why a job waits, is being cancelled, or did not pass."""
    if job.state is JobState.QUEUED:
        return [
            text for text in (job.waiting, job.reason and f"queued again: {job.reason}") if text
        ]
    return [job.reason] if job.reason and job.verdict is not Verdict.PASS else []


def format_queue_position(job: JobStatus) -> str:
    """Format the state of a queued job with its place in the queue."""
    return f"queued #{job.position}" if job.position is not None else "queued"


def make_stations_table(stations: Sequence[StationStatus]) -> Listing:
    """Tabulate stations with their parts and health."""
    table = Listing(
        Column("station"),
        Column("board", rank=2),
        Column("firmware", rank=4),
        Column("health"),
        Column("activity"),
        Column("job"),
        Column("parts", rank=3),
        Column("bench", rank=1),
    )
    for station in stations:
        held = station.firmware
        table.add_row(
            station.station,
            station.board,
            f"{held.model} ({held.build})" if held else "",
            styled(station.health, HEALTH_STYLE[station.health]),
            station.activity,
            station.job,
            " ".join(station.parts),
            "simulated" if station.simulated else "real",
            notes=[station.why] if station.why else [],
        )
    return table


@dataclass(frozen=True, slots=True)
class StationCheck:
    """A station as stations.toml describes it.

    Args:
        station: its name.
        board: its DUT.
        emulated: whether labd emulates it.
        voltage_mv: supply of the DUT.
        parts: the driver's name of each part.
        modes: for each mode, why the station cannot run it; empty if it can.
        warnings: of this station.
    """

    station: str
    board: str
    emulated: bool
    voltage_mv: int
    parts: dict[str, str]
    modes: dict[str, str]
    warnings: list[str]


def make_check_table(stations: Sequence[StationCheck]) -> Listing:
    """Tabulate stations as stations.toml describes them, with the modes they can run."""
    table = Listing(
        Column("station"),
        Column("board", rank=2),
        Column("bench"),
        Column("mV", rank=1, right=True),
        Column("modes"),
    )
    for station in stations:
        parts = ", ".join(f"{part}: {driver}" for part, driver in station.parts.items())
        lacking = [f"cannot run {mode}: {why}" for mode, why in station.modes.items() if why]
        table.add_row(
            station.station,
            station.board,
            "emulated" if station.emulated else "real",
            str(station.voltage_mv),
            " ".join(mode for mode, why in station.modes.items() if not why),
            notes=[parts, *lacking],
        )
    return table


def make_runs_table(runs: Sequence[tuple[RunFiles, str]], now_ns: int) -> Listing:
    """Tabulate runs with files, each with the reason for its removal, or ``""``."""
    table = Listing(
        Column("job"),
        Column("attempt", right=True),
        Column("MB", right=True),
        Column("days old", right=True),
        Column("kept because"),
        Column("will be removed because"),
    )
    for run, goes in runs:
        table.add_row(
            run.job,
            str(run.attempt),
            f"{run.size_bytes / 1e6:.3f}",
            f"{(now_ns - run.ended_ns) / DAY_NS:.2f}",
            run.protected,
            styled(goes, "yellow"),
        )
    return table


def make_windows_table(windows: Sequence[MeasuredWindow]) -> Listing:
    """Tabulate windows, valid or not, with the clock that checked them."""
    table = Listing(
        Column("mode"),
        Column("#", right=True),
        Column("inf", right=True),
        Column("seconds", right=True),
        Column("inf/s", right=True),
        Column("µJ/inf", right=True),
        Column("±", rank=2, right=True),
        Column("idle mW", rank=3, right=True),
        Column("second clock, s", rank=1),
        Column("valid"),
    )
    for window in windows:
        energy, idle_uw = window.energy_per_inference_uj, window.idle_power_uw
        table.add_row(
            window.mode,
            str(window.number),
            str(window.inferences),
            f"{window.runtime_s:.6f}",
            f"{window.throughput_ips:.3f}",
            "" if energy is None else f"{energy:.4f}",
            _format_energy_uncertainty(window),
            "" if idle_uw is None else f"{idle_uw / 1000:.3f}",
            _format_clock_check(window.check),
            _format_validity(window),
        )
    return table


def latest_summary(job: JobStatus, mode: Mode) -> ModeSummary | None:
    """Return a mode's summary of the running or last attempt, if there is one."""
    return next((result for result in job.results if result.mode is mode), None)


def _format_scores(job: JobStatus, *, missing: str) -> list[str]:
    """Format the score of every mode."""
    summaries = (latest_summary(job, mode) for mode in Mode)
    return [format_mode_score(summary) if summary else missing for summary in summaries]


def _format_reality(job: JobStatus) -> str:
    return "simulated" if job.simulated else "real" if job.results else ""


def format_mode_score(summary: ModeSummary) -> str:
    """Format the main score of a mode, marked if it is invalid."""
    score = summary.score
    text = "–"
    if "top1_pct" in score:
        text = f"{score['top1_pct']:.1f} %"
    elif "median_throughput_ips" in score:
        text = f"{score['median_throughput_ips']:.3f}"
    elif "median_energy_uj" in score:
        text = f"{score['median_energy_uj']:.3f}"
        method = summary.method or OWN_METHOD
        text += "" if method is OWN_METHOD else f" by {method}"
    elif "auc" in score:
        text = f"AUC {score['auc']:.3f}"
    return f"{text} ({summary.verdict})" if summary.verdict is Verdict.INVALID else text


def _format_validity(window: Window) -> Text:
    if not window.is_counted:
        return styled("not counted", "yellow")
    return styled("yes") if window.valid else styled("no", "magenta")


def _format_clock_check(check: ClockCheck) -> str:
    return check.clock if check.seconds is None else f"{check.clock} {check.seconds:.6f}"


def _format_energy_uncertainty(window: Window) -> str:
    """Format the uncertainty of a window's energy per inference, from that of its edges."""
    if window.energy_uncertainty_uj is None or not window.inferences:
        return ""
    return f"{window.energy_uncertainty_uj / window.inferences:.4f}"


def _format_state(job: JobStatus) -> Text:
    if job.state is JobState.QUEUED:
        return styled(format_queue_position(job))
    if job.verdict is None:
        return styled("cancelling" if job.cancel_requested else job.state)
    text = f"{job.verdict}, custom data" if job.custom_data else job.verdict
    return styled(text, VERDICT_STYLE[job.verdict])
