"""The tools are scripts that import each other by name, so their folder goes on the path."""

import sys
from pathlib import Path

import pytest

from tests.unit.firmware.host import FIRMWARE, build_dut

sys.path.insert(0, str(FIRMWARE / "tools"))


@pytest.fixture(scope="session")
def performance_dut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dut(tmp_path_factory.mktemp("performance"))


@pytest.fixture(scope="session")
def energy_dut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dut(tmp_path_factory.mktemp("energy"), energy=True)
