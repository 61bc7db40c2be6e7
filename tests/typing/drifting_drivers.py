"""Drivers that do not fit their Protocols: pyright must refuse each line marked ``drift``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from drivers.base.interfaces import CommandChannel, DriverConfig, IoConfig, TimerEdge
from drivers.base.registry import register_dut_port, register_flasher, register_io_manager
from labd.core.model import Finding, Identity


class PathConfig(DriverConfig):
    path: Path


class Base:
    async def open(self) -> Identity:
        return Identity("test", "")

    async def self_check(self) -> list[Finding]:
        return []

    async def close(self) -> None:
        return None


@register_flasher(config=PathConfig)
class Fitting(Base):
    def __init__(self, config: PathConfig) -> None:
        self.config = config

    async def flash(self, image: Path) -> None:
        del image


@register_flasher(config=PathConfig)  # drift: an argument of another type
class Argument(Fitting):
    async def flash(self, image: str) -> None:
        del image


@register_flasher(config=PathConfig)  # drift: a method is missing
class Missing(Base):
    def __init__(self, config: PathConfig) -> None:
        self.config = config


@register_flasher(config=DriverConfig)  # drift: constructed from another configuration
class OtherConfig(Fitting):
    pass


@register_dut_port(config=PathConfig)  # drift: registered for another part
class OtherPart(Fitting):
    pass


@register_io_manager(config=IoConfig)
class Board(Base):
    tick_s: ClassVar[float] = 1e-6
    clock_tolerance_ppm: ClassVar[float] = 100.0

    def __init__(self, config: IoConfig) -> None:
        self.config = config

    @property
    def command_channel(self) -> CommandChannel:
        raise NotImplementedError

    @property
    def waiting_for_dut(self) -> bool:
        return False

    def logged_timestamps(self) -> list[TimerEdge]:
        return []

    async def wait_until_free(self, deadline_s: float) -> Identity:
        raise NotImplementedError(deadline_s)

    async def set_dut_baud(self, baud: int) -> None:
        del baud

    async def clear_intervals(self) -> None:
        return None

    async def read_intervals(self) -> list[tuple[int, int]]:
        return []


@register_io_manager(config=IoConfig)  # drift: a method where the Protocol has a property
class Method(Board):
    def waiting_for_dut(self) -> bool:
        return False


@register_io_manager(config=IoConfig)  # drift: a result of another type
class Result(Board):
    async def read_intervals(self) -> list[int]:
        return []
