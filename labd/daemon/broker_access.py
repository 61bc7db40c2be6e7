"""Check, before a daemon is ready, that the broker passes on what it publishes and subscribes to.

A broker with an access list may drop messages without a word: MQTT 3.1.1 acknowledges a denied
publish. Only a message that comes back shows that both ways are open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.errors import ConfigError, TransportError
from labd.mqtt.link import MqttLink

TRIES = 2
ECHO_DEADLINE_S = 5.0
"""Wait for a message to come back; a broker takes milliseconds unless it is overloaded."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A message that must come back.

    Args:
        what: it belongs to, for the error text.
        topic: to publish it to.
        topic_filter: to receive it with.
        payload: the message.
        retain: as a retained message.
    """

    what: str
    topic: str
    topic_filter: str
    payload: bytes
    retain: bool = False


async def check_broker_access(link: MqttLink, lab: str, probes: Sequence[Probe]) -> None:
    """Check that every probe comes back.

    Raises:
        ConfigError: ``broker-rights``: one does not; the text names the topics.
        TransportError: the broker is away.
    """
    came_back = await asyncio.gather(*(_comes_back(link, probe) for probe in probes))
    denied = [probe for probe, came in zip(probes, came_back, strict=True) if not came]
    if not denied:
        return
    topics = ", ".join(f"{probe.topic} ({probe.what})" for probe in denied)
    user = link.address.user
    raise ConfigError(
        "broker-rights",
        f"the broker at {link.address} does not return what labd publishes to {topics}",
        f"let {f'user {user}' if user else 'anonymous clients'} read and write labd/{lab}/#: "
        "docs/wire-protocol.md has an access list",
    )


async def _comes_back(link: MqttLink, probe: Probe) -> bool:
    """Publish a probe and return whether it was received."""
    try:
        async with link.subscribe(probe.topic_filter) as inbox:
            for _ in range(TRIES):
                await link.publish_message(probe.topic, probe.payload, retain=probe.retain)
                try:
                    async with asyncio.timeout(ECHO_DEADLINE_S):
                        async for message in inbox:
                            if (message.topic, message.payload) == (probe.topic, probe.payload):
                                return True
                except TimeoutError:
                    continue
    except TransportError as error:
        if error.code != "subscribe-refused":
            raise
    return False
