"""Lines over a serial link, each with the host's monotonic time of its arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from drivers.base.serial_link import Chunk, Link
from labd.aio.host_time import host_time_ns
from labd.core.errors import DeadlineExceeded
from labd.protocol.lines import Line, LineSplitter, quoted


class LineReader:
    """Lines from a link, each with the time its end arrived."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._splitter = LineSplitter()
        self._waiting: deque[Line] = deque()

    async def line(self) -> Line:
        """The next line; waits as long as the port lives: bound it with :meth:`within`."""
        while not self._waiting:
            self._take(await self._link.read(None))
        return self._waiting.popleft()

    async def until_quiet(self, quiet_s: float, deadline_s: float) -> list[Line]:
        """All lines until silence; a line begun before it is thrown away.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the device kept talking.
        """
        heard = await self._link.read_until_quiet(quiet_s, deadline_s)
        self._take(Chunk(heard, host_time_ns()))
        self._splitter = LineSplitter()
        lines = list(self._waiting)
        self._waiting.clear()
        return lines

    def arrived(self) -> list[Line]:
        """The whole lines that have arrived already, without waiting."""
        for chunk in self._link.take_arrived():
            self._take(chunk)
        lines = list(self._waiting)
        self._waiting.clear()
        return lines

    @asynccontextmanager
    async def within(
        self, deadline_s: float, what: str, heard: list[Line], todo: str = ""
    ) -> AsyncGenerator[None]:
        """Bound the body; a late body becomes an error quoting what was heard.

        Raises:
            DeadlineExceeded: the body was not done in time.
        """
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except TimeoutError as exc:
            text = " / ".join([*(line.text for line in heard), self._splitter.rest]).strip(" /")
            raise DeadlineExceeded(
                "no-answer",
                f"{what}: no answer within {deadline_s:g} s, heard {quoted(text)}",
                todo or "check power, wiring and baud rate",
                self._link.where,
            ) from exc

    def _take(self, chunk: Chunk) -> None:
        texts = self._splitter.feed(chunk.data)
        self._waiting.extend(Line(text, chunk.t_ns) for text in texts)
