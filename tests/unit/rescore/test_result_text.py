"""A result text that was cut off or added to is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from labd.rescore import SessionScore, find_tasks, is_sound, rescore_folder
from labd.rescore.published import count_strange_lines, ends_within_line, script_damage
from tests.unit.rescore import made_folders as made
from tests.unit.rescore.test_mlcommons import MEDIAN, PERFORMANCE_TEXT, performance_trial


def score(folder: Path) -> SessionScore:
    [task] = find_tasks([folder])
    [found] = rescore_folder(task)
    return found


def text_of(found: SessionScore, code: str) -> str:
    return next(finding.text for finding in found.findings if finding.code == code)


def keep_lines(folder: Path, count: int) -> None:
    results = folder / "results.txt"
    lines = results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:count]))


def test_a_text_without_its_median_is_reported(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    keep_lines(folder, -1)
    found = score(folder)
    assert text_of(found, "score-missing") == (
        "results.txt lists 5 windows, but no median_throughput_ips after them"
    )
    assert found.agrees is None
    assert not is_sound(found)


def test_a_window_cut_in_the_middle_is_reported(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    keep_lines(folder, 14)  # windows 2, 4 and 6, but for its remark
    assert "file-damaged" not in [finding.code for finding in score(folder).findings]
    keep_lines(folder, 13)
    assert text_of(score(folder), "file-damaged").endswith("window 6 has no throughput_ips")


@pytest.mark.parametrize("lines", [len(PERFORMANCE_TEXT), 6])
def test_a_cut_window_of_the_other_runner_is_reported(tmp_path: Path, lines: int) -> None:
    trials = [performance_trial(11_597_249)] * 5
    folder = made.write_mlcommons(tmp_path, trials, PERFORMANCE_TEXT[:lines])
    assert "score-missing" in [finding.code for finding in score(folder).findings]
    assert not is_sound(score(folder))


def test_an_energy_text_without_its_median_is_reported(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    keep_lines(folder, -1)
    found = score(folder)
    assert "median_energy_uj" in text_of(found, "score-missing")
    assert found.agrees is None


def test_a_single_run_prints_no_median(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path, laps=[(1_000_000, 13_000_000)])
    keep_lines(folder, -1)
    found = score(folder)
    assert [finding.code for finding in found.findings] == ["window-count"]
    assert found.agrees is True


@pytest.mark.parametrize("junk", [b"\x00\x01\x02", b"\xff\xfe\xfd\xfc", b"and then some words\n"])
@pytest.mark.parametrize("runner", ["eembc", "mlcommons"])
def test_what_no_runner_prints_is_reported(tmp_path: Path, junk: bytes, runner: str) -> None:
    if runner == "eembc":
        folder = made.write_performance(tmp_path)
    else:
        trials = [performance_trial(11_597_249)] * 5
        folder = made.write_mlcommons(tmp_path, trials, [*PERFORMANCE_TEXT, MEDIAN])
    assert is_sound(score(folder))
    with (folder / "results.txt").open("ab") as results:
        results.write(junk)
    found = score(folder)
    assert "1 lines that no runner prints" in text_of(found, "file-damaged")
    assert found.agrees is True
    assert not is_sound(found)


def test_a_median_cut_in_its_digits_is_no_number(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    results = folder / "results.txt"
    results.write_text(results.read_text().partition("0 inf./sec.")[0].rstrip())
    text = results.read_text()
    results.write_text(text + "\n00999.000 ulp-mlperf: Median throughput is 1")
    found = score(folder)
    assert "median_throughput_ips" not in found.published.score
    assert found.agrees is not True


def test_lines_of_both_runners_are_known() -> None:
    known = [
        "00999.000 ulp-mlperf: whatever the runner may print",
        "    Runtime requirements have been met.",
        "---------",
        "0726.005207 ulp-mlperf: Median throughput is      6.036 inf./sec.",
        "",
    ]
    assert count_strange_lines(["a first line of any kind", *known]) == (0, "")
    assert count_strange_lines([*known, "x", "y"]) == (2, "x")


def test_a_text_cut_to_its_first_window_is_no_single_run(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    keep_lines(folder, 5)
    found = score(folder)
    assert "median_throughput_ips 10" in text_of(found, "score-missing")
    assert found.agrees is None
    assert not is_sound(found)


@pytest.mark.parametrize(
    ("line", "within"),
    [
        ("00458.531 ulp-mlperf: AUC: 0.95", False),
        ("00458.531 ulp-mlperf: AUC", True),
        ("00458.508 ulp-mlperf: Top-1: 90.7%", False),
        ("0726.005207 ulp-mlperf: Median throughput is      6.036 inf", True),
        ("Accuracy: 44 True positives, 6 False negatives, 4 False positives", False),
        ("Average duty", True),
        ("", False),
    ],
)
def test_a_line_that_stops_in_the_middle_is_known(line: str, *, within: bool) -> None:
    assert ends_within_line(line) is within


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ("[{cmd: 'a'}]\n", ""),
        ("[{}];", ""),
        ("cmd: 'a'", ""),
        (" \n", "is empty"),
        ("[{", "is cut off"),
    ],
)
def test_a_command_list_is_whole_or_not(text: str, damage: str) -> None:
    assert script_damage(text) == damage


def test_a_cut_command_list_is_damage(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    (folder / "script.async").write_text("[\n{ cmd: 'dut infer 120 1' },\n{ cmd")
    found = score(folder)
    assert text_of(found, "file-damaged") == "script.async is cut off"
    assert not is_sound(found)


def test_a_log_of_the_other_runner_that_is_cut_off_is_reported(tmp_path: Path) -> None:
    trials = [performance_trial(11_597_249)] * 5
    folder = made.write_mlcommons(tmp_path, trials, [*PERFORMANCE_TEXT, MEDIAN])
    for end in ("\n", ""):
        (folder / "log.txt").write_text(f"Logging initialized. Writing{end}")
        found = score(folder)
        assert found.agrees is True
        assert "log.txt is cut off" in text_of(found, "file-damaged")
        assert not is_sound(found)


def test_an_area_that_only_the_log_still_holds_is_reported(tmp_path: Path) -> None:
    text = ["0726.0 ulp-mlperf: Top 1% = 87.0", "0726.0 ulp-mlperf: AUC = 0.988"]
    trials = [made.trial(mode="a", infer={"results": [0.5, 0.5]})]
    folder = made.write_mlcommons(tmp_path, trials, text, model="vww01")
    assert "score-missing" not in [finding.code for finding in score(folder).findings]
    keep_lines(folder, 1)
    assert "lacks auc" in text_of(score(folder), "score-missing")
