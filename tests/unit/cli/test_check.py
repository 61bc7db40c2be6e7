"""`labd check`: stations.toml judged before anything is served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labd.cli.labd import main

GOOD = """
[lab]
name = "attic"
datasets = ["sets"]
[[station]]
name = "v1"
board = "nucleo-l4r5zi"
emulated = {}
"""
BLIND = """
[[station]]
name = "b2"
board = "nucleo-l4r5zi"
voltage_mv = 1800
dut = { driver = "serial-dut", port = "/dev/ttyNONE7" }
power = { driver = "n6705", resource = "socket://192.0.2.7:5025" }
"""
DUT_ALONE = """
[[station]]
name = "d3"
board = "mine"
dut = { driver = "serial-dut", port = "COM3" }
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABD_CONFIG", raising=False)
    (tmp_path / "sets").mkdir()
    return tmp_path


def run(home: Path, text: str, *arguments: str) -> Result:
    (home / "stations.toml").write_text(text)
    return CliRunner().invoke(main, ["check", *arguments])


def test_a_valid_lab_has_no_warnings(home: Path) -> None:
    done = run(home, GOOD)
    assert done.exit_code == 0
    assert "warning: " not in done.output
    assert "valid, no warnings; lab 'attic': state in " in done.output
    assert not (home / "var").exists()


def test_questionable_settings_are_warnings(home: Path) -> None:
    (home / "sets").rmdir()
    done = run(home, GOOD + BLIND + DUT_ALONE)
    assert done.exit_code == 0
    warnings = [line for line in done.output.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    assert warnings[0].startswith("warning: b2: gets no energy jobs, they would be invalid: n6705")
    assert "processing_wire" in warnings[0]
    assert warnings[1] == "warning: b2: dut: there is no /dev/ttyNONE7 on this host now"
    assert warnings[2].startswith("warning: datasets: there is no folder ")
    assert "valid, 3 warnings" in done.output


def test_what_each_station_can_run(home: Path) -> None:
    report = json.loads(run(home, GOOD + BLIND + DUT_ALONE, "--json").output)
    lacks = {each["station"]: each["modes"] for each in report["stations"]}
    able = {"accuracy": "", "performance": ""}
    blind = "no way to see the DUT's timestamps, which energy mode needs"
    assert lacks == {
        "v1": {**able, "energy": ""},
        "b2": {**able, "energy": blind},
        "d3": {**able, "energy": "no power monitor for energy mode"},
    }
    assert report["stations"][1]["parts"] == {"dut": "serial-dut", "power": "n6705"}
    text = run(home, GOOD + DUT_ALONE).output
    assert "energy: no power monitor for energy mode" in text


def test_every_mistake_is_reported_with_its_line(home: Path) -> None:
    done = run(home, GOOD + BLIND.replace("1800", "5000") + "colour = 3\n")
    assert done.exit_code == 2
    assert "stations.toml has 2 mistakes:" in done.stderr
    assert "stations.toml:13:1: station[1].voltage_mv: 5000 mV is not within 1 to" in done.stderr
    assert "stations.toml:16:1: station[1].colour: 'colour' is not a key here" in done.stderr
    assert done.stdout == ""


def test_no_file_and_no_toml(home: Path) -> None:
    missing = CliRunner().invoke(main, ["check", "-c", "nix.toml"])
    assert missing.exit_code == 2
    assert "there is no nix.toml" in missing.stderr
    assert run(home, "[[station]\n").exit_code == 2


def test_check_and_serve_refuse_a_wrong_file_alike(home: Path) -> None:
    checked = run(home, BLIND.replace("1800", "5000"))
    served = CliRunner().invoke(main, ["serve"])
    assert (served.exit_code, served.stderr) == (checked.exit_code, checked.stderr)
    assert checked.exit_code == 2
    assert checked.stderr.startswith("Error: stations.toml has a mistake:")


def test_a_lab_without_the_key_datasets_has_no_warning(home: Path) -> None:
    text = run(home, GOOD.replace('datasets = ["sets"]', "")).output
    assert "valid, no warnings" in text
