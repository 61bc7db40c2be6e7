"""The wire log holds a whole exchange, byte for byte, in both directions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from labd.aio.wire_log import FROM_DEVICE, TO_DEVICE, log_wires_to
from labd.simulation.instrument_cable import Cable
from labd.simulation.instruments.reference_dut import SimulatedDut
from tests.contract.case import Case, plugged
from tests.contract.cases.serial_dut import CASES


def carried(log: Path, direction: str) -> bytes:
    """All bytes of one direction, from the hex of each line."""
    lines = [line.split(" ") for line in log.read_text("ascii").splitlines()]
    return b"".join(bytes.fromhex(line[4]) for line in lines if line[3] == direction)


def watch_sent(cable: Cable) -> bytearray:
    """What the device sends from now on."""
    sent, send = bytearray(), cable.device.send

    def watched(data: bytes) -> None:
        sent.extend(data)
        send(data)

    cable.device.send = watched
    return sent


async def exchange(case: Case, path: str) -> None:
    driver = case.driver(path)
    await driver.open()
    await case.talk(driver)
    await driver.close()
    await asyncio.sleep(0.05)  # for the device's end to read the last bytes


@pytest.mark.only("half_command")
async def test_a_driver_logs_all_that_it_sends_and_receives(case: Case, tmp_path: Path) -> None:
    log = tmp_path / "driver.wire"
    async with plugged(case.fake(), case.cable) as cable:
        sent = watch_sent(cable)
        with log_wires_to(log):
            await exchange(case, cable.path)
    received = carried(log, FROM_DEVICE)
    assert carried(log, TO_DEVICE) == cable.received
    assert len(received) > 0
    assert bytes(sent).startswith(received)  # what was sent after the close is not read


async def test_both_ends_of_a_cable_log_the_same(tmp_path: Path) -> None:
    ends = tmp_path / "device.wire", tmp_path / "driver.wire"
    with log_wires_to(ends[0]):
        async with plugged(SimulatedDut()) as cable:
            with log_wires_to(ends[1]):
                await exchange(CASES[0], cable.path)
    for direction in (TO_DEVICE, FROM_DEVICE):
        assert len(carried(ends[0], direction)) > 0
        assert carried(ends[0], direction) == carried(ends[1], direction)
