"""What the contract suite needs to know of a driver and its fake."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from drivers.base.interfaces import Driver
from labd.simulation.instrument_cable import Cable, Device, PtyCable

PATIENT_S = 5.0
"""Answer deadline where an answer is expected: none of a loaded machine is later."""

SHORT_S = 0.6
"""Answer deadline where no answer comes."""

C = TypeVar("C", bound=Cable)


@dataclass(frozen=True)
class Case:
    """One driver, its fake, and one thing that makes the two talk.

    Args:
        name: the driver's name in stations.toml.
        fake: makes the device.
        build: makes the driver for a port, with its answer deadline in seconds.
        talk: one exchange with the device, on the open driver.
        half_command: what a predecessor had typed when it died.
        cable: behind which the device answers.
        babble: what a device that never stops sends; None if the protocol has no such state.
        serial: whether the device is on a serial port of its own.
    """

    name: str
    fake: Callable[[], Device]
    build: Callable[[str, float], Driver]
    talk: Callable[[Any], Awaitable[object]]
    half_command: bytes
    cable: Callable[[Device], Cable] = PtyCable
    babble: bytes | None = b"Hard fault at 0x0800beef\r\n"
    serial: bool = True

    def driver(self, port: str, answer_s: float = PATIENT_S) -> Driver:
        """Make the driver for a port."""
        return self.build(port, answer_s)


@asynccontextmanager
async def plugged(device: Device, cable: Callable[[Device], C] = PtyCable) -> AsyncGenerator[C]:
    """A fake behind its cable, unplugged at the end."""
    plugged_in = cable(device)
    try:
        yield plugged_in
    finally:
        plugged_in.unplug()
