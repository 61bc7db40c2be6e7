"""Wait for a task to its end, whatever happens to the waiting task."""

from __future__ import annotations

import asyncio
from typing import Any


async def wait_shielded(
    task: asyncio.Future[Any],
    *,
    cancel_task: bool = False,
    cancelled: bool = False,
    grace_s: float | None = None,
) -> bool:
    """Wait until ``task`` is done, even if the waiting task is cancelled meanwhile.

    Args:
        task: must end within a deadline, unless ``grace_s`` is given.
        cancel_task: forward a cancellation to it.
        cancelled: whether the waiting task was cancelled before.
        grace_s: how long the task may go on after the cancellation; then it is cancelled.

    Returns:
        whether the waiting task was cancelled; the caller must raise that when it is finished.
    """
    while not task.done():
        try:
            done, _ = await asyncio.wait({task}, timeout=grace_s if cancelled else None)
        except asyncio.CancelledError:
            cancelled = True
            if cancel_task:
                task.cancel()
        else:
            if not done:
                task.cancel()
    return cancelled
