"""A line that could repeat without end is limited, and nothing is left uncounted."""

from __future__ import annotations

import logging

import pytest

from labd.aio.line_limit import LineLimit
from labd.mqtt import link
from labd.mqtt.inbox import Inbox, ReceivedMessage


def test_one_line_per_interval_and_every_occurrence_is_counted() -> None:
    now = [0.0]
    limit = LineLimit(10.0, lambda: now[0])
    assert limit.count() == 1
    assert [limit.count() for _ in range(1000)] == [0] * 1000
    now[0] = 9.9
    assert limit.count() == 0
    now[0] = 10.0
    assert limit.count() == 1002
    assert limit.count() == 0
    now[0] = 99.0
    assert limit.count() == 2


def test_a_flood_of_dropped_messages_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox("labd/lab/u/+/do/+", max_messages=1)
    with caplog.at_level(logging.WARNING):
        for _ in range(5000):
            if not inbox.put_or_drop(ReceivedMessage("t", b"x", retained=False)):
                link._log_drop(inbox)
    [record] = caplog.records
    assert "labd/lab/u/+/do/+" in record.getMessage()
    assert "1 dropped, 1 since the start" in record.getMessage()
    assert inbox.dropped == 4999
