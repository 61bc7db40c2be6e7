"""An acquisition whose records are polled from an instrument that logs by its own clock."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence

from drivers.base.acquisition import BackgroundAcquisition
from drivers.scpi.record_clock import Moment
from drivers.scpi.record_stream import Records, RecordStream
from drivers.scpi.session import ScpiSession
from labd.core.errors import InstrumentError
from labd.core.model import StreamItem

STOP_S = 10.0

Clock = Callable[[], int]
"""The host's clock, ns."""


class PolledAcquisition(BackgroundAcquisition):
    """Start a log, poll its records, stop it; a subclass sends the instrument's commands.

    Args:
        session: the instrument.
        stream: receives the records.
        clock: the host's clock.
        answer_s: longest wait for an answer.
        poll_s: pause when the instrument has no more records.
        fills_answers: whether it answers only once it has as many records as were asked for, so
            that it never reports that there are no more.
    """

    def __init__(
        self,
        session: ScpiSession,
        stream: RecordStream,
        clock: Clock,
        answer_s: float,
        poll_s: float,
        *,
        fills_answers: bool = False,
    ) -> None:
        super().__init__(session.where, answer_s, stream)
        self._session = session
        self._records = stream
        self._clock = clock
        self._poll_s = poll_s
        self._fills_answers = fills_answers
        self._started = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._touched = False
        self._halted = False

    # ---- the commands of an instrument ----------------------------------------------------

    @abstractmethod
    async def _prepare_log(self) -> None:
        """Make the log ready to start."""

    @abstractmethod
    async def _send_start_commands(self) -> None:
        """Start the log; return when the instrument has confirmed it."""

    @abstractmethod
    async def _fetch_records(self) -> tuple[Records, bool]:
        """Return the records since the last poll, and whether there were no more."""

    @abstractmethod
    async def _stop_log(self) -> None:
        """Stop the log."""

    async def _record_error(self, problem: str) -> InstrumentError:
        """Make the error of a wrong record count; may read the instrument's settings."""
        return InstrumentError(
            "record-rate",
            problem,
            "check the rate, and that the instrument logs nothing else",
            self._where,
        )

    # ---- the acquisition ------------------------------------------------------------------

    @property
    def _is_idle(self) -> bool:
        return self._halted or not self._touched

    async def _start_instrument(self) -> None:
        self._touched = True
        await self._prepare_log()
        before_ns = self._clock()
        await self._send_start_commands()
        self._records.clock.note_start(Moment(before_ns, self._clock()))
        self._started.set()

    async def _read_stream(self) -> None:
        await self._started.wait()
        while not await self._poll_records():
            pass
        await self._stop_log()  # fails if the session is out of sync, before the tail is confirmed
        self._queue_items(self._records.release_tail())
        self._halted = True

    async def _poll_records(self) -> bool:
        """Poll once; return whether it was the last time."""
        last = self._stop_asked.is_set()
        before_ns = self._clock()
        records, drained = await self._fetch_records()
        moment = Moment(before_ns, self._clock())
        self._queue_items(self._records.add_records(records, moment, drained=drained))
        if self._records.clock.fault:
            raise await self._record_error(self._records.clock.fault)
        if drained and not last:
            await self._wait_poll_interval()
        return last and (drained or (self._fills_answers and self._records.clock.on_time))

    async def _wait_poll_interval(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._stop_asked.wait()
        except TimeoutError:
            return

    async def _stop_instrument(self) -> None:
        self._stop_asked.set()
        await self._wait_until(lambda: self._halted, "end of the log", STOP_S)

    def _settle_unconfirmed_tail(self, reason: str) -> Sequence[StreamItem]:
        return self._records.rest_as_gap(reason)
