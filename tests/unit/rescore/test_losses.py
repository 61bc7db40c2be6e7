"""Damaged, cut off or missing data are reported and never replaced by published values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labd.core.model import Mode
from labd.rescore import SessionScore, find_tasks, is_sound, rescore_folder
from tests.unit.rescore import made_folders as made
from tests.unit.rescore.test_mlcommons import (
    ENERGY_TEXT,
    SWW_TEXT,
    energy_trial,
    sww_trial,
)


def score(folder: Path) -> SessionScore:
    [task] = find_tasks([folder])
    [found] = rescore_folder(task)
    return found


def codes(found: SessionScore) -> list[str]:
    return [finding.code for finding in found.findings]


def text_of(found: SessionScore, code: str) -> str:
    return next(finding.text for finding in found.findings if finding.code == code)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# ---- damaged windows ---------------------------------------------------------------------


def test_a_damaged_window_is_not_filled_with_what_was_published(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    samples = [40.0] * 96_000
    samples[3_000] = float("nan")
    made.write_trace(folder / "trace1-energy.bin", samples)
    results = folder / "results.txt"
    results.write_text(results.read_text().replace("48000.000", "11111.111", 1))
    found = score(folder)
    assert [window.number for window in found.windows] == [4, 6, 8, 10]
    assert found.agrees is None
    assert "median_energy_uj" not in found.score
    assert "median_energy_uj 48000.000" in text_of(found, "not-recomputed")
    assert "trace-lost" in text_of(found, "not-recomputed")
    assert not is_sound(found)


@pytest.mark.parametrize(("samples", "windows"), [(93_000, 4), (70_000, 3), (1_000, 0)])
def test_windows_beyond_the_end_of_the_trace_are_not_built(
    tmp_path: Path, samples: int, windows: int
) -> None:
    folder = made.write_energy(tmp_path)
    made.write_trace(folder / "trace1-energy.bin", [40.0] * samples)
    found = score(folder)
    assert len(found.windows) == windows
    assert all(window.energy_uj == pytest.approx(480_000) for window in found.windows)
    assert codes(found).count("trace-short") == 5 - windows
    assert found.agrees is None
    assert not is_sound(found)


def test_a_trace_of_one_sample_less_than_the_last_stamp_is_short(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    made.write_trace(folder / "trace1-energy.bin", [40.0] * 94_000)
    assert score(folder).findings == []
    made.write_trace(folder / "trace1-energy.bin", [40.0] * 93_999)
    assert "trace-short" in codes(score(folder))


def test_a_negative_energy_is_reported(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path, sample_uj=-40.0)
    found = score(folder)
    assert codes(found) == ["energy-negative"] * 5
    assert not is_sound(found)


def test_samples_without_end_make_no_number(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    made.write_trace(folder / "trace1-energy.bin", [float("inf")] * 96_000)
    found = score(folder)
    assert found.windows == []
    assert codes(found).count("trace-lost") == 5
    assert found.agrees is None


def test_an_energy_session_without_its_energy_does_not_agree(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    blocks = [line for n in range(2, 12, 2) for line in made.performance_block(n, 10, 12.0)]
    with (folder / "results.txt").open("a") as results:
        results.write(
            "\n".join([*blocks, "00200.000 ulp-ml: Median throughput is 0.833 inf./sec."])
        )
    trace = folder / "trace1-energy.bin"
    trace.write_bytes(b"\x00" + trace.read_bytes()[1:])
    found = score(folder)
    assert found.score == {"median_throughput_ips": 10 / 12}
    assert found.agrees is None
    assert not is_sound(found)


# ---- logs that are cut off ---------------------------------------------------------------


@pytest.mark.parametrize("inferences", [0, 1, 3, 4])
def test_a_log_cut_off_is_damaged_and_has_no_median(tmp_path: Path, inferences: int) -> None:
    folder = made.write_performance(tmp_path / "kws" / "performance")
    cut(folder / "log.txt", "m-infer-start", inferences)
    found = score(folder)
    assert len(found.windows) == inferences
    assert found.score == {}
    assert found.agrees is None
    assert {"file-damaged", "not-recomputed"} <= set(codes(found))
    assert not is_sound(found)


def cut(log: Path, word: str, after: int) -> None:
    """End a log in the middle of the line that holds a word once more than ``after`` times."""
    head = log.read_text().split(word)[: after + 1]
    log.write_text(word.join(head) + word[:5])


def test_a_log_without_any_inference_is_damaged_even_with_nothing_published(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path / "kws" / "performance")
    (folder / "results.txt").unlink()
    cut(folder / "log.txt", "m-infer-start", 0)
    found = score(folder)
    assert "5 that were to run" in text_of(found, "file-damaged")
    assert not is_sound(found)


def test_a_lap_in_a_line_without_end_is_not_used(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path / "kws" / "performance")
    log = folder / "log.txt"
    log.write_text(log.read_text().partition("m-lap-us-93000000")[0] + "m-lap-us-930")
    found = score(folder)
    assert [window.number for window in found.windows] == [2, 4, 6, 8]
    assert "4 of 5 inferences" in text_of(found, "file-damaged")
    assert "missing: 10" in text_of(found, "windows-missing-in-log")


def test_a_cut_log_does_not_affect_an_intact_trace(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path / "ic" / "energy")
    cut(folder / "log.txt", "m-infer-start", 2)
    found = score(folder)
    assert [window.inferences for window in found.windows] == [10] * 5
    assert found.score["median_energy_uj"] == pytest.approx(48_000)
    assert found.agrees is True
    assert codes(found) == ["file-damaged"]


def test_an_intact_log_of_fewer_windows_counts_those_taken_as_printed(tmp_path: Path) -> None:
    folder = made.write_performance(tmp_path)
    text = (folder / "results.txt").read_text()
    made.write_performance(folder, laps=made.rising(12_000_000)[:2])
    (folder / "results.txt").write_text(text)
    found = score(folder)
    assert found.agrees is True
    assert text_of(found, "windows-missing-in-log").endswith("uses these 3 as they were printed")


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_start_that_is_lost_leaves_the_count_of_its_command(tmp_path: Path, number: int) -> None:
    performance = made.write_performance(
        tmp_path / "performance", laps=made.rising(*range(11_000_000, 11_500_000, 10**5))
    )
    for folder, start in (
        (performance, "dut: m-infer-start-120"),
        (made.write_energy(tmp_path / "energy"), "io: [dut]: m-infer-start-10"),
    ):
        parts = (folder / "log.txt").read_text().split(start)
        head, tail = start.join(parts[:number]), start.join(parts[number:])
        (folder / "log.txt").write_text(f"{head}dut: noise{tail}")
        found = score(folder)
        assert found.agrees is True
        assert found.findings == []
        assert len({window.inferences for window in found.windows}) == 1


def test_windows_of_unknown_count_have_no_median(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    log = (folder / "log.txt").read_text()
    log = log.replace("[dut]: m-infer-start-10", "noise", 1).replace("infer 10 1", "noise", 1)
    (folder / "log.txt").write_text(log)
    found = score(folder)
    assert found.windows[0].energy_per_inference_uj is None
    assert found.score == {}
    assert found.agrees is None
    assert "not-recomputed" in codes(found)


# ---- which window is which ---------------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5])
def test_a_window_without_its_lap_is_the_one_that_is_named(tmp_path: Path, lost: int) -> None:
    folder = made.write_performance(tmp_path)
    log = folder / "log.txt"
    stop = f"m-lap-us-{13_000_000 + 20_000_000 * (lost - 1)}"
    edit(log, stop, "")
    found = score(folder)
    assert f"window {2 * lost}:" in text_of(found, "lost-stamp")
    assert text_of(found, "windows-missing-in-log").endswith(f"missing: {2 * lost}")
    assert found.agrees is None
    assert "window-differs" not in codes(found)


def test_a_forged_window_beside_a_lost_one_is_still_found(tmp_path: Path) -> None:
    folder = made.write_performance(
        tmp_path, laps=made.rising(*range(11_000_000, 11_500_000, 10**5))
    )
    edit(folder / "log.txt", "m-lap-us-52200000", "")
    edit(folder / "results.txt", "11.300", "11.305")
    found = score(folder)
    assert found.agrees is False
    assert "window 8 runtime_s: 11.3 recomputed" in text_of(found, "window-differs")


# ---- numbers that count ------------------------------------------------------------------


def test_wake_words_without_samples_name_the_power_that_is_lost(tmp_path: Path) -> None:
    text = ["Energy data for trial 0", "  Power         : 0.5000 mW.", *SWW_TEXT]
    found = score(made.write_mlcommons(tmp_path, [sww_trial("e")], text, "sww01"))
    assert found.mode is Mode.ENERGY
    assert found.agrees is True
    assert text_of(found, "not-recomputed").startswith("mean_power_mw 0.5000: published")
    assert not is_sound(found)


def test_mlcommons_energy_of_fewer_trials_than_published_has_no_median(tmp_path: Path) -> None:
    good = energy_trial([["00", 1_000], ["01", 13_000]])
    late = energy_trial([["00", 1_000], ["01", 14_000]])
    text = [*ENERGY_TEXT[:-1], "Energy data for trial 1", *ENERGY_TEXT[2:]]
    folder = made.write_mlcommons(tmp_path, [good, good], text)
    assert score(folder).agrees is True
    for trials in ([good, late], [good]):
        (folder / "results.json").write_text(json.dumps(trials))
        found = score(folder)
        assert len(found.windows) == 1
        assert found.score == {}
        assert found.agrees is None
        assert not is_sound(found)
