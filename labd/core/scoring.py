"""Scores by the published rules, as pure functions.

Accuracy follows the two published runners: top-1 is the same in both; the area under the
ROC curve differs (``eembc``: 101 fixed thresholds, ``mlcommons``: exact area), so each
formula stands under its own name.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labd.core.errors import MeasurementInvalid
from labd.core.model import Window


def median_throughput_ips(windows: Sequence[Window]) -> float:
    """Median of the windows' throughputs, inferences a second (rules §1)."""
    return statistics.median(window.throughput_ips for window in windows)


def median_energy_uj(windows: Sequence[Window]) -> float:
    """Median of the windows' energies per inference, µJ (rules §3).

    Raises:
        MeasurementInvalid: a window carries no energy.
    """
    energies = [window.energy_per_inference_uj for window in windows]
    known = [energy for energy in energies if energy is not None]
    if not known or len(known) < len(energies):
        raise MeasurementInvalid("energy-missing", "a window has no energy")
    return statistics.median(known)


def top1_pct(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Share of inputs whose largest output is the labelled class, per cent.

    Args:
        outputs: shape (inputs, classes), as the DUT printed them.
        labels: shape (inputs,).

    Ties go to the lowest class, as in both published runners.
    """
    right = int(np.count_nonzero(outputs.argmax(axis=1) == labels))
    return 100.0 * right / len(labels)


def auc_mlcommons(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Exact area under the ROC curve as the MLCommons runner computes it.

    Outputs are divided by their sum; two classes: the area of class 1; more: the mean over
    the classes of one against the rest.

    Raises:
        MeasurementInvalid: an output vector sums to zero or less, or a class never occurs.
    """
    totals = outputs.sum(axis=1, keepdims=True)
    if not bool((totals > 0).all()):
        raise MeasurementInvalid(
            "auc-normalise", "an output vector sums to zero or less and cannot be normalised"
        )
    shares = outputs / totals
    classes = outputs.shape[1]
    _require_every_class(classes, labels)
    if classes == 2:  # noqa: PLR2004 - binary
        return exact_area(labels == 1, shares[:, 1])
    areas = [exact_area(labels == c, shares[:, c]) for c in range(classes)]
    return statistics.fmean(areas)


def auc_eembc(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Area as the EEMBC runner computes it: thresholds 0, 0.01 … 1, mean over classes.

    A point counts the scores strictly above its threshold; the first is forced to (1, 1).

    Raises:
        MeasurementInvalid: a class never occurs.
    """
    _require_every_class(outputs.shape[1], labels)
    thresholds = np.arange(101) / 100.0
    areas: list[float] = []
    for c in range(outputs.shape[1]):
        positive = labels == c
        above = outputs[:, c][None, :] > thresholds[:, None]
        true_rate = above[:, positive].mean(axis=1)
        false_rate = above[:, ~positive].mean(axis=1)
        true_rate[0] = false_rate[0] = 1.0
        areas.append(float(-np.trapezoid(true_rate, false_rate)))
    return statistics.fmean(areas)


def _require_every_class(classes: int, labels: NDArray[np.int64]) -> None:
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise MeasurementInvalid("auc-class", f"no input of class {missing[0]} was run")


def exact_area(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Exact area under the ROC curve of one score against a yes/no label.

    Args:
        positive: shape (n,), both values occurring.
        scores: shape (n,), larger speaks for positive. For anomaly detection: one mean
            score a file.

    Raises:
        MeasurementInvalid: only one of the two labels occurs.
    """
    if bool(positive.all()) or not bool(positive.any()):
        raise MeasurementInvalid("auc-class", "the set has inputs of one kind only")
    from sklearn.metrics import (  # noqa: PLC0415 - two seconds of import
        roc_auc_score,  # pyright: ignore[reportUnknownVariableType]
    )

    return float(roc_auc_score(positive, scores))  # pyright: ignore[reportUnknownArgumentType]
