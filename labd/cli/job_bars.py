"""The progress of several jobs on a terminal: one line per job, never wider than the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from labd.cli.tables import format_queue_position
from labd.cli.terminal import styled
from labd.core.jobs import JobState
from labd.wire.job_events import (
    Event,
    FinishedEvent,
    LeasedEvent,
    PhaseEvent,
    ProgressEvent,
    QueuedEvent,
    RequeuedEvent,
    StartedEvent,
)
from labd.wire.messages import JobStatus

WAITING = "queued"
BAR_WIDTH = 24
"""Widest bar, in characters."""

MIN_BAR_WIDTH = 4


class JobBars:
    """The lines of jobs that are followed; a context manager.

    Args:
        jobs: their ids.
        console: a terminal.
    """

    def __init__(self, jobs: Sequence[str], console: Console) -> None:
        self._progress = Progress(_JobLine(console), console=console)
        self._lines: dict[str, TaskID] = {
            job: self._progress.add_task(WAITING, job=job, unit="", total=0) for job in jobs
        }
        self._waiting = set(jobs)
        self._outage = self._progress.add_task("", job="", unit="", total=0, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def waiting_jobs(self) -> list[str]:
        """Return the jobs that no station has."""
        return sorted(self._waiting)

    def show_waiting(self, status: JobStatus) -> None:
        """Show the position of a job in the queue, and why it waits."""
        if status.job in self._waiting and status.state is JobState.QUEUED:
            why = f": {status.waiting}" if status.waiting else ""
            self._describe(status.job, f"{format_queue_position(status)}{why}")

    def show_outage(self, outage: str) -> None:
        """Show what is waited for, below the jobs; empty for nothing."""
        self._progress.update(self._outage, description=outage, visible=bool(outage))

    def update(self, event: Event) -> None:
        """Show an event."""
        match event:
            case ProgressEvent(data=step):
                self._progress.update(
                    self._lines[event.job], completed=step.done, total=step.total, unit=step.unit
                )
            case PhaseEvent(data=phase):
                self._describe(event.job, f"{event.station} {phase.mode} {phase.phase}")
            case FinishedEvent(data=end):
                self._describe(event.job, end.verdict)
            case QueuedEvent() | RequeuedEvent():
                self._describe(event.job, WAITING)
                self._waiting.add(event.job)
            case LeasedEvent() | StartedEvent():
                self._describe(event.job, f"{event.station} starts")
            case _:
                return
        if not isinstance(event, QueuedEvent | RequeuedEvent):
            self._waiting.discard(event.job)

    def _describe(self, job: str, text: str) -> None:
        self._progress.update(self._lines[job], description=text, completed=0, total=0, unit="")


class _JobLine(ProgressColumn):
    """A job's id, what it does, how far it is, and a bar where there is room."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        line = styled(f"{task.fields['job']}  {task.description}".strip())
        if task.total:
            line.append(f"  {task.completed:.0f}/{task.total:.0f} {task.fields['unit']}  ")
            width = min(BAR_WIDTH, self._console.width - line.cell_len)
            if width >= MIN_BAR_WIDTH:
                done = round(width * task.completed / task.total)
                line.append("━" * done, "bar.complete").append("━" * (width - done), "bar.back")
        line.truncate(self._console.width, overflow="ellipsis")
        return line
