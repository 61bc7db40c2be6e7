"""Jobs, stations, results and events as text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel
from rich.console import Console

from labd.cli.listing import GAP, Listing, format_note
from labd.cli.render_energy import OWN_METHOD, format_energy_score
from labd.cli.render_evidence import format_evidence, format_kept_files
from labd.cli.tables import make_results_table, make_windows_table
from labd.cli.terminal import make_console, print_line, styled
from labd.core.local_time import format_local_time
from labd.core.model import Mode, Window
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
from labd.wire.messages import JobStatus
from labd.wire.results import MeasuredWindow, ModeVerdict


def show_table(table: Listing, empty: str = "") -> None:
    """Print a table, or ``empty`` instead of one without rows."""
    console = make_console()
    lines = table.format_lines(console.width) if table.row_count else [styled(empty)]
    for line in lines:
        console.print(line, soft_wrap=True)


def print_models(models: Sequence[BaseModel]) -> None:
    """Print models as a JSON list."""
    print_line(json.dumps([model.model_dump(mode="json") for model in models], indent=2))


def show_job(status: JobStatus, events: Sequence[Event]) -> None:
    """Print one job in full: state, scores, windows and evidence of the last attempt."""
    console = make_console()
    show_table(make_results_table([status]))
    last = [event for event in events if event.attempt == status.attempt]
    windows = _final_windows(last)
    results = [event.data for event in last if isinstance(event, ResultEvent)]
    if windows:
        console.print()
        show_table(make_windows_table(windows))
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
            for part in format_note(line, console.width, style="", indent=GAP):
                console.print(part, soft_wrap=True)


def _final_windows(events: Sequence[Event]) -> list[MeasuredWindow]:
    """Return the windows in order: of several events of one window the last holds it."""
    found = {
        (event.data.mode, event.data.number): event.data
        for event in events
        if isinstance(event, WindowEvent)
    }
    return list(found.values())


def format_window_problems(windows: Sequence[MeasuredWindow]) -> list[str]:
    """Return the problems of windows, and why some do not count, one line each."""
    return [
        f"{window.mode} window {window.number}: {problem}"
        for window in windows
        for problem in (*window.problems, *_not_counted_notes(window))
    ]


def _not_counted_notes(window: Window) -> list[str]:
    return [] if window.is_counted else [f"not counted: {window.not_counted}"]


def format_event_line(event: Event) -> str:
    """Format an event in one line."""
    when, text = format_local_time(event.t_ns), format_event_data(event)
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
