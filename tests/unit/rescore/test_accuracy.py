"""Accuracy sessions that lack inputs, and outputs whose order the runner reverses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labd.rescore import SessionScore, find_tasks, is_sound, rescore_folder
from tests.unit.rescore import made_folders as made


def score(folder: Path) -> SessionScore:
    [task] = find_tasks([folder])
    [found] = rescore_folder(task)
    return found


def text_of(found: SessionScore, code: str) -> str:
    return next(finding.text for finding in found.findings if finding.code == code)


def test_a_log_cut_off_gives_no_score_of_a_part(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    log = folder / "log.txt"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: len(lines) // 2]))
    found = score(folder)
    assert found.score == {}
    assert found.agrees is None
    assert "499 of 1000 inferences" in text_of(found, "file-damaged")
    assert text_of(found, "unofficial").startswith("499 files, the official set holds 1000")
    assert "top1_pct 87.5" in text_of(found, "not-recomputed")
    assert not is_sound(found)


def test_a_whole_log_of_a_part_of_the_set_is_reported(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    log = folder / "log.txt"
    head, *rest = log.read_text().split('00002.000 parser: Command "bload')
    log.write_text('00002.000 parser: Command "bload'.join([head, *rest[:800]]) + made.STOP)
    found = score(folder)
    assert found.score["top1_pct"] == pytest.approx(100 - 12_500 / 800)
    assert text_of(found, "unofficial").startswith("800 files, the official set holds 1000")
    assert not is_sound(found)


def picture_trials(count: int, odd: list[float]) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = []
    for n in range(count):
        results = [0.75, 0.25] if n % 2 == 0 else [0.25, 0.75]
        parts = {"file": f"{n:012d}.bin", "class": str(n % 2)}
        trials.append(made.trial(mode="a", infer={"results": results if n else odd}, **parts))
    return trials


def test_a_negative_sum_reverses_the_answer_as_in_the_runner(tmp_path: Path) -> None:
    text = ["0726.0 ulp-mlperf: Top 1% = 99.9"]
    trials = picture_trials(1000, [-0.25, -0.75])  # the greater one is right, the lesser counts
    found = score(made.write_mlcommons(tmp_path, trials, text, model="vww01"))
    assert found.score["top1_pct"] == pytest.approx(99.9)
    assert found.agrees is True
    texts = [finding.text for finding in found.findings if finding.code == "negative-score"]
    assert texts[0] == "1 of 1000 results hold a negative value"
    assert "the smallest output counts" in texts[1]


def test_a_zero_sum_is_impossible_and_reported(tmp_path: Path) -> None:
    text = ["0726.0 ulp-mlperf: Top 1% = 99.9"]
    trials = picture_trials(1000, [0.0, 0.0])
    found = score(made.write_mlcommons(tmp_path, trials, text, model="vww01"))
    assert text_of(found, "auc-impossible").startswith("1 results sum to zero")
    assert found.agrees is None


def test_fewer_trials_than_files_are_reported(tmp_path: Path) -> None:
    trials = picture_trials(40, [0.75, 0.25])
    text = ["0726.0 ulp-mlperf: Top 1% = 100.0"]
    found = score(made.write_mlcommons(tmp_path, trials, text, model="vww01"))
    assert "40 files, the official set holds 1000 or 1985" in text_of(found, "unofficial")
    assert not is_sound(found)


@pytest.mark.parametrize(("mode", "numbers"), [("p", 5), ("e", 5), ("a", 1)])
def test_times_that_contradict_each_other_are_reported(
    tmp_path: Path, mode: str, numbers: int
) -> None:
    infer = {"start_time": 4_294_000_000, "end_time": 4_032_704, "elapsed_time": 5_000_001}
    infer |= {"results": [0.5, 0.5]}
    folder = made.write_mlcommons(tmp_path, [made.trial(mode=mode, infer=infer)] * 5, [], "vww01")
    codes = [finding.code for finding in score(folder).findings]
    assert codes.count("elapsed-differs") == numbers
    infer["elapsed_time"] -= 1  # the counter wrapped in between
    made.write_mlcommons(folder, [made.trial(mode=mode, infer=infer)] * 5, [], "vww01")
    assert "elapsed-differs" not in [finding.code for finding in score(folder).findings]


def test_wake_words_of_several_recordings_are_reported(tmp_path: Path) -> None:
    trial = made.trial(mode="p", infer={"wav_file": "long_wav.wav", "detections": [70, 900]})
    found = score(made.write_mlcommons(tmp_path, [trial, trial], [], "sww01"))
    assert text_of(found, "result-count").startswith("2 recordings, the set holds one")


@pytest.mark.parametrize(("classes", "official"), [("12", True), ("10", False)])
def test_a_wrong_number_of_classes_is_reported(
    tmp_path: Path, classes: str, *, official: bool
) -> None:
    trials = [
        made.trial(
            mode="a",
            file=file,
            classes=classes,
            infer={"results": [float(c == label) for c in range(12)]},
            **{"class": str(label)},
        )
        for file, label in zip(made.KWS_FILES, made.KWS_LABELS, strict=True)
    ]
    text = ["0726.0 ulp-mlperf: Top 1% = 100.0"]
    found = score(made.write_mlcommons(tmp_path, trials, text, model="kws01"))
    assert found.score["top1_pct"] == 100.0
    assert ("unofficial" not in [finding.code for finding in found.findings]) is official
