"""Lines over a serial link, each with the host's monotonic time of its arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from drivers.base.serial_link import Chunk, Link
from labd.aio.host_time import host_time_ns
from labd.core.errors import DeadlineExceeded
from labd.protocol.lines import Line, LineSplitter, format_quote


class LineReader:
    """Lines from a link, each with the time its end arrived."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._splitter = LineSplitter()
        self._waiting: deque[Line] = deque()

    async def read_line(self) -> Line:
        """Return the next line; :meth:`answer_deadline` limits the wait."""
        while not self._waiting:
            self._split_chunk(await self._link.read(None))
        return self._waiting.popleft()

    async def read_until_quiet(self, quiet_s: float, deadline_s: float) -> list[Line]:
        """Return all lines until silence; an incomplete line is discarded.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the device did not stop sending.
        """
        received = await self._link.read_until_quiet(quiet_s, deadline_s)
        self._split_chunk(Chunk(received, host_time_ns()))
        self._splitter = LineSplitter()
        lines = list(self._waiting)
        self._waiting.clear()
        return lines

    def take_arrived_lines(self) -> list[Line]:
        """Return the complete lines that have arrived, without waiting."""
        for chunk in self._link.take_arrived_chunks():
            self._split_chunk(chunk)
        lines = list(self._waiting)
        self._waiting.clear()
        return lines

    @asynccontextmanager
    async def answer_deadline(
        self, deadline_s: float, what: str, received: list[Line], remedy: str = ""
    ) -> AsyncGenerator[None]:
        """Give the body a deadline; the error quotes the lines ``received`` until then.

        Raises:
            DeadlineExceeded: the body did not end in time.
        """
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except TimeoutError as exc:
            text = " / ".join(
                [*(line.text for line in received), self._splitter.partial_line]
            ).strip(" /")
            raise DeadlineExceeded(
                "no-answer",
                f"{what}: no answer within {deadline_s:g} s, received {format_quote(text)}",
                remedy or "check power, wiring and baud rate",
                self._link.where,
            ) from exc

    def _split_chunk(self, chunk: Chunk) -> None:
        texts = self._splitter.feed(chunk.data)
        self._waiting.extend(Line(text, chunk.t_ns) for text in texts)
