"""`labd export` and `labd traces` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from labd.cli.labd import main
from labd.core.jobs import JobSpec
from labd.core.model import Identity, Mode, Samples, StreamFormat, Verdict
from labd.store.journal.attempts import pin_job, record_removal
from labd.store.journal.journal import Journal
from labd.store.run_files import remove_run
from labd.store.traces.writer import TraceFile

FORMAT = StreamFormat(1000.0, 0.0005, 100.0, "energy", 3.0)
STATIONS = """
[lab]
state = "state"
[traces]
keep_days = 1
[[station]]
name = "v1"
board = "nucleo-l4r5zi"
emulated = {}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABD_CONFIG", raising=False)
    (tmp_path / "stations.toml").write_text(STATIONS)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def make(path: Path) -> None:
    with TraceFile(path, FORMAT, Identity("power", "LPM01A")) as file:
        file.write_items([Samples(0, np.ones(100))])


@pytest.mark.parametrize(
    "name", ["run/energy", "run/energy.sigmf-data", "run/energy.sigmf-meta", "run"]
)
def test_a_trace_by_its_path(home: Path, name: str) -> None:
    make(home / "run" / "energy")
    done = run("export", name)
    assert done.exit_code == 0, done.output
    assert done.output == "energy.csv: 100 rows of run/energy\n"
    assert (home / "energy.csv").read_text().count("\n") == 105


def test_a_trace_by_its_job(home: Path) -> None:
    for attempt in (1, 2, 10):
        make(home / "state" / "traces" / "j1" / str(attempt) / "energy")
    assert run("export", "j1", "--decimate", "10").output.startswith("j1-10-energy.csv: 10 rows")
    assert run("export", "j1/2", "-o", "x.parquet").output.startswith("x.parquet: 100 rows")
    assert (home / "x.parquet").read_bytes()[:4] == b"PAR1"
    missing = run("export", "j1/3")
    assert missing.exit_code == 2
    assert "attempt 3 of j1 left no trace" in missing.output
    assert "attempts with files: 1, 2, 10" in missing.output
    make(home / "state" / "traces" / "j1" / "2" / "again")
    assert "has several traces" in run("export", "j1/2").output


@pytest.mark.parametrize("name", ["nix", "..", "state/..", "/", "nix/energy.sigmf-meta"])
def test_no_such_trace(home: Path, name: str) -> None:
    (home / "state" / "traces").mkdir(parents=True)
    done = run("export", name)
    assert done.exit_code == 2
    assert "no trace" in done.output
    assert "Traceback" not in done.output


def test_a_file_that_is_there_is_not_replaced_unasked(home: Path) -> None:
    make(home / "energy")
    (home / "energy.csv").write_text("mine")
    refused = run("export", "energy")
    assert refused.exit_code == 2
    assert "energy.csv is there already (--force replaces it)" in refused.output
    assert (home / "energy.csv").read_text() == "mine"
    assert run("export", "energy", "--force").exit_code == 0
    assert "index,t_s,power_w" in (home / "energy.csv").read_text()
    nowhere = run("export", "energy", "-o", "no/where.csv")
    assert "there is no folder no" in nowhere.output
    assert "no window 7" in run("export", "energy", "--window", "7", "-o", "y.csv").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "nan"], "nan s is not in a trace (use 0 to 0.1, the trace's seconds)"),
        (["--to", "inf"], "inf s is not in a trace"),
        (["--from=-1"], "-1 s is not in a trace"),
        (["--from", "0.05", "--to", "0.01"], "is not before the end at 0.01 s"),
        (["--window", "99"], "energy has no window 99 (it has none with edges)"),
        (["--decimate", "101"], "101 samples per row, but there are 100 (use 1 to 100)"),
        (["-o", "x.xlsx"], "does not write .xlsx files (name it .csv, .parquet, .jls, or give"),
    ],
)
def test_what_cannot_be_exported_is_explained(home: Path, arguments: list[str], said: str) -> None:
    make(home / "energy")
    refused = run("export", "energy", *arguments)
    assert refused.exit_code == 2
    assert refused.output.startswith("Error: ")
    assert said in refused.output
    assert {path.suffix for path in home.iterdir()} == {
        ".toml",
        ".sigmf-data",
        ".sigmf-meta",
        ".sigmf-pyramid",
    }


def test_a_format_that_is_named_goes_before_the_suffix(home: Path) -> None:
    make(home / "energy")
    assert run("export", "energy", "-f", "csv", "-o", "x.txt").exit_code == 0
    assert run("export", "energy", "-o", "plain").exit_code == 0
    assert (home / "x.txt").read_text() == (home / "plain").read_text()


def test_files_that_were_swept_are_said_to_be(home: Path) -> None:
    (home / "state").mkdir()
    journal = Journal(f"sqlite:///{home / 'state' / 'labd.sqlite3'}")
    journal.submit_job(JobSpec("j1", "ann", "digits01", (Mode.ENERGY,)), 1)
    for now in (1, 2):
        journal.lease_job("j1", "v1", now)
        journal.start_attempt("j1", now)
        if now == 1:
            journal.requeue_job("j1", "a fault", now)
    journal.finish_job("j1", Verdict.PASS, "", 3)
    make(home / "state" / "traces" / "j1" / "2" / "energy")
    assert record_removal(journal, "j1", 1, 4)
    refusal = "the files of j1, attempt 1, were removed to make room: keep_days or keep_gb"
    assert refusal in run("export", "j1/1").output
    assert run("export", "j1").output.startswith("j1-2-energy.csv")
    assert record_removal(journal, "j1", 2, 5)
    journal.close()
    remove_run(home / "state" / "traces", "j1", 2)
    swept = run("export", "j1")
    assert swept.exit_code == 2
    assert "the files of j1, attempts 1, 2, were removed to make room" in swept.output
    assert "`labctl show j1` has its scores" in swept.output
    assert "none of a job of that name" in run("export", "j2").output


def test_traces_lists_what_would_go(home: Path) -> None:
    refused = run("traces")
    assert refused.exit_code == 2
    assert "no labd has served this lab here" in refused.output
    (home / "state").mkdir()
    journal = Journal(f"sqlite:///{home / 'state' / 'labd.sqlite3'}")
    for now, job in enumerate(["old", "pinned", "running"], 1):
        journal.submit_job(JobSpec(job, "ann", "digits01", (Mode.ENERGY,)), now)
        journal.lease_job(job, "v1", now)
        journal.start_attempt(job, now)
        if job != "running":
            journal.finish_job(job, Verdict.PASS, "", now)
        make(home / "state" / "traces" / job / "1" / "energy")
    pin_job(journal, "pinned", "ann", 9)
    journal.close()
    make(home / "state" / "traces" / "stranger" / "1" / "energy")
    found = {each["job"]: each for each in json.loads(run("traces", "--json").output)}
    assert {job: (each["stays"], each["goes"]) for job, each in found.items()} == {
        "old": ("", "older than 1 days"),
        "pinned": ("pinned", ""),
        "running": ("in progress", ""),
        "stranger": ("not in the journal", ""),
    }
    text = run("traces").output
    assert "in 4 runs" in text
    assert "kept: 1 days, any size" in text
    assert (home / "state" / "traces" / "old" / "1").exists()
