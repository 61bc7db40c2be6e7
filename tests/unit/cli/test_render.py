"""What `labctl show` and the results table say, at the width of a narrow terminal."""

from __future__ import annotations

from typing import Any

import pytest

from labd.cli import render, tables, terminal
from labd.cli.render_energy import format_energy_score
from labd.core.model import EnergyMethod
from labd.wire.job_events import EVENT, Event
from labd.wire.messages import JobStatus, ModeSummary
from labd.wire.results import WINDOW

SCORE = {
    "median_energy_uj": 54.774,
    "median_energy_uj_labd": 54.774,
    "median_energy_uj_eembc": 54.779,
    "median_energy_uj_mlcommons": 54.7740001,
    "idle_power_uw": 1665.3,
}
BY_EEMBC = SCORE | {"median_energy_uj": 54.779}


def window(number: int, **more: object) -> dict[str, Any]:
    return {
        "mode": "energy",
        "number": number,
        "input_file": "a.bin",
        "inferences": 949,
        "runtime_s": 10.507,
        "throughput_ips": 90.32,
        "check": {"clock": "io-manager", "seconds": 10.50681, "tolerance_s": 0.009, "note": ""},
        "problems": [],
        "energy_per_inference_uj": 54.8,
        "energy_uncertainty_uj": 9.905,
        "charge_uc": 17336.6 + number,
        "idle_power_uw": 1665.0,
        "baseline_per_inference_uj": 18.43,
        **more,
    }


def job(score: dict[str, float], **more: Any) -> JobStatus:
    summary = {"mode": "energy", "attempt": 1, "verdict": "pass", "score": score}
    return JobStatus.model_validate(
        {
            "job": "j1",
            "user": "ann",
            "benchmark": "digits01",
            "modes": ("energy",),
            "priority": "normal",
            "state": "done",
            "verdict": "pass",
            "attempt": 1,
            "submitted_ns": 1,
            "updated_ns": 1,
            "next_seq": 9,
            "results": (ModeSummary.model_validate(summary),),
            **more,
        }
    )


def event(kind: str, data: dict[str, Any]) -> Event:
    table = {"job": "j1", "seq": 1, "t_ns": 1, "type": kind, "station": "v1", "attempt": 1}
    return EVENT.validate_python({**table, "data": data})


def shown(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: JobStatus,
    *events: Event,
) -> str:
    """What a person sees on 100 columns."""
    monkeypatch.setattr(terminal, "PIPE_WIDTH", 100)
    render.show_job(status, events)
    return capsys.readouterr().out


def test_energy_by_every_method_and_what_else_is_known() -> None:
    windows = [WINDOW.validate_python(window(number)) for number in (1, 2, 3)]
    assert format_energy_score(SCORE, windows, EnergyMethod.LABD) == [
        "54.774 µJ/inf by labd · 54.779 eembc · 54.774 mlcommons",
        "idle 1.665 mW, 18.43 µJ/inf of it baseline · 17339 µC per window",
    ]
    assert format_energy_score(BY_EEMBC, [], EnergyMethod.EEMBC) == [
        "54.779 µJ/inf by eembc · 54.774 labd · 54.774 mlcommons",
        "idle 1.665 mW",
    ]
    bare = {"median_energy_uj": 2.0}
    less = WINDOW.validate_python(window(1, idle_power_uw=None, charge_uc=None))
    assert format_energy_score(bare, [less], EnergyMethod.LABD) == ["2.000 µJ/inf by labd"]
    assert format_energy_score({}, windows, EnergyMethod.LABD) == []


def test_another_method_is_marked_in_the_results() -> None:
    [summary] = job(SCORE).results
    assert tables.format_mode_score(summary) == "54.774"
    by_labd = summary.model_copy(update={"method": EnergyMethod.LABD})
    assert tables.format_mode_score(by_labd) == "54.774"
    by_mlcommons = summary.model_copy(update={"method": EnergyMethod.MLCOMMONS})
    assert tables.format_mode_score(by_mlcommons) == "54.774 by mlcommons"


def test_a_job_is_shown_whole_on_100_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = "2 samples lost in the window, the first of them at index 1234; " * 3
    windows = [window(1, mode="performance"), window(2, problems=[problem.strip()])]
    details = {"trace": "energy", "method": "eembc", "simulated": True}
    result = {"mode": "energy", "verdict": "pass", "score": BY_EEMBC, "details": details}
    events = [*(event("window", each) for each in windows), event("result", result)]
    text = shown(capsys, monkeypatch, job(BY_EEMBC, removed=(1,)), *events)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "energy: 54.779 µJ/inf by eembc · 54.774 labd · 54.774 mlcommons" in lines
    assert "        idle 1.665 mW, 18.43 µJ/inf of it baseline · 17339 µC per window" in lines
    assert "traces removed to make room: attempt 1" in lines
    assert "  trace: energy (removed)" in lines
    assert "energy window 2: 2 samples lost in the window, the first of them at index" in text
    (first, second) = (line.split() for line in lines if "io-manager 10.506810" in line)
    assert first[:2] == ["performance", "1"]
    assert (first[-4], first[-1]) == ("1.665", "yes")
    assert (second[1], second[-1]) == ("2", "no")


