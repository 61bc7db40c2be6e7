"""Jobs, stations, results and events as text."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labd.cli.render_energy import OWN_METHOD, format_energy_score
from labd.cli.render_evidence import format_evidence, format_kept_files
from labd.cli.terminal import make_console, print_line, styled
from labd.core.model import ClockCheck, Mode, Verdict, Window
from labd.core.retention import DAY_NS, RunFiles
from labd.wire.job_events import (
    Event,
    Finished,
    Leased,
    Note,
    Phase,
    Progress,
    Queued,
    Requeued,
    ResultEvent,
    Started,
    WindowEvent,
)
from labd.wire.messages import JobStatus, ModeSummary, StationStatus
from labd.wire.results import MeasuredWindow, ModeVerdict

VERDICT_STYLE = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.INVALID: "magenta",
    Verdict.INFRA: "yellow",
    Verdict.CANCELLED: "dim",
    Verdict.EXPIRED: "dim",
}
HEALTH_STYLE = {"good": "green", "unknown": "yellow", "bad": "red", "maintenance": "blue"}


def show_table(table: Table, empty: str = "") -> None:
    """Print a table, or ``empty`` instead of one without rows."""
    console = make_console()
    if empty and not table.row_count:
        console.print(empty)
    else:
        console.print(table)


def print_models(models: Sequence[BaseModel]) -> None:
    """Print models as a JSON list."""
    print_line(json.dumps([model.model_dump(mode="json") for model in models], indent=2))


def make_jobs_table(jobs: Sequence[JobStatus]) -> Table:
    """Tabulate jobs with their states, and why queued ones wait."""
    table = _make_table("job", "user", "benchmark", "modes", "state", "station", "submitted", "why")
    for job in jobs:
        table.add_row(
            job.job,
            job.user,
            job.benchmark,
            " ".join(job.modes),
            _format_state(job),
            job.station,
            _format_local_time(job.submitted_ns),
            job.waiting or job.reason,
        )
    return table


def make_results_table(jobs: Sequence[JobStatus]) -> Table:
    """Tabulate scores and verdicts of jobs."""
    table = _make_table("job", "user", "benchmark", "station")
    for column in ("accuracy", "inf/s", "µJ/inf"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("bench", no_wrap=True)
    for job in jobs:
        table.add_row(
            job.job,
            job.user,
            job.benchmark,
            job.station,
            *(format_mode_score(latest_summary(job, mode)) for mode in Mode),
            _format_state(job),
            "simulated" if job.simulated else "real" if job.results else "",
        )
    return table


def make_stations_table(stations: Sequence[StationStatus]) -> Table:
    """Tabulate stations with their parts and health."""
    heads = ("station", "board", "firmware", "health", "activity", "job", "parts", "bench", "why")
    table = _make_table(*heads)
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
            station.why,
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


def make_check_table(stations: Sequence[StationCheck]) -> Table:
    """Tabulate stations as stations.toml describes them, with the modes they can run."""
    table = _make_table("station", "board", "bench", "mV", "parts", "modes", "cannot run")
    for station in stations:
        lacking = [f"{mode}: {why}" for mode, why in station.modes.items() if why]
        table.add_row(
            station.station,
            station.board,
            "emulated" if station.emulated else "real",
            str(station.voltage_mv),
            "\n".join(f"{part}: {driver}" for part, driver in station.parts.items()),
            "\n".join(mode for mode, why in station.modes.items() if not why),
            styled("\n".join(lacking), "yellow"),
        )
    return table


def show_job(status: JobStatus, events: Sequence[Event]) -> None:
    """Print one job in full: state, scores, windows and evidence of the last attempt."""
    console = make_console()
    show_table(make_results_table([status]))
    show_reasons([status])
    if status.waiting:
        console.print(f"waiting: {status.waiting}")
    last = [event for event in events if event.attempt == status.attempt]
    windows = _final_windows(last)
    results = [event.data for event in last if isinstance(event, ResultEvent)]
    if windows:
        console.print(make_windows_table(windows))
        for line in format_window_problems(windows):
            console.print(styled(line, "magenta"))
    _print_accuracy(console, results)
    _show_energy(console, windows, results)
    is_removed = status.attempt in status.removed
    for line in format_kept_files(status.job, status.attempt, results, removed=is_removed):
        console.print(styled(line))
    if status.pinned:
        console.print("traces: pinned")
    if status.removed:
        which = ", ".join(map(str, status.removed))
        console.print(f"traces removed to make room: attempt {which}")
    for result in results:
        console.print(styled(result.mode, "bold"))
        for line in format_evidence(result, removed=is_removed):
            console.print(styled(f"  {line}"))


def _final_windows(events: Sequence[Event]) -> list[MeasuredWindow]:
    """Return the windows in order: of several events of one window the last holds it."""
    found = {
        (event.data.mode, event.data.number): event.data
        for event in events
        if isinstance(event, WindowEvent)
    }
    return list(found.values())


def make_runs_table(runs: Sequence[tuple[RunFiles, str]], now_ns: int) -> Table:
    """Tabulate runs with files, each with the reason for its removal, or ``""``."""
    table = _make_table("job", "attempt")
    for column in ("MB", "days old"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("kept because")
    table.add_column("will be removed because")
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


def make_windows_table(windows: Sequence[MeasuredWindow]) -> Table:
    """Tabulate windows, valid or not, with the clock that checked them."""
    table = _make_table("mode", "#")
    for column in ("inf", "seconds", "inf/s", "µJ/inf", "±", "idle mW"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("second clock, s")
    table.add_column("valid")
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


def format_window_problems(windows: Sequence[MeasuredWindow]) -> list[str]:
    """Return the problems of windows, and why some do not count, one line each."""
    return [
        f"{window.mode} window {window.number}: {problem}"
        for window in windows
        for problem in (*window.problems, *_not_counted_notes(window))
    ]


def _not_counted_notes(window: Window) -> list[str]:
    return [] if window.is_counted else [f"not counted: {window.not_counted}"]


def _format_validity(window: Window) -> Text:
    if not window.is_counted:
        return styled("not counted", "yellow")
    return styled("yes") if window.valid else styled("no", "magenta")


def show_reasons(jobs: Sequence[JobStatus]) -> None:
    """Print why jobs did not pass."""
    console = make_console()
    for job in jobs:
        if job.reason and job.verdict is not Verdict.PASS:
            console.print(styled(f"{job.job}: {job.reason}"))


def latest_summary(job: JobStatus, mode: Mode) -> ModeSummary | None:
    """Return a mode's summary of the last attempt, if there is one."""
    found = [r for r in job.results if r.mode is mode and r.attempt == job.attempt]
    return found[-1] if found else None


