"""Which runs' traces go, by age and by size, and which never do.

The oldest go first, and whole runs: no run is kept while a younger one of those that may go
is removed. A run in progress, a pinned one and one that labd knows nothing of stay, whatever
the limits say; what they take up counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept; ``None`` sets no limit.

    Args:
        days: a run that ended longer ago goes.
        size_bytes: of all runs together; the oldest go until the rest fits.
    """

    days: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class KeptRun:
    """The files of one attempt at a job.

    Args:
        job: the job.
        attempt: the attempt.
        size_bytes: of its files.
        ended_ns: when the attempt ended, ns since the epoch.
        protected: why it must stay; empty when it may go.
    """

    job: str
    attempt: int
    size_bytes: int
    ended_ns: int
    protected: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """A run that goes, and which limit says so."""

    run: KeptRun
    reason: str


def plan_removals(runs: Iterable[KeptRun], limits: Limits, now_ns: int) -> tuple[Removal, ...]:
    """What has to go, oldest first.

    Args:
        runs: every run that has files.
        limits: how much is kept.
        now_ns: wall clock, ns since the epoch.
    """
    every = sorted(runs, key=lambda run: (run.ended_ns, run.job, run.attempt))
    left = sum(run.size_bytes for run in every)
    removals: list[Removal] = []
    for run in every:
        if run.protected:
            continue
        reason = _reason(run, left, limits, now_ns)
        if reason:
            removals.append(Removal(run, reason))
            left -= run.size_bytes
    return tuple(removals)


def _reason(run: KeptRun, left_bytes: int, limits: Limits, now_ns: int) -> str:
    age_days = (now_ns - run.ended_ns) / DAY_NS
    if limits.days is not None and age_days > limits.days:
        return f"older than {limits.days:g} days"
    if limits.size_bytes is not None and left_bytes > limits.size_bytes:
        return f"traces take up more than {limits.size_bytes / 1e9:g} GB"
    return ""
