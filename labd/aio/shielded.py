"""Waiting that a cancellation may hasten but not abandon."""

from __future__ import annotations

import asyncio
from typing import Any


async def outlast(task: asyncio.Future[Any], *, hasten: bool) -> bool:
    """Wait until ``task`` is done, even if the waiting task is cancelled meanwhile.

    Args:
        task: must have a deadline of its own.
        hasten: pass a cancellation on to it.

    Returns:
        whether the waiting task was cancelled; the caller has to raise that at the end.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
            if hasten:
                task.cancel()
    return cancelled
