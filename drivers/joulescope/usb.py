"""One Joulescope on USB: library calls with deadlines, its messages, its removal.

The library blocks in its calls and calls back from its own thread. Each instrument has one
thread for its calls, which the event loop waits for with a deadline; messages cross into the
loop through a bounded inbox.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from drivers.joulescope.library import JoulescopeLibrary, SharedLibrary, join_library, leave_library
from labd.aio.wire_log import PortLog, open_port_log
from labd.core.errors import (
    DeadlineExceeded,
    InstrumentError,
    LabdBug,
    LabdError,
    TransportError,
    Where,
)

REMOVED = "@/!remove"
GRACE_S = 1.0
"""How much longer than the library's own timeout a call may take to return."""

REMOVAL_NOTICE_S = 0.3
"""Longest wait for the library's notice of a removal after a call that failed. Assumed: the notice
comes from USB hotplug, within some 100 ms."""

REMOVED_CLOSE_S = 0.5
"""Longest wait for the library to close an instrument that was unplugged."""

INBOX_MESSAGES = 1000
"""About five seconds of a JS220; messages lost to a longer stall of the event loop are a gap."""

_CODE = re.compile(r"failed (\d+) \w+")
_DENIED, _BUSY, _IN_USE = 18, 19, 21  # jsdrv/error_code.h
_NOT_BY_REMOVAL = {_DENIED, _BUSY, _IN_USE}
_UDEV = (
    "install Jetperch's udev rules (72-joulescope.rules), replug the instrument, and check that "
    "no other program, such as the Joulescope UI, has it open"
)

T = TypeVar("T")


# ---- messages ------------------------------------------------------------------------------


class MessageInbox:
    """Messages from the library's thread to the event loop; while it is full, new ones are lost.

    Attributes:
        dropped: messages lost.
    """

    def __init__(self, capacity: int = INBOX_MESSAGES) -> None:
        self.dropped = 0
        self._capacity = capacity
        self._closed = False
        self._messages: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def put(self, signal: str, message: Mapping[str, Any]) -> None:
        """Append a message; called on the library's thread, returns at once."""
        if len(self._messages) >= self._capacity:
            self.dropped += 1
            return
        self._messages.append((signal, message))
        with suppress(RuntimeError):  # the loop has ended: nobody will read it
            self._loop.call_soon_threadsafe(self._changed.set)

    @property
    def is_exhausted(self) -> bool:
        """Whether it was closed and all messages have been taken."""
        return self._closed and not self._messages

    def close(self) -> None:
        """Accept no more messages; those in it can still be taken."""
        self._closed = True
        self.wake_reader()

    def wake_reader(self) -> None:
        """Return from :meth:`take_messages`, with or without a message."""
        self._changed.set()

    async def take_messages(self, deadline_s: float | None) -> list[tuple[str, Mapping[str, Any]]]:
        """Remove and return all messages; wait for the first one, or for :meth:`wake_reader`.

        Raises:
            TimeoutError: none arrived in time.
        """
        if not self._messages and not self._closed:
            self._changed.clear()
            async with asyncio.timeout(deadline_s):
                await self._changed.wait()
        self._changed.clear()
        return [self._messages.popleft() for _ in range(len(self._messages))]


# ---- the instrument ------------------------------------------------------------------------


