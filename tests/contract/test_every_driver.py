"""What every driver promises, whatever it drives."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from serialx import SerialException

from drivers.base.interfaces import Driver
from drivers.base.serial_link import Link
from labd.core.errors import DeadlineExceeded, TransportError
from labd.simulation.instrument_cable import Cable
from tests.contract.case import SHORT_S, Case


async def open_and_talk(case: Case, driver: Driver) -> None:
    await driver.open()
    try:
        await case.talk(driver)
    finally:
        await driver.close()


async def test_open_returns_the_identity_and_a_pseudo_terminal_is_simulated(
    case: Case, cable: Cable
) -> None:
    driver = case.driver(cable.path)
    identity = await driver.open()
    assert identity.kind == case.name
    assert identity.simulated
    await case.talk(driver)
    assert await driver.self_check() == []
    await driver.close()


@pytest.mark.only("serial")
async def test_a_missing_port_is_named_and_others_are_offered(case: Case, tmp_path: Path) -> None:
    port = str(tmp_path / "ttyGONE")
    with pytest.raises(TransportError) as caught:
        await case.driver(port).open()
    assert caught.value.code == "port-missing"
    assert port in str(caught.value)
    assert "check the cable" in caught.value.remedy


@pytest.mark.only("serial")
async def test_a_port_without_permission_points_at_the_group(
    case: Case, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: str, *_: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(TransportError) as caught:
        await case.driver(cable.path).open()
    assert caught.value.code == "port-denied"
    assert "dialout" in caught.value.remedy


@pytest.mark.only("serial")
async def test_a_file_is_no_port(case: Case, tmp_path: Path) -> None:
    port = tmp_path / "notes.txt"
    port.touch()
    with pytest.raises(TransportError) as caught:
        await case.driver(str(port)).open()
    assert caught.value.code == "port-unusable"


@pytest.mark.only("serial")
async def test_a_second_open_is_refused(case: Case, cable: Cable) -> None:
    first, second = case.driver(cable.path), case.driver(cable.path)
    await first.open()
    with pytest.raises(TransportError) as caught:
        await second.open()
    assert caught.value.code == "port-busy"
    await second.close()
    await case.talk(first)
    await first.close()


async def test_close_is_idempotent_and_frees_the_port(case: Case, cable: Cable) -> None:
    driver = case.driver(cable.path)
    await driver.close()
    await driver.open()
    await driver.close()
    await driver.close()
    again = case.driver(cable.path)
    await again.open()
    await case.talk(again)
    await again.close()


async def test_an_unplug_is_detected_within_a_second(case: Case, cable: Cable) -> None:
    driver = case.driver(cable.path)
    await driver.open()
    cable.mute = True
    talk = asyncio.ensure_future(case.talk(driver))
    await asyncio.sleep(0.05)
    cable.unplug()
    began = time.monotonic()
    with pytest.raises(TransportError) as caught:
        await talk
    assert time.monotonic() - began < 1.0
    assert caught.value.code == "port-lost"


async def test_an_unplug_between_commands_is_detected_at_the_next(case: Case, cable: Cable) -> None:
    driver = case.driver(cable.path)
    await driver.open()
    cable.unplug()
    began = time.monotonic()
    with pytest.raises(TransportError):
        await case.talk(driver)
    assert time.monotonic() - began < 1.0


async def test_close_after_an_unplug_is_quick_and_final(case: Case, cable: Cable) -> None:
    driver = case.driver(cable.path)
    await driver.open()
    cable.unplug()
    began = time.monotonic()
    with suppress(TransportError):  # what could not be switched off is reported
        await driver.close()
    assert time.monotonic() - began < 1.0
    await driver.close()


@pytest.mark.only("serial")
@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), SerialException("gone")])
async def test_a_system_error_while_closing_is_a_fault_and_the_port_is_free(
    case: Case, cable: Cable, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def abort(_: object) -> None:
        raise fault

    link = Link(cable.path, 115200, "link")
    await link.open()
    with monkeypatch.context() as patch:
        patch.setattr(type(link._transport), "abort", abort)
        with pytest.raises(TransportError) as caught:
            await link.close()
    assert caught.value.code == "port-close"
    assert str(fault) in str(caught.value)
    await link.close()
    await link.open()
    await link.close()


@pytest.mark.only("serial")
async def test_a_predecessor_that_died_in_a_command_is_survived(case: Case, cable: Cable) -> None:
    predecessor = Link(cable.path, 115200, "predecessor")
    await predecessor.open()
    await predecessor.write(case.half_command)
    await predecessor.close()
    driver = case.driver(cable.path)
    await driver.open()
    await case.talk(driver)
    await driver.close()


async def test_a_device_that_never_answers_ends_in_a_deadline(case: Case, cable: Cable) -> None:
    cable.mute = True
    driver = case.driver(cable.path, SHORT_S)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        await open_and_talk(case, driver)
    assert time.monotonic() - began < 5.0
    assert cable.path in str(caught.value)
    assert "check" in caught.value.remedy


@pytest.mark.only("babble")
async def test_a_device_that_never_stops_sending_ends_in_a_deadline(
    case: Case, cable: Cable
) -> None:
    async def babble() -> None:
        while True:
            cable.device.send(case.babble or b"")
            await asyncio.sleep(0.01)

    babbling = asyncio.create_task(babble())
    driver = case.driver(cable.path, SHORT_S)
    with pytest.raises(DeadlineExceeded, match="beef"):
        await driver.open()
    babbling.cancel()
    await asyncio.wait([babbling])


async def test_a_failed_open_leaves_the_port_free(case: Case, cable: Cable) -> None:
    cable.mute = True
    driver = case.driver(cable.path, 2 * SHORT_S)
    with suppress(DeadlineExceeded):
        await driver.open()
        await driver.close()  # a DUT's port opens whether or not the DUT has power
    cable.mute = False
    await driver.open()
    await case.talk(driver)
    await driver.close()


async def test_a_cancelled_open_leaves_the_port_free(case: Case, cable: Cable) -> None:
    cable.mute = True
    opening = asyncio.create_task(case.driver(cable.path, SHORT_S).open())
    await asyncio.sleep(0.03)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    cable.mute = False
    driver = case.driver(cable.path)
    await driver.open()
    await case.talk(driver)
    await driver.close()


async def test_bytes_one_at_a_time_mean_the_same(case: Case, cable: Cable) -> None:
    whole = cable.send

    def trickle(data: bytes) -> None:
        for byte in data:
            whole(bytes([byte]))

    cable.device.send = trickle
    driver = case.driver(cable.path)
    await driver.open()
    await case.talk(driver)
    await driver.close()
