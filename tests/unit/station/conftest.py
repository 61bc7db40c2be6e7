from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from drivers.base.interfaces import DriverConfig
from drivers.base.registry import (
    Registry,
    register_dut_port,
    register_flasher,
    register_io_manager,
    register_power_monitor,
)
from labd.station.config import LabConfig, load_config


class PortConfig(DriverConfig):
    port: str = Field(min_length=1)
    baud: int = Field(115200, ge=1200)


class PowerConfig(DriverConfig):
    port: str = Field(min_length=1)
    output: Literal["energy", "current"] = "energy"


class DriveConfig(DriverConfig):
    path: Path


class _Made:
    def __init__(self, config: DriverConfig) -> None:
        self.config = config


@register_dut_port(config=PortConfig)
class FakeDut(_Made):
    pass


@register_io_manager(config=PortConfig)
class FakeIo(_Made):
    pass


@register_power_monitor(config=PowerConfig)
class FakePower(_Made):
    pass


@register_flasher(config=DriveConfig)
class FakeFlasher(_Made):
    pass


FAKES: dict[str, type[Any]] = {
    "serial-dut": FakeDut,
    "mlcommons-interface": FakeIo,
    "lpm01a": FakePower,
    "nucleo-drive": FakeFlasher,
    "acme-9000": FakePower,
}

Load = Callable[..., LabConfig]


def registry_of(drivers: dict[str, type[Any]]) -> Registry:
    return Registry({name: lambda driver=driver: driver for name, driver in drivers.items()})


@pytest.fixture
def registry() -> Registry:
    return registry_of(FAKES)


@pytest.fixture
def load(tmp_path: Path, registry: Registry) -> Load:
    def read(text: str | bytes, **more: Any) -> LabConfig:
        path = tmp_path / "stations.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_config(path, registry, **more)

    return read
