"""Top-1 and area under the ROC curve from logged outputs, by each runner's formulas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import MeasurementInvalid
from labd.core.model import Mode
from labd.core.official_labels import label_of
from labd.core.official_sets import DataJudgement, LabelledFile, judge_bytes, judge_files
from labd.core.scoring import (
    auc_eembc,
    auc_eembc_anomaly,
    auc_one_against_rest,
    exact_area,
    top1_anomaly_pct,
    top1_pct,
)
from labd.core.suite import SUITE, Benchmark, Metric
from labd.rescore.session_score import Recomputed

Outputs = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """Outputs of a DUT for one input.

    Args:
        file: of the input.
        outputs: as logged.
        label: if the session has it.
        inputs: that the outputs are the mean of; ``None`` if unknown.
        classes: that the label is one of, if the session has it.
    """

    file: str
    outputs: tuple[float, ...]
    label: int | None = None
    inputs: int | None = 1
    classes: int | None = None


def judge_answers(
    answers: Sequence[LoggedAnswer],
    benchmark: str | None,
    result: Recomputed,
    sent_sha256: str = "",
) -> DataJudgement | None:
    """Judge the data set of an accuracy session; report one that is not official.

    Args:
        answers: in the order in which they were run.
        benchmark: that was run.
        result: gets the finding.
        sent_sha256: of the inputs as sent, if the session has it.

    Returns:
        the judgement; ``None`` for a benchmark without official data set.
    """
    entry = SUITE.get(benchmark or "")
    if entry is None or not entry.official or not answers:
        return None
    judgement = judge_files(entry.name, _labelled_files(answers, entry))
    if sent_sha256:
        judgement = judge_bytes(judgement, Mode.ACCURACY, sent_sha256)
    if not judgement.is_official:
        result.add_finding("unofficial", judgement.text)
    return judgement


def _labelled_files(answers: Sequence[LoggedAnswer], entry: Benchmark) -> list[LabelledFile]:
    """Return the files that were run; of anomaly detection, each has one answer per window."""
    files = [LabelledFile(a.file, _class_of(a, entry.name), a.inputs, a.classes) for a in answers]
    if entry.metric is not Metric.AUC or None in {a.inputs for a in answers}:
        return files
    counts = Counter(each.file for each in files)
    return [replace(each, inputs=counts[file]) for file, each in {f.file: f for f in files}.items()]


def _class_of(answer: LoggedAnswer, benchmark: str) -> int | None:
    return label_of(benchmark, answer.file) if answer.label is None else answer.label


def score_eembc(answers: Sequence[LoggedAnswer], benchmark: str | None, result: Recomputed) -> None:
    """Score as the EEMBC runner does: each answer counts separately."""
    known = _answers_with_labels(answers, benchmark, result)
    if not known or _score_if_anomaly_detection(known, auc_eembc_anomaly, result):
        return
    outputs = np.array([answer.outputs for answer in known], np.float64)
    labels = np.array([answer.label for answer in known], np.int64)
    result.score["top1_pct"] = top1_pct(outputs, labels)
    _set_auc(lambda: auc_eembc(outputs, labels), result)


def score_mlcommons(
    answers: Sequence[LoggedAnswer], benchmark: str | None, result: Recomputed
) -> None:
    """Score as the MLCommons runner does: normalised answers, averaged per file."""
    known = _answers_with_labels(answers, benchmark, result)
    if not known or _score_if_anomaly_detection(
        known, lambda s, anomalous: exact_area(anomalous, s), result
    ):
        return
    sums = [_sum_in_order(answer.outputs) for answer in known]
    if not all(sums):
        text = f"{sums.count(0.0)} results sum to zero, by which the runner divides"
        result.add_finding("auc-impossible", text)
        return
    reverse = sum(total < 0 for total in sums)
    if reverse:
        text = (
            f"{reverse} of {len(known)} results have a negative sum: the runner's division by it "
            "reverses their order, so that the smallest output counts as the answer"
        )
        result.add_finding("negative-score", text)
    shares = [LoggedAnswer(a.file, _normalised_outputs(a.outputs), a.label) for a in known]
    outputs, labels = _mean_by_file(shares)
    result.score["top1_pct"] = top1_pct(outputs, labels)
    _set_auc(lambda: auc_one_against_rest(outputs, labels), result)


def _score_if_anomaly_detection(
    known: Sequence[LoggedAnswer],
    area: Callable[[Outputs, NDArray[np.bool_]], float],
    result: Recomputed,
) -> bool:
    """Score anomaly detection, which has one output; return whether these answers are of it."""
    if len(known[0].outputs) != 1:
        return False
    outputs, labels = _mean_by_file(known)
    scores, anomalous = outputs[:, 0], labels == 1
    result.score["top1_pct"] = top1_anomaly_pct(scores, anomalous)
    _set_auc(lambda: area(scores, anomalous), result)
    return True


def _set_auc(area: Callable[[], float], result: Recomputed) -> None:
    try:
        result.score["auc"] = area()
    except MeasurementInvalid as error:
        result.add_finding("auc-impossible", error.what)


def _answers_with_labels(
    answers: Sequence[LoggedAnswer], benchmark: str | None, result: Recomputed
) -> list[LoggedAnswer]:
    """Return the answers of the usual length with their classes; none if a class is unknown."""
    if not answers:
        return []
    negative = sum(any(value < 0 for value in answer.outputs) for answer in answers)
    if negative:
        result.add_finding(
            "negative-score", f"{negative} of {len(answers)} results hold a negative value"
        )
    found = [replace(a, label=_class_of(a, benchmark or "")) for a in answers]
    unknown = [answer.file for answer in found if answer.label is None]
    if unknown:
        text = f"the class of {len(unknown)} inputs is unknown, the first: {unknown[0] or '?'}"
        result.add_finding("labels-unknown", text)
        return []
    lengths = [len(answer.outputs) for answer in found]
    usual = max(set(lengths), key=lengths.count)
    if set(lengths) != {usual}:
        text = f"{len(lengths) - lengths.count(usual)} results do not hold {usual} values"
        result.add_finding("results-damaged", text)
    return [answer for answer in found if len(answer.outputs) == usual]


def _mean_by_file(answers: Sequence[LoggedAnswer]) -> tuple[Outputs, Labels]:
    """Average the outputs per file, in the order of the first answers."""
    files: dict[str, list[LoggedAnswer]] = {}
    for answer in answers:
        files.setdefault(answer.file, []).append(answer)
    rows = [np.mean([a.outputs for a in same], axis=0) for same in files.values()]
    labels = [same[0].label for same in files.values()]
    return np.array(rows, np.float64), np.array(labels, np.int64)


def _sum_in_order(values: Sequence[float]) -> float:
    """Add from first to last; ``sum`` compensates rounding from Python 3.12 on."""
    total = 0.0
    for value in values:
        total += value
    return total


def _normalised_outputs(values: tuple[float, ...]) -> tuple[float, ...]:
    total = _sum_in_order(values)
    return tuple(value / total for value in values)
