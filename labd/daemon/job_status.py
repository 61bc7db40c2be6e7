"""A job of the journal as its status message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from labd.core.jobs import JobState
from labd.core.model import DataStanding
from labd.core.suite import SUITE
from labd.store.journal.rows import AttemptResult, Snapshot
from labd.wire.messages import JobImage, JobStatus, ModeSummary


def format_job_status(snapshot: Snapshot, waiting: Mapping[str, str]) -> JobStatus:
    """Return a job's retained message.

    Args:
        snapshot: of the job.
        waiting: why each queued job waits.
    """
    job, spec = snapshot.job, snapshot.job.spec
    counting, broken_off = _split_results(snapshot)
    return JobStatus(
        job=spec.job,
        user=spec.user,
        benchmark=spec.benchmark,
        modes=spec.modes,
        priority=spec.priority,
        state=job.state,
        verdict=job.verdict,
        reason=job.reason,
        wanted_station=spec.station,
        firmware=spec.firmware,
        voltage_mv=spec.voltage_mv,
        energy_method=spec.energy_method,
        station=job.station,
        attempt=job.attempt,
        cancel_requested=job.cancel_requested,
        submitted_ns=job.submitted_ns,
        updated_ns=job.updated_ns,
        waiting=waiting.get(spec.job, "") if job.state is JobState.QUEUED else "",
        simulated=any(each.result.details.simulated for each in counting),
        custom_data=_has_custom_data(spec.benchmark, counting),
        next_seq=snapshot.next_seq,
        results=tuple(map(_summarise_result, counting)),
        broken_off=tuple(map(_summarise_result, broken_off)),
        pinned=snapshot.pinned,
        removed=snapshot.removed,
        images=tuple(JobImage(**asdict(image)) for image in snapshot.images),
    )


def _split_results(snapshot: Snapshot) -> tuple[list[AttemptResult], list[AttemptResult]]:
    """Return the results of the running or last attempt, and those of attempts broken off."""
    job = snapshot.job
    has_attempt = job.state in {JobState.RUNNING, JobState.DONE}
    counts = [has_attempt and each.attempt == job.attempt for each in snapshot.results]
    pairs = list(zip(snapshot.results, counts, strict=True))
    return [each for each, yes in pairs if yes], [each for each, yes in pairs if not yes]


def _summarise_result(found: AttemptResult) -> ModeSummary:
    return ModeSummary(
        mode=found.result.mode,
        attempt=found.attempt,
        verdict=found.result.verdict,
        reasons=found.result.reasons,
        score=found.result.score,
        method=found.result.details.method,
    )


def _has_custom_data(benchmark: str, results: Sequence[AttemptResult]) -> bool:
    """Return whether a result of an official benchmark is on other data than its data set."""
    entry = SUITE.get(benchmark)
    datasets = (each.result.details.dataset for each in results)
    standings = {dataset.standing for dataset in datasets if dataset is not None}
    return bool(entry and entry.official and standings & {DataStanding.PART, DataStanding.CUSTOM})
