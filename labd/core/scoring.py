"""Scores by the published rules, as pure functions.

Accuracy follows the two published runners: top-1 is the same in both. The area under the ROC
curve differs (``eembc``: 101 fixed thresholds, ``mlcommons``: exact area), so each formula has
its own name.

Sources: github.com/mlcommons/tiny, benchmark/runner/main.py (``mlcommons``);
github.com/eembc/energyrunner, base_models/Methodology/eval_functions_eembc.py (``eembc``).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import MeasurementInvalid
from labd.core.model import Window
from labd.core.runner_arithmetic import sequential_sum


def median_throughput_ips(windows: Sequence[Window]) -> float:
    """Median of the windows' throughputs, inferences per second."""
    return statistics.median(window.throughput_ips for window in windows)


def median_energy_uj(windows: Sequence[Window]) -> float:
    """Median of the windows' energies per inference, µJ.

    Raises:
        MeasurementInvalid: a window carries no energy.
    """
    energies = [window.energy_per_inference_uj for window in windows]
    known = [energy for energy in energies if energy is not None]
    if not known or len(known) < len(energies):
        raise MeasurementInvalid("energy-missing", "a window has no energy")
    return statistics.median(known)


def top1_pct(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Share of inputs whose largest output is the labelled class, percent.

    Args:
        outputs: shape (inputs, classes), as the DUT printed them.
        labels: shape (inputs,).

    Equal outputs count as the lowest class, as in both published runners.
    """
    right = int(np.count_nonzero(outputs.argmax(axis=1) == labels))
    return 100.0 * right / len(labels)


def top1_anomaly_pct(scores: NDArray[np.float64], anomalous: NDArray[np.bool_]) -> float:
    """Top-1 of anomaly detection as both published runners print it, percent.

    The largest mean of precision and recall over thresholds at 0, 1 … 99 % of the range of the
    scores; a score strictly above the threshold counts as an anomaly.

    Args:
        scores: one per file, shape (n,).
        anomalous: shape (n,).
    """
    least, most = float(scores.min()), float(scores.max())
    best = 0.0
    for threshold in least + np.arange(0.0, 1.0, 0.01) * (most - least):
        called = scores > threshold
        right = int(np.count_nonzero(called & anomalous))
        precision = right / (int(np.count_nonzero(called)) + 1e-8)
        recall = right / (int(np.count_nonzero(anomalous)) + 1e-8)
        best = max(best, 100 * (precision + recall) / 2)
    return best


def auc_mlcommons(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Exact area under the ROC curve as the MLCommons runner computes it.

    Outputs are divided by their sum. With two classes it is the area of class 1, with more the
    mean over the classes of one against the rest.

    Raises:
        MeasurementInvalid: an output vector sums to zero or less, or a class never occurs.
    """
    totals = np.add.accumulate(outputs, axis=1)[:, -1:]
    if not bool((totals > 0).all()):
        raise MeasurementInvalid(
            "auc-normalise", "an output vector sums to zero or less and cannot be normalised"
        )
    return auc_one_against_rest(outputs / totals, labels)


def auc_one_against_rest(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Exact area: of class 1 of two, or the mean of one against the rest over more classes.

    Args:
        shares: outputs, shape (inputs, classes), not normalised here.
        labels: shape (inputs,).

    Raises:
        MeasurementInvalid: a class never occurs.
    """
    classes = shares.shape[1]
    _require_every_class(classes, labels)
    if classes == 2:  # noqa: PLR2004 - binary
        return exact_area(labels == 1, shares[:, 1])
    areas = [exact_area(labels == c, shares[:, c]) for c in range(classes)]
    return statistics.fmean(areas)


def auc_eembc(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Area as the EEMBC runner computes it: thresholds 0, 0.01 … 1, mean over classes.

    Each point counts the scores strictly above its threshold; the first is set to (1, 1).

    Raises:
        MeasurementInvalid: a class never occurs.
    """
    classes = outputs.shape[1]
    _require_every_class(classes, labels)
    thresholds = np.arange(101) * 0.01
    areas = [_stepped_area(outputs[:, c], labels == c, thresholds) for c in range(classes)]
    return sum(areas) / classes


def auc_eembc_anomaly(scores: NDArray[np.float64], anomalous: NDArray[np.bool_]) -> float:
    """Area of anomaly detection as the EEMBC runner computes it.

    As :func:`auc_eembc`, with the thresholds spread over the range of the scores.

    Args:
        scores: one per file, shape (n,).
        anomalous: shape (n,).

    Raises:
        MeasurementInvalid: all files are of one class.
    """
    _require_both_kinds(anomalous)
    least, most = float(scores.min()), float(scores.max())
    return _stepped_area(scores, anomalous, least + np.arange(101) * 0.01 * (most - least))


def _stepped_area(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    thresholds: NDArray[np.floating[Any]],
) -> float:
    above = scores[None, :] > thresholds[:, None]
    true_rate = np.count_nonzero(above[:, positive], axis=1) / np.count_nonzero(positive)
    false_rate = np.count_nonzero(above[:, ~positive], axis=1) / np.count_nonzero(~positive)
    true_rate[0] = false_rate[0] = 1.0
    steps = 0.5 * (true_rate[:-1] + true_rate[1:]) * (false_rate[:-1] - false_rate[1:])
    return sequential_sum(steps)


def _require_every_class(classes: int, labels: NDArray[np.int64]) -> None:
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise MeasurementInvalid("auc-class", f"no input of class {missing[0]} was run")


def _require_both_kinds(positive: NDArray[np.bool_]) -> None:
    if bool(positive.all()) or not bool(positive.any()):
        raise MeasurementInvalid("auc-class", "all inputs are of one class")


def exact_area(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Exact area under the ROC curve of one score against a binary label.

    Args:
        positive: shape (n,), both values occurring.
        scores: shape (n,), larger for positive. For anomaly detection: one mean score per
            file.

    Raises:
        MeasurementInvalid: only one of the two labels occurs.
    """
    _require_both_kinds(positive)
    from sklearn.metrics import (  # noqa: PLC0415 - two seconds of import
        roc_auc_score,  # pyright: ignore[reportUnknownVariableType]
    )

    return float(roc_auc_score(positive, scores))  # pyright: ignore[reportUnknownArgumentType]
