"""Work that blocks on the disk, from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from labd.aio.shielded import outlast
from labd.core.errors import InfraError

P = ParamSpec("P")
T = TypeVar("T")


async def on_disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do something that blocks on the disk, to its end; a refusal is the bench's fault.

    Raises:
        InfraError: ``disk``: it refuses.
    """
    writing = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    cancelled = await outlast(writing, hasten=False)
    fault = writing.exception()
    if cancelled:
        raise asyncio.CancelledError
    if isinstance(fault, OSError):
        what = f"the lab's disk refuses: {fault}"
        raise InfraError("disk", what, "free space in [lab] state") from fault
    return writing.result()
