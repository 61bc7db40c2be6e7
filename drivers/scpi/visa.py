"""VISA instruments (USB, GPIB, VXI-11, HiSLIP) for SCPI: blocking calls in one thread each.

A call that its caller gave up keeps running in its thread until VISA's own timeout ends it;
so a port has one thread, knows the call that occupies it, and is reopened before it is
used again.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import pyvisa
from pyvisa.constants import StatusCode
from pyvisa.resources import MessageBasedResource

from drivers.scpi.codec import Reply, ReplyDecoder
from labd.aio.wire_log import PortLog, port_log
from labd.core.errors import DeadlineExceeded, InfraError, LabdBug, TransportError, Where

GRACE_S = 0.5
"""How much longer than VISA's own timeout a call may take to come back."""

CLOSE_S = 2.0
CHUNK_BYTES = 1 << 20

HISLIP_PORT = 4880
PORTMAPPER = 111  # of VXI-11

_LAN = re.compile(
    r"TCPIP\d*::(?P<host>[^:]+)::(?:(?P<hislip>hislip\d+)|inst\d+)(?:,(?P<port>\d+))?(?:::|$)",
    re.IGNORECASE,
)
_MISSING = {
    StatusCode.error_resource_not_found,
    StatusCode.error_invalid_resource_name,
    StatusCode.error_no_listeners,
    StatusCode.error_interface_number_not_configured,
}
_BUSY = {StatusCode.error_resource_busy, StatusCode.error_resource_locked}

T = TypeVar("T")


