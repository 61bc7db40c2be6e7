"""What a run states about its data set, and when that makes its verdict invalid."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from labd.core.errors import JobError
from labd.core.model import DataStanding, EnergyMethod, Mode, Verdict
from labd.core.suite import find_benchmark
from labd.procedure.dataset import SentInputs, find_dataset
from labd.procedure.mode_run import EvidenceWriter, ModeRun, Reporter
from labd.procedure.run import add_dataset_record, check_model
from labd.station.open_station import Ready, StationBench
from labd.wire.results import ModeResult
from tests.unit.rescore.made_folders import KWS_FILES, KWS_LABELS


def run_of(folder: Path, count: int, name: str = "kws01") -> ModeRun:
    """A run that has sent the first ``count`` files of kws01's list, with made-up bytes."""
    entry = find_benchmark(name)
    home = folder / name
    home.mkdir(parents=True)
    rows = list(zip(KWS_FILES, KWS_LABELS, strict=True))[:count]
    labels = [label % entry.classes for _, label in rows]
    text = "".join(
        f"{f},{entry.classes},{label}\n" for (f, _), label in zip(rows, labels, strict=True)
    )
    (home / "y_labels.csv").write_text(text)
    for number, (file, _) in enumerate(rows):
        (home / file).write_bytes(number.to_bytes(2, "big") * (entry.input_bytes // 2))
    run = ModeRun(
        cast("StationBench", None),
        cast("Ready", None),
        EnergyMethod.LABD,
        entry,
        find_dataset([folder], entry, tuple(Mode)),
        cast("Reporter", None),
        cast("EvidenceWriter", None),
    )
    for row in run.dataset.rows:
        run.sent.add(run.dataset.read_file(row), row.file, 0)
    return run


RESULT = ModeResult(mode=Mode.ACCURACY, verdict=Verdict.PASS, score={"top1_pct": 91.0})


def test_a_part_of_the_official_set_is_no_pass(tmp_path: Path) -> None:
    run = run_of(tmp_path, 100)
    found = add_dataset_record(RESULT, run, custom_data=False)
    assert found.verdict is Verdict.INVALID
    [reason] = found.reasons
    assert "100 files, the official set holds 1000" in reason
    assert "--custom-data" in reason
    record = found.details.dataset
    assert record is not None
    assert (record.standing, record.files, record.sent) == (DataStanding.PART, 100, 100)
    bytes_sent = b"".join(run.dataset.read_file(row) for row in run.dataset.rows)
    assert record.sent_sha256 == hashlib.sha256(bytes_sent).hexdigest()
    labels = (tmp_path / "kws01" / "y_labels.csv").read_bytes()
    assert record.labels_sha256 == hashlib.sha256(labels).hexdigest()


def test_a_job_may_ask_for_its_own_data_which_are_named(tmp_path: Path) -> None:
    found = add_dataset_record(RESULT, run_of(tmp_path, 100), custom_data=True)
    assert (found.verdict, found.reasons) == (Verdict.PASS, ())
    assert found.details.dataset is not None
    assert found.details.dataset.standing is DataStanding.PART


@pytest.mark.parametrize("mode", list(Mode))
def test_other_bytes_under_the_official_names_are_no_pass(tmp_path: Path, mode: Mode) -> None:
    run = run_of(tmp_path, 1000)
    result = RESULT.model_copy(update={"mode": mode})
    found = add_dataset_record(result, run, custom_data=False)
    assert found.verdict is Verdict.INVALID
    assert "the inputs are not the published ones" in found.reasons[0]


def test_the_bytes_of_a_mode_that_ended_early_are_not_judged(tmp_path: Path) -> None:
    run = replace(run_of(tmp_path, 1000), sent=SentInputs())
    row = run.dataset.window_rows[0]
    run.sent.add(run.dataset.read_file(row), row.file, 0)
    ended = RESULT.model_copy(update={"mode": Mode.PERFORMANCE, "verdict": Verdict.INVALID})
    found = add_dataset_record(ended, run, custom_data=False)
    assert not any("not the published ones" in reason for reason in found.reasons)
    assert found.details.dataset is not None
    assert found.details.dataset.standing is DataStanding.UNVERIFIED
    assert found.details.dataset.sent == 1


def test_a_benchmark_without_official_data_passes_on_its_own(tmp_path: Path) -> None:
    found = add_dataset_record(RESULT, run_of(tmp_path, 20, "digits01"), custom_data=False)
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize("model", ["kws01", "KWS01", "kws01-mine", "kws01_pruned", " kws01.v2 "])
def test_a_variant_of_a_model_runs_its_benchmark(model: str) -> None:
    check_model(model, find_benchmark("kws01"), "")


@pytest.mark.parametrize("model", ["ic01", "kws010", "kws01b", "kws0", "mykws01", ""])
def test_another_model_is_refused_by_who_put_it_there(model: str) -> None:
    entry = find_benchmark("kws01")
    with pytest.raises(JobError, match=r"the board runs .*; the job needs kws01 or") as caught:
        check_model(model, entry, "")
    assert "flash that benchmark's firmware" in caught.value.remedy
    with pytest.raises(JobError, match=r"mine-energy.elf, which labd flashed, holds") as caught:
        check_model(model, entry, "mine-energy.elf")
    assert "change the image's model string" in caught.value.remedy
