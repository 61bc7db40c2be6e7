"""Re-scoring any folder reports its damage and never fails."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.rescore import FINDINGS, SessionScore, find_tasks, is_sound, rescore_folder
from labd.rescore.finding_codes import DAMAGE
from labd.rescore.published import Printed, ResultReader
from tests.unit.rescore import made_folders as made


def score(folder: Path) -> SessionScore:
    [task] = find_tasks([folder])
    [found] = rescore_folder(task)
    json.dumps(found.as_json(), allow_nan=False)
    assert "labd-bug" not in codes(found), found.findings
    assert set(codes(found)) <= set(FINDINGS)
    return found


def codes(found: SessionScore) -> list[str]:
    return [finding.code for finding in found.findings]


def test_every_damage_has_a_meaning() -> None:
    assert set(FINDINGS) >= DAMAGE


@pytest.mark.parametrize("name", ["log.txt", "results.txt", "script.async"])
def test_a_missing_file_is_a_finding(tmp_path: Path, name: str) -> None:
    folder = made.write_performance(tmp_path)
    (folder / name).unlink()
    found = score(folder)
    assert "file-missing" in codes(found)
    assert any(name in finding.text for finding in found.findings)
    assert not is_sound(found)


def test_a_missing_folder_is_a_finding(tmp_path: Path) -> None:
    assert codes(score(tmp_path / "nowhere")) == ["folder-unreadable"]


def test_a_folder_without_anything_is_no_session(tmp_path: Path) -> None:
    assert codes(score(tmp_path)) == ["no-session"]
    (tmp_path / "notes.txt").write_text("nothing")
    assert codes(score(tmp_path)) == ["no-session"]


@pytest.mark.parametrize("content", [b"", b"\x00" * 5000, os.urandom(5000), b"{" * 100_000])
@pytest.mark.parametrize(
    "name", ["log.txt", "results.txt", "trace1-energy.bin", "trace1-timestamps.json", "log.txt.gz"]
)
def test_junk_in_a_file_is_a_finding(tmp_path: Path, name: str, content: bytes) -> None:
    folder = made.write_energy(tmp_path)
    if name.endswith(".gz"):
        (folder / "log.txt").unlink()
    (folder / name).write_bytes(content)
    assert score(folder).findings


def test_a_cut_gzip_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = made.write_accuracy(tmp_path)
    packed = gzip.compress(os.urandom(20_000) + (folder / "log.txt").read_bytes())
    (folder / "log.txt").unlink()
    (folder / "log.txt.gz").write_bytes(packed[: len(packed) - 200])
    found = score(folder)
    assert "file-damaged" in codes(found)
    assert "Compressed file ended" in found.findings[0].text


@pytest.mark.parametrize(
    "content",
    [b"", b"[{", b"null", b"[1, 2]", b'{"a": 1}', b"[" * 200_000, b"\xff\xfe\x00", b"1e999"],
)
def test_damaged_results_json_is_a_finding(tmp_path: Path, content: bytes) -> None:
    folder = made.write_mlcommons(
        tmp_path, [], ["a ulp-mlperf: Median throughput is 6.0 inf./sec."]
    )
    (folder / "results.json").write_bytes(content)
    found = score(folder)
    assert "file-damaged" in codes(found)
    assert found.runner == "mlcommons"


def test_a_directory_in_place_of_a_file_is_no_file(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    (folder / "log.txt").unlink()
    (folder / "log.txt").mkdir()
    assert "file-missing" in codes(score(folder))


def test_a_broken_link_is_a_finding(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    (folder / "log.txt").unlink()
    (folder / "log.txt").symlink_to("nowhere")
    assert "file-damaged" in codes(score(folder))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from(
                [
                    b"00001.000 session: m-session-start-id[1]",
                    b"00001.000 parser: m-bmark-run-name[x]-code[ulp-ml]",
                    b"00002.000 dut: m-infer-start-10",
                    b"00002.000 dut: m-lap-us-99999999999999999999",
                    b"00002.000 dut: m-lap-us-4",
                    b"00003.000 dut: m-results-[",
                    b"00003.000 dut: m-results-[1,2,]",
                    b"00003.000 dut: m-infer-done",
                    b"Logging initialized.",
                    b"Performance results for window 1",
                    b"    Runtime: 1e300 sec.",
                    b"    Throughput: NaN inf",
                    b"# Inferences : 1e3",
                    b"Energy data for trial 0",
                    b"  Energy : 1e308 uJ",
                    b"a AUC: nan",
                    b"a Top-1: 1.2.3%",
                    b"[1, 2, 3]",
                    b"Duty cycle start times (s)",
                    b"Duty cycle stop times (s)",
                    b"1, 2, m-ready",
                ]
            ),
        ),
        max_size=25,
    )
)
def test_no_log_and_no_result_text_can_stop_it(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file in ("log.txt", "results.txt"):
            Path(name, file).write_bytes(b"\n".join(lines))
        made.write_trace(Path(name, "trace1-energy.bin"), [1.0] * 10)
        Path(name, "trace1-timestamps.json").write_text("[0, 0.001, 0.002]")
        score(Path(name))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("infer", "power", "file", "class", "mode", "samples", "timestamps"),
                    *("results", "iterations", "elapsed_time", "detections", "detection_windows"),
                    *("dutycycle", "start_times_s", "stop_times_s", "error"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@settings(deadline=None, max_examples=150)
@given(json_values, st.sampled_from(["kws01", "sww01", "ad01"]))
def test_no_results_json_can_stop_it(value: Any, model: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        trials = [{"infer": value, "power": value, "dutycycle": value, "mode": "e"}, value]
        score(made.write_mlcommons(Path(name), trials, ["Power Edition Output"], model))


# ---- finding sessions --------------------------------------------------------------------


def test_a_tree_gives_its_sessions_in_order(tmp_path: Path) -> None:
    results = tmp_path / "closed" / "X" / "results" / "board"
    made.write_performance(results / "kws" / "performance")
    made.write_accuracy(results / "kws" / "accuracy")
    (results / "ic" / "accuracy").mkdir(parents=True)
    (tmp_path / "closed" / "X" / "code").mkdir()
    (tmp_path / "closed" / "X" / "code" / "results.txt").write_text("loss 0.3")
    (tmp_path / "closed" / "X" / "code" / "train_log.txt").write_text("epoch 1")
    made.write_performance(tmp_path / ".git" / "performance")
    found = [str(task.folder.relative_to(results)) for task in find_tasks([tmp_path])]
    assert found == ["ic/accuracy", "kws/accuracy", "kws/performance"]


def test_resource_forks_are_no_results(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    (folder / "._results.txt").write_bytes(b"\x00\x05\x16\x07")
    assert score(folder).findings == []


def test_a_second_file_of_a_kind_is_reported(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    (folder / "results_old.txt").write_text("nothing")
    found = score(folder)
    assert found.agrees is True
    assert codes(found) == ["several-files"]


# ---- printed numbers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ours", "same"),
    [
        ("1.23", 1.2349, True),
        ("1.23", 1.2251, True),
        ("1.23", 1.2249, False),
        ("1.23", 1.2351, False),
        ("0.5", 0.45, True),
        ("0.12", 0.125, True),
        ("0.13", 0.125, True),
        ("1430.8", 1430.8198, True),
        ("2", 2.4, True),
        ("2", 2.6, False),
        ("1e3", 1400.0, True),
        ("1.000", float("nan"), False),
        ("NaN", 1.0, False),
    ],
)
def test_the_printed_digits_decide(text: str, ours: float, *, same: bool) -> None:
    assert Printed(text).same_digits(ours) is same


@given(st.floats(-1e9, 1e9), st.integers(0, 9))
def test_a_number_agrees_with_itself_printed(value: float, digits: int) -> None:
    assert Printed(f"{value:.{digits}f}").same_digits(value)


def test_units_are_ours() -> None:
    text = ["Energy data for trial 0", "  Power         : 33.0616 mW."]
    reader = ResultReader()
    for line in text:
        reader.feed(line)
    [window] = reader.to_published().windows
    assert window.values["power_uw"].value == pytest.approx(33061.6)
    assert window.values["power_uw"].same_digits(33061.649)
    assert not window.values["power_uw"].same_digits(33061.66)
