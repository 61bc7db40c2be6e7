"""What a command that follows a job says while the broker or the lab is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from labd.cli.terminal import print_line
from labd.client.lab_client import LabClient

POLL_S = 0.5


@asynccontextmanager
async def running_beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run work beside the body, until the body ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def report_outages(client: LabClient, report: Callable[[str], None]) -> None:
    """Report each outage, and an empty text at its end, until cancelled."""
    reported = ""
    try:
        while True:
            outage = client.describe_outage()
            if outage != reported:
                report(outage)
                reported = outage
            await asyncio.sleep(POLL_S)
    finally:
        if reported and not client.describe_outage():
            report("")


def print_outage(outage: str) -> None:
    """Print an outage, or its end, on standard error."""
    print_line(f"labctl: {outage or 'the lab answers again'}", err=True)
