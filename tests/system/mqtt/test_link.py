from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from labd.core.errors import ConfigError, LabdBug, TransportError
from labd.mqtt.inbox import Inbox, ReceivedMessage
from labd.mqtt.link import MAX_PAYLOAD_BYTES, MqttLink, Will

from .conftest import MOSQUITTO, Broker, free_port, mosquitto


async def receive(inbox: Inbox, deadline_s: float = 10.0) -> ReceivedMessage:
    async with asyncio.timeout(deadline_s):
        return await anext(inbox)


async def test_a_message_arrives(broker: Broker) -> None:
    topic = "labd/lab/u/ann/do/submit"
    one, two = MqttLink(broker.url, "a"), MqttLink(broker.url, "b")
    async with one, two, two.subscribe("labd/lab/u/+/do/+") as inbox:
        await one.publish_message(topic, b"{}")
        assert await receive(inbox) == ReceivedMessage(topic, b"{}", retained=False)


async def test_retained_state_reaches_latecomers_and_can_be_cleared(broker: Broker) -> None:
    async with MqttLink(broker.url, "a") as link:
        await link.publish_message("labd/lab/job/j", b"queued", retain=True)
        await asyncio.sleep(0.2)
        async with link.subscribe("labd/lab/job/+") as inbox:
            queued = ReceivedMessage("labd/lab/job/j", b"queued", retained=True)
            assert await receive(inbox) == queued
        await link.publish_message("labd/lab/job/j", b"", retain=True)
        await link.publish_message("labd/lab/job/k", b"other", retain=True)
        await asyncio.sleep(0.2)  # NATS shows it to new subscribers a moment after its PUBACK
        async with link.subscribe("labd/lab/job/+") as inbox:
            assert (await receive(inbox)).topic == "labd/lab/job/k"


async def test_each_subscription_gets_only_what_it_asked_for(broker: Broker) -> None:
    async with MqttLink(broker.url, "a") as link, AsyncExitStack() as stack:
        jobs = await stack.enter_async_context(link.subscribe("labd/lab/job/+"))
        events = await stack.enter_async_context(link.subscribe("labd/lab/job/+/event"))
        await link.publish_message("labd/lab/job/j/event", b"event")
        await link.publish_message("labd/lab/job/j", b"state")
        assert (await receive(events)).payload == b"event"
        assert (await receive(jobs)).payload == b"state"


async def test_a_burst_arrives_whole_and_in_order(broker: Broker) -> None:
    count = 2000
    one, two = MqttLink(broker.url, "a"), MqttLink(broker.url, "b")
    async with one, two, two.subscribe("labd/lab/job/j/event") as inbox:
        sending = [
            asyncio.create_task(one.publish_message("labd/lab/job/j/event", b"%d" % number))
            for number in range(count)
        ]
        got = [int((await receive(inbox)).payload) for _ in range(count)]
        await asyncio.gather(*sending)
    assert got == list(range(count))


async def test_five_megabytes_arrive(broker: Broker) -> None:
    async with MqttLink(broker.url, "a") as link, link.subscribe("labd/lab/x") as inbox:
        payload = os.urandom(5_000_000)
        await link.publish_message("labd/lab/x", payload)
        assert (await receive(inbox)).payload == payload


async def test_what_no_broker_takes_is_refused_here(broker: Broker) -> None:
    async with MqttLink(broker.url, "a") as link:
        with pytest.raises(LabdBug, match="too many"):
            await link.publish_message("labd/lab/x", bytes(MAX_PAYLOAD_BYTES + 1))
        assert link.is_connected


async def test_the_link_comes_back_with_its_subscriptions(broker: Broker) -> None:
    received: list[str] = []
    async with MqttLink(broker.url, "a") as link:

        async def publish() -> None:
            received.append("here")
            await link.publish_message("labd/lab/daemon/h", b"online", retain=True)

        link.on_connect.append(publish)
        async with link.subscribe("labd/lab/daemon/h") as inbox:
            await broker.stop()
            async with asyncio.timeout(5):
                while link.is_connected:
                    await asyncio.sleep(0.01)
            waiting = asyncio.create_task(
                link.publish_message("labd/lab/x", b"kept", deadline_s=30)
            )
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await broker.start()
            assert (await receive(inbox, 30)).payload == b"online"
            await waiting
    assert received == ["here"]


async def test_on_connect_runs_the_first_time_too_and_may_wait_for_messages(
    broker: Broker,
) -> None:
    link = MqttLink(broker.url, "a")
    arrived: list[bytes] = []

    async def ask() -> None:
        async with link.subscribe("labd/lab/echo") as inbox:
            await link.publish_message("labd/lab/echo", b"hello")
            arrived.append((await receive(inbox)).payload)

    link.on_connect.append(ask)
    async with link:
        assert arrived == [b"hello"]


async def test_a_callback_that_breaks_is_not_hidden(broker: Broker) -> None:
    link = MqttLink(broker.url, "a")

    async def broken() -> None:
        raise LabdBug("test", "broken")

    link.on_connect.append(broken)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with link:
            pass
    assert caught.group_contains(LabdBug, match="broken")


