from __future__ import annotations

import asyncio

import pytest

from labd.core.errors import TransportError
from labd.mqtt.inbox import Inbox, ReceivedMessage


def message(payload: bytes = b"x") -> ReceivedMessage:
    return ReceivedMessage("t", payload, retained=False)


async def test_messages_come_out_in_order() -> None:
    inbox = Inbox("t")
    for number in range(5):
        assert inbox.put_or_drop(message(b"%d" % number))
    assert [(await anext(inbox)).payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_reader_wakes_when_one_arrives() -> None:
    inbox = Inbox("t")
    reading = asyncio.create_task(anext(inbox))
    await asyncio.sleep(0)
    inbox.put_or_drop(message(b"late"))
    assert (await reading).payload == b"late"


async def test_too_many_are_dropped_and_counted() -> None:
    inbox = Inbox("t", max_messages=2)
    assert [inbox.put_or_drop(message()) for _ in range(4)] == [True, True, False, False]
    assert inbox.dropped == 2
    await anext(inbox)
    assert inbox.put_or_drop(message())


async def test_too_many_bytes_are_dropped_and_counted() -> None:
    inbox = Inbox("t", max_bytes=10)
    assert inbox.put_or_drop(message(b"12345678"))
    assert not inbox.put_or_drop(message(b"123"))
    assert inbox.dropped == 1
    await anext(inbox)
    assert inbox.put_or_drop(message(b"1234567890"))


async def test_the_end_comes_after_what_is_left() -> None:
    inbox = Inbox("t")
    inbox.put_or_drop(message())
    inbox.close_with_error(RuntimeError("gone"))
    await anext(inbox)
    with pytest.raises(TransportError, match="closed"):
        await anext(inbox)
