"""Top-1 and area under the ROC curve from logged outputs, by each runner's formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import MeasurementInvalid
from labd.core.scoring import (
    auc_eembc,
    auc_eembc_anomaly,
    auc_one_against_rest,
    exact_area,
    top1_anomaly_pct,
    top1_pct,
)
from labd.rescore.labels import label_of
from labd.rescore.session_score import Recomputed

SET_SIZES = {"kws01": (1000,), "ic01": (200,), "vww01": (1000, 1985), "ad01": (248, 72)}
"""Files per official set; vww01 and ad01 have two lists."""

Outputs = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """Outputs of a DUT for one input; ``label`` if the session has it."""

    file: str
    outputs: tuple[float, ...]
    label: int | None = None


def _check_count(
    answers: Sequence[LoggedAnswer], benchmark: str | None, result: Recomputed
) -> None:
    """Report if the number of files is not that of the official set.

    The windows of one file of ad01 count once.
    """
    files = len({a.file for a in answers} if benchmark == "ad01" else answers)
    sizes = SET_SIZES.get(benchmark or "", (files,))
    if files in sizes:
        return
    expected = " or ".join(str(size) for size in sizes)
    what = "a part of" if files < min(sizes) else "not"
    text = f"{files} files have results, the set holds {expected}: this is {what} the official set"
    result.add_finding("result-count", text)


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
    _check_count(answers, benchmark, result)
    negative = sum(any(value < 0 for value in answer.outputs) for answer in answers)
    if negative:
        result.add_finding(
            "negative-score", f"{negative} of {len(answers)} results hold a negative value"
        )
    found = [
        LoggedAnswer(
            a.file, a.outputs, label_of(benchmark or "", a.file) if a.label is None else a.label
        )
        for a in answers
    ]
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
