"""The journal for asyncio: one thread runs its transactions in the order of the calls.

A transaction that was called for is run exactly once, even if the calling task is cancelled. Its
change is reported to one listener, in commit order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from labd.store.journal.journal import Journal
from labd.store.journal.rows import Change

P = ParamSpec("P")
T = TypeVar("T")


class AsyncJournal:
    """Runs the journal's methods on its own thread.

    ::

        async with AsyncJournal(url, on_change=outbox.put_nowait) as journal:
            change = await journal(Journal.submit_job, spec, now_ns)

    Args:
        url: as :class:`Journal`'s.
        on_change: called on the loop after every commit that changed a job, in commit order,
            even when the task that asked is gone by then; must not block or raise.
    """

    def __init__(self, url: str, on_change: Callable[[Change], None] | None = None) -> None:
        self._url = url
        self.on_change = on_change
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._journal: Journal | None = None

    async def __aenter__(self) -> Self:
        """Open the database.

        Raises:
            ConfigError: as :class:`Journal`.
        """
        try:
            self._journal = await self._run_on_thread(partial(Journal, self._url))
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish every transaction that was called for, then close the database."""
        await self(Journal.close)
        self._thread.shutdown()

    async def __call__(
        self,
        operation: Callable[Concatenate[Journal, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run one method of the journal; cancelling the caller does not stop it."""
        if self._journal is None:
            raise RuntimeError("the journal is not open")
        return await self._run_on_thread(partial(operation, self._journal, *args, **kwargs))

    async def _run_on_thread(self, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        future.add_done_callback(self._report_change)
        return await asyncio.shield(future)

    def _report_change(self, future: asyncio.Future[T]) -> None:
        """Report a change, on the loop and in commit order; consume errors without a caller."""
        if future.cancelled() or future.exception() is not None:
            return
        found = future.result()
        if self.on_change is not None and isinstance(found, Change) and found.events:
            self.on_change(found)
