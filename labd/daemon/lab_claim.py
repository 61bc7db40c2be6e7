"""One daemon per lab: ask who holds the lab before taking it, and answer others that ask.

Every daemon of a lab connects under the same MQTT client id, so the broker keeps one session
and delivers each request once. A broker that sees the id a second time disconnects the first
client; so a daemon asks, over a connection of its own, before every connect:

1. A daemon that holds the lab answers; the newcomer ends with an error that names it.
2. Of several that ask at the same time, one that held the lab until its connection was lost goes
   on, else the one that was started first, by the clocks of their hosts.
3. The retained daemon states show whose journal holds the lab's jobs. With another journal
   those jobs are unknown, so the daemon ends, unless it is ordered to take the lab over.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from pydantic import ValidationError

from labd.core.errors import ConfigError, TransportError
from labd.mqtt.link import MqttLink
from labd.wire.messages import DaemonStatus, LabClaim
from labd.wire.topics import Kind, Topics

log = structlog.get_logger(__name__)

ASKS = 2
ANSWER_DEADLINE_S = 1.0
"""Wait after each question. A daemon answers within milliseconds unless its host is overloaded."""


class LabClaimant:
    """Claims a lab for a daemon.

    Args:
        link: its own connection to the broker, not entered yet.
        topics: of the lab.
        status: of this daemon.
        take_over: replace the record of another journal at the first claim.
    """

    def __init__(
        self, link: MqttLink, topics: Topics, status: DaemonStatus, *, take_over: bool = False
    ) -> None:
        self._link = link
        self._topics = topics
        self._own = LabClaim(
            instance=status.instance,
            asks=True,
            holds=False,
            host=status.host,
            pid=status.pid,
            state_directory=status.state_directory,
            journal=status.journal,
            since_ns=status.since_ns,
        )
        self._take_over = take_over
        self._holds = self._held = False
        self._received: dict[str, LabClaim] = {}
        self._recorded: dict[str, DaemonStatus] = {}
        self._changed = asyncio.Event()
        self._claims = link.add_subscription(topics.subscription_filter(Kind.CLAIM))
        self._states = link.add_subscription(topics.subscription_filter(Kind.DAEMON))

    async def claim(self) -> None:
        """Claim the lab; return when this daemon holds it.

        Raises:
            ConfigError: ``lab-held``: another daemon holds it; ``lab-recorded``: its jobs are
                in another journal.
            TransportError: the broker is away.
        """
        self._held, self._holds = self._held or self._holds, False
        self._received.clear()
        for _ in range(ASKS):
            await self._publish_claim(asks=True)
            await self._wait_for_rival()
            if (rival := self._find_rival()) is not None:
                raise self._held_error(rival)
        strangers = self._find_strangers()
        if strangers and not self._take_over:
            raise self._recorded_error(strangers[0])
        self._take_over = False
        self._holds = True
        await self._clear_records(only_offline=False)

    async def answer_claims(self) -> None:
        """Answer the claims of other daemons until cancelled."""
        async for message in self._claims:
            try:
                claim = LabClaim.model_validate_json(message.payload)
            except ValidationError:
                log.warning("bad-claim", topic=message.topic)
                continue
            if claim.instance == self._own.instance:
                continue
            self._received[claim.instance] = claim
            self._changed.set()
            if claim.asks:
                with contextlib.suppress(TransportError):  # it asks again, or the broker is away
                    await self._publish_claim(asks=False)

    async def read_records(self) -> None:
        """Keep the retained daemon states until cancelled."""
        async for message in self._states:
            host = message.topic.rpartition("/")[2]
            try:
                self._recorded[host] = DaemonStatus.model_validate_json(message.payload)
            except ValidationError:  # cleared, or of an incompatible labd
                self._recorded.pop(host, None)
            if self._holds:  # the last will of a daemon that lost the lab
                await self._clear_records(only_offline=True)

    async def _publish_claim(self, *, asks: bool) -> None:
        claim = self._present_claim(asks=asks)
        await self._link.publish_message(
            self._topics.claim_topic(claim.instance), claim.to_json_bytes()
        )

    async def _wait_for_rival(self) -> None:
        """Wait for the answers; return at once when one of them decides."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                while self._find_rival() is None:
                    self._changed.clear()
                    await self._changed.wait()

    def _find_rival(self) -> LabClaim | None:
        """Return the daemon that this one gives way to."""
        first = min(self._received.values(), key=_precedence, default=None)
        own = self._present_claim(asks=True)
        return first if first and _precedence(first) < _precedence(own) else None

    def _present_claim(self, *, asks: bool) -> LabClaim:
        standing = {"asks": asks, "holds": self._holds, "held": self._held}
        return self._own.model_copy(update=standing)

    def _find_strangers(self) -> list[DaemonStatus]:
        """Return the recorded daemons that have another journal."""
        return [
            status
            for status in self._recorded.values()
            if status.journal not in {"", self._own.journal}
        ]

    async def _clear_records(self, *, only_offline: bool) -> None:
        """Clear the retained states of other daemons of the lab."""
        for host, status in list(self._recorded.items()):
            if host == self._own.host or (only_offline and status.state == "online"):
                continue
            with contextlib.suppress(TransportError):
                await self._link.publish_message(self._topics.daemon_topic(host), b"", retain=True)

    def _held_error(self, rival: LabClaim) -> ConfigError:
        return ConfigError(
            "lab-held",
            f"another labd {'serves' if rival.holds else 'is starting to serve'} lab "
            f"{self._topics.lab!r} on this broker: process {rival.pid} on host {rival.host}, "
            f"state directory {rival.state_directory}",
            "stop it first, or choose another `name` in [lab]",
        )

    def _recorded_error(self, other: DaemonStatus) -> ConfigError:
        return ConfigError(
            "lab-recorded",
            f"the jobs of lab {self._topics.lab!r} on this broker are in another journal: host "
            f"{other.host}, state directory {other.state_directory}",
            "use that state directory, choose another `name` in [lab], or replace the record "
            "with `labd serve --take-over`: the jobs of that journal are not known here",
        )


@asynccontextmanager
async def open_claimant(
    url: str, topics: Topics, status: DaemonStatus, *, take_over: bool
) -> AsyncGenerator[LabClaimant]:
    """Connect a claimant, which answers other daemons until the context ends.

    Raises:
        TransportError: there is no broker.
    """
    link = MqttLink(url, f"labd-{topics.lab}-claim-{status.instance}")
    claimant = LabClaimant(link, topics, status, take_over=take_over)
    async with link:
        background = [
            asyncio.create_task(claimant.answer_claims(), name="claims"),
            asyncio.create_task(claimant.read_records(), name="daemon states"),
        ]
        try:
            yield claimant
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


def new_instance() -> str:
    """Return an id for this process's life."""
    return secrets.token_hex(8)


def _precedence(claim: LabClaim) -> tuple[bool, bool, int, str]:
    """Return the order of claims: the first one gets the lab."""
    return (not claim.holds, not claim.held, claim.since_ns, claim.instance)
