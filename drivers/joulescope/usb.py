"""The way to a Joulescope: Jetperch's driver library, its threads kept at arm's length.

The library (``pyjoulescope_driver``, an optional extra) allows one ``Driver`` a process, blocks
in its calls and calls back from a thread of its own. Here all instruments of the process share
that driver; every instrument has one thread for its blocking calls, which the event loop waits
for with a deadline; and what comes back crosses into the loop through a bounded inbox.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast

from labd.core.errors import (
    ConfigError,
    DeadlineExceeded,
    InstrumentError,
    LabdBug,
    LabdError,
    TransportError,
    Where,
)

LIBRARY = "pyjoulescope_driver:Driver"
REMOVED = "@/!remove"
GRACE_S = 1.0  # the library's own timeout comes first
PROMPT_S = 0.5  # how long the end of an unplugged instrument is waited for
INBOX_MESSAGES = 1000
"""Some five seconds of a JS220; what a loop that stands still for longer misses is a gap."""

_CODE = re.compile(r"failed (\d+) \w+")
_DENIED, _BUSY, _IN_USE = 18, 19, 21  # jsdrv/error_code.h
_UDEV = (
    "install Jetperch's udev rules (72-joulescope.rules), plug the instrument again, and see "
    "that no other program, such as the Joulescope UI, has it open"
)

T = TypeVar("T")


class Library(Protocol):
    """What is used of ``pyjoulescope_driver.Driver``; times out with ``TimeoutError``."""

    def finalize(self, timeout: float | None = None) -> None:
        """Close everything."""
        ...

    def device_paths(self, timeout: float | None = None) -> list[str]:
        """The instruments there are, ``u/js220/000123``."""
        ...

    def open(
        self, device_prefix: str, mode: str | None = None, timeout: float | None = None
    ) -> None:
        """Open one."""
        ...

    def close(self, device_prefix: str, timeout: float | None = None) -> None:
        """Close it."""
        ...

    def publish(self, topic: str, value: str | int, timeout: float | None = None) -> None:
        """Set or command something and wait for the instrument's word on it."""
        ...

    def query(self, topic: str, timeout: float | None = None) -> Any:
        """The last value of a topic."""
        ...

    def publish_and_wait(
        self,
        publish_topic: str,
        publish_value: str | int,
        response_topic: str,
        timeout: float | None = None,
    ) -> Any:
        """Publish and return what comes on another topic."""
        ...

    def subscribe(
        self, topic: str, flags: str, fn: Callable[[str, Any], None], timeout: float | None = None
    ) -> None:
        """Have a topic and all below it told to ``fn``, on the library's thread."""
        ...

    def unsubscribe_all(self, fn: Callable[[str, Any], None], timeout: float | None = None) -> None:
        """Tell ``fn`` no more."""
        ...


# ---- the one driver of the process ---------------------------------------------------------


class _Shared:
    """A library's driver while anybody uses it, and who has which instrument."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver = _start(name)
        self.users = 0
        self.owners: dict[str, object] = {}


_shared: dict[str, _Shared] = {}
_lock = threading.Lock()  # starting and ending a library
_owning = threading.Lock()  # its own: the library's thread takes it while the library ends


def _join(name: str) -> _Shared:
    """Use the library ``module:class``; blocks while it starts."""
    with _lock:
        if name not in _shared:
            _shared[name] = _Shared(name)
        _shared[name].users += 1
        return _shared[name]


def _leave(shared: _Shared) -> None:
    """Use it no more; the last one ends it."""
    with _lock:
        shared.users -= 1
        if not shared.users:
            if _shared.get(shared.name) is shared:
                del _shared[shared.name]
            shared.driver.finalize()


def _start(name: str) -> Library:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            "library-missing",
            f"the Python library {name} cannot be loaded: {exc}",
            "pip install labd[joulescope]",
        ) from exc
    return cast("Library", factory())


# ---- what comes back -----------------------------------------------------------------------

Message = tuple[str, Mapping[str, Any]]


class Inbox:
    """Messages from the library's thread, waiting for the loop; full means newer ones are lost."""

    def __init__(self) -> None:
        self.dropped = 0
        self._closed = False
        self._messages: deque[Message] = deque()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def put(self, signal: str, message: Mapping[str, Any]) -> None:
        """Take a message in; called on the library's thread, and must be quick."""
        if len(self._messages) >= INBOX_MESSAGES:
            self.dropped += 1
            return
        self._messages.append((signal, message))
        with suppress(RuntimeError):  # the loop has ended: nobody will read it
            self._loop.call_soon_threadsafe(self._news.set)

    @property
    def exhausted(self) -> bool:
        """Whether it was closed and everything has been taken."""
        return self._closed and not self._messages

    def close(self) -> None:
        """Nothing more comes; what is there can still be taken."""
        self._closed = True
        self._news.set()

    def wake(self) -> None:
        """Have whoever waits look at the instrument again."""
        self._news.set()

    async def take(self, patience_s: float | None) -> list[Message]:
        """All messages there are; waits for the first one, or for :meth:`wake`.

        Raises:
            TimeoutError: none came in so much time.
        """
        if not self._messages and not self._closed:
            self._news.clear()
            async with asyncio.timeout(patience_s):
                await self._news.wait()
        self._news.clear()
        return [self._messages.popleft() for _ in range(len(self._messages))]