class _Thread:
    """Runs calls one after another; a call that hangs for ever does not keep labd from ending.

    An executor's threads are waited for when the interpreter ends; this one is not.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name="visa", daemon=True).start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` after what was submitted before."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as exc:  # noqa: BLE001 - whoever waits for it gets it
                future.set_exception(exc)
            else:
                future.set_result(result)

        self._calls.put(call)
        return future

    def end(self) -> None:
        """End once the call under way has returned."""
        self._calls.put(None)

    def _serve(self) -> None:
        while call := self._calls.get():
            call()


class VisaPort:
    """An instrument that VISA opens.

    Args:
        resource: VISA resource name.
        backend: which VISA: ``@py``, ``@ivi``, or ``file.yaml@sim``.
        where: the instrument, for error texts.
    """

    def __init__(self, resource: str, backend: str, where: Where) -> None:
        self._resource = resource
        self._backend = backend
        self._where = where
        self._ends = not resource.upper().endswith("::SOCKET")  # messages end audibly
        self._thread: _Thread | None = None
        self._running: Future[Any] | None = None
        self._device: MessageBasedResource | None = None
        self._decoder = ReplyDecoder()
        self._unasked: list[Reply] = []
        self._wire: PortLog | None = None

    @property
    def is_open(self) -> bool:
        """Whether the instrument is held."""
        return self._thread is not None

    @property
    def simulated(self) -> bool:
        """Whether no hardware is behind it."""
        return self._backend.endswith("@sim")

    @property
    def leftovers(self) -> str:
        """What came that nobody asked for."""
        return repr(self._unasked[0]) if self._unasked else ""

    async def open(self, deadline_s: float) -> None:
        """Open the instrument and clear what it still had to say.

        Raises:
            TransportError: it is missing, busy, or VISA itself is not complete.
            DeadlineExceeded: VISA did not come back in time.
        """
        self._thread = _Thread()
        self._decoder, self._unasked = ReplyDecoder(), []
        self._wire = port_log(self._resource)
        try:
            self._device = await self._call(
                deadline_s, "opening", lambda: _opened(self._resource, self._backend, deadline_s)
            )
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """Free the instrument; safe to call twice.

        Raises:
            TransportError: VISA complained while freeing it.
            DeadlineExceeded: VISA did not come back in time.
        """
        device, self._device = self._device, None
        try:
            if device is not None:
                await self._call(CLOSE_S, "closing", device.close)
        finally:
            self._drop()

    async def reset(self, deadline_s: float) -> None:
        """Open it anew once the call that was given up has ended.

        Raises:
            TransportError: it is gone.
            DeadlineExceeded: that call does not end.
        """
        if self._running and not self._running.done():
            await asyncio.wait({asyncio.wrap_future(self._running)}, timeout=deadline_s)
            if not self._running.done():
                raise self._late("a call that was given up has not returned; it", deadline_s)
        with suppress(InfraError):  # a lost connection cannot be closed, only replaced
            await self.close()
        await self.open(deadline_s)

    async def write(self, data: bytes, deadline_s: float) -> None:
        """Hand over one message.

        Raises:
            TransportError: the instrument is gone.
            DeadlineExceeded: it takes nothing.
        """
        device, wire = self._opened(), self._wire

        def work() -> None:
            device.timeout = max(1.0, deadline_s * 1000)
            device.write_raw(data)
            if wire:
                wire.sent(data)

        await self._call(deadline_s, repr(data.decode("ascii").strip()), work)

    async def reply(self, deadline_s: float, indefinite_bytes: int = 0) -> Reply:
        """The next answer.

        Raises:
            TransportError: the instrument is gone.
            DeadlineExceeded: there was none.
        """
        device, decoder, ends = self._opened(), self._decoder, self._ends
        decoder.indefinite_bytes = indefinite_bytes
        wire = self._wire

        def work() -> list[Reply]:
            late = time.monotonic() + deadline_s
            replies: list[Reply] = []
            while not replies:
                device.timeout = max(1.0, (late - time.monotonic()) * 1000)
                data = device.read_raw()
                if wire:
                    wire.received(data)
                replies = decoder.feed(data)
                replies += decoder.end() if ends else []
            return replies

        reply, *self._unasked = await self._call(deadline_s, "the answer", work)
        return reply

    # ---- the thread ----------------------------------------------------------------------

    async def _call(self, deadline_s: float, what: str, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise LabdBug("visa-closed", "this instrument is not open", where=self._where)
        future = self._thread.submit(work)
        self._running = future
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                return await asyncio.wrap_future(future)
        except TimeoutError as exc:
            raise self._late(what, deadline_s) from exc
        except Exception as exc:  # the backends name no exceptions: RPC, USB and sockets leak
            raise self._translated(exc, what, deadline_s) from exc

    def _drop(self) -> None:
        """Let the thread end by itself: waiting for a stuck call would be waiting for ever."""
        if self._thread is not None:
            self._thread.end()
        self._thread = self._device = None

    def _opened(self) -> MessageBasedResource:
        if self._device is None:
            raise LabdBug("visa-closed", "this instrument is not open", where=self._where)
        return self._device

    # ---- faults --------------------------------------------------------------------------

    def _translated(self, exc: Exception, what: str, deadline_s: float) -> InfraError:
        code = exc.error_code if isinstance(exc, pyvisa.VisaIOError) else None
        if code == StatusCode.error_timeout:
            return self._late(what, deadline_s)
        if code in _BUSY:
            todo = "stop the other program that holds it"
            return TransportError("port-busy", f"{what}: {exc}", todo, self._where)
        if code in _MISSING or (self._device is None and isinstance(exc, OSError)):
            todo = "check power, cable, address and the resource's name in stations.toml"
            return TransportError("port-missing", f"nothing answers: {exc}", todo, self._where)
        if isinstance(exc, (ValueError, ImportError, pyvisa.LibraryError)):
            todo = (
                "install what the VISA backend asks for (pyusb for USB, gpib-ctypes for GPIB), "
                'or name a maker\'s VISA with visa = "@ivi"'
            )
            return TransportError("visa-incomplete", f"{what}: {exc}", todo, self._where)
        return TransportError(
            "port-lost",
            f"{what}: the instrument went away: {exc!r}",
            "check the cable, the hub's power and whether the instrument restarted",
            self._where,
        )

    def _late(self, what: str, deadline_s: float) -> DeadlineExceeded:
        todo = "check that the instrument is on, and its display; power-cycle it if it hangs"
        text = f"{what} did not come within {deadline_s:g} s"
        return DeadlineExceeded("no-answer", text, todo, self._where)


def _opened(resource: str, backend: str, deadline_s: float) -> MessageBasedResource:
    """Open and clear an instrument; runs in the port's thread."""
    if backend == "@py" and (found := _LAN.match(resource)):
        # pyvisa-py does not say why it failed, and leaves its socket to the garbage collector
        port = int(found["port"] or (HISLIP_PORT if found["hislip"] else PORTMAPPER))
        socket.create_connection((found["host"], port), deadline_s).close()
    patience_ms = max(1, round(deadline_s * 1000))
    device = pyvisa.ResourceManager(backend).open_resource(resource, open_timeout=patience_ms)
    if not isinstance(device, MessageBasedResource):
        device.close()
        raise ValueError(f"{resource} does not take messages")  # noqa: TRY004 - a wrong name
    device.timeout = patience_ms
    device.chunk_size = CHUNK_BYTES
    with suppress(NotImplementedError, pyvisa.VisaIOError):  # not every interface can clear
        device.clear()
    return device
