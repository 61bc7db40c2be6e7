from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from labd.core.blame import Fault
from labd.core.errors import ConfigError, InfraError
from labd.core.jobs import JobSpec
from labd.core.model import EnergyMethod, Mode
from labd.store.journal.attempts import pin_job
from labd.store.journal.journal import Journal
from labd.store.journal.publication import read_unpublished

SPEC = JobSpec("j1", "ann", "kws01", tuple(Mode))


def test_commits_are_durable(url: str, tmp_path: Path) -> None:
    journal = Journal(url)
    with journal._engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    journal.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert (tmp_path / "labd.sqlite3").exists()


def test_a_newer_labds_journal_is_left_alone(url: str, tmp_path: Path) -> None:
    Journal(url).close()
    with sqlite3.connect(tmp_path / "labd.sqlite3") as raw:
        raw.execute("UPDATE schema SET version = 99")
    raw.close()
    with pytest.raises(ConfigError, match="has schema version 99, this labd knows 9") as caught:
        Journal(url)
    assert caught.value.code == "journal-version"


def make_journal_v3(path: Path) -> sqlite3.Connection:
    """Make a journal as labd wrote it at schema version 3, with four jobs."""
    raw = sqlite3.connect(path)
    raw.executescript((Path(__file__).parent / "journal-v3.sql").read_text())
    return raw


def test_an_older_journal_is_brought_up_to_date_and_keeps_its_jobs(
    url: str, tmp_path: Path
) -> None:
    with closing(make_journal_v3(tmp_path / "labd.sqlite3")):
        pass
    Journal(url).close()
    journal = Journal(url)
    states = {job.spec.job: job.state for job in journal.list_jobs()}
    assert states == {"done": "done", "retried": "queued", "running": "running", "queued": "queued"}
    assert [event.type for event in journal.list_events("retried")][-1] == "requeued"
    assert journal.list_faults("retried") == [Fault(1, "s1", "", "no answer within 5 s")]
    assert read_unpublished(journal) == []  # an older labd published what it committed
    snapshot = journal.find_snapshot("done")
    assert snapshot is not None
    assert (snapshot.pinned, snapshot.results[0].result.score["top1_pct"]) == (True, 98.5)
    made = Journal(f"sqlite:///{tmp_path / 'new.sqlite3'}")
    with journal.engine.connect() as old, made.engine.connect() as new:
        assert _columns(old) == _columns(new)
    made.close()
    journal.close()


def _columns(connection: Connection) -> dict[str, set[tuple[str, str]]]:
    """Name and type of every column, by table."""
    found = inspect(connection)
    return {
        table: {(each["name"], str(each["type"])) for each in found.get_columns(table)}
        for table in found.get_table_names()
    }


def test_a_journal_keeps_the_id_that_it_was_made_with(url: str, tmp_path: Path) -> None:
    with closing(make_journal_v3(tmp_path / "labd.sqlite3")):
        pass
    ids: list[str] = []
    for address in (url, url, f"sqlite:///{tmp_path / 'new.sqlite3'}"):
        journal = Journal(address)
        ids.append(journal.journal_id())
        journal.close()
    assert ids[0] == ids[1] != ids[2]
    assert all(ids)


def test_a_journal_of_version_1_keeps_its_arithmetic(url: str, tmp_path: Path) -> None:
    """Version 1 knew one way to make energy of samples, and its jobs keep it."""
    with closing(make_journal_v3(tmp_path / "labd.sqlite3")) as raw, raw:
        raw.execute("ALTER TABLE job DROP COLUMN energy_method")
        raw.execute("UPDATE schema SET version = 1")
    for _ in range(2):
        journal = Journal(url)
        job = journal.find_job("queued")
        journal.close()
        assert job is not None
        assert job.spec.energy_method is EnergyMethod.MLCOMMONS


def test_a_journal_from_before_pins_gets_them(url: str, tmp_path: Path) -> None:
    with closing(make_journal_v3(tmp_path / "labd.sqlite3")) as raw, raw:
        raw.execute("DROP TABLE pin")
        raw.execute("DROP TABLE removed")
        raw.execute("UPDATE schema SET version = 2")
    journal = Journal(url)
    assert pin_job(journal, "queued", "ann", 2)
    snapshot = journal.find_snapshot("queued")
    assert snapshot is not None
    assert (snapshot.pinned, snapshot.removed) == (True, ())
    journal.close()


def test_a_journal_from_before_data_sets_were_judged(url: str, tmp_path: Path) -> None:
    journal = Journal(url)
    journal.submit_job(replace(SPEC, labels="y_labels_alt.csv", custom_data=True), 1)
    kept = journal.find_job("j1")
    journal.close()
    assert kept is not None
    assert (kept.spec.labels, kept.spec.custom_data) == ("y_labels_alt.csv", True)
    with closing(make_journal_v3(tmp_path / "old.sqlite3")):
        pass
    journal = Journal(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    job = journal.find_job("queued")
    journal.close()
    assert job is not None
    assert (job.spec.labels, job.spec.custom_data) == ("", False)


def test_what_is_no_database(url: str, tmp_path: Path) -> None:
    (tmp_path / "labd.sqlite3").write_bytes(b"a shopping list" * 100)
    with pytest.raises(ConfigError, match="file is not a database"):
        Journal(url)


def test_somebody_elses_database(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "labd.sqlite3") as raw:
        raw.execute("CREATE TABLE shopping (item TEXT)")
    raw.close()
    with pytest.raises(ConfigError, match="something other than labd's journal"):
        Journal(url)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unable to open database file"):
        Journal(f"sqlite:///{tmp_path / 'nowhere' / 'labd.sqlite3'}")


@pytest.mark.parametrize("url", ["", "nonsense", "oracledb2://x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="names no database that labd supports"):
        Journal(url)


def test_a_journal_locked_by_another_program(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labd.store.journal.database.BUSY_TIMEOUT_S", 0.1)
    journal = Journal(url)
    other = sqlite3.connect(tmp_path / "labd.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(InfraError, match="database is locked"):
        journal.submit_job(SPEC, 1)
    other.execute("ROLLBACK")
    other.close()
    journal.submit_job(SPEC, 1)
    journal.close()


KILLED = """
import os, signal, sys
from labd.core.jobs import JobSpec
from labd.core.model import EnergyMethod, Mode
from labd.store.journal import journal as module
journal = module.Journal(sys.argv[1])
journal.submit_job(JobSpec("j1", "ann", "kws01", tuple(Mode)), 1)
real = module.append_event
def dying(*args, **more):
    real(*args, **more)
    os.kill(os.getpid(), signal.SIGKILL)
module.append_event = dying
journal.lease_job("j1", "s1", 2)
"""


def test_a_process_killed_inside_a_transaction_changes_nothing(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, url], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    journal = Journal(url)
    assert [event.type for event in journal.list_events("j1")] == ["queued"]
    assert journal.busy_jobs() == []
    assert journal.lease_job("j1", "s1", 3).next_seq == 2
    journal.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_journal_that_may_not_be_written(url: str, tmp_path: Path) -> None:
    Journal(url).close()
    (tmp_path / "labd.sqlite3").chmod(0o444)
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigError, match="readonly"):
        Journal(url)
    tmp_path.chmod(0o755)
