"""A running acquisition of any instrument: read in the background, confirmed, stopped.

A task reads the instrument's stream however slow the consumer is, so that no buffer of the
instrument overflows; confirmed items wait here until they are iterated.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from drivers.base.closing import close_on_failure
from labd.core.errors import (
    DeadlineExceeded,
    InfraError,
    InstrumentError,
    LabdBug,
    LabdError,
    Where,
)
from labd.core.model import Samples, StreamItem, TimeBase

log = logging.getLogger(__name__)

MAX_WAITING_SAMPLES = 8_000_000
"""Limit of unread samples: 2.2 hours at 1 kHz, 80 s at 100 kHz, 64 MB."""


class Counts(Protocol):
    """What a decoder has received so far, confirmed or not."""

    @property
    def received_samples(self) -> int:
        """Sample periods; never decreases."""
        ...

    @property
    def edges_seen(self) -> int:
        """Timestamps of the DUT, including those dropped later."""
        ...


class BackgroundAcquisition(ABC):
    """One acquisition: a context manager, and the stream it yields.

    It implements :class:`drivers.base.interfaces.Acquisition`. A driver's subclass implements how
    its instrument starts (:meth:`_start_instrument`), streams (:meth:`_read_stream`) and stops
    (:meth:`_stop_instrument`), and what becomes of samples that remain unconfirmed
    (:meth:`_settle_unconfirmed_tail`).

    Args:
        where: the instrument, for error texts.
        answer_s: deadline for the instrument's start and for each wait for its stream.
        counts: those of its decoder.
    """

    def __init__(self, where: Where, answer_s: float, counts: Counts) -> None:
        self._where = where
        self._counts = counts
        self._answer_s = answer_s
        self._items: deque[StreamItem] = deque()
        self._waiting_samples = 0
        self._progress = asyncio.Event()
        self._fault: LabdError | None = None
        self._stopping = False
        self._abandoning = False
        self._ended = False
        self._left_running = False
        self._reader_task: asyncio.Task[None] | None = None

    # ---- for the driver to implement ------------------------------------------------------

    @property
    @abstractmethod
    def _is_idle(self) -> bool:
        """Whether the instrument is known not to stream."""

    @abstractmethod
    async def _start_instrument(self) -> None:
        """Start the instrument and return when it streams; :meth:`_read_stream` runs already."""

    @abstractmethod
    async def _read_stream(self) -> None:
        """Read the stream and pass it to :meth:`_queue_items` until the instrument has ended it."""

    @abstractmethod
    async def _stop_instrument(self) -> None:
        """Stop the instrument and wait until :meth:`_read_stream` has read the rest."""

    @abstractmethod
    def _settle_unconfirmed_tail(self, reason: str) -> Sequence[StreamItem]:
        """Return the unconfirmed tail, confirmed or as a gap; called once, at the end.

        Args:
            reason: why the stream ended, for a gap.
        """

    def _stop_reason(self) -> str:
        """Return the instrument's own reason for stopping."""
        return "no reason given"

    # ---- the acquisition ------------------------------------------------------------------

    @property
    def received_samples(self) -> int:
        """Sample periods received so far, confirmed or not; never decreases."""
        return self._counts.received_samples

    @property
    def edges_seen(self) -> int:
        """Timestamps received so far, confirmed or not."""
        return self._counts.edges_seen

    @property
    def event_counts(self) -> Mapping[str, int]:
        """See :class:`drivers.base.interfaces.Acquisition`; a driver with counters overrides it."""
        return {}

    @property
    def is_running(self) -> bool:
        """Whether it uses the port."""
        return not self._ended

    @property
    def was_left_running(self) -> bool:
        """Whether it was abandoned before the instrument had confirmed its end."""
        return self._left_running

    async def __aenter__(self) -> Self:
        """Start the instrument and the task that reads its port."""
        self._reader_task = asyncio.create_task(
            self._run_reader(), name=f"read {self._where.device}"
        )
        async with close_on_failure(self.abandon):
            await self._start_instrument()
        log.debug("%s acquires", self._where.device)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, read the rest, and release the port."""
        try:
            await self._stop_reading()
        except LabdError as fault:
            if exc is None:
                raise
            exc.add_note(f"stopping the acquisition failed too: {fault}")
        finally:
            await self.abandon()

    def __aiter__(self) -> AsyncIterator[StreamItem]:
        """Yield the confirmed stream; ends once the context has ended."""
        return self._yield_items()

    async def wait_progress(self, deadline_s: float) -> None:
        """See :class:`drivers.base.interfaces.Acquisition`."""
        before = (self.received_samples, self.edges_seen)
        if self._ended:
            raise LabdBug("acquisition-ended", "nothing more will come", where=self._where)
        await self._wait_until(
            lambda: (self.received_samples, self.edges_seen) != before, "sample", deadline_s
        )

    async def abandon(self) -> None:
        """Release the port without stopping the instrument; safe to call twice."""
        if self._reader_task is None or self._abandoning:
            return
        self._abandoning = True
        log.debug("%s acquired %d samples", self._where.device, self.received_samples)
        self._left_running = not self._is_idle
        self._reader_task.cancel()
        await asyncio.wait([self._reader_task])
        self._items.extend(self._settle_unconfirmed_tail("the acquisition was broken off"))
        self._ended = True  # after its last items: iteration stops here
        self._progress.set()

    # ---- for the driver's subclass --------------------------------------------------------

    def _queue_items(self, items: Sequence[StreamItem]) -> None:
        """Queue confirmed items for the consumer and signal progress."""
        self._items.extend(items)
        self._waiting_samples += sum(len(item) for item in items if isinstance(item, Samples))
        self._progress.set()
        if self._waiting_samples > MAX_WAITING_SAMPLES:
            raise InfraError(
                "consumer-too-slow",
                f"{self._waiting_samples} samples wait to be taken",
                "the host is overloaded, or nobody reads the stream",
                self._where,
            )

    async def _wait_until(
        self, done: Callable[[], bool], what: str, deadline_s: float | None = None
    ) -> None:
        """Wait until ``done``; raise a fault of the reading task."""
        limit_s = deadline_s or self._answer_s
        try:
            async with asyncio.timeout(limit_s):
                while not done():
                    if self._fault:
                        raise self._fault
                    await self._next_progress_event().wait()
        except TimeoutError as exc:
            raise DeadlineExceeded(
                "no-answer",
                f"no {what} within {limit_s:g} s after {self.received_samples} samples",
                "check the instrument's display and its cable",
                self._where,
            ) from exc

    def _stopped_error(self, how: str) -> InstrumentError:
        return InstrumentError(
            "acquisition-stopped",
            f"the acquisition {how}: {self._stop_reason()}",
            "read the instrument's display; an overrun means the host was too slow",
            self._where,
        )

    # ---- inside ---------------------------------------------------------------------------

    async def _stop_reading(self) -> None:
        self._stopping = True
        if self._fault:
            raise self._fault
        await self._stop_instrument()

    async def _yield_items(self) -> AsyncIterator[StreamItem]:
        while True:
            while self._items:
                item = self._items.popleft()
                self._waiting_samples -= len(item) if isinstance(item, Samples) else 0
                yield item
            if self._fault:
                raise self._fault
            if self._ended:
                return
            await self._next_progress_event().wait()

    async def _run_reader(self) -> None:
        try:
            await self._read_stream()
            if not self._stopping:
                self._fault = self._stopped_error("stopped by itself")
        except LabdError as fault:
            self._fault = fault
        except Exception as exc:  # noqa: BLE001 - the top of a task: no defect may look like silence
            what = f"the stream could not be taken: {exc!r}"
            self._fault = LabdBug("stream", what, where=self._where)
            self._fault.__cause__ = exc
        finally:
            self._progress.set()

    def _next_progress_event(self) -> asyncio.Event:
        """Return an event that the next progress sets."""
        if self._progress.is_set():
            self._progress = asyncio.Event()
        return self._progress


def refuse_while_acquiring(
    acquisition: BackgroundAcquisition | None, what: str, where: Where
) -> None:
    """Refuse a command while an acquisition uses the port.

    Raises:
        LabdBug: this acquisition runs.
    """
    if acquisition is not None and acquisition.is_running:
        raise LabdBug("acquiring", f"'{what}' during an acquisition", where=where)


def refuse_virtual_time(time_base: TimeBase, where: Where) -> None:
    """Refuse virtual time for an instrument whose samples only the host's clock can confirm.

    Raises:
        LabdBug: the time base is not the host's.
    """
    if time_base is not TimeBase.HOST:
        what = f"this instrument's samples cannot be confirmed in {time_base} time"
        raise LabdBug("time-base", what, where=where)


def refuse_left_running(acquisition: BackgroundAcquisition | None, where: Where) -> None:
    """Refuse to start after an abandoned acquisition: its samples may still arrive.

    Raises:
        InstrumentError: this acquisition was abandoned and has not been stopped since.
    """
    if acquisition is not None and acquisition.was_left_running:
        raise InstrumentError(
            "acquisition-left-running",
            "the acquisition before was broken off and may still stream",
            "close and open the instrument: that stops it",
            where,
        )
