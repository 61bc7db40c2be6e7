"""`labd init`: the stations.toml to start from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labd.cli.labd import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABD_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_its_file_works_as_it_stands(home: Path) -> None:
    done = run("init")
    assert done.exit_code == 0
    assert "stations.toml: two emulated stations" in done.output
    checked = run("check")
    assert checked.exit_code == 0
    assert "valid, no warnings; lab 'lab': state in " in checked.output
    assert checked.output.count("nucleo-l4r5zi") == 2


def test_it_makes_the_directory_named(home: Path) -> None:
    assert run("init", "labs/attic").exit_code == 0
    assert (home / "labs" / "attic" / "stations.toml").is_file()


def test_it_replaces_nothing(home: Path) -> None:
    (home / "stations.toml").write_text("mine")
    refused = run("init")
    assert refused.exit_code == 2
    assert "stations.toml is there already" in refused.output
    assert (home / "stations.toml").read_text() == "mine"


def test_its_examples_of_power_monitors_are_right(home: Path) -> None:
    run("init")
    text = (home / "stations.toml").read_text()
    head, bench = text.split("# [[station]]")
    station = re.sub(r"^# ?", "", "[[station]]" + bench, flags=re.MULTILINE)
    powers = re.findall(r"^#   (power = .*)$", head, re.MULTILINE)
    assert len(powers) == 3
    for power in powers:
        (home / "stations.toml").write_text(re.sub(r"(?m)^power = .*$", power, station))
        checked = run("check")
        assert checked.exit_code == 0, checked.output
        assert "bench-3" in checked.output
