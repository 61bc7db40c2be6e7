"""One acquisition of a PPK2: started, read while it streams, confirmed and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from drivers.base.acquisition import BackgroundAcquisition
from drivers.base.serial_link import Link
from drivers.ppk2.stream import StreamDecoder
from labd.core.errors import InstrumentError
from labd.core.model import StreamItem

START = b"\x06"
STOP = b"\x07"
QUIET_S = 0.1
STOP_S = 3.0
LINGER_S = 8.0
"""Longest wait for the host's clock to confirm the received samples before the stop: longer than
the delay of a busy host."""


class Ppk2Acquisition(BackgroundAcquisition):
    """One acquisition of the instrument.

    Args:
        link: its port.
        decoder: of its stream.
        answer_s: longest wait for a sample.
        stop_s: longest wait for silence after the stop.
    """

    def __init__(
        self, link: Link, decoder: StreamDecoder, answer_s: float, stop_s: float = STOP_S
    ) -> None:
        super().__init__(link.where, answer_s, decoder)
        self._link = link
        self._decoder = decoder
        self._stop_s = stop_s
        self._started = self._silent = self._settled = False
        self._bytes = 0

    @property
    def possibly_missing(self) -> int:
        """Upper limit of undetected lost samples, a multiple of the counter wrap."""
        return self._decoder.possibly_missing

    @property
    def event_counts(self) -> dict[str, int]:
        """Samples that may be missing without a sign."""
        return {"possibly_missing_samples": self.possibly_missing}

    @property
    def _is_idle(self) -> bool:
        return self._silent or not self._started

    async def _start_instrument(self) -> None:
        self._started = True
        await self._link.write(START)
        await self._wait_until(lambda: self._bytes > 0, "sample")

    async def _read_stream(self) -> None:
        while True:
            chunk = await self._link.read(None)
            self._bytes += len(chunk.data)
            self._queue_items(self._decoder.feed(chunk.data, chunk.t_ns))

    async def _stop_instrument(self) -> None:
        """Wait until the host's clock confirms the received samples, stop, wait for silence."""
        received = self.received_samples
        await self._wait_for_silence(LINGER_S, lambda: self._decoder.confirmed_samples >= received)
        await self._link.write(STOP)
        if not await self._wait_for_silence(self._stop_s):
            raise InstrumentError(
                "does-not-stop",
                f"it still streams {self._stop_s:g} s after the command to stop",
                "unplug the instrument and plug it in again",
                self._link.where,
            )
        self._silent = True
        self._queue_items(self._settle_unconfirmed_tail("it was stopped"))

    async def _wait_for_silence(
        self, limit_s: float, done: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait until nothing comes for :data:`QUIET_S`, or ``done``; whether in time."""
        loop = asyncio.get_running_loop()
        end_s, before = loop.time() + limit_s, -1
        while self._bytes != before and not done():
            before = self._bytes
            if loop.time() > end_s:
                return False
            await asyncio.sleep(QUIET_S)
            if self._fault:
                raise self._fault
        return True

    def _settle_unconfirmed_tail(self, reason: str) -> Sequence[StreamItem]:
        if self._settled:
            return []
        self._settled = True
        return self._decoder.finish(reason, orderly=self._silent)