def test_accuracy_is_shown_with_its_auc_and_its_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    score = {"inputs": 360.0, "top1_pct": 97.8, "auc": 0.9991, "auc_eembc": 0.9987}
    data = {"folder": "/sets/kws01", "labels": "y_labels.csv", "labels_sha256": "0" * 64}
    data |= {"files": 360, "standing": "part", "text": "360 files, the official set holds 1000"}
    data |= {"sent": 360, "sent_sha256": "0123456789abcdef" * 4}
    result = {"mode": "accuracy", "verdict": "invalid", "score": score}
    whole = result | {"details": {"dataset": data}}
    text = shown(capsys, monkeypatch, job({}, custom_data=True), event("result", whole))
    assert "accuracy: top-1 97.8 %, AUC 0.999, AUC 1.00 by eembc, 360 inputs" in text
    assert "pass, custom data" in text
    joined = " ".join(text.split())
    assert (
        "data: part: 360 files, the official set holds 1000; 360 inputs sent, SHA-256 "
        "0123456789abcdef…" in joined
    )


def test_files_that_are_there_are_not_called_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {"mode": "energy", "verdict": "pass", "score": SCORE, "details": {"trace": "energy"}}
    text = shown(capsys, monkeypatch, job(SCORE, pinned=True), event("result", result))
    assert "removed" not in text
    assert "traces: pinned" in text
    assert "  trace: energy" in text


def test_a_window_that_does_not_count_is_marked_and_shown_in_its_last_form(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    too_short = "lasts 9.900000 s, less than 10 s"
    reason = "too short: repeated with 112 inferences"
    first = window(1, mode="performance", problems=[too_short], not_counted=reason)
    second = window(2, mode="performance")
    replaced = second | {"not_counted": "measured again as window 3"}
    events = [event("window", each) for each in (first, second, replaced)]
    text = shown(capsys, monkeypatch, job(SCORE), *events)
    assert text.count("not counted") == 4  # twice in the table, twice below it
    assert f"performance window 1: {too_short}" in text
    assert f"performance window 1: not counted: {reason}" in text
    assert "performance window 2: not counted: measured again as window 3" in text
    line = render.format_event_line(events[0])
    assert line.endswith(f" — not counted: {reason} — {too_short}")
    assert "INVALID" not in line


def test_what_is_kept_and_where_takes_a_few_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flashed = {"model": "kws01", "firmware": "kws01-performance.elf", "firmware_sha256": "a1b2"}
    kept = {"folder": "traces/j1/1", "transcript": "transcript.txt.gz"}
    outputs = {"outputs": "accuracy-outputs.csv", "inferences": "accuracy-inferences.csv.gz"}
    counts = {"trace": "energy", "monitor_counts": {"lost_samples": 0, "gaps": 0}}
    unknown = {"model": "kws01", "dut": "board 7", "profile": "Tiny V0.1"}
    details = {"accuracy": flashed | kept | outputs, "energy": unknown | kept | counts}
    events = [
        event("result", {"mode": mode, "verdict": "pass", "score": {}, "details": each})
        for mode, each in details.items()
    ]
    lines = shown(capsys, monkeypatch, job(SCORE), *events).splitlines()
    first = lines.index("measured: model kws01, firmware kws01-performance.elf, SHA-256 a1b2")
    assert [line.rstrip() for line in lines[first + 1 : first + 6]] == [
        "measured: model kws01, firmware not flashed by labd, the board reports: board 7 Tiny V0.1",
        (
            "files: transcript.txt.gz, accuracy-outputs.csv, accuracy-inferences.csv.gz, "
            "result-accuracy.json,"
        ),
        "energy.sigmf-data, result-energy.json",
        "       in traces/j1/1 of the daemon's state directory",
        "accuracy",
    ]
    assert "  power monitor: 0 lost samples, 0 gaps" in lines
    failed = shown(capsys, monkeypatch, job(SCORE))
    assert "files: what the attempt wrote until it ended" in failed
    removed = shown(capsys, monkeypatch, job(SCORE, removed=(1,)), *events)
    assert "files: removed from traces/j1/1; scores, windows and events are kept" in removed
