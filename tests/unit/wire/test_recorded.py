"""The JSON on the wire and in files: recorded before its parts had models, it must not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labd.core.jobs import JobSpec
from labd.core.model import ClockCheck, Mode, Verdict, Window
from labd.daemon.job_log import JobLog
from labd.daemon.run_recorder import RunEvidence, RunReporter
from labd.store.journal.async_journal import AsyncJournal
from labd.store.journal.journal import Journal
from labd.store.traces.sigmf import annotate_window
from labd.wire.job_events import EVENT, EventType, Queued
from labd.wire.results import WINDOW, MeasuredWindow, ModeResult, ResultFile
from labd.wire.topics import Topics

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded_job.json").read_text())
EVENTS: list[dict[str, Any]] = RECORDED["events"]
RESULTS: list[dict[str, Any]] = RECORDED["results"]


def test_every_type_of_event_was_recorded() -> None:
    assert {each["type"] for each in EVENTS} == set(EventType)


@pytest.mark.parametrize("recorded", EVENTS, ids=lambda each: f"{each['type']}-{each['seq']}")
def test_an_event_is_read_and_written_as_it_was(recorded: dict[str, Any]) -> None:
    event = EVENT.validate_python(recorded)
    assert json.loads(event.to_json_bytes()) == recorded


@pytest.mark.parametrize("recorded", RESULTS, ids=lambda each: each["mode"])
def test_a_result_is_read_and_written_as_it_was(recorded: dict[str, Any]) -> None:
    assert ModeResult.model_validate(recorded).model_dump(mode="json") == recorded


def test_a_windows_annotation_is_written_as_it_was() -> None:
    recorded = RECORDED["annotation"]
    assert annotate_window(WINDOW.validate_python(recorded["labd:window"])) == recorded


async def test_a_run_writes_what_was_recorded(tmp_path: Path) -> None:
    """From the procedure's values to the rows, the events and the file."""
    url = f"sqlite:///{tmp_path / 'labd.sqlite3'}"
    queued = EVENT.validate_python(EVENTS[0]).data
    assert isinstance(queued, Queued)
    spec = JobSpec("alice-1", queued.user, queued.benchmark, queued.modes)
    results = [ModeResult.model_validate(each) for each in RESULTS]
    async with AsyncJournal(url) as journal:
        jobs = JobLog(Topics("lab"), journal, lambda: 7)
        await jobs.submit_job(spec)
        await jobs.lease_job(spec.job, "virtual-1")
        await jobs.start_attempt(spec.job)
        reporter = RunReporter(jobs, spec.job, 1, lambda: 0.0)
        await reporter.report_phase(Mode.ENERGY, "prepare")
        await reporter.report_progress(1, 5, "windows")
        for result in results:
            for window in result.windows:
                await reporter.report_window(result.mode, window)
            await reporter.store_result(result)
        await jobs.finish_job(spec.job, Verdict.PASS, "")
        found = [
            json.loads(each.to_json_bytes())
            for each in await jobs.query_journal(Journal.list_events, spec.job)
        ]
        snapshot = await jobs.query_journal(Journal.find_snapshot, spec.job)
    recorded = [each for each in EVENTS if each["job"] == spec.job]
    assert _sorted(found) == _sorted(recorded)
    assert snapshot is not None
    assert [each.result for each in snapshot.results] == results
    await RunEvidence(tmp_path).write_result_copy(spec.job, spec.benchmark, results[2])
    assert json.loads((tmp_path / "result-energy.json").read_text()) == RECORDED["file"]


def _sorted(events: list[dict[str, Any]]) -> list[str]:
    """What is the same whenever and in whatever order it happened."""
    fixed = [{k: v for k, v in event.items() if k not in {"seq", "t_ns"}} for event in events]
    return sorted(json.dumps(event, sort_keys=True) for event in fixed)


def test_what_older_versions_did_not_write_yet_is_not_asked_for() -> None:
    """Windows once ended with ``samples``; details had neither clocks nor findings."""
    window = dict(list(RECORDED["annotation"]["labd:window"].items())[:13])
    assert list(window)[-1] == "samples"
    assert WINDOW.validate_python(window).charge_uc is None
    recorded = {"mode": "energy", "verdict": "pass", "reasons": [], "score": {}, "windows": []}
    old = recorded | {"details": {"trace": "energy", "method": "mlcommons", "more": 1}}
    read = ModeResult.model_validate(old)
    assert read.details.clocks is None
    assert ResultFile.model_validate(old).benchmark == ""
    assert read.model_dump(mode="json")["details"]["more"] == 1


def test_a_window_keeps_its_numbers_in_its_event() -> None:
    check = ClockCheck("host", 1.0, 0.1, "text")
    window = Window(3, "a.bin", 10, 1.0, 10.0, check, ("too short",), methods={"labd": 1.5})
    event = MeasuredWindow.from_window(Mode.ENERGY, window)
    assert (event.mode, event.valid) == (Mode.ENERGY, False)
    assert WINDOW.dump_python(event) == WINDOW.dump_python(window)
