"""Accuracy: every input of the set, scored by the published formulas."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import MeasurementInvalid
from labd.core.model import Mode, Verdict
from labd.core.scoring import auc_eembc, auc_mlcommons, exact_area, top1_pct
from labd.core.suite import Benchmark, Metric
from labd.procedure.batch import PROBE_DEADLINE_S, check_outputs, load_input, repeat_if_damaged
from labd.procedure.dataset import Row
from labd.procedure.mode_run import ModeRun, OutputRow
from labd.wire.results import ModeResult, ResultDetails


async def measure_accuracy(run: ModeRun) -> ModeResult:
    """Run the whole set through the DUT and compare its outputs with the labels."""
    await run.report.report_phase(Mode.ACCURACY, "infer")
    rows = run.dataset.rows
    found: list[OutputRow] = []
    for done, row in enumerate(rows, 1):
        found.append(OutputRow(row.file, row.label, await _mean_output(run, row)))
        await run.report.report_progress(done, len(rows), "inputs")
    kept = await run.evidence.write_outputs(found)
    labels = np.array([row.label for row in found], dtype=np.int64)
    outputs = np.array([row.outputs for row in found])
    score, notes = await asyncio.to_thread(_compute_metrics, outputs, labels, run.benchmark)
    details = ResultDetails(
        outputs=kept,
        inferences=run.evidence.inferences_file,
        target=run.benchmark.target,
        notes=tuple(notes),
    )
    verdict, reasons = _compare_with_target(run.benchmark, score, notes)
    return ModeResult(
        mode=Mode.ACCURACY, verdict=verdict, reasons=reasons, score=score, details=details
    )


async def _mean_output(run: ModeRun, row: Row) -> tuple[float, ...]:
    """Average the outputs over a file's windows (one window for most benchmarks)."""
    dut = run.ready.dut
    outputs: list[tuple[float, ...]] = []
    for number, data in enumerate(run.dataset.iter_inputs(row)):
        await load_input(run, data, row.file, number)
        reply = await repeat_if_damaged(run, lambda: dut.run_inferences(1, 0, PROBE_DEADLINE_S))
        run.evidence.log_inference(row.file, number + 1, reply)
        check_outputs(reply, run.benchmark, row.file)
        outputs.append(reply.results)
    return tuple(sum(column) / len(column) for column in zip(*outputs, strict=True))


def _compute_metrics(
    outputs: NDArray[np.float64], labels: NDArray[np.int64], benchmark: Benchmark
) -> tuple[dict[str, float], list[str]]:
    """Compute every metric that applies, and why one is missing."""
    score: dict[str, float] = {"inputs": float(len(labels))}
    notes: list[str] = []
    try:
        if benchmark.outputs == 1:
            score["auc"] = exact_area(labels == 1, outputs[:, 0])
            return score, notes
        score["top1_pct"] = top1_pct(outputs, labels)
        score["auc_eembc"] = auc_eembc(outputs, labels)
        score["auc"] = auc_mlcommons(outputs, labels)
    except MeasurementInvalid as error:
        notes.append(f"no AUC: {error.what}")
    return score, notes


def _compare_with_target(
    benchmark: Benchmark, score: dict[str, float], notes: list[str]
) -> tuple[Verdict, tuple[str, ...]]:
    """Compare the benchmark's metric with its target; return the verdict and its reasons."""
    metric = score.get(benchmark.metric)
    if metric is None:
        return Verdict.INVALID, tuple(notes)
    if metric >= benchmark.target:
        return Verdict.PASS, ()
    name = "top-1" if benchmark.metric is Metric.TOP1 else "AUC"
    return Verdict.FAIL, (f"{name} {metric:g} is below the target {benchmark.target:g}",)
