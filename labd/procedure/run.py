"""One run of a job: each mode on its build, in the order of the job."""

from __future__ import annotations

from collections.abc import AsyncIterator

from labd.core.errors import JobError, LabdBug
from labd.core.jobs import JobSpec
from labd.core.model import BUILD_FOR, Mode, Verdict
from labd.core.official_sets import judge_bytes, unofficial_reason
from labd.core.suite import Benchmark, find_benchmark, is_model_of
from labd.procedure.accuracy import measure_accuracy
from labd.procedure.dataset import Dataset
from labd.procedure.energy import measure_energy
from labd.procedure.mode_run import EvidenceWriter, ModeRun, Reporter
from labd.procedure.performance import measure_performance
from labd.station.open_station import Ready, StationBench
from labd.wire.results import DatasetRecord, ModeResult, Provenance

SIMULATED = "simulated"
"""Added to the name of a simulated DUT: its firmware, and so its answers, are those of a board."""


async def run_benchmark(
    bench: StationBench, spec: JobSpec, dataset: Dataset, report: Reporter, evidence: EvidenceWriter
) -> AsyncIterator[ModeResult]:
    """Run a job's modes; yield each result as soon as it is complete.

    Raises:
        JobError: the board's firmware is not this benchmark.
        DutError: the firmware misbehaved.
        InfraError: the bench failed.
    """
    entry = find_benchmark(spec.benchmark)
    ready: Ready | None = None
    throughput: float | None = None
    if reason := unofficial_reason(entry, dataset.judgement, custom_data=spec.custom_data):
        await report.report_note("the verdict will be invalid", (reason,))
    for mode in spec.modes:
        if ready is None or ready.build is not BUILD_FOR[mode]:
            await report.report_phase(mode, "prepare")
            ready = await bench.prepare_dut(BUILD_FOR[mode])
            check_model(ready.profile.model, entry, ready.firmware)
        run = ModeRun(bench, ready, spec.energy_method, entry, dataset, report, evidence)
        result = await _measure_mode(mode, run, throughput)
        throughput = result.score.get("median_throughput_ips", throughput)
        details = result.details.model_copy(update=dict(provenance_of_run(run)))
        result = result.model_copy(update={"details": details})
        yield add_dataset_record(result, run, custom_data=spec.custom_data)


def add_dataset_record(result: ModeResult, run: ModeRun, *, custom_data: bool) -> ModeResult:
    """Return a result with its data set; on an unofficial one the verdict is invalid.

    Args:
        result: of one mode.
        run: that gave it.
        custom_data: whether the job accepts a data set of its own.
    """
    dataset, sent = run.dataset, run.sent
    judgement = dataset.judgement
    if result.mode is Mode.ACCURACY or sent.count >= len(dataset.window_rows):
        judgement = judge_bytes(judgement, result.mode, sent.sha256)  # else it ended early
    record = DatasetRecord(
        folder=str(dataset.folder),
        labels=dataset.labels,
        labels_sha256=dataset.sha256,
        files=len(dataset.rows),
        standing=judgement.standing,
        text=judgement.text,
        sent=sent.count,
        sent_sha256=sent.sha256,
    )
    details = result.details.model_copy(update={"dataset": record})
    result = result.model_copy(update={"details": details})
    reason = unofficial_reason(run.benchmark, judgement, custom_data=custom_data)
    if not reason:
        return result
    invalid = {"verdict": Verdict.INVALID, "reasons": (*result.reasons, reason)}
    return result.model_copy(update=invalid)


def combine_verdicts(results: list[ModeResult]) -> Verdict:
    """Combine the verdicts of a job's modes: invalid before fail before pass."""
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.INVALID, Verdict.FAIL):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS


def provenance_of_run(run: ModeRun) -> Provenance:
    """Return the provenance of this run's numbers."""
    bench, ready, evidence = run.bench, run.ready, run.evidence
    name = ready.profile.name
    if bench.is_dut_simulated(ready.route) and SIMULATED not in name:
        name = f"{name} ({SIMULATED})"
    return Provenance(
        simulated=bench.is_simulated,
        dut=name,
        model=ready.profile.model,
        route=ready.route,
        firmware=ready.firmware,
        firmware_sha256=ready.firmware_sha256,
        voltage_mv=ready.voltage_mv,
        instruments=bench.identities,
        profile=ready.profile.profile,
        folder=evidence.folder,
        transcript=evidence.transcript_file,
    )


async def _measure_mode(mode: Mode, run: ModeRun, throughput: float | None) -> ModeResult:
    match mode:
        case Mode.ACCURACY:
            return await measure_accuracy(run)
        case Mode.PERFORMANCE:
            return await measure_performance(run)
        case Mode.ENERGY:
            monitor = run.bench.power_monitor
            if monitor is None:
                raise LabdBug("no-monitor", "energy was scheduled on a station without monitor")
            return await measure_energy(run, monitor, throughput)


def check_model(model: str, entry: Benchmark, image: str) -> None:
    """Check that the board runs the job's benchmark, or a variant of it.

    Args:
        model: the model string that the DUT answers with.
        entry: the job's benchmark.
        image: name of the file that labd flashed; empty if it did not flash.

    Raises:
        JobError: the board runs another model.
    """
    if is_model_of(model, entry.name):
        return
    named = f"the model {model!r}" if model else "a model without a name"
    needs = f"the job needs {entry.name} or a variant of it, such as {entry.name}-mine"
    if image:
        what = f"{image}, which labd flashed, holds {named}; {needs}"
        remedy = "change the image's model string (m-model-[…]), or submit its own benchmark"
    else:
        what = f"the board runs {named}; {needs}"
        remedy = "flash that benchmark's firmware, or give the station a flasher"
    raise JobError("wrong-model", what, remedy)
