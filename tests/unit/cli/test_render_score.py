"""How labd score names the folders it was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from labd.cli.render_score import fold_path, path_below_given, show_overview
from labd.cli.score import score_command
from labd.core.model import Finding
from labd.rescore import find_tasks, rescore_folder
from tests.unit.rescore import made_folders as made


@pytest.mark.parametrize(
    ("folder", "given", "place"),
    [
        ("a/b/kws", ["a/b"], "kws"),
        ("/x/a/b/kws", ["/x"], "a/b/kws"),
        ("a/b", ["a/b"], "a/b"),
        ("a/b/kws", ["c", "a/b"], "b/kws"),
        ("nowhere", ["c"], "nowhere"),
    ],
)
def test_a_session_is_named_from_the_folder_given(
    folder: str, given: list[str], place: str
) -> None:
    assert path_below_given(Path(folder), [Path(name) for name in given]) == place


def test_paths_break_behind_slashes_only() -> None:
    assert fold_path("closed/someone/results/board", 16) == "closed/someone/\nresults/board"
    assert fold_path("/a_name_that_is_longer/b", 8) == "/\na_name_that_is_longer/\nb"
    assert fold_path("short", 60) == "short"


def test_no_word_of_the_table_is_broken(tmp_path: Path) -> None:
    results = tmp_path / "closed" / "a_submitter_of_a_long_name" / "results" / "a_board"
    made.write_performance(results / "kws" / "performance", laps=made.rising(9_000_000))
    lost = made.write_energy(results / "ic" / "energy")
    (lost / "trace1-energy.bin").unlink()
    done = CliRunner().invoke(score_command, [str(tmp_path)])
    assert done.exit_code == 1
    assert str(tmp_path) not in done.output
    words = done.output.split()
    for word in ("file-missing,", "trace-missing,", "not-recomputed", "window-short"):
        assert word in words
    assert "closed/a_submitter_of_a_long_name/results/a_board/ic/energy" in words


@pytest.mark.parametrize("width", [40, 80, *range(120, 160, 3), 200])
def test_a_narrow_terminal_breaks_no_word_either(
    tmp_path: Path, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        each
        for mode, make in (("performance", made.write_performance), ("energy", made.write_energy))
        for task in find_tasks([make(tmp_path / "results" / "a_board_with_a_name" / "ic" / mode)])
        for each in rescore_folder(task)
    ]
    findings = (Finding("windows-missing-in-log", ""), Finding("sww-documented-rule", ""))
    found = [replace(each, findings=findings) for each in found]
    show_overview(Console(width=width), found, [tmp_path])
    words = capsys.readouterr().out.replace(",", " ").split()
    for word in ("windows-missing-in-log", "sww-documented-rule", "48000.000", "eembc", "yes"):
        assert words.count(word) >= 1
    assert "a_board_with_a_name/" in "".join(words)


def test_a_file_is_answered_with_its_folder(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path / "some session")
    done = CliRunner().invoke(score_command, [str(folder / "log.txt")])
    assert done.exit_code == 2
    assert "log.txt is a file" in done.output
    assert f"labd score '{folder}'" in done.output
