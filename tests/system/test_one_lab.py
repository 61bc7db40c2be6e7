"""Two daemons of one lab on one broker: one serves it, the other ends and names the first."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from labd.mqtt.inbox import Inbox
from labd.mqtt.link import MqttLink
from labd.store.journal.journal import Journal
from labd.store.state_directory import StateDirectory
from labd.wire.job_events import EVENT, EventType
from labd.wire.messages import DaemonStatus
from tests.system.lab import LAB, ONE_EMULATED, Lab, finished
from tests.system.mqtt.conftest import MOSQUITTO, Broker

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


def may_name_hosts() -> bool:
    try:
        command = ["unshare", "-r", "--uts", "hostname", "x"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


TWO_HOSTS = pytest.mark.skipif(not may_name_hosts(), reason="needs user namespaces")


@pytest.fixture
async def mosquitto_url(tmp_path: Path) -> AsyncIterator[str]:
    broker = Broker("mosquitto", tmp_path)
    await broker.start()
    yield broker.url
    await broker.stop()


@pytest.fixture
def make(tmp_path: Path, mosquitto_url: str) -> Iterator[Callable[[str], Lab]]:
    """Makes daemons of the same lab, each with a state directory and a station of its own."""
    labs: list[Lab] = []

    def make_one(name: str) -> Lab:
        (tmp_path / name).mkdir()
        station = ONE_EMULATED.format(mode="freeze").replace("v1", f"v-{name}")
        labs.append(Lab(tmp_path / name, station, broker=mosquitto_url))
        return labs[-1]

    yield make_one
    for lab in labs:
        lab.stop()


async def refused(lab: Lab, deadline_s: float = 120.0) -> str:
    """The last line of a daemon that ended because it may not serve the lab."""
    assert lab.process is not None
    status = await asyncio.to_thread(lab.process.wait, deadline_s)
    text = lab.log.read_text()
    assert status == 2, text
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


@asynccontextmanager
async def published_events(url: str) -> AsyncIterator[dict[str, list[int]]]:
    """Sequence numbers of every event that any daemon publishes, by job."""
    seen: defaultdict[str, list[int]] = defaultdict(list)

    async def read(inbox: Inbox) -> None:
        async for message in inbox:
            event = EVENT.validate_json(message.payload)
            seen[event.job].append(event.seq)

    async with MqttLink(url, "observer") as link, link.subscribe("labd/+/job/+/event") as inbox:
        reading = asyncio.create_task(read(inbox))
        yield seen
        await asyncio.sleep(0.5)
        reading.cancel()


@pytest.mark.parametrize("hosts", [("", ""), pytest.param(("one", "two"), marks=TWO_HOSTS)])
async def test_the_second_daemon_ends_and_every_job_runs_once(
    make: Callable[[str], Lab], mosquitto_url: str, hosts: tuple[str, str]
) -> None:
    first, second = make("a"), make("b")
    first.start(host=hosts[0])
    await first.ready()
    jobs = [f"j{number}" for number in range(4)]
    async with published_events(mosquitto_url) as seen, first.client() as client:
        for number, job in enumerate(jobs):
            if number in {0, 2}:
                second.start(host=hosts[1])
            await client.send_request("submit", job=job, benchmark="digits01", modes=["accuracy"])
            if number in {1, 3}:
                line = await refused(second)
                assert f"another labd serves lab {LAB!r}" in line
                assert f"process {first.process.pid} on host" in line  # type: ignore[union-attr]
                assert hosts[0] in line
                assert str(first.folder / "state") in line
        streams = {job: await finished(client, job) for job in jobs}
        assert [station.station for station in await client.list_stations()] == ["v-a"]
    for job, events in streams.items():
        assert [event.type for event in events].count(EventType.STARTED) == 1
        assert events[-1].data.verdict == "pass"
        assert seen[job] == list(range(len(events)))


async def test_of_two_that_start_together_one_serves(make: Callable[[str], Lab]) -> None:
    labs = [make("a"), make("b")]
    for lab in labs:
        lab.start()
    async with asyncio.timeout(120):
        while all(lab.process and lab.process.poll() is None for lab in labs):
            await asyncio.sleep(0.1)
    [ended] = [lab for lab in labs if lab.process and lab.process.poll() is not None]
    [serving] = [lab for lab in labs if lab is not ended]
    line = await refused(ended)
    assert str(serving.folder / "state") in line
    await serving.ready()
    done = serving.labctl("submit", "digits01", "--modes", "accuracy", "--watch")
    assert done.returncode == 0, done.stderr


@TWO_HOSTS
async def test_the_journal_that_has_the_jobs_is_not_replaced_by_accident(
    make: Callable[[str], Lab], mosquitto_url: str
) -> None:
    first, second = make("a"), make("b")
    first.start(host="one")
    await first.ready()
    assert first.stop() == 0
    second.start(host="two")
    line = await refused(second)
    assert "are in another journal: host one, state directory " + str(first.folder) in line
    assert "labd serve --take-over" in line
    second.start("--take-over", host="two")
    await second.ready()
    async with MqttLink(mosquitto_url, "x") as link, link.subscribe(f"labd/{LAB}/daemon/+") as box:
        async with asyncio.timeout(10):
            status = DaemonStatus.model_validate_json((await anext(box)).payload)
        assert (status.host, status.state) == ("two", "online")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(box)
    first.start(host="one")
    assert "another labd serves" in await refused(first)
    assert second.stop() == 0
    first.start(host="one")
    assert "are in another journal: host two" in await refused(first)


async def test_the_same_journal_may_move_to_another_host_name(make: Callable[[str], Lab]) -> None:
    lab = make("a")
    lab.start()
    await lab.ready()
    lab.kill()
    lab.start(host="moved" if may_name_hosts() else "")
    await lab.ready()


async def test_a_daemon_that_hung_gives_way_and_keeps_its_job(make: Callable[[str], Lab]) -> None:
    """The other took its session over meanwhile; it must not take it back."""
    first, second = make("a"), make("b")
    first.start()
    await first.ready()
    async with first.client() as client:
        await client.send_request("submit", job="j", benchmark="digits01")
        async with asyncio.timeout(120):
            async for event in client.follow_events("j"):
                if event.type is EventType.PROGRESS:
                    break
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    try:
        second.start("--take-over")
        await second.ready()
    finally:
        first.process.send_signal(signal.SIGCONT)
    line = await refused(first)
    assert f"process {second.process.pid}" in line  # type: ignore[union-attr]
    journal = Journal(StateDirectory(first.folder / "state").journal_url)
    job = journal.find_job("j")
    journal.close()
    assert job is not None
    assert (job.state, job.verdict, job.attempt) == ("queued", None, 1)
    assert second.labctl("stations").returncode == 0