class UsbInstrument:
    """One instrument, opened once.

    Args:
        library: ``module:class`` of the driver library.
        call_s: timeout of a single library call.
        where: the instrument, for error texts.
        grace_s: see :data:`GRACE_S`.
        removal_s: see :data:`REMOVAL_NOTICE_S`.

    Attributes:
        path: of the instrument, such as ``u/js220/000123``, once it is found.
        inbox: receives the messages while an acquisition runs.
    """

    def __init__(
        self,
        library: str,
        call_s: float,
        where: Where,
        grace_s: float = GRACE_S,
        removal_s: float = REMOVAL_NOTICE_S,
    ) -> None:
        self.call_s = call_s
        self.where = where
        self.path = ""
        self.inbox: MessageInbox | None = None
        self._library = library
        self._grace_s = grace_s
        self._removal_s = removal_s
        self._shared: SharedLibrary | None = None  # set and cleared on the instrument's thread
        self._thread = ThreadPoolExecutor(1, f"{where.device} calls")
        self._closed = False
        self._wire: PortLog | None = None
        self._signals: dict[str, str] = {}  # signal by topic
        self._loop = asyncio.get_running_loop()
        self._removed: asyncio.Future[None] = self._loop.create_future()
        self._subscriber = self._on_publish  # the library identifies a subscriber by this object

    @property
    def is_removed(self) -> bool:
        """Whether it was unplugged."""
        return self._removed.done()

    def removed_error(self) -> TransportError:
        """Make the error of an instrument that was unplugged."""
        remedy = "check the USB cable and hub, then power the DUT again: its supply was cut"
        return TransportError("port-lost", "it went away from USB", remedy, self.where)

    async def open(self, choose: Callable[[list[str]], str], topics: Mapping[str, str]) -> None:
        """Find the instrument and open it with the library's defaults.

        If this fails, call :meth:`close`.

        Args:
            choose: picks one of the connected paths, or raises.
            topics: signal by topic below the instrument's path.

        Raises:
            ConfigError: the library is not installed, or raised by ``choose``.
            TransportError: the instrument is missing, in use, or unplugged.
            DeadlineExceeded: it does not answer.
        """
        await self._run_on_thread("starting the library", self._join_library)
        paths = await self.call_library("listing the instruments", lambda lib: lib.device_paths())
        self._claim_path(choose(paths))
        self._wire = open_port_log(self.path)
        self._signals = {f"{self.path}/{topic}": name for topic, name in topics.items()}
        await self.call_library("opening it", self._subscribe_and_open)

    async def call_library(
        self, what: str, work: Callable[[JoulescopeLibrary], T], calls: int = 1
    ) -> T:
        """Run library calls on this instrument's thread.

        Args:
            what: purpose, for error texts.
            work: makes the calls, each with the timeout :attr:`call_s`.
            calls: how many of them wait for the instrument.

        Raises:
            TransportError: the instrument was unplugged.
            InstrumentError: it or the library refused.
            DeadlineExceeded: it does not answer.
        """
        return await self._run_on_thread(what, lambda: work(self._require_library()), calls)

    async def publish_values(self, what: str, values: Sequence[tuple[str, str | int]]) -> None:
        """Publish values by topic below the instrument's path; it acknowledges each."""

        def publish_each(library: JoulescopeLibrary) -> None:
            for topic, value in values:
                if self._wire:
                    self._wire.log_sent(f"{topic} {value}".encode())
                library.publish(f"{self.path}/{topic}", value, timeout=self.call_s)

        await self.call_library(what, publish_each, len(values))

    async def close(self, last_values: Sequence[tuple[str, str | int]]) -> None:
        """Close the instrument and leave the library; safe to call twice.

        ``last_values`` are published first. An instrument that was unplugged is not waited for: a
        call that still blocks ends later.

        Raises:
            InfraError: the first step that failed; every other step was tried.
        """
        if self._closed:
            return
        self._closed = True
        limit_s = (len(last_values) + 3) * self.call_s + self._grace_s
        future = asyncio.wrap_future(
            self._thread.submit(self._close_and_leave_library, last_values)
        )
        future.add_done_callback(_mark_exception_retrieved)
        self._thread.shutdown(wait=False)
        await asyncio.wait(
            {future, self._removed}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if self.is_removed and not future.done():
            await asyncio.wait({future}, timeout=REMOVED_CLOSE_S)
        if future.done():
            await self._raise_as_labd_error("closing it", future)
        elif not self.is_removed:
            raise self._no_answer_error("closing it", limit_s)

    # ---- on the instrument's thread --------------------------------------------------------

    def _join_library(self) -> None:
        self._shared = join_library(self._library)

    def _require_library(self) -> JoulescopeLibrary:
        if self._shared is None:
            raise LabdBug("not-open", "used before it was open", where=self.where)
        return self._shared.driver

    def _subscribe_and_open(self, library: JoulescopeLibrary) -> None:
        for topic in (REMOVED, *self._signals):
            library.subscribe(topic, "pub", self._subscriber, timeout=self.call_s)
        library.open(self.path, "defaults", timeout=self.call_s)

    def _close_and_leave_library(self, last_values: Sequence[tuple[str, str | int]]) -> None:
        """Try every step, then raise the first exception."""
        if self._shared is None:
            return
        library, path = self._shared.driver, self.path
        steps: list[Callable[[], None]] = []
        if path and not self.is_removed:
            for topic, value in last_values:
                steps.append(partial(library.publish, f"{path}/{topic}", value, self.call_s))
            steps.append(partial(library.close, path, self.call_s))
        steps.append(partial(library.unsubscribe_all, self._subscriber, self.call_s))
        steps.append(self._release_path)
        steps.append(partial(leave_library, self._shared))
        first: Exception | None = None
        for step in steps:
            try:
                step()
            except (RuntimeError, TimeoutError) as exc:
                first = first or exc
        if first:
            raise first

    # ---- on the library's thread -----------------------------------------------------------

    def _on_publish(self, topic: str, value: Any) -> None:
        inbox = self.inbox
        if topic == REMOVED:
            if value == self.path:
                self._release_path()  # an instrument that returns under this path is a new one
                with suppress(RuntimeError):  # the loop has ended: nobody waits
                    self._loop.call_soon_threadsafe(self._on_removal)
        elif inbox is not None and (signal := self._signals.get(topic)):
            if self._wire:  # the samples themselves would be 20 MB per second
                self._wire.log_received(
                    f"{topic} {value['sample_id']} {len(value['data'])}".encode()
                )
            inbox.put(signal, value)

    # ---- on the loop -----------------------------------------------------------------------

    def _on_removal(self) -> None:
        if not self._removed.done():
            self._removed.set_result(None)
        if self.inbox is not None:
            self.inbox.wake_reader()

    def _claim_path(self, path: str) -> None:
        if self._shared is None or not self._shared.claim_instrument(path, self):
            what = f"{path} is open already in this process"
            raise TransportError("port-busy", what, "name it in one station only", self.where)
        self.path = path

    def _release_path(self) -> None:
        if self._shared is not None:
            self._shared.release_instrument(self.path, self)

    async def _run_on_thread(self, what: str, work: Callable[[], T], calls: int = 1) -> T:
        """Wait for the thread, the deadline, or the removal, whichever comes first."""
        if self._closed:
            raise LabdBug("not-open", f"{what} while it is closed", where=self.where)
        if self.is_removed:
            raise self.removed_error()
        future = asyncio.wrap_future(self._thread.submit(work))
        future.add_done_callback(_mark_exception_retrieved)
        limit_s = calls * self.call_s + self._grace_s
        await asyncio.wait(
            {future, self._removed}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if future.done():
            await self._raise_as_labd_error(what, future)
            return future.result()
        if self.is_removed:
            raise self.removed_error()
        raise self._no_answer_error(what, limit_s)

    async def _is_gone(self) -> bool:
        """Return whether a call failed because the instrument was unplugged.

        The call may fail before the library announces the removal, so the list of connected
        instruments is read and the notice is awaited, each for ``removal_s`` at most.
        """
        if not self.path:
            return False
        if not self._closed:
            listing = asyncio.wrap_future(self._thread.submit(self._list_paths))
            listing.add_done_callback(_mark_exception_retrieved)
            await asyncio.wait({listing}, timeout=self._removal_s)
            if listing.done() and not listing.exception() and self.path not in listing.result():
                self._on_removal()
        await asyncio.wait({self._removed}, timeout=self._removal_s)
        return self.is_removed

    def _list_paths(self) -> list[str]:
        return self._require_library().device_paths()

    def _no_answer_error(self, what: str, limit_s: float) -> DeadlineExceeded:
        text = f"{what}: no answer within {limit_s:g} s"
        remedy = "check its USB cable; if it stays silent, unplug it and plug it in again"
        return DeadlineExceeded("no-answer", text, remedy, self.where)

    async def _raise_as_labd_error(self, what: str, future: asyncio.Future[Any]) -> None:
        """Raise the exception of a call as one of :mod:`labd.core.errors`."""
        exc = future.exception()
        if exc is None:
            return
        if isinstance(exc, LabdError):
            exc.where = self.where
            raise exc
        found = _CODE.search(str(exc))
        code = int(found[1]) if found else 0
        failed = isinstance(exc, (RuntimeError, TimeoutError))
        if self.is_removed or (failed and code not in _NOT_BY_REMOVAL and await self._is_gone()):
            raise self.removed_error() from exc
        if isinstance(exc, TimeoutError):
            raise self._no_answer_error(what, self.call_s) from exc
        if code in {_BUSY, _IN_USE}:
            raise TransportError("port-busy", f"{what}: {exc}", _UDEV, self.where) from exc
        if code == _DENIED:
            raise TransportError("port-denied", f"{what}: {exc}", _UDEV, self.where) from exc
        if isinstance(exc, RuntimeError):
            remedy = "check its firmware and stations.toml"
            raise InstrumentError("refused", f"{what}: {exc}", remedy, self.where) from exc
        raise LabdBug("library", f"{what}: {exc!r}", where=self.where) from exc


def _mark_exception_retrieved(future: asyncio.Future[Any]) -> None:
    """Mark the exception of an abandoned call as retrieved."""
    if not future.cancelled():
        future.exception()
