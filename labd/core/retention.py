"""Selection of runs whose traces are removed, by age and total size.

Whole runs are removed, the oldest first. A run in progress, a pinned run and a run that the
journal does not know are never removed, but their size counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """Limits of what is kept; ``None`` means no limit.

    Args:
        days: a run that ended longer ago is removed.
        size_bytes: of all runs together; the oldest are removed until the rest fits.
    """

    days: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of one attempt at a job.

    Args:
        ended_ns: when the attempt ended, ns since the epoch.
        protected: why they must be kept; empty if they may be removed.
        removed: their removal was recorded, but not completed.
    """

    job: str
    attempt: int
    size_bytes: int
    ended_ns: int
    protected: str = ""
    removed: bool = False


def plan_removals(
    runs: Iterable[RunFiles], limits: RetentionLimits, now_ns: int
) -> list[tuple[RunFiles, str]]:
    """Select the runs to remove, oldest first, each with the limit that it exceeds.

    ``runs`` are all that have files; one whose removal was recorded does not count. ``now_ns`` is
    the wall clock, ns since the epoch.
    """
    every = sorted(
        (run for run in runs if not run.removed),
        key=lambda run: (run.ended_ns, run.job, run.attempt),
    )
    left = sum(run.size_bytes for run in every)
    removals: list[tuple[RunFiles, str]] = []
    for run in every:
        if run.protected:
            continue
        reason = _removal_reason(run, left, limits, now_ns)
        if reason:
            removals.append((run, reason))
            left -= run.size_bytes
    return removals


def _removal_reason(run: RunFiles, left_bytes: int, limits: RetentionLimits, now_ns: int) -> str:
    age_days = (now_ns - run.ended_ns) / DAY_NS
    if limits.days is not None and age_days > limits.days:
        return f"older than {limits.days:g} days"
    if limits.size_bytes is not None and left_bytes > limits.size_bytes:
        return f"traces take up more than {limits.size_bytes / 1e9:g} GB"
    return ""
