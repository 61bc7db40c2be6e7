"""How an instrument is closed, after use and after an open that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from labd.core.errors import DeadlineExceeded, LabdError, TransportError, Where

log = logging.getLogger(__name__)


class CloseStep(Protocol):
    """Take one step of a close: what it does, for error texts, and the step itself."""

    async def __call__(self, what: str, work: Awaitable[object]) -> None:
        """Await ``work`` within the deadline; a :class:`LabdError` is raised at the end only."""
        ...


@asynccontextmanager
async def close_in_steps(
    where: Where, step_s: float, free: Callable[[], Awaitable[None]]
) -> AsyncGenerator[CloseStep]:
    """Close an instrument: try every step, free its port, then raise the first fault.

    ::

        async with close_in_steps(self._where, CLOSE_STEP_S, self._link.close) as step:
            await step("switching the DUT off", self._switch_off())
            await step("stopping the acquisition", self._stop())

    Args:
        where: the instrument, for error texts.
        step_s: deadline of each step.
        free: frees the port; always called.

    Raises:
        LabdError: the first fault of a step, or the fault of ``free``.
    """
    faults: list[LabdError] = []

    async def attempt_step(what: str, work: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(step_s):
                await work
        except TimeoutError:
            text = f"{what} took longer than {step_s:g} s"
            remedy = "see that its output is off; power-cycle the instrument"
            faults.append(DeadlineExceeded("no-answer", text, remedy, where))
        except LabdError as fault:
            # of a lost port the attempt, or the next check, reports the reason
            level = logging.DEBUG if isinstance(fault, TransportError) else logging.WARNING
            log.log(level, "%s: %s failed: %s", where.device, what, fault.what)
            faults.append(fault)

    try:
        yield attempt_step
    finally:
        await free()
    if faults:
        raise faults[0]


@asynccontextmanager
async def close_on_failure(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Close an instrument as after use when opening it fails: the DUT may still be powered.

    A fault of the closing is noted beside the one that made it necessary.
    """
    try:
        yield
    except BaseException as exc:
        try:
            await close()
        except LabdError as fault:
            exc.add_note(f"closing it again failed too: {fault}")
        raise
