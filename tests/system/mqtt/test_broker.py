from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from labd.core.errors import ConfigError, TransportError
from labd.mqtt import broker as broker_module
from labd.mqtt.broker import EmbeddedBroker
from labd.mqtt.link import MqttLink

from .conftest import free_port

OWNER = """
import asyncio, sys
from pathlib import Path
from labd.mqtt.broker import EmbeddedBroker
async def main():
    async with EmbeddedBroker(Path(sys.argv[1]), int(sys.argv[2])):
        print("up", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def pid_of(directory: Path) -> int:
    return int((directory / "nats.pid").read_text())


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def gone(pid: int, deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while alive(pid):
            await asyncio.sleep(0.02)


async def test_it_answers_when_it_is_up_and_is_gone_afterwards(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path, free_port()) as broker:
        pid = pid_of(tmp_path)
        async with MqttLink(broker.url, "a") as link:
            assert link.is_connected
    assert not alive(pid)


def addresses(pid: int) -> set[str]:
    """The local addresses on which a process listens, as /proc/net writes them."""
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


async def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path, free_port()):
        assert addresses(pid_of(tmp_path)) == {"0100007F"}


async def test_retained_state_survives_a_restart(tmp_path: Path) -> None:
    port = free_port()
    async with EmbeddedBroker(tmp_path, port) as broker, MqttLink(broker.url, "a") as link:
        await link.publish_message("labd/lab/job/j", b"done", retain=True)
    async with (
        asyncio.timeout(20),
        EmbeddedBroker(tmp_path, port) as broker,
        MqttLink(broker.url, "a") as link,
        link.subscribe("labd/lab/job/j") as inbox,
    ):
        assert (await anext(inbox)).payload == b"done"


async def test_its_death_is_reported(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path, free_port()) as broker:
        watching = asyncio.create_task(broker.wait_until_ended())
        os.kill(pid_of(tmp_path), signal.SIGKILL)
        with pytest.raises(TransportError, match="the embedded broker has ended"):
            async with asyncio.timeout(10):
                await watching


async def test_it_can_be_started_again_after_its_death(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, free_port())
    async with broker:
        os.kill(pid_of(tmp_path), signal.SIGKILL)
        with pytest.raises(TransportError):
            await broker.wait_until_ended()
    async with broker, MqttLink(broker.url, "a") as link:
        assert link.is_connected


async def test_it_dies_with_an_owner_killed_by_force(tmp_path: Path) -> None:
    port = free_port()
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tmp_path), str(port)), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"up\n"
    pid = pid_of(tmp_path)
    owner.kill()
    await owner.wait()
    try:
        await gone(pid)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


async def test_an_orphan_is_ended_and_replaced(tmp_path: Path) -> None:
    """Where the kernel has not: another parent, as if nothing bound it to the daemon."""
    port = free_port()
    first = EmbeddedBroker(tmp_path, port)
    async with first:
        pass
    orphan = await asyncio.create_subprocess_exec(
        broker_module._find_server(),
        "--config",
        str(tmp_path / "nats.conf"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    reaping = asyncio.create_task(orphan.wait())
    try:
        async with asyncio.timeout(10):
            while not await broker_module._answers_mqtt("127.0.0.1", port):
                await asyncio.sleep(0.02)
        async with EmbeddedBroker(tmp_path, port) as second, MqttLink(second.url, "a") as link:
            assert link.is_connected
            assert pid_of(tmp_path) != orphan.pid
    finally:
        if not reaping.done():
            orphan.kill()
        await reaping


async def test_another_process_with_the_old_number_is_left_alone(tmp_path: Path) -> None:
    sleeper = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        (tmp_path / "nats.pid").write_text(f"{sleeper.pid}\n")
        async with EmbeddedBroker(tmp_path, free_port()):
            assert sleeper.returncode is None
    finally:
        sleeper.kill()
        await sleeper.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk with one file."""
    file = disk / "filling"
    with file.open("wb", buffering=0) as stream:
        size = 1 << 20
        while size:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 2
    return file


@pytest.mark.timeout(240)
async def test_it_stores_again_after_its_disk_was_full(small_disk: Path) -> None:
    broker = EmbeddedBroker(small_disk / "broker", free_port(), watch_s=0.2)

    async def run() -> None:
        while True:  # as the daemon does
            with suppress(TransportError, OSError):
                await broker.run_until_ended(asyncio.Event())
            await asyncio.sleep(0.1)

    running = asyncio.create_task(run())
    await stored(broker.url)
    filling = fill(small_disk)
    with pytest.raises(TransportError):
        await stored(broker.url, deadline_s=3.0)
    filling.unlink()
    await stored(broker.url)
    running.cancel()
    await asyncio.wait({running})


async def stored(url: str, deadline_s: float = 180.0) -> None:
    """Publish a retained message until the broker has stored it.

    Raises:
        TransportError: it has not, within the deadline.
    """
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                with suppress(TransportError):
                    async with MqttLink(url, f"writer-{time.monotonic_ns()}") as link:
                        await link.publish_message("t", bytes(100_000), retain=True, deadline_s=2.0)
                        return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TransportError("not-stored", "the broker stored nothing") from None


async def test_a_full_disk_is_named_at_the_start(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(TransportError, match=r"disk of .* is full") as caught:
        async with EmbeddedBroker(small_disk / "broker", free_port()):
            pass
    assert caught.value.remedy == "free some space"


async def test_a_damaged_store_is_set_aside(tmp_path: Path) -> None:
    port = free_port()
    async with EmbeddedBroker(tmp_path, port) as broker:
        await stored(broker.url)
    store = tmp_path / "jetstream" / "jetstream"
    shutil.rmtree(store)
    store.write_text("no directory")
    async with EmbeddedBroker(tmp_path, port) as broker:
        await stored(broker.url)
    assert (tmp_path / "jetstream.damaged" / "jetstream").read_text() == "no directory"


async def test_a_port_taken_by_a_broker(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path / "one", free_port()) as first:
        with pytest.raises(ConfigError) as caught:
            async with EmbeddedBroker(tmp_path / "two", first.port):
                pass
    assert f"another MQTT broker has port {first.port}" in str(caught.value)
    assert f'url = "{first.url}"' in str(caught.value)


async def test_a_port_taken_by_something_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match="does not speak MQTT"):
            async with EmbeddedBroker(tmp_path, port):
                pass


async def test_a_port_that_may_not_be_bound_quotes_the_log(tmp_path: Path) -> None:
    nowhere = "192.0.2.1"  # an address of no machine
    broker = EmbeddedBroker(tmp_path, free_port(), host=nowhere, start_deadline_s=5.0)
    with pytest.raises(TransportError, match=r"its log reports: .*Unable to listen"):
        async with broker:
            pass


async def test_no_server_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module.shutil, "which", lambda *_args, **_more: None)
    with pytest.raises(ConfigError, match=r"pip install 'labd\[broker\]'"):
        async with EmbeddedBroker(tmp_path, free_port()):
            pass


async def test_a_directory_with_blanks_and_quotes(tmp_path: Path) -> None:
    strange = tmp_path / 'a "strange" $dir #1'
    async with EmbeddedBroker(strange, free_port()) as broker, MqttLink(broker.url, "a") as link:
        assert link.is_connected
    assert (strange / "jetstream").is_dir()
