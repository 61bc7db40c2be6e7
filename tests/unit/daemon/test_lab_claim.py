"""Which of several daemons gets a lab, on a real broker."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from labd.core.errors import ConfigError
from labd.daemon.lab_claim import LabClaimant, open_claimant
from labd.mqtt.broker import EmbeddedBroker
from labd.wire.messages import DaemonStatus
from labd.wire.topics import Topics
from tests.system.lab import free_port

TOPICS = Topics("lab")


def status(host: str, since_ns: int) -> DaemonStatus:
    return DaemonStatus(
        host=host,
        state="online",
        version="1",
        since_ns=since_ns,
        instance=f"i-{host}",
        pid=1,
        state_directory="/state",
        journal="j",
    )


async def claimant(stack: AsyncExitStack, url: str, host: str, since_ns: int) -> LabClaimant:
    opening = open_claimant(url, TOPICS, status(host, since_ns), take_over=False)
    return await stack.enter_async_context(opening)


async def test_a_holder_that_asks_again_goes_before_a_newcomer_with_a_wrong_clock(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(EmbeddedBroker(tmp_path, free_port()))
        holder = await claimant(stack, broker.url, "holder", since_ns=10**18)
        await holder.claim()
        newcomer = await claimant(stack, broker.url, "no-clock", since_ns=0)  # 1970
        again, refused = await asyncio.gather(
            holder.claim(), newcomer.claim(), return_exceptions=True
        )
        assert again is None
        assert isinstance(refused, ConfigError)
        assert "host holder" in refused.what


async def test_a_former_holder_gives_way_to_the_present_one(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(EmbeddedBroker(tmp_path, free_port()))
        former = await claimant(stack, broker.url, "former", since_ns=1)
        await former.claim()
        former._holds = False  # type: ignore[attr-defined] - it hung and did not answer
        former._held = True  # type: ignore[attr-defined]
        present = await claimant(stack, broker.url, "present", since_ns=0)
        present._holds = True  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match="host present"):
            await former.claim()
