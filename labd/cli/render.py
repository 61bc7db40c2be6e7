"""What people see: jobs, stations, results and events as text."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import click
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labd.cli.render_energy import OWN_METHOD, energy_lines, method_of
from labd.core.model import Mode, Verdict
from labd.core.retention import DAY_NS
from labd.wire.messages import Event, EventType, JobStatus, ModeSummary, PartIdentity, StationStatus

VERDICT_STYLE = {
    Verdict.PASS: "green",
    Verdict.FAIL: "red",
    Verdict.INVALID: "magenta",
    Verdict.INFRA: "yellow",
    Verdict.CANCELLED: "dim",
    Verdict.EXPIRED: "dim",
}
PIPE_WIDTH = 200
"""Columns where nobody says how wide the paper is."""

HEALTH_STYLE = {"good": "green", "unknown": "yellow", "bad": "red", "maintenance": "blue"}


def show_table(table: Table, empty: str = "") -> None:
    """Print a table, or a word where there is nothing to tell."""
    console = _console()
    if empty and not table.row_count:
        console.print(empty)
    else:
        console.print(table)


def print_models(models: Sequence[BaseModel]) -> None:
    """Print models as a JSON list."""
    click.echo(json.dumps([model.model_dump(mode="json") for model in models], indent=2))


def jobs_table(jobs: Sequence[JobStatus]) -> Table:
    """Jobs with their states, and why the waiting ones wait."""
    table = _table("job", "user", "benchmark", "modes", "state", "station", "submitted", "why")
    for job in jobs:
        table.add_row(
            job.job,
            job.user,
            job.benchmark,
            " ".join(job.modes),
            _state(job),
            job.station,
            _clock(job.submitted_ns),
            job.waiting or job.reason,
        )
    return table


def results_table(jobs: Sequence[JobStatus]) -> Table:
    """Scores and verdicts of finished jobs."""
    table = _table("job", "user", "benchmark", "station")
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
            *(score_text(latest(job, mode)) for mode in Mode),
            _state(job),
            "simulated" if job.simulated else "real" if job.results else "",
        )
    return table


def stations_table(stations: Sequence[StationStatus]) -> Table:
    """Stations with their parts and health."""
    table = _table("station", "board", "health", "activity", "job", "parts", "bench", "why")
    for station in stations:
        table.add_row(
            station.station,
            station.board,
            Text(station.health, HEALTH_STYLE[station.health]),
            station.activity,
            station.job,
            " ".join(station.parts),
            "simulated" if station.simulated else "real",
            station.why,
        )
    return table


def check_table(stations: Sequence[Mapping[str, Any]]) -> Table:
    """Stations as stations.toml describes them, with the modes they can run."""
    table = _table("station", "board", "bench", "mV", "parts", "modes", "not")
    for station in stations:
        lacking = [f"{mode}: {why}" for mode, why in station["modes"].items() if why]
        table.add_row(
            station["station"],
            station["board"],
            "emulated" if station["emulated"] else "real",
            str(station["voltage_mv"]),
            "\n".join(f"{part}: {driver}" for part, driver in station["parts"].items()),
            "\n".join(mode for mode, why in station["modes"].items() if not why),
            Text("\n".join(lacking), "yellow"),
        )
    return table


def show_job(status: JobStatus, events: Sequence[Event]) -> None:
    """One job in full: state, scores, every window of the last attempt, evidence."""
    console = _console()
    show_table(results_table([status]))
    show_reasons([status])
    if status.waiting:
        console.print(f"waiting: {status.waiting}")
    windows = [e for e in events if e.type is EventType.WINDOW and e.attempt == status.attempt]
    results = [e for e in events if e.type is EventType.RESULT and e.attempt == status.attempt]
    if windows:
        console.print(windows_table(windows))
        for line in problem_lines(windows):
            console.print(Text(line, "magenta"))
    _show_energy(console, windows, results)
    if status.pinned:
        console.print("traces: pinned")
    if status.removed:
        which = ", ".join(map(str, status.removed))
        console.print(f"traces removed to make room: attempt {which}")
    for event in results:
        _show_evidence(console, event, removed=status.attempt in status.removed)


def runs_table(runs: Sequence[dict[str, Any]], now_ns: int) -> Table:
    """Runs with files: their size and age, and why they stay or go."""
    table = _table("job", "attempt")
    for column in ("MB", "days old"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("stays")
    table.add_column("would go")
    for run in runs:
        table.add_row(
            run["job"],
            str(run["attempt"]),
            f"{run['size_bytes'] / 1e6:.3f}",
            f"{(now_ns - run['ended_ns']) / DAY_NS:.2f}",
            run["stays"],
            Text(run["goes"], "yellow"),
        )
    return table


def windows_table(windows: Sequence[Event]) -> Table:
    """Measured windows, valid or not, with the clock that checked them."""
    table = _table("mode", "#")
    for column in ("inf", "seconds", "inf/s", "µJ/inf", "±", "idle mW"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("second clock, s")
    table.add_column("valid")
    for event in windows:
        data = event.data
        energy = data.get("energy_per_inference_uj")
        table.add_row(
            str(data["mode"]),
            str(data["number"]),
            str(data["inferences"]),
            f"{data['runtime_s']:.6f}",
            f"{data['throughput_ips']:.3f}",
            "" if energy is None else f"{energy:.4f}",
            _doubt_text(data),
            _idle_text(data),
            _check_text(data.get("check")),
            Text("no", "magenta") if _items(data.get("problems")) else "yes",
        )
    return table


def problem_lines(windows: Sequence[Event]) -> list[str]:
    """Why windows are not valid, a line each."""
    return [
        f"{event.data['mode']} window {event.data['number']}: {problem}"
        for event in windows
        for problem in _items(event.data.get("problems"))
    ]


def show_reasons(jobs: Sequence[JobStatus]) -> None:
    """Say why jobs did not pass."""
    console = _console()
    for job in jobs:
        if job.reason and job.verdict is not Verdict.PASS:
            console.print(Text(f"{job.job}: {job.reason}"))


def latest(job: JobStatus, mode: Mode) -> ModeSummary | None:
    """The last attempt's summary of a mode, if it got that far."""
    found = [r for r in job.results if r.mode is mode and r.attempt == job.attempt]
    return found[-1] if found else None


