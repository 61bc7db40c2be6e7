"""VISA instruments (USB, GPIB, VXI-11, HiSLIP) through pyvisa, one thread per instrument.

A call that its caller has abandoned runs on in its thread until VISA's own timeout ends it.
Therefore a port has one thread, keeps the call in progress, and is reopened before its next use.
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

from drivers.scpi.codec import ScpiDecoder, ScpiReply
from labd.aio.wire_log import PortLog, open_port_log
from labd.core.errors import DeadlineExceeded, InfraError, LabdBug, TransportError, Where

GRACE_S = 0.5
"""How much longer than VISA's own timeout a call may take to return."""

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


class _CallThread:
    """Runs calls one after another; a call that never returns does not keep the process alive.

    The interpreter joins the threads of an executor when it ends, but not this daemon thread.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run_calls, name="visa", daemon=True).start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` after the calls submitted before it."""
        future: Future[T] = Future()

        def run_and_store_result() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as exc:  # noqa: BLE001 - raised where it is awaited
                future.set_exception(exc)
            else:
                future.set_result(result)

        self._calls.put(run_and_store_result)
        return future

    def end_thread(self) -> None:
        """End after the call in progress."""
        self._calls.put(None)

    def _run_calls(self) -> None:
        while call := self._calls.get():
            call()


