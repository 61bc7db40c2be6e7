"""Scores: against published numbers where the data are there, by hand elsewhere."""

import csv
import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from labd.core.errors import MeasurementInvalid
from labd.core.model import ClockCheck, Window
from labd.core.scoring import (
    auc_eembc,
    auc_eembc_anomaly,
    auc_mlcommons,
    exact_area,
    median_energy_uj,
    median_throughput_ips,
    top1_anomaly_pct,
    top1_pct,
)

SHARED = Path(os.environ.get("LABD_SHARED", "../shared"))
LOGS = SHARED / "real-logs"
KWS_LABELS = SHARED / "mlperf-tiny" / "datasets" / "kws01" / "y_labels.csv"


def window(throughput: float, energy: float | None = None) -> Window:
    check = ClockCheck("none", None, 0.0)
    return Window(1, "a", 10, 10.0, throughput, check, energy_per_inference_uj=energy)


def test_medians() -> None:
    assert median_throughput_ips([window(x) for x in (3.0, 1.0, 2.0)]) == 2.0
    assert median_energy_uj([window(1, x) for x in (4.0, 1.0, 2.0, 3.0)]) == 2.5


def test_a_missing_energy_is_not_skipped() -> None:
    with pytest.raises(MeasurementInvalid):
        median_energy_uj([window(1, 4.0), window(1)])


def test_top1_counts_and_breaks_ties_low() -> None:
    outputs = np.array([[0.1, 0.9], [0.5, 0.5], [0.7, 0.3], [0.2, 0.8]])
    assert top1_pct(outputs, np.array([1, 0, 1, 1])) == 75.0


def test_two_classes_use_the_second_column() -> None:
    outputs = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])
    assert auc_mlcommons(outputs, np.array([0, 0, 1, 1])) == 0.75
    assert exact_area(np.array([False, False, True, True]), outputs[:, 1]) == 0.75


def test_outputs_are_divided_by_their_sum() -> None:
    outputs = np.array([[0.1, 0.3], [0.6, 0.4]])
    assert auc_mlcommons(outputs, np.array([1, 0])) == 1.0
    assert exact_area(np.array([True, False]), outputs[:, 1]) == 0.0


def test_outputs_that_cannot_be_normalised_are_refused() -> None:
    outputs = np.array([[0.5, 0.5], [0.5, -0.6]])
    with pytest.raises(MeasurementInvalid, match="sums to zero or less"):
        auc_mlcommons(outputs, np.array([0, 1]))


def test_a_class_that_never_occurs_is_refused() -> None:
    with pytest.raises(MeasurementInvalid, match="no input of class 2"):
        auc_mlcommons(np.full((2, 3), 1 / 3), np.array([0, 1]))


@pytest.mark.skipif(not LOGS.is_dir(), reason="the published session logs are not here")
def test_eembc_formulas_give_the_published_kws_accuracy() -> None:
    folder = LOGS / "v0.7_Alibaba_Xuantie_C906_kws01_accuracy"
    rows = csv.reader(KWS_LABELS.read_text().splitlines())
    labels = {row[0]: int(row[2]) for row in rows}
    text = gzip.decompress((folder / "log.txt.gz").read_bytes()).decode()
    outputs = [
        [float(x) for x in found.split(",") if x]
        for found in re.findall(r"m-results-\[([^\]]*)\]", text)
    ]
    ordered = np.array(list(labels.values()))
    assert len(outputs) == len(ordered) == 1000
    assert f"{top1_pct(np.array(outputs), ordered):.1f}" == "90.7"
    assert f"{auc_eembc(np.array(outputs), ordered):.2f}" == "0.95"
    areas = [exact_area(ordered == c, np.array(outputs)[:, c]) for c in range(12)]
    assert f"{np.mean(areas):.4f}" == "0.9889"
    with pytest.raises(MeasurementInvalid, match="sums to zero or less"):
        auc_mlcommons(np.array(outputs), ordered)  # this DUT prints logits, not shares


@pytest.mark.skipif(not LOGS.is_dir(), reason="the published session logs are not here")
def test_mlcommons_formulas_give_the_published_ic_accuracy() -> None:
    path = LOGS / "v1.3_STMicroelectronics_NUCLEO_L4R5ZI_P_ic01_accuracy" / "results.json"
    sessions = json.loads(path.read_text())
    outputs = np.array([s["infer"]["results"] for s in sessions])
    labels = np.array([int(s["class"]) for s in sessions])
    assert f"{top1_pct(outputs, labels):.1f}" == "87.0"
    assert f"{auc_mlcommons(outputs, labels):.3f}" == "0.988"


def test_anomaly_scores_follow_the_published_formulas() -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0, 10.0])
    anomalous = np.array([False, False, True, False, True])
    assert exact_area(anomalous, scores) == pytest.approx(5 / 6)
    assert auc_eembc_anomaly(scores, anomalous) == pytest.approx(5 / 6)
    assert top1_anomaly_pct(scores, anomalous) == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_thresholds_of_the_eembc_area_are_a_hundredth_apart() -> None:
    """Two scores between two thresholds are equal here, but not for the exact area."""
    scores = np.array([0.0, 0.501, 0.502, 1.0])
    anomalous = np.array([False, False, True, True])
    assert exact_area(anomalous, scores) == 1.0
    assert auc_eembc_anomaly(scores, anomalous) == pytest.approx(0.875)


def test_inputs_of_one_class_have_no_area() -> None:
    with pytest.raises(MeasurementInvalid, match="one class"):
        auc_eembc_anomaly(np.array([1.0, 2.0]), np.array([True, True]))


def test_ties_count_half() -> None:
    assert exact_area(np.array([False, True]), np.array([0.5, 0.5])) == 0.5