async def test_a_link_asks_before_it_comes_back_and_may_give_up(broker: Broker) -> None:
    link, asked = MqttLink(broker.url, "a"), 0

    async def give_up() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise TransportError("no-broker", "later")
        raise ConfigError("lab-held", "another has it")

    link.before_reconnect = give_up
    inbox = link.add_subscription("labd/lab/x")
    await link.__aenter__()
    assert asked == 0
    await broker.stop()
    await broker.start()
    with pytest.raises(ConfigError, match="another has it"):
        await receive(inbox)
    assert asked == 2
    with pytest.raises(ConfigError, match="another has it"):
        await link.__aexit__(None, None, None)


async def test_nobody_listens() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(TransportError, match="start one with `labd serve`") as caught:
        async with MqttLink(url, "a"):
            pass
    assert caught.value.code == "no-broker"


async def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(TransportError, match=r"no broker at mqtt://nowhere\.invalid:1883"):
        async with MqttLink("mqtt://nowhere.invalid", "a"):
            pass


async def test_publishing_has_a_deadline(broker: Broker) -> None:
    async with MqttLink(broker.url, "a") as link:
        await broker.stop()
        begin = time.monotonic()
        with pytest.raises(TransportError, match=r"within 0\.3 s"):
            await link.publish_message("labd/lab/x", b"", deadline_s=0.3)
        assert time.monotonic() - begin < 3


async def test_a_lost_connection_ends_an_exchange_at_once(broker: Broker) -> None:
    """aiomqtt alone would wait ten seconds for an acknowledgement that cannot come."""
    async with MqttLink(broker.url, "a") as link:
        sending = [
            asyncio.create_task(link.publish_message("labd/lab/x", bytes(100_000), deadline_s=30))
            for _ in range(50)
        ]
        await asyncio.sleep(0)
        await broker.stop()
        await broker.start()
        async with asyncio.timeout(8):
            await asyncio.gather(*sending)


async def test_the_last_will_speaks_when_a_client_is_killed(broker: Broker) -> None:
    code = (
        "import asyncio, sys\n"
        "from labd.mqtt.link import MqttLink, Will\n"
        "async def main():\n"
        "    async with MqttLink(sys.argv[1], 'dying', will=Will('labd/lab/daemon/h', b'off')):\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    async with MqttLink(broker.url, "a") as link, link.subscribe("labd/lab/daemon/h") as inbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, broker.url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert (await receive(inbox)).payload == b"off"


async def test_an_orderly_disconnect_has_no_last_will(broker: Broker) -> None:
    async with MqttLink(broker.url, "a") as link, link.subscribe("labd/lab/#") as inbox:
        async with MqttLink(broker.url, "b", will=Will("labd/lab/daemon/h", b"off")):
            pass
        await link.publish_message("labd/lab/x", b"after")
        assert (await receive(inbox)).payload == b"after"


async def test_a_persistent_link_receives_what_came_while_it_was_away(broker: Broker) -> None:
    async with MqttLink(broker.url, "daemon", persistent=True) as link:
        keeping = link.subscribe("labd/lab/u/+/do/+")
        await keeping.__aenter__()
    async with MqttLink(broker.url, "cli") as client:
        await client.publish_message("labd/lab/u/ann/do/submit", b"meanwhile")
    again = MqttLink(broker.url, "daemon", persistent=True)
    async with again, again.subscribe("labd/lab/u/+/do/+") as inbox:
        assert (await receive(inbox)).payload == b"meanwhile"


async def test_an_inbox_from_before_connecting_misses_nothing(broker: Broker) -> None:
    before = MqttLink(broker.url, "daemon", persistent=True)
    before.add_subscription("labd/lab/u/+/do/+")
    async with before:
        pass
    async with MqttLink(broker.url, "cli") as client:
        await client.publish_message("labd/lab/u/ann/do/submit", b"meanwhile")
    again = MqttLink(broker.url, "daemon", persistent=True)
    inbox = again.add_subscription("labd/lab/u/+/do/+")
    async with again:
        await asyncio.sleep(0.5)  # the owner has other things to do first
        assert (await receive(inbox)).payload == b"meanwhile"


@pytest.fixture
async def guarded(tmp_path: Path) -> Any:
    """A mosquitto with a password and an access list."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    port = free_port()
    users = tmp_path / "users"
    make = await asyncio.create_subprocess_exec(
        "mosquitto_passwd", "-c", "-b", str(users), "ann", "secret"
    )
    assert await make.wait() == 0
    for file in (users, tmp_path):
        file.chmod(0o755)
    rules = tmp_path / "rules"
    rules.write_text("pattern write labd/lab/u/%u/do/+\npattern read labd/lab/u/%u/re/+\n")
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\n"
        f"password_file {users}\nacl_file {rules}\nuser root\n"
    )
    async with mosquitto(config, port):
        yield port


async def test_a_wrong_password(guarded: int) -> None:
    with pytest.raises(TransportError) as caught:
        async with MqttLink(f"mqtt://ann:wrong@127.0.0.1:{guarded}", "a"):
            pass
    assert caught.value.code == "broker-refused"
    assert "check user and password" in str(caught.value)
    assert "wrong" not in str(caught.value)


async def test_a_denied_publish_is_silent(guarded: int) -> None:
    """Why a client waits for the lab's own reply."""
    async with MqttLink(f"mqtt://ann:secret@127.0.0.1:{guarded}", "a") as link:
        await link.publish_message("labd/lab/u/bob/do/submit", json.dumps({}).encode())
        assert link.is_connected
