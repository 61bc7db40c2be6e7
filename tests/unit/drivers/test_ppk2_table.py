"""The PPK2's table in stations.toml, a real one's and an emulated one's."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.base.registry import Registry
from drivers.ppk2.driver import Ppk2Config
from labd.core.errors import ConfigError
from labd.core.model import Part
from labd.daemon.emulated_benches import describe_emulated_station
from labd.station.config import LabConfig, load_config

STATION = "[[station]]\nname = 'v'\nboard = 'nucleo-l4r5zi'\n"


def load(folder: Path, text: str) -> LabConfig:
    path = folder / "stations.toml"
    path.write_text(STATION + text)
    return load_config(path, Registry.from_entry_points())


def test_a_real_one(tmp_path: Path) -> None:
    lab = load(
        tmp_path,
        "dut = { driver = 'serial-dut', port = '/dev/x' }\n"
        "power = { driver = 'ppk2', port = '/dev/y', lines = ['d2', 'd1'], "
        "timestamp_line = 'd1', spike_filter = false }",
    )
    config = lab.find_station("v").parts[Part.POWER].config
    assert config == Ppk2Config(
        port="/dev/y", lines=("d1", "d2"), timestamp_line="d1", spike_filter=False
    )


def test_an_emulated_one(tmp_path: Path) -> None:
    lab = load(tmp_path, "emulated = { monitor = 'ppk2' }")
    station = lab.find_station("v")
    port = str(tmp_path / "var" / "bench" / "v" / "power")
    assert station.parts[Part.POWER].config == Ppk2Config(port=port)
    assert describe_emulated_station(lab, station, Path("image.elf")).monitor == "ppk2"


def test_a_wrong_one_is_explained_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"monitor: 'ppk3' is not one of lpm01a, ppk2"):
        load(tmp_path, "emulated = { monitor = 'ppk3' }")
    with pytest.raises(ConfigError, match=r"power\.lines.*d9: the instrument has d0"):
        load(
            tmp_path,
            "dut = { driver = 'serial-dut', port = '/dev/x' }\n"
            "power = { driver = 'ppk2', port = '/dev/y', lines = ['d9'] }",
        )