def format_mode_score(summary: ModeSummary | None) -> str:
    """Format the main score of a mode, marked if it is invalid."""
    if summary is None:
        return "–"
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


def format_event_line(event: Event) -> str:
    """Format an event in one line."""
    when, text = _format_local_time(event.t_ns), format_event_data(event)
    return f"{event.seq:5d} {when} {event.type:9} {text}".rstrip()


def format_event_data(event: Event) -> str:
    """Format the data of an event."""
    match event.data:
        case Queued():
            text = ""
        case Leased():
            text = f"on {event.station}"
        case Started():
            text = f"on {event.station}, attempt {event.attempt}"
        case Phase(mode=mode, phase=phase):
            text = f"{mode}: {phase}"
        case Progress() as step:
            text = f"{step.mode}: {step.done} of {step.total} {step.unit}"
        case MeasuredWindow() as window:
            text = format_window(window)
        case ModeVerdict(mode=mode, verdict=verdict):
            text = f"{mode}: {verdict}"
        case Finished(verdict=verdict, reason=reason):
            text = f"{verdict} {reason}"
        case Note(text=text) | Requeued(reason=text):
            pass
    return text


def format_window(window: MeasuredWindow) -> str:
    """Format a window in one line."""
    energy = window.energy_per_inference_uj
    remarks = [*_not_counted_notes(window), "; ".join(window.problems)]
    if window.problems and window.is_counted:
        remarks = [f"INVALID: {remarks[-1]}"]
    return (
        f"{window.mode}: window {window.number}, {window.inferences} inferences in "
        f"{window.runtime_s:.3f} s"
        + (f", {energy:.3f} µJ each" if energy else f", {window.throughput_ips:.3f}/s")
        + "".join(f" — {remark}" for remark in remarks if remark)
    )


def _print_accuracy(console: Console, results: Sequence[ModeVerdict]) -> None:
    """Print every accuracy score; the table above has only the one that the target is for."""
    for result in results:
        if result.mode is Mode.ACCURACY:
            names = {"top1_pct": "top-1 {:.1f} %", "auc": "AUC {:.3f}"}
            names |= {"auc_eembc": "AUC {:.2f} by eembc", "inputs": "{:.0f} inputs"}
            texts = [names[key].format(result.score[key]) for key in names if key in result.score]
            console.print(styled(f"accuracy: {', '.join(texts) or 'no score'}"))


def _show_energy(
    console: Console, windows: Sequence[MeasuredWindow], results: Sequence[ModeVerdict]
) -> None:
    """Print the energy score by every method, and the idle power."""
    measured = [window for window in windows if window.mode is Mode.ENERGY and window.is_counted]
    for result in results:
        if result.mode is Mode.ENERGY:
            lines = format_energy_score(result.score, measured, result.details.method or OWN_METHOD)
            for number, line in enumerate(lines):
                console.print(styled(f"{'        ' if number else 'energy: '}{line}"))


def _format_clock_check(check: ClockCheck) -> str:
    return check.clock if check.seconds is None else f"{check.clock} {check.seconds:.6f}"


def _format_energy_uncertainty(window: Window) -> str:
    """Format the uncertainty of a window's energy per inference, from that of its edges."""
    if window.energy_uncertainty_uj is None or not window.inferences:
        return ""
    return f"{window.energy_uncertainty_uj / window.inferences:.4f}"


def _format_state(job: JobStatus) -> Text:
    if job.verdict is None:
        return styled(job.state)
    text = f"{job.verdict}, custom data" if job.custom_data else job.verdict
    return styled(text, VERDICT_STYLE[job.verdict])


def _format_local_time(t_ns: int) -> str:
    moment = dt.datetime.fromtimestamp(t_ns / 1e9).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _make_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
