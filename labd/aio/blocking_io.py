"""Run disk operations beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from labd.aio.shielded import wait_shielded
from labd.core.errors import InfraError

P = ParamSpec("P")
T = TypeVar("T")


async def run_disk_io(operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking disk operation in a thread, to its end even if cancelled.

    Raises:
        InfraError: ``disk``: the operating system refuses it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(operation, *args, **kwargs))
    cancelled = await wait_shielded(running)
    error = running.exception()
    if cancelled:
        raise asyncio.CancelledError
    if isinstance(error, OSError):
        what = f"a disk operation of the lab failed: {error}"
        raise InfraError("disk", what, "free space in [lab] state") from error
    return running.result()
