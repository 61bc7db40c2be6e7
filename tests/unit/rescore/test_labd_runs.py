"""Re-scoring labd's own runs from their folders."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from labd.core.model import (
    ClockCheck,
    DataStanding,
    Edge,
    EnergyMethod,
    Identity,
    Mode,
    Samples,
    StreamFormat,
    Verdict,
    Window,
)
from labd.core.recording import Recording
from labd.core.windows import energies_by_method
from labd.daemon.run_recorder import RunEvidence
from labd.rescore import SessionScore, find_tasks, is_sound, rescore_folder
from labd.store.compressed_log import CompressedLog
from labd.store.traces.writer import TraceFile
from labd.wire.results import DatasetRecord, ModeResult, ResultDetails
from tests.unit.rescore.made_folders import KWS_FILES, KWS_LABELS

FORMAT = StreamFormat(1000.0, 5e-4, 100.0, "energy")
CHECK = ClockCheck("none", None, 0.0)


def scores(folder: Path) -> dict[Mode | None, SessionScore]:
    [task] = find_tasks([folder])
    return {found.mode: found for found in rescore_folder(task)}


def codes(found: SessionScore) -> list[str]:
    return [finding.code for finding in found.findings]


def write_trace(folder: Path, *, complete: bool = True) -> list[Window]:
    power = np.random.default_rng(1).uniform(0.01, 0.03, 65_000)
    recording = Recording(FORMAT, power, (), ())
    windows: list[Window] = []
    with TraceFile(folder / "energy", FORMAT, Identity("lpm01a", "made up")) as file:
        file.write_items([Samples(0, power)])
        for number in range(1, 6):
            first, second = 12_000.0 * number - 11_000.25, 12_000.0 * number - 500.5
            energy = energies_by_method(recording, first, second)[EnergyMethod.LABD]
            file.write_items([Edge(first, "timestamp", rising=False)])
            windows.append(
                Window(
                    number,
                    f"{number}.bin",
                    100,
                    energy.runtime_s,
                    100 / energy.runtime_s,
                    CHECK,
                    (),
                    energy.energy_uj,
                    energy.power_uw,
                    energy.energy_uj / 100,
                    first,
                    second,
                )
            )
        file.annotate_windows(windows)
        file.close(complete=complete)
    return windows


def test_an_energy_run_comes_out_again(tmp_path: Path) -> None:
    windows = write_trace(tmp_path)
    found = scores(tmp_path)[Mode.ENERGY]
    assert found.runner == "labd"
    assert found.agrees is True
    assert codes(found) == []
    assert len(found.windows) == 5
    median = sorted(w.energy_per_inference_uj or 0 for w in windows)[2]
    assert found.score["median_energy_uj"] == pytest.approx(median, rel=1e-6)


def test_a_changed_sample_is_found(tmp_path: Path) -> None:
    write_trace(tmp_path)
    data = tmp_path / "energy.sigmf-data"
    samples = np.fromfile(data, "<f4")
    samples[5_000] += 1.0
    samples.tofile(data)
    found = scores(tmp_path)[Mode.ENERGY]
    assert found.agrees is False
    assert set(codes(found)) == {"window-differs", "trace-altered"}
    assert not is_sound(found)


def test_a_sample_changed_outside_the_windows_is_found(tmp_path: Path) -> None:
    write_trace(tmp_path)
    data = tmp_path / "energy.sigmf-data"
    samples = np.fromfile(data, "<f4")
    samples[3] += 1.0
    samples.tofile(data)
    found = scores(tmp_path)[Mode.ENERGY]
    assert codes(found) == ["trace-altered"]
    assert not is_sound(found)


def test_a_trace_without_its_metadata_is_reported(tmp_path: Path) -> None:
    write_trace(tmp_path)
    (tmp_path / "energy.sigmf-meta").unlink()
    bare = scores(tmp_path)[Mode.ENERGY]
    assert [found.text for found in bare.findings] == ["energy.sigmf-meta is missing"]
    window = asdict(Window(1, "a.bin", 10, 10.0, 1.0, CHECK))
    kept = {"mode": "energy", "verdict": "pass", "score": {"median_energy_uj": 1.0}}
    (tmp_path / "result-energy.json").write_text(json.dumps(kept | {"windows": [window]}))
    found = scores(tmp_path)[Mode.ENERGY]
    assert set(codes(found)) >= {"file-missing", "not-recomputed"}
    assert found.agrees is None
    assert not is_sound(found)


def test_outputs_that_are_gone_are_reported(tmp_path: Path) -> None:
    kept = {"mode": "accuracy", "verdict": "pass", "benchmark": "kws01"}
    score = {"score": {"top1_pct": 91.0}}
    (tmp_path / "result-accuracy.json").write_text(json.dumps(kept | score))
    found = scores(tmp_path)[Mode.ACCURACY]
    assert codes(found) == ["file-missing", "not-recomputed"]
    assert not is_sound(found)


def test_a_run_that_measured_nothing_has_lost_nothing(tmp_path: Path) -> None:
    kept = {"mode": "energy", "verdict": "invalid", "score": {}, "windows": []}
    (tmp_path / "result-energy.json").write_text(json.dumps(kept))
    assert codes(scores(tmp_path)[Mode.ENERGY]) == []


def test_a_run_cut_off_is_reported(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "energy", FORMAT, Identity("lpm01a", "made up"))
    file.write_items([Samples(0, np.ones(100))])
    file.close(complete=False)
    found = scores(tmp_path)[Mode.ENERGY]
    assert "trace-short" in codes(found)
    assert "after 0.100 s: its edges and windows are missing" in found.findings[0].text
    assert found.agrees is None


def test_a_killed_run_keeps_the_windows_that_were_marked(tmp_path: Path) -> None:
    write_trace(tmp_path, complete=False)
    found = scores(tmp_path)[Mode.ENERGY]
    assert found.agrees is True
    assert [finding.text for finding in found.findings] == [
        "the recording was cut off after 65.000 s: it holds 5 edges and 5 windows"
    ]


def test_a_damaged_trace_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "energy.sigmf-meta").write_text("{")
    found = scores(tmp_path)[Mode.ENERGY]
    assert "file-damaged" in codes(found)
    assert not is_sound(found)


async def test_results_are_kept_beside_the_evidence(tmp_path: Path) -> None:
    windows = write_trace(tmp_path)
    shorter = [replace(window, runtime_s=9.0, throughput_ips=100 / 9) for window in windows]
    with (tmp_path / "accuracy-outputs.csv").open("w", newline="") as file:
        for name, label in zip(KWS_FILES, KWS_LABELS, strict=True):
            outputs = [0.9 if c == label else 0.01 for c in range(12)]
            csv.writer(file).writerow([name, label, *outputs])
    evidence = RunEvidence(tmp_path)
    for mode, score, measured in (
        (Mode.ACCURACY, {"top1_pct": 99.0, "auc": 1.0}, ()),
        (Mode.PERFORMANCE, {"median_throughput_ips": 100 / 9}, shorter),
        (Mode.ENERGY, {"median_energy_uj": 1.0}, windows),
    ):
        result = ModeResult(mode=mode, verdict=Verdict.PASS, score=score, windows=tuple(measured))
        await evidence.write_result_copy("job", "kws01", result)
    found = scores(tmp_path)
    assert [each.benchmark for each in found.values()] == ["kws01"] * 3
    assert codes(found[Mode.ACCURACY]) == ["score-differs"]
    assert found[Mode.PERFORMANCE].agrees is True
    assert codes(found[Mode.PERFORMANCE]) == ["window-short"] * 5
    assert codes(found[Mode.ENERGY]) == ["score-differs"]
    kept = json.loads((tmp_path / "result-energy.json").read_text())
    assert kept["windows"][0] == json.loads(json.dumps(asdict(windows[0])))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"windows": [1, {}]}', '{"score": 3}'])
def test_a_damaged_result_is_a_finding_not_a_crash(tmp_path: Path, content: str) -> None:
    (tmp_path / "result-performance.json").write_text(content)
    (tmp_path / "accuracy-outputs.csv").write_text("a,b,c\n\n")
    for found in scores(tmp_path).values():
        assert "labd-bug" not in codes(found), found.findings
        assert found.agrees is None


async def write_performance(folder: Path, *windows: Window) -> SessionScore:
    counted = [window.throughput_ips for window in windows if window.is_counted]
    score = {"median_throughput_ips": float(np.median(counted))}
    result = ModeResult(
        mode=Mode.PERFORMANCE, verdict=Verdict.PASS, score=score, windows=tuple(windows)
    )
    await RunEvidence(folder).write_result_copy("job", "kws01", result)
    return scores(folder)[Mode.PERFORMANCE]


def lapped(number: int, inferences: int, runtime_us: int, **more: object) -> Window:
    """Return a window whose laps wrap."""
    start_us = 2**32 - 1000
    laps_us = (start_us, (start_us + runtime_us) % 2**32)
    window = Window(
        number, f"{number}.bin", inferences, runtime_us / 1e6, 1e6 * inferences / runtime_us, CHECK
    )
    return replace(window, laps_us=laps_us, **more)


async def test_kept_short_windows_do_not_count_here_either(tmp_path: Path) -> None:
    short = lapped(1, 100, 9_900_000, not_counted="too short: repeated with 107 inferences")
    found = await write_performance(
        tmp_path, short, *(lapped(n, 107, 10_600_000) for n in range(2, 7))
    )
    assert found.agrees is True
    assert codes(found) == []
    assert [window.number for window in found.windows] == [2, 3, 4, 5, 6]


async def test_a_window_left_out_without_a_reason_is_found(tmp_path: Path) -> None:
    better = lapped(1, 107, 10_500_000, not_counted="too short: repeated with 107 inferences")
    found = await write_performance(
        tmp_path, better, *(lapped(n, 107, 10_600_000) for n in range(2, 7))
    )
    assert codes(found) == ["window-left-out"]
    assert "window 1 does not count (too short: repeated" in found.findings[0].text
    assert "but lasts 10.5 s and has no later one with more inferences" in found.findings[0].text
    assert not is_sound(found)


async def test_runtimes_are_recomputed_from_the_laps(tmp_path: Path) -> None:
    windows = [lapped(n, 107, 10_600_000) for n in range(1, 6)]
    windows[2] = replace(windows[2], runtime_s=10.7, throughput_ips=10.0)
    found = await write_performance(tmp_path, *windows)
    assert found.agrees is False
    assert set(codes(found)) == {"window-differs"}


def test_an_energy_window_that_does_not_count_is_left_out(tmp_path: Path) -> None:
    windows = write_trace(tmp_path)
    meta = json.loads((tmp_path / "energy.sigmf-meta").read_text())
    last = meta["annotations"][-1]["labd:window"]
    assert last["number"] == 5
    last["not_counted"] = "measured again"
    (tmp_path / "energy.sigmf-meta").write_text(json.dumps(meta))
    found = scores(tmp_path)[Mode.ENERGY]
    assert codes(found) == ["window-left-out", "window-count"]
    assert len(found.windows) == len(windows) - 1


@pytest.mark.parametrize(
    ("count", "sent", "text"),
    [
        (1000, "", ""),
        (1000, "0" * 64, "but the inputs are not the published ones"),
        (500, "0" * 64, "500 files, the official set holds 1000: this is a part"),
    ],
)
async def test_data_are_judged_as_the_daemon_judges_them(
    tmp_path: Path, count: int, sent: str, text: str
) -> None:
    with (tmp_path / "accuracy-outputs.csv").open("w", newline="") as file:
        for name, label in list(zip(KWS_FILES, KWS_LABELS, strict=True))[:count]:
            csv.writer(file).writerow([name, label, *(float(c == label) for c in range(12))])
    record = DatasetRecord(
        folder="/sets/kws01",
        labels="y_labels.csv",
        labels_sha256="0" * 64,
        files=count,
        standing=DataStanding.CUSTOM,
        text="",
        sent=count,
        sent_sha256=sent,
    )
    details = ResultDetails(dataset=record)
    result = ModeResult(
        mode=Mode.ACCURACY, verdict=Verdict.PASS, score={"top1_pct": 100.0}, details=details
    )
    await RunEvidence(tmp_path).write_result_copy("job", "kws01", result)
    found = scores(tmp_path)[Mode.ACCURACY]
    assert found.score["top1_pct"] == 100.0
    texts = [each.text for each in found.findings if each.code == "unofficial"]
    assert [text in each for each in texts] == ([True] if text else [])
    assert is_sound(found) is not bool(text)


async def test_windows_on_one_input_are_reported(tmp_path: Path) -> None:
    windows = [lapped(n, 107, 10_600_000) for n in range(1, 6)]
    windows[3:] = [
        replace(each, input_file=windows[n].input_file) for n, each in enumerate(windows[3:])
    ]
    found = await write_performance(tmp_path, *windows)
    assert codes(found) == ["repeated-input"]
    text = "5 windows ran on 3 inputs; repeated: 1.bin, 2.bin"
    assert found.findings[0].text == text


async def test_timed_windows_on_other_data_are_reported(tmp_path: Path) -> None:
    record = DatasetRecord(
        folder="/sets/kws01",
        labels="y_labels.csv",
        labels_sha256="0" * 64,
        files=100,
        standing=DataStanding.PART,
        text="100 files, the official set holds 1000",
        sent=5,
        sent_sha256="0" * 64,
    )
    result = ModeResult(
        mode=Mode.PERFORMANCE,
        verdict=Verdict.PASS,
        score={"median_throughput_ips": 107 / 10.6},
        windows=tuple(lapped(n, 107, 10_600_000) for n in range(1, 6)),
        details=ResultDetails(dataset=record),
    )
    for benchmark, expected in (("kws01", ["unofficial"]), ("digits01", [])):
        await RunEvidence(tmp_path).write_result_copy("job", benchmark, result)
        assert codes(scores(tmp_path)[Mode.PERFORMANCE]) == expected


def write_accuracy(folder: Path, outputs: str, *inferences: str) -> SessionScore:
    log = CompressedLog(folder / "accuracy-inferences.csv.gz")
    log.write("".join(f"{row}\n" for row in inferences))
    log.close()
    (folder / "accuracy-outputs.csv").write_text(outputs)
    return scores(folder)[Mode.ACCURACY]


def test_outputs_are_compared_with_the_log_of_the_inferences(tmp_path: Path) -> None:
    log = ("a.bin,1,10,20,100,200,0.25", "a.bin,2,30,40,300,400,0.5", "b.bin,1,50,60,,,1.0")
    whole = write_accuracy(tmp_path / "1", "a.bin,0,0.375\nb.bin,1,1.0\n", *log)
    assert "outputs-altered" not in codes(whole)
    altered = write_accuracy(tmp_path / "2", "a.bin,0,0.376\nb.bin,1,1.0\n", *log)
    [text] = [each.text for each in altered.findings if each.code == "outputs-altered"]
    assert text.startswith("1 of 2 outputs are not the means of the inferences")
    assert text.endswith("the first: a.bin")
    assert not is_sound(altered)
    added = write_accuracy(tmp_path / "3", "a.bin,0,0.375\nb.bin,1,1.0\nc.bin,1,1.0\n", *log)
    assert "outputs-altered" in codes(added)


def test_a_damaged_log_of_inferences_is_a_finding(tmp_path: Path) -> None:
    damaged = write_accuracy(tmp_path / "1", "a.bin,0,0.375\n", "a.bin,1,10,20,100,200,x")
    assert "file-damaged" in codes(damaged)
    (tmp_path / "1" / "accuracy-inferences.csv.gz").write_text("plain")
    assert "file-damaged" in codes(scores(tmp_path / "1")[Mode.ACCURACY])
