"""Ending a child process: first by asking, then by force."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process


async def end_process(process: Process, deadline_s: float) -> None:
    """End a child and wait until it is gone; nothing happens to one that has ended.

    Args:
        process: a child of this process.
        deadline_s: how long it may take to end by itself after SIGTERM.
    """
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(deadline_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
