"""labd score on the published session folders: every printed number comes out again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.lab import REPO

SHARED = Path(os.environ.get("LABD_SHARED", REPO / ".." / "shared")).resolve()
LOGS = SHARED / "real-logs"
L4R5 = "STMicroelectronics_NUCLEO_L4R5ZI"

pytestmark = pytest.mark.skipif(
    not LOGS.is_dir(), reason="the published session logs are not here (LABD_SHARED)"
)

EXPECTED: dict[str, tuple[str, str, str, dict[str, str], set[str]]] = {
    "v0.5_reference_NUCLEO_L4R5ZI_reference_ad01_energy": (
        *("eembc", "ad01", "energy"),
        {"median_energy_uj": "416.312", "median_throughput_ips": "96.154"},
        {"window-short"},
    ),
    "v0.7_Alibaba_Xuantie_C906_kws01_accuracy": (
        *("eembc", "kws01", "accuracy"),
        {"top1_pct": "90.7", "auc": "0.95"},
        {"negative-score"},
    ),
    f"v0.7_{L4R5}_ic01_energy": (
        *("eembc", "ic01", "energy"),
        {"median_energy_uj": "12298.289", "median_throughput_ips": "3.962"},
        set(),
    ),
    f"v0.7_{L4R5}_kws01_performance": (
        *("eembc", "kws01", "performance"),
        {"median_throughput_ips": "10.241"},
        set(),
    ),
    "v0.7_hls4ml_finn_Arty_A7_100T_ad01_energy": (
        *("eembc", "ad01", "energy"),
        {"median_energy_uj": "98.362", "median_throughput_ips": "22119.699"},
        set(),
    ),
    f"v1.1_{L4R5}_ic01_energy": (
        *("eembc", "ic01", "energy"),
        {"median_energy_uj": "7019.085", "median_throughput_ips": "4.983"},
        {"lost-stamp", "window-short", "window-count", "clock-disagrees"},
    ),
    "v1.2_Renesas_EK_RA8D1_ic01_accuracy": (
        *("eembc", "ic01", "accuracy"),
        {"top1_pct": "87.5", "auc": "0.98"},
        set(),
    ),
    f"v1.3_{L4R5}_P_ic01_accuracy": (
        *("mlcommons", "ic01", "accuracy"),
        {"top1_pct": "87.0", "auc": "0.988"},
        set(),
    ),
    f"v1.3_{L4R5}_P_ic01_performance": (
        *("mlcommons", "ic01", "performance"),
        {"median_throughput_ips": "6.036"},
        set(),
    ),
    f"v1.3_{L4R5}_P_kws01_energy": (
        *("mlcommons", "kws01", "energy"),
        {"median_energy_uj": "1430.6681"},
        set(),
    ),
    "v1.3_STMicroelectronics_NUCLEO_U575ZI_Q_sww01_performance": (
        *("mlcommons", "sww01", "performance"),
        {
            "tp": "44",
            "fn": "6",
            "fp": "4",
            "duty_cycle": "0.36267",
            "median_throughput_ips": "85.981",
        },
        {"sww-documented-rule"},
    ),
    "v1.3_syntiant_NDP9120_sww01_energy": (
        *("mlcommons", "sww01", "energy"),
        {
            "tp": "46",
            "fn": "4",
            "fp": "4",
            "duty_cycle": "0.021792",
            "median_throughput_ips": "1430.8",
        },
        {"file-missing", "not-recomputed", "sww-documented-rule"},
    ),
}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labd.cli.labd", "score", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture(scope="module")
def reported() -> dict[str, dict[str, Any]]:
    done = run("--json", LOGS)
    assert done.stderr == ""
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(each["folder"]).name: each for each in objects}


def digits(value: float, printed: str) -> str:
    return f"{value:.{len(printed.partition('.')[2])}f}"


def test_every_folder_is_found(reported: dict[str, dict[str, Any]]) -> None:
    assert list(reported) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_scores_come_out_to_the_printed_digit(
    reported: dict[str, dict[str, Any]], name: str
) -> None:
    runner, benchmark, mode, scores, codes = EXPECTED[name]
    found = reported[name]
    assert (found["runner"], found["benchmark"], found["mode"]) == (runner, benchmark, mode)
    assert found["agrees"] is True
    for key, printed in scores.items():
        assert digits(found["score"][key], printed) == printed, key
        assert found["published"][key] == float(printed)
    assert {finding["code"] for finding in found["findings"]} == codes


@pytest.mark.parametrize("name", [n for n, e in EXPECTED.items() if e[2] != "accuracy"])
def test_windows_come_out_to_the_printed_digit(
    reported: dict[str, dict[str, Any]], name: str
) -> None:
    found = reported[name]
    if found["benchmark"] == "sww01":
        assert found["windows"] == []
        return
    published = found["published"]["windows"]
    keys = {"inferences", "runtime_s", "throughput_ips"}
    if found["mode"] == "energy":
        keys |= {"energy_uj", "power_uw", "energy_per_inference_uj"}
        keys -= {"throughput_ips"} if found["runner"] == "mlcommons" else set()
    assert all(set(window) == keys for window in published)
    assert len(published) == len(found["windows"]) == (4 if name.startswith("v1.1") else 5)
    for ours, theirs in zip(found["windows"], published, strict=True):
        for key, value in theirs.items():
            assert digits(ours[key], repr(value)) == digits(value, repr(value)), key


def test_both_wake_word_rules_are_reported(reported: dict[str, dict[str, Any]]) -> None:
    texts = {
        name: finding["text"]
        for name, found in reported.items()
        for finding in found["findings"]
        if finding["code"] == "sww-documented-rule"
    }
    assert [text[:70] for _, text in sorted(texts.items())] == [
        "38 true positives, 12 false negatives, 28 false positives by the docum",
        "42 true positives, 8 false negatives, 8 false positives by the documen",
    ]


def test_the_timestamp_that_was_lost_is_named(reported: dict[str, dict[str, Any]]) -> None:
    findings = reported[f"v1.1_{L4R5}_ic01_energy"]["findings"]
    [text] = [found["text"] for found in findings if found["code"] == "lost-stamp"]
    assert "stamp 2, the start of window 2, is missing" in text
    for part in ("window 4 10.695 s 10021", "window 6 10.696 s 10017", "median 10019.607"):
        assert part in text


def test_one_folder_is_one_json_document_and_decides_the_exit_status() -> None:
    sound = run("--json", LOGS / f"v0.7_{L4R5}_kws01_performance")
    assert sound.returncode == 0
    assert json.loads(sound.stdout)["score"]["median_throughput_ips"] == pytest.approx(10.241, 1e-4)
    missing = run("--json", LOGS / "v1.3_syntiant_NDP9120_sww01_energy")
    assert missing.returncode == 1
    assert run().returncode == 2


def test_without_json_a_table_is_printed() -> None:
    done = run(LOGS / f"v1.1_{L4R5}_ic01_energy")
    for text in ("7019.085", "7033.165", "lost-stamp", "10 timestamps instead of 11"):
        assert text in done.stdout
    overview = run(LOGS / f"v0.7_{L4R5}_ic01_energy", LOGS / f"v1.1_{L4R5}_ic01_energy")
    assert "2 sessions: 2 agree" in overview.stdout
