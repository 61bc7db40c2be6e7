"""Brokers for the link's tests: the embedded one, and mosquitto where it is installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from labd.mqtt.broker import EmbeddedBroker

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A broker that can be taken away and brought back."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._directory = directory
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        context = self._mosquitto() if self.kind == "mosquitto" else self._nats()
        await self._stack.enter_async_context(context)

    async def stop(self) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def _nats(self) -> AsyncIterator[None]:
        async with EmbeddedBroker(self._directory / "nats", self.port):
            yield

    @asynccontextmanager
    async def _mosquitto(self) -> AsyncIterator[None]:
        config = self._directory / "mosquitto.conf"
        # by default it drops QoS 1 messages once 1000 wait for a slow reader
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        )
        async with mosquitto(config, self.port):
            yield


@asynccontextmanager
async def mosquitto(config: Path, port: int) -> AsyncIterator[None]:
    """A mosquitto with this configuration, ended afterwards."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        MOSQUITTO or "mosquitto", "-c", str(config), stdout=quiet, stderr=quiet
    )
    try:
        await _listening(port)
        yield
    finally:
        process.terminate()
        await process.wait()


async def _listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise TimeoutError(f"nobody listens on port {port}")


@pytest.fixture(params=["nats", "mosquitto"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    if request.param == "mosquitto" and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    made = Broker(request.param, tmp_path)
    await made.start()
    yield made
    await made.stop()