class VisaPort:
    """A connection through VISA.

    Every call raises :class:`TransportError` if the instrument is missing, busy or lost, or the
    VISA installation is incomplete, and :class:`DeadlineExceeded` if VISA does not return in time.

    Args:
        resource: VISA resource name.
        backend: VISA library: ``@py``, ``@ivi``, or ``file.yaml@sim``.
        where: the instrument, for error texts.
    """

    def __init__(self, resource: str, backend: str, where: Where) -> None:
        self._resource = resource
        self.backend = backend
        self._where = where
        self._marks_ends = not resource.upper().endswith("::SOCKET")  # reports a message's end
        self._thread: _CallThread | None = None
        self._running: Future[Any] | None = None
        self._device: MessageBasedResource | None = None
        self._decoder = ScpiDecoder()
        self._unasked: list[ScpiReply] = []
        self._wire: PortLog | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is held."""
        return self._thread is not None

    @property
    def unrequested_response(self) -> str:
        """A response that no query asked for; normally empty."""
        return repr(self._unasked[0]) if self._unasked else ""

    async def open(self, deadline_s: float) -> None:
        """Open the instrument and clear its output."""
        self._thread = _CallThread()
        self._decoder, self._unasked = ScpiDecoder(), []
        self._wire = open_port_log(self._resource)
        try:
            self._device = await self._call_in_thread(
                deadline_s,
                "opening",
                lambda: _open_resource(self._resource, self.backend, deadline_s),
            )
        except BaseException:
            if self._running:
                self._running.add_done_callback(_close_abandoned)
            self._drop_thread()
            raise

    async def close(self) -> None:
        """Close the instrument; safe to call twice."""
        device, self._device = self._device, None
        try:
            if device is not None:
                await self._call_in_thread(CLOSE_S, "closing", device.close)
        finally:
            self._drop_thread()

    async def reconnect(self, deadline_s: float) -> None:
        """Open it again once the abandoned call has returned."""
        if self._running and not self._running.done():
            abandoned = asyncio.wrap_future(self._running)
            await asyncio.wait({abandoned}, timeout=deadline_s)
            if not abandoned.done():
                raise self._deadline_error("the abandoned call", deadline_s)
            abandoned.exception()  # its caller is gone: asyncio need not report it
        with suppress(InfraError):  # a lost connection cannot be closed, only replaced
            await self.close()
        await self.open(deadline_s)

    async def write(self, data: bytes, deadline_s: float) -> None:
        """Send one message."""
        device, wire = self._require_open(), self._wire

        def write_message() -> None:
            device.timeout = max(1.0, deadline_s * 1000)
            device.write_raw(data)
            if wire:
                wire.log_sent(data)

        await self._call_in_thread(deadline_s, repr(data.decode("ascii").strip()), write_message)

    async def read_response(self, deadline_s: float, indefinite_bytes: int = 0) -> ScpiReply:
        """Return the next response."""
        device, decoder, marks_ends = self._require_open(), self._decoder, self._marks_ends
        decoder.indefinite_bytes = indefinite_bytes
        wire = self._wire

        def read_responses() -> list[ScpiReply]:
            end_s = time.monotonic() + deadline_s
            replies: list[ScpiReply] = []
            while not replies:
                device.timeout = max(1.0, (end_s - time.monotonic()) * 1000)
                data = device.read_raw()
                if wire:
                    wire.log_received(data)
                replies = decoder.feed(data)
                replies += decoder.end_message() if marks_ends else []
            return replies

        reply, *self._unasked = await self._call_in_thread(deadline_s, "the answer", read_responses)
        return reply

    # ---- the thread ----------------------------------------------------------------------

    async def _call_in_thread(self, deadline_s: float, what: str, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise LabdBug("visa-closed", "the instrument is not open", where=self._where)
        future = self._thread.submit(work)
        self._running = future
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                return await asyncio.wrap_future(future)
        except TimeoutError as exc:
            raise self._deadline_error(what, deadline_s) from exc
        except Exception as exc:  # backends also raise those of RPC, USB and sockets
            raise self._translate_error(exc, what, deadline_s) from exc

    def _drop_thread(self) -> None:
        """Release the thread without waiting for it: a call in it may never return."""
        if self._thread is not None:
            self._thread.end_thread()
        self._thread = self._device = None

    def _require_open(self) -> MessageBasedResource:
        if self._device is None:
            raise LabdBug("visa-closed", "the instrument is not open", where=self._where)
        return self._device

    # ---- faults --------------------------------------------------------------------------

    def _translate_error(self, exc: Exception, what: str, deadline_s: float) -> InfraError:
        code = exc.error_code if isinstance(exc, pyvisa.VisaIOError) else None
        if code == StatusCode.error_timeout:
            return self._deadline_error(what, deadline_s)
        if code in _BUSY:
            remedy = "stop the other program that holds it"
            return TransportError("port-busy", f"{what}: {exc}", remedy, self._where)
        if code in _MISSING or (self._device is None and isinstance(exc, OSError)):
            remedy = "check power, cable, address and the resource's name in stations.toml"
            return TransportError("port-missing", f"nothing answers: {exc}", remedy, self._where)
        if isinstance(exc, (ValueError, ImportError, pyvisa.LibraryError)):
            remedy = (
                "install what the VISA backend needs (pyusb for USB, gpib-ctypes for GPIB), "
                'or name a maker\'s VISA with visa = "@ivi"'
            )
            return TransportError("visa-incomplete", f"{what}: {exc}", remedy, self._where)
        return TransportError(
            "port-lost",
            f"{what}: the instrument was lost: {exc!r}",
            "check the cable, the hub's power and whether the instrument restarted",
            self._where,
        )

    def _deadline_error(self, what: str, deadline_s: float) -> DeadlineExceeded:
        remedy = "check that the instrument is on, and its display; power-cycle it if it hangs"
        text = f"{what} took longer than {deadline_s:g} s"
        return DeadlineExceeded("no-answer", text, remedy, self._where)


def _close_abandoned(opening: Future[MessageBasedResource]) -> None:
    """Close the instrument that an abandoned call opens in the end; runs in the port's thread."""
    if not opening.cancelled() and opening.exception() is None:
        with suppress(Exception):  # nobody waits for it any more
            opening.result().close()


def _open_resource(resource: str, backend: str, deadline_s: float) -> MessageBasedResource:
    """Open and clear an instrument; runs in the thread of its port."""
    if backend == "@py" and (found := _LAN.match(resource)):
        # pyvisa-py hides why it failed and leaves its socket to the garbage collector
        port = int(found["port"] or (HISLIP_PORT if found["hislip"] else PORTMAPPER))
        socket.create_connection((found["host"], port), deadline_s).close()
    timeout_ms = max(1, round(deadline_s * 1000))
    device = pyvisa.ResourceManager(backend).open_resource(resource, open_timeout=timeout_ms)
    if not isinstance(device, MessageBasedResource):
        device.close()
        raise ValueError(f"{resource} is not message-based")  # noqa: TRY004 - a wrong name
    device.timeout = timeout_ms
    device.chunk_size = CHUNK_BYTES
    with suppress(NotImplementedError, pyvisa.VisaIOError):  # some interfaces cannot clear
        device.clear()
    return device
