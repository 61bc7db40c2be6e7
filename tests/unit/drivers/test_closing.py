"""Closing an instrument: every step is tried, the port is freed, the first fault is raised."""

from __future__ import annotations

import asyncio

import pytest

from drivers.base.closing import close_in_steps, close_on_failure
from labd.core.errors import DeadlineExceeded, InstrumentError, Where

WHERE = Where(device="acme at /dev/x")


class Instrument:
    def __init__(self) -> None:
        self.done: list[str] = []

    async def off(self) -> None:
        self.done.append("off")
        raise InstrumentError("refused", "it refuses")

    async def stop(self) -> None:
        self.done.append("stop")
        await asyncio.sleep(10)

    async def free(self) -> None:
        self.done.append("free")


async def test_every_step_is_tried_and_the_first_fault_is_raised() -> None:
    acme = Instrument()

    async def close() -> None:
        async with close_in_steps(WHERE, 0.01, acme.free) as step:
            await step("switching off", acme.off())
            await step("stopping", acme.stop())

    with pytest.raises(InstrumentError, match="it refuses"):
        await close()
    assert acme.done == ["off", "stop", "free"]


async def test_a_step_that_does_not_end_is_named() -> None:
    acme = Instrument()
    with pytest.raises(
        DeadlineExceeded, match=r"acme at /dev/x: stopping took longer than 0\.01 s"
    ):
        async with close_in_steps(WHERE, 0.01, acme.free) as step:
            await step("stopping", acme.stop())
    assert acme.done == ["stop", "free"]


async def test_a_cancelled_close_frees_the_port() -> None:
    acme = Instrument()

    async def close() -> None:
        async with close_in_steps(WHERE, 5, acme.free) as step:
            await step("stopping", acme.stop())
            await step("switching off", acme.off())

    task = asyncio.create_task(close())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert acme.done == ["stop", "free"]


async def test_a_failed_open_is_closed_and_a_fault_of_that_noted() -> None:
    acme = Instrument()
    with pytest.raises(ValueError, match="no answer") as caught:
        async with close_on_failure(acme.off):
            raise ValueError("no answer")
    assert acme.done == ["off"]
    assert caught.value.__notes__ == ["closing it again failed too: it refuses"]


async def test_an_open_that_succeeds_is_not_closed() -> None:
    acme = Instrument()
    async with close_on_failure(acme.off):
        pass
    assert acme.done == []
