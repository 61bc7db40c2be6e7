"""One acquisition of an LPM01A: started, read while it streams, confirmed and stopped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from drivers.base.acquisition import BackgroundAcquisition
from drivers.base.serial_link import Link
from drivers.lpm01a.framing import Framer
from drivers.lpm01a.status_messages import LOAD_NOTED_PERCENT
from labd.core.errors import DeadlineExceeded
from labd.core.host_clock import MinimumDelayFilter
from labd.core.model import Finding, Gap, StreamItem, TimeMark

STOP_S = 10.0
STAMP_S = 5.0
"""1000 samples take 1 s at the lowest rate; a busy host may read them seconds late."""


class Lpm01aAcquisition(BackgroundAcquisition):
    """One acquisition of the instrument.

    Args:
        link: its port.
        framer: of the format that was set.
        arrivals: makes time marks where the stream has no edges; ``None`` for no marks.
        answer_s: longest wait for the start and for the next sample.
        stamp_s: longest wait for a time stamp before the stop.
        stop_s: longest wait for the end of the stream after the stop.
    """

    def __init__(
        self,
        link: Link,
        framer: Framer,
        arrivals: MinimumDelayFilter | None,
        answer_s: float,
        stamp_s: float = STAMP_S,
        stop_s: float = STOP_S,
    ) -> None:
        super().__init__(link.where, answer_s, framer.check)
        self._link = link
        self._framer = framer
        self._check = framer.check
        self._arrivals = arrivals
        self._stamp_s = stamp_s
        self._stop_s = stop_s

    @property
    def findings(self) -> list[Finding]:
        """What the instrument has reported beside its samples so far."""
        return self._check.notes.to_findings()

    @property
    def event_counts(self) -> dict[str, int]:
        """Time stamps received, the fullest transmit buffer, and messages beside the samples."""
        notes = self._check.notes
        return {
            "time_stamps": self._check.stamps,
            "worst_buffer_percent": notes.worst_load,
            "messages": len(notes.texts),
        }

    @property
    def _is_idle(self) -> bool:
        refused = bool(self._check.fault) and not self._check.started
        return refused or self._check.completed

    async def _start_instrument(self) -> None:
        await self._link.write(b"start\r\n")
        await self._wait_until(lambda: self._check.started or bool(self._check.fault), "start")
        if not self._check.started:
            raise self._stopped_error("did not start")

    async def _read_stream(self) -> None:
        while not self._check.completed:
            chunk = await self._link.read(None)
            items = self._framer.feed(chunk.data)
            self._queue_items([*items, *self._make_time_marks(items, chunk.t_ns)])
            if self._check.fault and self._check.started and not self._fault:
                self._fault = self._stopped_error("is corrupted")  # nothing that follows counts

    def _make_time_marks(self, items: Sequence[StreamItem], t_ns: int) -> list[TimeMark]:
        """Take the arrival of a chunk; return the time marks of confirmed samples."""
        if self._arrivals is None:
            return []
        index = self._check.next_index
        if index is not None:
            self._arrivals.add_observation(index, t_ns)
        for item in items:
            if isinstance(item, Gap):
                self._arrivals.drop_recent(item)
        return self._arrivals.finished_marks(self._check.confirmed_samples)

    async def _stop_instrument(self) -> None:
        """Wait until a time stamp confirms the received samples, and stop."""
        check, received, stamps = self._check, self.received_samples, self._check.stamps
        with suppress(DeadlineExceeded):  # a stalled stream: its unconfirmed tail becomes a gap
            await self._wait_until(
                lambda: (
                    check.completed or check.confirmed_samples >= received or check.stamps > stamps
                ),
                "time stamp",
                self._stamp_s,
            )
        if not check.completed:
            await self._link.write(b"stop\r\n")
            await self._wait_until(lambda: check.completed, "'Acquisition completed'", self._stop_s)

    def _settle_unconfirmed_tail(self, reason: str) -> list[StreamItem]:
        return self._check.finish(reason)

    def _stop_reason(self) -> str:
        load = self._check.notes.worst_load
        noted = load >= LOAD_NOTED_PERCENT
        buffer = f"; its transmit buffer was up to {load} % full" if noted else ""
        return (self._check.fault or "no reason given") + buffer
