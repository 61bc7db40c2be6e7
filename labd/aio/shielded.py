"""Wait for a task to its end, whatever happens to the waiting task."""

from __future__ import annotations

import asyncio
from typing import Any


async def wait_shielded(task: asyncio.Future[Any], *, cancel_task: bool = False) -> bool:
    """Wait until ``task`` is done, even if the waiting task is cancelled meanwhile.

    Args:
        task: must end within a deadline.
        cancel_task: forward a cancellation to it.

    Returns:
        whether the waiting task was cancelled; the caller must raise that when it is finished.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
            if cancel_task:
                task.cancel()
    return cancelled
