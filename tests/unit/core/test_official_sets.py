"""Data sets: what is the official one, a part of it, or another."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from labd.core.model import DataStanding, Mode
from labd.core.official_sets import (
    OFFICIAL_SETS,
    LabelledFile,
    judge_bytes,
    judge_files,
    unofficial_reason,
)
from labd.core.suite import SUITE
from tests.unit.rescore.made_folders import KWS_FILES, KWS_LABELS

SHARED = Path(os.environ.get("LABD_SHARED", Path(__file__).parents[3] / ".." / "shared"))
SETS = SHARED / "mlperf-tiny" / "datasets"
KWS = [LabelledFile(file, label) for file, label in zip(KWS_FILES, KWS_LABELS, strict=True)]


def test_the_official_list_is_recognised_until_its_bytes_are_known() -> None:
    found = judge_files("kws01", KWS)
    assert (found.standing, found.is_official) == (DataStanding.UNVERIFIED, True)
    assert found.text == "official list of 1000 files (mlcommons/tiny), bytes not compared"
    assert unofficial_reason(SUITE["kws01"], found, custom_data=False) == ""


def test_the_order_of_a_list_does_not_change_its_standing_but_its_bytes() -> None:
    found = judge_files("kws01", KWS[::-1])
    assert found.standing is DataStanding.UNVERIFIED
    assert "in another order" in found.text
    assert judge_bytes(found, Mode.ACCURACY, OFFICIAL_SETS[0].accuracy_sha256) is found


def test_a_list_is_recognised_by_the_files_of_a_log() -> None:
    found = judge_files("kws01", [replace(each, file=f"C:\\s\\{each.file}") for each in KWS])
    assert found.official is OFFICIAL_SETS[0]


@pytest.mark.parametrize(
    ("files", "standing", "text"),
    [
        (KWS[:500], DataStanding.PART, "500 files, the official set holds 1000: this is a part"),
        (KWS[:1], DataStanding.PART, "1 files, the official set holds 1000: this is a part"),
        (
            [replace(each, classes=10) for each in KWS],
            DataStanding.CUSTOM,
            "1000 of 1000 files are labelled with 10 classes, kws01 has 12",
        ),
        ([*KWS, KWS[0]], DataStanding.CUSTOM, "1 of 1001 files occur more than once, the first"),
        (
            [*KWS[:999], replace(KWS[999], label=3)],
            DataStanding.CUSTOM,
            "1 have another class than in the official set, the first: tst_000999_Up_8.bin",
        ),
        (
            [*KWS[:999], LabelledFile("mine.bin", 8)],
            DataStanding.CUSTOM,
            "1 are not in the official set, the first: mine.bin",
        ),
        (
            [*KWS[:999], LabelledFile("tst_001000_Up_8.bin", 8)],
            DataStanding.CUSTOM,
            "this is not the official set",
        ),
    ],
)
def test_any_other_list_is_never_official(
    files: list[LabelledFile], standing: DataStanding, text: str
) -> None:
    found = judge_files("kws01", files)
    assert (found.standing, found.is_official) == (standing, False)
    assert text in found.text
    reason = unofficial_reason(SUITE["kws01"], found, custom_data=False)
    assert reason.startswith("unofficial data set: ")
    assert unofficial_reason(SUITE["kws01"], found, custom_data=True) == ""
    assert unofficial_reason(SUITE["digits01"], found, custom_data=False) == ""


def test_the_published_bytes_make_it_official() -> None:
    found = judge_files("kws01", KWS)
    [entry] = [each for each in OFFICIAL_SETS if each.benchmark == "kws01"]
    whole = judge_bytes(found, Mode.ACCURACY, entry.accuracy_sha256)
    assert (whole.standing, whole.text) == (
        DataStanding.OFFICIAL,
        "official list of 1000 files (mlcommons/tiny), all inputs as published",
    )
    five = judge_bytes(found, Mode.ENERGY, entry.windows_sha256)
    assert five.text.endswith("the inputs of the windows as published")
    assert judge_bytes(found, Mode.ENERGY, entry.accuracy_sha256).standing is DataStanding.CUSTOM


def test_other_bytes_of_a_set_that_is_distributed_are_custom() -> None:
    found = judge_bytes(judge_files("kws01", KWS), Mode.ACCURACY, hashlib.sha256().hexdigest())
    assert found.standing is DataStanding.CUSTOM
    assert found.text.endswith("but the inputs are not the published ones")


@pytest.mark.skipif(not SETS.is_dir(), reason="the official sets are not here (LABD_SHARED)")
@pytest.mark.parametrize(
    ("benchmark", "labels", "files"),
    [
        ("kws01", "y_labels.csv", 1000),
        ("ic01", "y_labels.csv", 200),
        ("vww01", "y_labels.csv", 1000),
        ("ad01", "y_labels.csv", 248),
        ("ad01", "y_labels_alt.csv", 72),
    ],
)
def test_every_published_list_is_recognised(benchmark: str, labels: str, files: int) -> None:
    rows = list(csv.reader((SETS / benchmark / labels).read_text().splitlines()))
    listed = [LabelledFile(row[0], int(row[2]), None) for row in rows]
    found = judge_files(benchmark, listed)
    assert found.standing is DataStanding.UNVERIFIED
    assert found.official is not None
    assert found.official.files == files
    made_by_the_user = judge_bytes(found, Mode.ACCURACY, "0" * 64)
    if benchmark == "kws01":
        assert not made_by_the_user.is_official
    else:
        assert made_by_the_user.standing is DataStanding.UNVERIFIED


@pytest.mark.skipif(not SETS.is_dir(), reason="the official sets are not here (LABD_SHARED)")
def test_the_known_hashes_are_those_of_the_published_inputs() -> None:
    [entry] = [each for each in OFFICIAL_SETS if each.benchmark == "kws01"]
    inputs = [(SETS / "kws01" / file).read_bytes() for file in KWS_FILES]
    assert hashlib.sha256(b"".join(inputs)).hexdigest() == entry.accuracy_sha256
    assert hashlib.sha256(b"".join(inputs[:5])).hexdigest() == entry.windows_sha256


def test_every_official_benchmark_has_a_list() -> None:
    listed = {each.benchmark for each in OFFICIAL_SETS}
    assert listed == {name for name, entry in SUITE.items() if entry.official}
    assert judge_files("digits01", KWS).text == "digits01 has no official data set"