def score_text(summary: ModeSummary | None) -> str:
    """The one number of a mode, with a mark when it is not valid."""
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
        method = method_of(score)
        text += "" if method == OWN_METHOD else f" by {method}"
    elif "auc" in score:
        text = f"AUC {score['auc']:.3f}"
    return f"{text} ({summary.verdict})" if summary.verdict is Verdict.INVALID else text


def event_line(event: Event) -> str:
    """An event in one line."""
    return f"{event.seq:5d} {_clock(event.t_ns)} {event.type:9} {event_text(event)}".rstrip()


def event_text(event: Event) -> str:
    """What an event says, for people."""
    data = event.data
    match event.type:
        case EventType.LEASED:
            return f"on {event.station}"
        case EventType.STARTED:
            return f"on {event.station}, attempt {event.attempt}"
        case EventType.PHASE:
            return f"{data['mode']}: {data['phase']}"
        case EventType.PROGRESS:
            return f"{data['mode']}: {data['done']} of {data['total']} {data['unit']}"
        case EventType.WINDOW:
            return window_text(event)
        case EventType.RESULT:
            return f"{data['mode']}: {data['verdict']}"
        case EventType.FINISHED:
            return f"{data['verdict']} {data.get('reason') or ''}"
        case EventType.NOTE | EventType.REQUEUED | EventType.QUEUED:
            return str(data.get("text") or data.get("reason") or "")


