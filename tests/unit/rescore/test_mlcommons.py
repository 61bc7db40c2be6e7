"""Sessions of the MLCommons runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labd.core.model import Mode
from labd.core.official_labels import wakewords_s
from labd.rescore import SessionScore, find_tasks, rescore_folder
from tests.unit.rescore import made_folders as made

SAMPLES = [1e-5] * 1_000 + [3e-5] * 12_000 + [1e-5] * 500
ENERGY_TEXT = [
    "Power Edition Output",
    "Energy data for trial 0",
    "  Elapsed time  : 12.0",
    "  Inferences    : 250",
    "  Power         : 30.0000 mW.",
    "  Total Energy  : 360000.000 uJ",
    "  Energy/Inf    : 1440.000 uJ/inf",
    "Median energy cost is 1440.0000 uJ/inf.",
]


def score(folder: Path) -> SessionScore:
    [task] = find_tasks([folder])
    [found] = rescore_folder(task)
    return found


def codes(found: SessionScore) -> list[str]:
    return [finding.code for finding in found.findings]


def energy_trial(events: list[Any], samples: list[float] = SAMPLES) -> dict[str, Any]:
    return made.trial(power={"samples": samples, "timestamps": events})


def test_energy_lies_between_the_last_two_events(tmp_path: Path) -> None:
    events = [["00", 12], ["01", 1_000], ["02", 13_000]]
    found = score(made.write_mlcommons(tmp_path, [energy_trial(events)], ENERGY_TEXT))
    assert (found.runner, found.benchmark, found.mode) == ("mlcommons", "kws01", Mode.ENERGY)
    assert found.agrees is True
    assert found.windows[0].energy_uj == pytest.approx(360_000)
    assert found.windows[0].power_uw == pytest.approx(30_000)
    assert codes(found) == ["window-count"]


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([["00", 1_000]], "lost-stamp"),
        ([["00", 1_000], ["02", 13_000]], "lost-stamp"),
        ([["00", 1_000], ["01", 14_000]], "trace-short"),
        ([["00", 1_000], "junk"], "lost-stamp"),
    ],
)
def test_events_that_are_wrong_are_reported(tmp_path: Path, events: list[Any], code: str) -> None:
    found = score(made.write_mlcommons(tmp_path, [energy_trial(events)], ENERGY_TEXT))
    assert code in codes(found)


def test_lost_samples_make_no_number(tmp_path: Path) -> None:
    samples = [*SAMPLES]
    samples[5_000] = float("nan")
    trial = energy_trial([["00", 1_000], ["01", 13_000]], samples)
    found = score(made.write_mlcommons(tmp_path, [trial], ENERGY_TEXT))
    assert found.windows == []
    assert "trace-lost" in codes(found)


def performance_trial(elapsed: int) -> dict[str, Any]:
    return made.trial(mode="p", infer={"elapsed_time": elapsed, "throughput": 1.0})


PERFORMANCE_TEXT = [
    line
    for number in range(1, 6)
    for line in (
        f"Performance results for window {number}",
        "    # Inferences : 250",
        "    Runtime: 11.597249 sec.",
        f"    Throughput: {250 / 11.597249!r} inf./sec.",
    )
]
MEDIAN = f"0726.005207 ulp-mlperf: Median throughput is {250 / 11.597249:>10.3f} inf./sec."


def test_performance_comes_out_to_all_digits(tmp_path: Path) -> None:
    trials = [performance_trial(11_597_249)] * 5
    found = score(made.write_mlcommons(tmp_path, trials, [*PERFORMANCE_TEXT, MEDIAN]))
    assert found.mode is Mode.PERFORMANCE
    assert found.agrees is True
    assert found.findings == []


def test_a_negative_elapsed_time_is_a_wrapped_counter(tmp_path: Path) -> None:
    trials = [performance_trial(11_597_249)] * 4 + [performance_trial(11_597_249 - 2**32)]
    found = score(made.write_mlcommons(tmp_path, trials, [*PERFORMANCE_TEXT, MEDIAN]))
    assert found.agrees is True
    assert codes(found) == ["lap-wrapped"]


def test_a_lost_results_json_is_replaced_by_the_log(tmp_path: Path) -> None:
    trials = [performance_trial(11_597_249)] * 5
    folder = made.write_mlcommons(tmp_path, trials, [*PERFORMANCE_TEXT, MEDIAN])
    (folder / "results.json").unlink()
    found = score(folder)
    assert found.agrees is True
    assert len(found.windows) == 5
    assert codes(found) == ["file-missing"]
    (folder / "results.txt").unlink()
    again = score(folder)
    assert again.agrees is None
    assert codes(again) == ["file-missing", "file-missing", "not-recomputed"]


def test_runtimes_cut_to_milliseconds_do_not_change_the_median(tmp_path: Path) -> None:
    trials = [performance_trial(11_597_249)] * 5
    folder = made.write_mlcommons(tmp_path, trials, [MEDIAN])
    (folder / "results.json").unlink()
    rate = 150_000 / 10.256429
    blocks = [
        line
        for number in range(1, 6)
        for line in (
            f"0809.004157 ulp-mlperf: Performance results for window {number}:",
            "0809.004157 ulp-mlperf:   # Inferences :        150000",
            f"0809.004157 ulp-mlperf:   Runtime      : {10.256429:10.3f} sec.",
            f"0809.004157 ulp-mlperf:   Throughput   : {rate:10.3f} inf./sec.",
        )
    ]
    median = f"0809.004312 ulp-mlperf: Median throughput is {rate:10.3f} inf./sec."
    made.write(folder, "results.txt", [median])
    made.write(folder, "log.txt", ["Logging initialized. Writing output to x", *blocks, median])
    found = score(folder)
    assert found.agrees is True
    assert [window.runtime_s for window in found.windows] == [10.256] * 5
    assert codes(found) == ["file-missing"]


def accuracy_trials(flip: int) -> list[dict[str, Any]]:
    trials = []
    for n in range(40):
        right, wrong = (0.75, 0.25) if n != flip else (0.25, 0.75)
        results = [right, wrong] if n % 2 == 0 else [wrong, right]
        parts = {"file": f"{n:012d}.bin", "class": str(n % 2), "classes": "2"}
        trials.append(made.trial(mode="a", infer={"results": results}, **parts))
    return trials


def test_accuracy_uses_the_classes_of_the_session(tmp_path: Path) -> None:
    text = ["0726.0 ulp-mlperf: Top 1% = 97.5", "0726.0 ulp-mlperf: AUC = 0.975"]
    found = score(made.write_mlcommons(tmp_path, accuracy_trials(7), text, model="vww01"))
    assert (found.benchmark, found.mode) == ("vww01", Mode.ACCURACY)
    assert found.agrees is True
    assert found.score == {"top1_pct": 97.5, "auc": 0.975}


def test_outputs_that_sum_to_zero_have_no_score(tmp_path: Path) -> None:
    trials = accuracy_trials(7)
    trials[3]["infer"]["results"] = [0.5, -0.5]
    found = score(made.write_mlcommons(tmp_path, trials, ["a ulp-mlperf: AUC = 0.975"], "vww01"))
    assert {"negative-score", "auc-impossible"} <= set(codes(found))
    assert found.score == {}


def test_a_target_that_is_missed_is_reported(tmp_path: Path) -> None:
    text = ["0726.0 ulp-mlperf: Top 1% = 77.5"]
    trials = [made.trial(mode="a", infer={"results": []})]
    found = score(made.write_mlcommons(tmp_path, trials, text, model="vww01"))
    assert "below-target" in codes(found)


# ---- wake word ---------------------------------------------------------------------------

WORDS = wakewords_s()
DETECTIONS = [70] + [round(begin * 1000) + 470 for begin, _ in WORDS[:44]] + [900_070, 900_570]
SWW_TEXT = [
    "Accuracy: 44 True positives, 6 False negatives, 1 False positives",
    "Average duty cycle: 0.25",
    "Average period: 0.032 s",
    "Estimated throughput: 125 inf./sec.",
]


def sww_trial(mode: str = "p", **parts: Any) -> dict[str, Any]:
    infer = {"wav_file": "long_wav.wav", "detections": DETECTIONS, "iterations": 1}
    starts = [0.032 * n for n in range(100)]
    duty = {"start_times_s": starts, "stop_times_s": [t + 0.008 for t in starts]}
    return {"infer": infer, "dutycycle": duty, "activations": [], "mode": mode, **parts}


def test_wake_words_are_scored_by_both_rules(tmp_path: Path) -> None:
    found = score(made.write_mlcommons(tmp_path, [sww_trial()], SWW_TEXT, model="sww01"))
    assert (found.benchmark, found.mode) == ("sww01", Mode.PERFORMANCE)
    assert found.agrees is True
    assert found.as_json()["score"] == pytest.approx(
        {"median_throughput_ips": 125, "tp": 44, "fn": 6, "fp": 1, "duty_cycle": 0.25}
    )
    assert codes(found) == ["sww-documented-rule"]


def test_a_different_count_is_reported(tmp_path: Path) -> None:
    text = [SWW_TEXT[0].replace("44", "45"), *SWW_TEXT[1:]]
    found = score(made.write_mlcommons(tmp_path, [sww_trial()], text, model="sww01"))
    assert found.agrees is False
    assert "score-differs" in codes(found)


def test_power_is_the_energy_score_of_wake_words(tmp_path: Path) -> None:
    power = {"samples": [5e-7] * 12_000, "timestamps": [["00", 1_000], ["01", 11_500]]}
    text = ["Energy data for trial 0", "  Power         : 0.5000 mW.", *SWW_TEXT]
    folder = made.write_mlcommons(tmp_path, [sww_trial("e", power=power)], text, "sww01")
    found = score(folder)
    assert found.mode is Mode.ENERGY
    assert found.agrees is True
    assert found.score["mean_power_mw"] == pytest.approx(0.5)
    assert "few-inferences" not in codes(found)


def test_a_transcript_is_enough(tmp_path: Path) -> None:
    folder = made.write_mlcommons(tmp_path, [], SWW_TEXT, model="sww01")
    (folder / "results.json").unlink()
    log = [
        "Logging initialized. Writing output to log.txt",
        "Device model retrieved: sww01",
        str(DETECTIONS),
        "print_dutycycle%",
        "RX:Duty cycle start times (s)",
        "RX:0, 3200, 6400,",
        "RX:9600,",
        "RX:Duty cycle stop times (s)",
        "RX:800, 4000, 7200, 10400, m-ready",
    ]
    made.write(folder, "log.txt", log)
    found = score(folder)
    assert found.agrees is True
    assert found.score["duty_cycle"] == pytest.approx(0.25)
    assert codes(found) == ["file-missing", "sww-documented-rule"]
    made.write(folder, "log.txt", [*log[:-1], "RX:800, 4000, 7200, m-ready"])
    assert "edges-unpaired" in codes(score(folder))
