"""The table of drivers that speak over a serial port, each with its byte-level fake."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from drivers.dut import Dut, SerialDut, SerialDutConfig
from drivers.interfaces import Driver
from drivers.io_mlcommons import MlcommonsInterface, MlcommonsInterfaceConfig
from drivers.lpm01a import Lpm01a, Lpm01aConfig
from tests.contract.fakes.dut import FakeDut
from tests.contract.fakes.interface_board import FakeInterfaceBoard
from tests.contract.fakes.lpm01a import FakeLpm01a
from tests.contract.fakes.pty_device import Device, PtyDevice

ANSWER_S = 0.6


@dataclass(frozen=True)
class Case:
    """One driver, its fake, and one thing that makes the two talk.

    ``half_command`` is what a predecessor had typed when it died.
    """

    name: str
    fake: Callable[[], Device]
    driver: Callable[[str], Driver]
    talk: Callable[[Any], Awaitable[object]]
    half_command: bytes


async def _identify(driver: SerialDut) -> object:
    return await Dut(driver.channel).identify(ANSWER_S * 5)


CASES = [
    Case(
        "serial-dut",
        FakeDut,
        lambda port: SerialDut(SerialDutConfig(port=port)),
        _identify,
        b"db 0011",
    ),
    Case(
        "mlcommons-interface",
        lambda: FakeInterfaceBoard(FakeDut()),
        lambda port: MlcommonsInterface(MlcommonsInterfaceConfig(port=port, answer_s=ANSWER_S)),
        lambda driver: driver.intervals(),
        b"checkb",
    ),
    Case(
        "lpm01a",
        FakeLpm01a,
        lambda port: Lpm01a(Lpm01aConfig(port=port, answer_s=ANSWER_S)),
        lambda driver: driver.supply(3000),
        b"volt 30",
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@asynccontextmanager
async def plugged(device: Device) -> AsyncGenerator[PtyDevice]:
    """A fake on a pseudo-terminal, unplugged at the end."""
    pty = PtyDevice(device)
    try:
        yield pty
    finally:
        pty.unplug()


@pytest.fixture
async def pty(case: Case) -> AsyncGenerator[PtyDevice]:
    async with plugged(case.fake()) as device:
        yield device
