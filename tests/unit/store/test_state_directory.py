from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labd.core.errors import ConfigError
from labd.store.state_directory import StateDirectory, write_json

HOLDER = """
import sys, time
from pathlib import Path
from labd.store.state_directory import StateDirectory
with StateDirectory(Path(sys.argv[1])).hold_lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_layout(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    assert state.journal_url == f"sqlite:///{tmp_path}/labd.sqlite3"
    assert state.traces_of_attempt("j1", 2) == tmp_path / "traces" / "j1" / "2"
    assert state.broker_directory == tmp_path / "broker"


def test_only_one_daemon_at_a_time(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "new" / "state")
    with state.hold_lock():
        with pytest.raises(ConfigError) as caught, state.hold_lock():
            pass
        assert caught.value.code == "state-busy"
        assert f"process {os.getpid()}" in str(caught.value)
    with state.hold_lock():
        pass


def test_a_killed_daemon_leaves_no_lock(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid}"), state.hold_lock():
            pass
        holder.kill()
    with state.hold_lock():
        assert (tmp_path / "labd.lock").read_text() == f"{os.getpid()}\n"


def test_a_state_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(ConfigError, match=r"set `state` in \[lab\]"),
        StateDirectory(tmp_path / "file").hold_lock(),
    ):
        pass


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": [2.5, None]})
    assert json.loads(path.read_text()) == {"a": [2.5, None]}
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": object()}])
def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert json.loads(path.read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1
