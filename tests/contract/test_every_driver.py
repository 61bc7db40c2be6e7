"""What every driver promises, whatever it drives."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from serialx import SerialException

from drivers.interfaces import Driver
from drivers.link import Link
from labd.core.errors import DeadlineExceeded, TransportError
from tests.contract.conftest import Case
from tests.contract.fakes.pty_device import PtyDevice


async def open_and_talk(case: Case, driver: Driver) -> None:
    await driver.open()
    try:
        await case.talk(driver)
    finally:
        await driver.close()


async def test_it_says_who_answers_and_that_a_pseudo_terminal_is_simulated(
    case: Case, pty: PtyDevice
) -> None:
    driver = case.driver(pty.path)
    identity = await driver.open()
    assert identity.kind == case.name
    assert identity.simulated
    await case.talk(driver)
    assert await driver.self_check() == []
    await driver.close()


async def test_a_missing_port_is_named_and_others_are_offered(case: Case, tmp_path: Path) -> None:
    port = str(tmp_path / "ttyGONE")
    with pytest.raises(TransportError) as caught:
        await case.driver(port).open()
    assert caught.value.code == "port-missing"
    assert port in str(caught.value)
    assert "check the cable" in caught.value.todo


async def test_a_port_without_permission_points_at_the_group(
    case: Case, pty: PtyDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: str, *_: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(TransportError) as caught:
        await case.driver(pty.path).open()
    assert caught.value.code == "port-denied"
    assert "dialout" in caught.value.todo


async def test_a_file_is_no_port(case: Case, tmp_path: Path) -> None:
    port = tmp_path / "notes.txt"
    port.touch()
    with pytest.raises(TransportError) as caught:
        await case.driver(str(port)).open()
    assert caught.value.code == "port-unusable"


async def test_a_second_open_is_refused(case: Case, pty: PtyDevice) -> None:
    first, second = case.driver(pty.path), case.driver(pty.path)
    await first.open()
    with pytest.raises(TransportError) as caught:
        await second.open()
    assert caught.value.code == "port-busy"
    await second.close()
    await case.talk(first)
    await first.close()


async def test_close_is_idempotent_and_frees_the_port(case: Case, pty: PtyDevice) -> None:
    driver = case.driver(pty.path)
    await driver.close()
    await driver.open()
    await driver.close()
    await driver.close()
    again = case.driver(pty.path)
    await again.open()
    await case.talk(again)
    await again.close()


async def test_an_unplug_is_seen_within_a_second(case: Case, pty: PtyDevice) -> None:
    driver = case.driver(pty.path)
    await driver.open()
    pty.mute = True
    talk = asyncio.ensure_future(case.talk(driver))
    await asyncio.sleep(0.05)
    pty.unplug()
    began = time.monotonic()
    with pytest.raises(TransportError) as caught:
        await talk
    assert time.monotonic() - began < 1.0
    assert caught.value.code == "port-lost"


async def test_an_unplug_between_commands_is_seen_at_the_next(case: Case, pty: PtyDevice) -> None:
    driver = case.driver(pty.path)
    await driver.open()
    pty.unplug()
    began = time.monotonic()
    with pytest.raises(TransportError):
        await case.talk(driver)
    assert time.monotonic() - began < 1.0


async def test_close_after_an_unplug_is_prompt_and_final(case: Case, pty: PtyDevice) -> None:
    driver = case.driver(pty.path)
    await driver.open()
    pty.unplug()
    began = time.monotonic()
    with suppress(TransportError):  # what could not be switched off is reported
        await driver.close()
    assert time.monotonic() - began < 1.0
    await driver.close()


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), SerialException("gone")])
async def test_a_system_that_complains_while_closing_is_a_fault_and_the_port_is_free(
    pty: PtyDevice, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def abort(_: object) -> None:
        raise fault

    link = Link(pty.path, 115200, "link")
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


async def test_a_predecessor_that_died_in_a_command_is_survived(case: Case, pty: PtyDevice) -> None:
    predecessor = Link(pty.path, 115200, "predecessor")
    await predecessor.open()
    await predecessor.write(case.half_command)
    await predecessor.close()
    driver = case.driver(pty.path)
    await driver.open()
    await case.talk(driver)
    await driver.close()


async def test_a_device_that_never_answers_ends_in_a_deadline(case: Case, pty: PtyDevice) -> None:
    pty.mute = True
    driver = case.driver(pty.path)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        await open_and_talk(case, driver)
    assert time.monotonic() - began < 5.0
    assert pty.path in str(caught.value)
    assert "check" in caught.value.todo


async def test_a_device_that_babbles_ends_in_a_deadline(case: Case, pty: PtyDevice) -> None:
    async def babble() -> None:
        while True:
            pty.send(b"Hard fault at 0x0800beef\r\n")
            await asyncio.sleep(0.01)

    babbling = asyncio.create_task(babble())
    driver = case.driver(pty.path)
    with pytest.raises(DeadlineExceeded, match="beef"):
        await driver.open()
    babbling.cancel()
    await asyncio.wait([babbling])


async def test_a_failed_open_leaves_the_port_free(case: Case, pty: PtyDevice) -> None:
    pty.mute = True
    driver = case.driver(pty.path)
    with suppress(DeadlineExceeded):
        await driver.open()
        await driver.close()  # a DUT's port opens whether or not the DUT has power
    pty.mute = False
    await driver.open()
    await case.talk(driver)
    await driver.close()


async def test_a_cancelled_open_leaves_the_port_free(case: Case, pty: PtyDevice) -> None:
    pty.mute = True
    opening = asyncio.create_task(case.driver(pty.path).open())
    await asyncio.sleep(0.03)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    pty.mute = False
    driver = case.driver(pty.path)
    await driver.open()
    await case.talk(driver)
    await driver.close()


async def test_bytes_one_at_a_time_mean_the_same(case: Case, pty: PtyDevice) -> None:
    whole = pty.send

    def trickle(data: bytes) -> None:
        for byte in data:
            whole(bytes([byte]))

    pty.device.send = trickle
    driver = case.driver(pty.path)
    await driver.open()
    await case.talk(driver)
    await driver.close()
