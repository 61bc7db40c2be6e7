"""The broker goes away and comes back: what was committed arrives, and those who watch go on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from labd.mqtt.link import MqttLink
from labd.store.journal.journal import Journal
from labd.wire.topics import Topics
from tests.system.conftest import make_lab  # noqa: F401 - a fixture
from tests.system.lab import LAB, Lab

from .conftest import MOSQUITTO, Broker

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]

TOPICS = Topics(LAB)
PUBLISHED = "labd/testlab/job/+/event"


@pytest.fixture
async def away(tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker of its own, not the daemon's child."""
    made = Broker("mosquitto", tmp_path)
    await made.start()
    yield made
    await made.stop()


async def collect(url: str, seqs: set[int], *, until: int) -> None:
    """Collect the event numbers that a bare subscriber receives."""
    link = MqttLink(url, f"bare-{until}")
    async with link, link.subscribe(PUBLISHED) as inbox:
        async for message in inbox:
            seqs.add(json.loads(message.payload)["seq"])
            if until in seqs:
                return


async def until_done(lab: Lab, job: str) -> int:
    """Wait until the journal holds the end of a job; return the number of its last event."""
    journal = Journal(f"sqlite:///{lab.folder / 'state' / 'labd.sqlite3'}")
    try:
        async with asyncio.timeout(120):
            while True:
                found = journal.find_snapshot(job)
                if found is not None and found.job.verdict is not None:
                    return found.next_seq - 1
                await asyncio.sleep(0.2)
    finally:
        journal.close()


def watch(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"LABD_BROKER": lab.url, "LABD_LAB": LAB, "LABD_USER": "alice"}
    return subprocess.Popen(
        [sys.executable, "-m", "labd.cli.labctl", "watch", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_what_was_committed_is_published_after_a_kill(
    make_lab: Callable[..., Lab],  # noqa: F811
    away: Broker,
) -> None:
    lab = make_lab(broker=away.url)
    lab.start()
    await lab.ready()
    seqs: set[int] = set()
    async with lab.client() as client:
        first = asyncio.create_task(collect(away.url, seqs, until=10_000))
        await client.send_request("submit", job="j1", benchmark="digits01", modes=["accuracy"])
        while len(seqs) < 6:
            await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await away.stop()
    last = await until_done(lab, "j1")
    assert last not in seqs
    lab.kill()
    await away.start()
    second = asyncio.create_task(collect(away.url, seqs, until=last))
    await asyncio.sleep(1)
    lab.start()
    async with asyncio.timeout(60):
        await second
    assert seqs == set(range(last + 1))
    assert lab.stop() == 0
    again: set[int] = set()  # everything is known to be published now: nothing comes again
    third = asyncio.create_task(collect(away.url, again, until=last))
    await asyncio.sleep(1)
    lab.start()
    await lab.ready()
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    assert again == set()


async def test_watch_waits_for_the_broker_as_long_as_the_user_does(
    make_lab: Callable[..., Lab],  # noqa: F811
    away: Broker,
) -> None:
    lab = make_lab(broker=away.url)
    lab.start()
    await lab.ready()
    async with lab.client() as client:
        await client.send_request("submit", job="j1", benchmark="digits01")
    patient, impatient = watch(lab, "j1"), watch(lab, "j1", "--patience", "1s")
    for each in (patient, impatient):
        assert each.stdout is not None
        assert "queued" in await asyncio.to_thread(each.stdout.readline)
    await away.stop()
    _, complaint = await asyncio.to_thread(impatient.communicate, timeout=90)
    assert impatient.returncode == 7
    assert "did not answer within" in complaint
    await away.start()
    out, reported = await asyncio.to_thread(patient.communicate, timeout=90)
    assert patient.returncode == 0, reported
    assert "labctl: waiting for the broker since 20" in reported
    assert "labctl: the lab answers again" in reported
    assert all(line.startswith("labctl: ") for line in reported.splitlines())
    assert "finished  pass" in out
