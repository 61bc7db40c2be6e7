"""Tasks that run as long as the daemon does, and the signals that end it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from labd.aio.shielded import wait_shielded
from labd.core.errors import LabdError

log = structlog.get_logger(__name__)


class StopRequestedError(Exception):
    """SIGTERM or SIGINT was received."""


class BackgroundTasks:
    """Tasks that must run until the daemon ends.

    Args:
        stack: cancels them when it closes, the last started first.
        stop: set when the daemon is to end.
    """

    def __init__(self, stack: AsyncExitStack, stop: asyncio.Event) -> None:
        self._stack = stack
        self._stop = stop
        self._tasks: list[asyncio.Task[None]] = []

    async def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work until the stack closes."""
        self._tasks.append(await self._stack.enter_async_context(_run_beside_body(work)))

    async def start_restarted_process(
        self,
        run: Callable[[asyncio.Event], Awaitable[None]],
        restart_s: float,
        *,
        fatal: type[LabdError] = LabdError,
    ) -> asyncio.Event:
        """Run a process until the stack closes; restart it whenever it ends.

        Args:
            run: starts the process, sets the event once it works, and waits for its end.
            restart_s: pause before a restart.
            fatal: errors that end the daemon if they come before the event is set.

        Returns:
            the event.
        """
        started = asyncio.Event()
        await self.start_task(_run_and_restart(run, started, restart_s, fatal))
        return started

    async def wait_unless_stopped(self, wanted: Awaitable[Any]) -> None:
        """Wait for something.

        Raises:
            StopRequestedError: the daemon is to end.
            Exception: the one with which it, or one of the tasks, failed.
        """
        waiting = asyncio.ensure_future(wanted)
        stopping = asyncio.create_task(self._stop.wait())
        try:
            every = {waiting, stopping, *self._tasks}
            await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
            if self._stop.is_set():
                raise StopRequestedError
            waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()


async def log_failure(work: Awaitable[Any], *, event: str, what: str) -> None:
    """Do one step of a background task; log what fails, since the lab works on without it.

    Args:
        work: the step.
        event: log event of an expected error.
        what: names the step in the log of a defect.
    """
    try:
        await work
    except LabdError as error:
        log.warning(event, error=str(error))
    except Exception:  # the top of the task: the lab works on without it
        log.exception("labd-bug", what=what)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _run_and_restart(
    run: Callable[[asyncio.Event], Awaitable[None]],
    started: asyncio.Event,
    restart_s: float,
    fatal: type[LabdError],
) -> None:
    while True:
        try:
            await run(started)
        except (LabdError, OSError) as error:
            if not started.is_set() and isinstance(error, (fatal, OSError)):
                raise
            log.warning("process-restarts", error=str(error))
        await asyncio.sleep(restart_s)


@asynccontextmanager
async def _run_beside_body(work: Coroutine[Any, Any, None]) -> AsyncGenerator[asyncio.Task[None]]:
    """Run work beside the body; cancel it and wait for its end after the body."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await wait_shielded(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("task-failed", task=task.get_coro(), error=repr(task.exception()))
