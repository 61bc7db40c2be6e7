from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from drivers.base.registry import DUT_PORTS, Registry
from labd.core.errors import ConfigError
from labd.core.model import Part

from .conftest import FAKES, FakeDut


def broken() -> type[Any]:
    raise ImportError("No module named 'acme'")


def test_drivers_by_name_and_part(registry: Registry) -> None:
    found = registry.find_driver("serial-dut")
    assert found is not None
    assert found.driver is FakeDut
    assert registry.find_driver("nothing") is None
    assert registry.driver_names(Part.POWER) == ["acme-9000", "lpm01a"]


def test_a_part_is_configured_and_made(registry: Registry) -> None:
    part = registry.configure_part(Part.DUT, "serial-dut", {"port": "/dev/x"})
    made: Any = registry.make_driver(DUT_PORTS, part)
    assert isinstance(made, FakeDut)
    assert made.config.port == "/dev/x"
    assert registry.make_driver(DUT_PORTS, part) is not made
    with pytest.raises(ConfigError, match="no driver 'nothing'"):
        registry.configure_part(Part.DUT, "nothing", {})


def test_only_what_is_used_is_imported() -> None:
    loaded: list[str] = []

    def loader(name: str) -> Any:
        def load() -> type[Any]:
            loaded.append(name)
            return FAKES[name]

        return load

    registry = Registry({name: loader(name) for name in FAKES})
    registry.find_driver("lpm01a")
    registry.find_driver("lpm01a")
    assert loaded == ["lpm01a"]


def test_a_driver_that_cannot_be_imported() -> None:
    registry = Registry({"acme": broken, "plain": lambda: int})
    with pytest.raises(ConfigError, match="driver acme cannot be loaded: No module named 'acme'"):
        registry.find_driver("acme")
    with pytest.raises(ConfigError, match="is not registered as a driver"):
        registry.find_driver("plain")
    assert registry.driver_names(Part.DUT) == []


def test_the_installed_drivers_are_found_without_importing_them() -> None:
    code = (
        "import sys; from drivers.base.registry import Registry;"
        "from labd.core.model import Part;"
        "r = Registry.from_entry_points(); assert 'drivers.lpm01a.driver' not in sys.modules;"
        "print(*(r.driver_names(part) for part in Part))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert "['serial-dut']" in done.stdout
    assert "'mlcommons-interface'" in done.stdout
    assert "'lpm01a'" in done.stdout
    assert "'nucleo-drive'" in done.stdout
