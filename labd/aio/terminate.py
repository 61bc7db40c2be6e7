"""Terminate a child process."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process


async def terminate_process(process: Process, deadline_s: float) -> None:
    """Send SIGTERM, after the deadline SIGKILL, and wait until the process has ended.

    Args:
        process: a child of this process; it may have ended.
        deadline_s: seconds from SIGTERM to SIGKILL.
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