# ---- one instrument ------------------------------------------------------------------------


class UsbInstrument:
    """One instrument, opened once: blocking calls with deadlines, messages, its removal.

    Args:
        library: ``module:class`` of the driver library.
        call_s: the longest that a single call of the library may take.
        where: the instrument, for error texts.
    """

    def __init__(self, library: str, call_s: float, where: Where) -> None:
        self.call_s = call_s
        self.where = where
        self.path = ""
        self.inbox: Inbox | None = None
        self._library = library
        self._shared: _Shared | None = None  # set and cleared on the instrument's thread
        self._thread = ThreadPoolExecutor(1, f"{where.device} calls")
        self._closed = False
        self._signals: dict[str, str] = {}  # what a topic's messages are called
        self._loop = asyncio.get_running_loop()
        self._removed: asyncio.Future[None] = self._loop.create_future()
        self._told = self._on_publish  # the library knows a subscriber by this very object

    @property
    def removed(self) -> bool:
        """Whether it was unplugged."""
        return self._removed.done()

    def lost(self) -> TransportError:
        """The error of an instrument that was unplugged."""
        todo = "check the USB cable and hub, then power the DUT again: its supply was cut"
        return TransportError("port-lost", "it went away from USB", todo, self.where)

    async def open(self, choose: Callable[[list[str]], str], topics: Mapping[str, str]) -> None:
        """Find the instrument and open it with the library's defaults.

        When that fails :meth:`close` has to follow.

        Args:
            choose: picks a path among those that are there, or raises.
            topics: below the instrument's path, with what their messages are called.

        Raises:
            ConfigError: the library is not installed, or ``choose`` says so.
            TransportError: the instrument is not there, taken, or goes away.
            DeadlineExceeded: it does not answer.
        """
        await self._do("starting the library", self._enter)
        paths = await self.call("listing the instruments", lambda lib: lib.device_paths())
        self._claim(choose(paths))
        self._signals = {f"{self.path}/{topic}": name for topic, name in topics.items()}
        await self.call("opening it", self._subscribe_and_open)

    async def call(self, what: str, work: Callable[[Library], T], calls: int = 1) -> T:
        """Run blocking calls on this instrument's thread.

        Args:
            what: they do, for error texts.
            work: makes them, each with the timeout :attr:`call_s`.
            calls: how many may wait for the instrument.

        Raises:
            TransportError: the instrument was unplugged.
            InstrumentError: it or the library refused.
            DeadlineExceeded: it does not answer.
        """
        return await self._do(what, lambda: work(self._driver()), calls)

    async def publish(self, what: str, values: Sequence[tuple[str, str | int]]) -> None:
        """Publish values, by topic below the instrument's path, each acknowledged by it."""

        def work(library: Library) -> None:
            for topic, value in values:
                library.publish(f"{self.path}/{topic}", value, timeout=self.call_s)

        await self.call(what, work, len(values))

    async def close(self, farewell: Sequence[tuple[str, str | int]]) -> None:
        """Leave the instrument and the library; safe to call twice.

        An instrument that was unplugged is let go of at once; a call that still blocks then
        ends behind our back.

        Args:
            farewell: what to publish first, by topic below its path.

        Raises:
            InfraError: what could not be done; everything else was.
        """
        if self._closed:
            return
        self._closed = True
        patience_s = PROMPT_S if self.removed else (len(farewell) + 3) * self.call_s + GRACE_S
        future = asyncio.wrap_future(self._thread.submit(self._leave, farewell))
        future.add_done_callback(_look_away)
        self._thread.shutdown(wait=False)
        done, _ = await asyncio.wait({future}, timeout=patience_s)
        if done:
            self._raise_translated("closing it", future)
        elif not self.removed:
            raise self._silent("closing it", patience_s)

    # ---- on the instrument's thread --------------------------------------------------------

    def _enter(self) -> None:
        self._shared = _join(self._library)

    def _driver(self) -> Library:
        if self._shared is None:
            raise LabdBug("not-open", "used before it was open", where=self.where)
        return self._shared.driver

    def _subscribe_and_open(self, library: Library) -> None:
        for topic in (REMOVED, *self._signals):
            library.subscribe(topic, "pub", self._told, timeout=self.call_s)
        library.open(self.path, "defaults", timeout=self.call_s)

    def _leave(self, farewell: Sequence[tuple[str, str | int]]) -> None:
        """Every step is tried; the first fault is raised when all is done."""
        if self._shared is None:
            return
        library, path = self._shared.driver, self.path
        steps: list[Callable[[], None]] = []
        if path and not self.removed:
            for topic, value in farewell:
                steps.append(partial(library.publish, f"{path}/{topic}", value, self.call_s))
            steps.append(partial(library.close, path, self.call_s))
        steps.append(partial(library.unsubscribe_all, self._told, self.call_s))
        steps.append(self._unclaim)
        steps.append(partial(_leave, self._shared))
        problem: Exception | None = None
        for step in steps:
            try:
                step()
            except (RuntimeError, TimeoutError) as exc:
                problem = problem or exc
        if problem:
            raise problem

    # ---- on the library's thread -----------------------------------------------------------

    def _on_publish(self, topic: str, value: Any) -> None:
        inbox = self.inbox
        if topic == REMOVED:
            if value == self.path:
                self._unclaim()  # the next one there is another session
                with suppress(RuntimeError):  # the loop has ended: nobody waits
                    self._loop.call_soon_threadsafe(self._on_removal)
        elif inbox is not None and (signal := self._signals.get(topic)):
            inbox.put(signal, value)

    # ---- on the loop -----------------------------------------------------------------------

    def _on_removal(self) -> None:
        if not self._removed.done():
            self._removed.set_result(None)
        if self.inbox is not None:
            self.inbox.wake()

    def _claim(self, path: str) -> None:
        shared = self._shared
        with _owning:
            if shared is None or shared.owners.setdefault(path, self) is not self:
                what = f"{path} is open already in this process"
                raise TransportError("port-busy", what, "name it in one station only", self.where)
        self.path = path

    def _unclaim(self) -> None:
        shared = self._shared
        with _owning:
            if shared is not None and shared.owners.get(self.path) is self:
                del shared.owners[self.path]

    async def _do(self, what: str, work: Callable[[], T], calls: int = 1) -> T:
        """Wait for the thread, the deadline, or the removal, whichever comes first."""
        if self._closed:
            raise LabdBug("not-open", f"{what} while it is closed", where=self.where)
        if self.removed:
            raise self.lost()
        future = asyncio.wrap_future(self._thread.submit(work))
        future.add_done_callback(_look_away)
        limit_s = calls * self.call_s + GRACE_S
        await asyncio.wait(
            {future, self._removed}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if future.done():
            self._raise_translated(what, future)
            return future.result()
        if self.removed:
            raise self.lost()
        raise self._silent(what, limit_s)

    def _silent(self, what: str, limit_s: float) -> DeadlineExceeded:
        text = f"{what}: no answer within {limit_s:g} s"
        todo = "check its USB cable; unplug it for a moment if it stays silent"
        return DeadlineExceeded("no-answer", text, todo, self.where)

    def _raise_translated(self, what: str, future: asyncio.Future[Any]) -> None:
        """Raise a call's exception in labd's words."""
        exc = future.exception()
        if exc is None:
            return
        if isinstance(exc, LabdError):
            exc.where = self.where
            raise exc
        if self.removed:
            raise self.lost() from exc
        if isinstance(exc, TimeoutError):
            raise self._silent(what, self.call_s) from exc
        found = _CODE.search(str(exc))
        code = int(found[1]) if found else 0
        if code in {_BUSY, _IN_USE}:
            raise TransportError("port-busy", f"{what}: {exc}", _UDEV, self.where) from exc
        if code == _DENIED:
            raise TransportError("port-denied", f"{what}: {exc}", _UDEV, self.where) from exc
        if isinstance(exc, RuntimeError):
            todo = "check its firmware and stations.toml"
            raise InstrumentError("refused", f"{what}: {exc}", todo, self.where) from exc
        raise LabdBug("library", f"{what}: {exc!r}", where=self.where) from exc


def _look_away(future: asyncio.Future[Any]) -> None:
    """A call nobody waits for any more may end as it likes."""
    if not future.cancelled():
        future.exception()