def window_text(event: Event) -> str:
    """A window in one line."""
    data = event.data
    text = (
        f"{data['mode']}: window {data['number']}, {data['inferences']} inferences in "
        f"{data['runtime_s']:.3f} s"
    )
    energy = data.get("energy_per_inference_uj")
    text += f", {energy:.3f} µJ each" if energy else f", {data['throughput_ips']:.3f}/s"
    problems = _items(data.get("problems"))
    return text + (f" — INVALID: {'; '.join(str(p) for p in problems)}" if problems else "")


def _show_energy(console: Console, windows: Sequence[Event], results: Sequence[Event]) -> None:
    """The energy score by every method, and what the board draws idle."""
    measured = [event.data for event in windows if event.data["mode"] == Mode.ENERGY]
    for event in results:
        if event.data["mode"] == Mode.ENERGY:
            score = cast("dict[str, float]", event.data.get("score") or {})
            details = cast("dict[str, Any]", event.data.get("details") or {})
            for number, line in enumerate(energy_lines(score, measured, details.get("method", ""))):
                console.print(Text(f"{'        ' if number else 'energy: '}{line}"))


def _show_evidence(console: Console, event: Event, *, removed: bool) -> None:
    details = event.data.get("details")
    if not isinstance(details, dict):
        return
    console.print(Text(f"{event.data['mode']}", "bold"))
    for key, value in details.items():
        if isinstance(value, dict):
            for part, who in value.items():
                console.print(Text(f"  {part}: {_who(who)}"))
        elif key == "clocks":
            for clock in _items(value):
                console.print(Text(f"  clock: {_clock_text(clock)}"))
        elif key == "trace" and removed:
            console.print(Text(f"  trace: {value} (removed)"))
        elif value not in (None, "", []):
            console.print(Text(f"  {key}: {value}"))


def _who(identity: object) -> str:
    """Who answered at a part's port, in one line."""
    if not isinstance(identity, dict):
        return str(identity)
    known = PartIdentity.model_validate(identity)
    words = [known.kind, known.name, known.serial, known.firmware and f"firmware {known.firmware}"]
    return " ".join(word for word in words if word) + (", simulated" if known.simulated else "")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _check_text(check: object) -> str:
    if not isinstance(check, dict):
        return ""
    seconds = check.get("seconds")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    clock = check.get("clock")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return f"{clock}" if seconds is None else f"{clock} {seconds:.6f}"


def _doubt_text(data: Mapping[str, object]) -> str:
    """How far the edges' uncertainty may move a window's energy per inference."""
    doubt, inferences = data.get("energy_uncertainty_uj"), data.get("inferences")
    if not isinstance(doubt, (int, float)) or not isinstance(inferences, int) or not inferences:
        return ""
    return f"{doubt / inferences:.4f}"


def _idle_text(data: Mapping[str, object]) -> str:
    """What the board drew before a window's batch."""
    idle_uw = data.get("idle_power_uw")
    return f"{idle_uw / 1000:.3f}" if isinstance(idle_uw, (int, float)) else ""


def _clock_text(clock: object) -> str:
    """What ties two clocks of a run, in one line."""
    if not isinstance(clock, dict):
        return str(clock)
    known = cast("dict[str, Any]", clock)
    text = (
        f"{known['a']} to {known['b']}: {known['rate_ppm']:+.2f} ± {known['rate_error_ppm']:.2f} "
        f"ppm, known to {known['offset_error_s'] * 1e6:.0f} µs over {known['tied_s']:.1f} s"
    )
    if "pairs" not in known:
        return text
    rms_us = known["residual_rms_s"] * 1e6
    return f"{text}, {known['pairs']} marks, residual rms {rms_us:.0f} µs"


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _state(job: JobStatus) -> Text:
    if job.verdict is None:
        return Text(job.state)
    return Text(job.verdict, VERDICT_STYLE[job.verdict])


def _clock(t_ns: int) -> str:
    moment = dt.datetime.fromtimestamp(t_ns / 1e9).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
