"""One serial port (or ``socket://host:port``) with deadlines, bounded memory and clear faults.

Everything that speaks to a serial device stands on :class:`Link`; nothing above it sees the
serial library. Bytes are kept as they arrived, with the host's monotonic time of arrival,
so that a line's time is the time of the read that completed it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import serialx

from labd.aio.host_time import host_time_ns
from labd.aio.wire_log import PortLog, port_log
from labd.core.errors import DeadlineExceeded, LabdBug, TransportError, Where
from labd.protocol.lines import QUOTE, quoted

log = logging.getLogger(__name__)

HIGH_WATER = 1 << 20
LOW_WATER = HIGH_WATER // 4
OPEN_DEADLINE_S = 10.0
CLOSE_DEADLINE_S = 2.0


# ---- the port ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as one read delivered them, with the host's monotonic time of their arrival."""

    data: bytes
    t_ns: int


class _Inbox(asyncio.Protocol):
    """Keeps what arrived, stops the port above the high-water mark, remembers its loss."""

    def __init__(self, wire: PortLog | None) -> None:
        self.wire = wire
        self.chunks: deque[Chunk] = deque()
        self.lost = False
        self.reason = ""
        self._size = 0
        self._arrival = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise LabdBug("serial-transport", "the serial library gave no byte transport")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(Chunk(bytes(data), host_time_ns()))
        if self.wire:
            self.wire.received(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        self._arrival.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.reason = str(exc) if exc else "the other side closed it"
        self._arrival.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def take(self) -> Chunk:
        """Remove the oldest chunk; let the port run again below the low-water mark."""
        chunk = self.chunks.popleft()
        self._size -= len(chunk.data)
        if not self.chunks and not self.lost:
            self._arrival.clear()
        if self._paused and self._size <= LOW_WATER and not self.lost and self._transport:
            self._paused = False
            self._transport.resume_reading()
        return chunk

    async def arrival(self) -> None:
        """Wait until there is a chunk or the port is lost."""
        await self._arrival.wait()

    async def writable(self) -> None:
        """Wait until the port takes more bytes or is lost."""
        await self._writable.wait()


class Link:
    """An open serial port: raw bytes both ways, every wait bounded.

    Args:
        port: device path or ``socket://host:port``.
        baud: bits a second; meaningless for a socket or a pseudo-terminal.
        device: the driver's name for error messages.
    """

    def __init__(self, port: str, baud: int, device: str) -> None:
        self.port = port
        self.baud = baud
        self.where = Where(device=f"{device} at {port}")
        self._inbox: _Inbox | None = None
        self._transport: serialx.BaseSerialTransport | None = None

    @property
    def is_open(self) -> bool:
        """Whether the port is held, lost or not."""
        return self._transport is not None

    @property
    def simulated(self) -> bool:
        """Whether the port is a pseudo-terminal: no hardware is behind it."""
        return os.path.realpath(self.port).startswith("/dev/pts/")

    async def open(self) -> None:
        """Take the port for this process alone.

        Raises:
            TransportError: ``port-missing``, ``port-denied``, ``port-busy`` or ``port-unusable``.
            DeadlineExceeded: the system did not open it in time.
        """
        if self._transport:
            raise LabdBug("link-open-twice", "this link is open already", where=self.where)
        loop = asyncio.get_running_loop()
        inbox = _Inbox(port_log(self.port))
        try:
            async with asyncio.timeout(OPEN_DEADLINE_S):
                self._transport, _ = await serialx.create_serial_connection(
                    loop, lambda: inbox, self.port, self.baud, exclusive=True
                )
        except TimeoutError as exc:
            raise self._late("the system did not open the port", OPEN_DEADLINE_S) from exc
        except (OSError, ValueError, serialx.SerialException) as exc:
            raise await asyncio.to_thread(self._refused, exc) from exc
        self._inbox = inbox
        log.debug("%s opened at %d baud", self.where.device, self.baud)
        if inbox.wire:
            inbox.wire.note(f"opened at {self.baud} baud")

    async def close(self) -> None:
        """Free the port; safe to call twice, and when the device is gone.

        Raises:
            TransportError: ``port-close``, the system complained while freeing it.
            DeadlineExceeded: the system did not free it in time.
        """
        transport, inbox, self._transport, self._inbox = self._transport, self._inbox, None, None
        if transport is None:
            return
        log.debug("%s closed", self.where.device)
        if inbox and inbox.wire:
            inbox.wire.note("closed")
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                try:
                    transport.abort()
                except (OSError, serialx.SerialException):
                    transport.close()  # the gentler way may free it all the same
                    await transport.wait_closed()
                    raise
                await transport.wait_closed()
        except TimeoutError as exc:
            raise self._late("the system did not free the port", CLOSE_DEADLINE_S) from exc
        except (OSError, serialx.SerialException) as exc:
            what = f"closing {self.port} failed: {exc}"
            raise TransportError("port-close", what, "unplug the cable", self.where) from exc

    async def write(self, data: bytes, deadline_s: float = 5.0) -> None:
        """Hand ``data`` to the port in one piece.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the port takes nothing any more.
        """
        inbox, transport = self._live()
        try:
            transport.write(data)
            if inbox.wire:
                inbox.wire.sent(data)
            async with asyncio.timeout(deadline_s):
                await inbox.writable()
        except TimeoutError as exc:
            raise self._late("the port takes no more bytes", deadline_s) from exc
        except OSError as exc:
            raise self._gone(str(exc)) from exc
        self._live()

    async def read(self, deadline_s: float | None) -> Chunk:
        """The next bytes that arrived, at least one.

        ``None`` waits as long as the port lives, for a background task that its owner ends.

        Raises:
            TransportError: the port went away and everything it delivered has been read.
            DeadlineExceeded: nothing arrived.
        """
        inbox = self._opened()
        if not inbox.chunks:
            try:
                async with asyncio.timeout(deadline_s):
                    await inbox.arrival()
            except TimeoutError as exc:
                if not inbox.chunks and not inbox.lost:  # a stalled loop sees both at once
                    raise self._late("nothing arrived", deadline_s or 0.0) from exc
        if not inbox.chunks:
            raise self._gone(inbox.reason)
        return inbox.take()

    async def read_until_quiet(self, quiet_s: float, deadline_s: float) -> bytes:
        """Everything that arrives until the line has been silent for ``quiet_s``.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the device kept talking; the error quotes its last words.
        """
        heard = bytearray()
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    heard += (await self.read(quiet_s)).data
        except DeadlineExceeded:
            return bytes(heard)
        except TimeoutError as exc:
            text = bytes(heard[-QUOTE:]).decode("ascii", "replace")
            raise self._late(
                f"the device does not stop talking, last {quoted(text)}", deadline_s
            ) from exc

    def take_arrived(self) -> list[Chunk]:
        """What has arrived and was not read, without waiting."""
        inbox = self._opened()
        return [inbox.take() for _ in range(len(inbox.chunks))]

    # ---- faults --------------------------------------------------------------------------

    def _opened(self) -> _Inbox:
        if self._inbox is None:
            raise LabdBug("link-closed", "this link is not open", where=self.where)
        return self._inbox

    def _live(self) -> tuple[_Inbox, asyncio.Transport]:
        inbox = self._opened()
        if inbox.lost or self._transport is None:
            raise self._gone(inbox.reason)
        return inbox, self._transport

    def _gone(self, reason: str) -> TransportError:
        return TransportError(
            "port-lost",
            f"the port went away: {reason}",
            "check the cable, the hub's power and whether the device reset itself",
            self.where,
        )

    def _late(self, what: str, deadline_s: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            "no-answer",
            f"{what} within {deadline_s:g} s",
            "check power, wiring and baud rate",
            self.where,
        )

    def _refused(self, exc: Exception) -> TransportError:
        """Why the port did not open, in words; looks at the system, so it may block."""
        if self.port.startswith("socket://") and isinstance(exc, OSError):
            todo = "check the address, that the device's network interface is on, and the firewall"
            return TransportError("port-missing", f"nothing answers: {exc}", todo, self.where)
        number = exc.errno if isinstance(exc, OSError) else None
        if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return TransportError("port-missing", "there is no such port", _choices(), self.where)
        if number in (errno.EACCES, errno.EPERM):
            todo = "add labd's user to the group that owns it (often dialout) and log in again"
            return TransportError("port-denied", "no permission to open it", todo, self.where)
        if number == errno.EBUSY:
            todo = "stop the other labd, terminal or debugger; `fuser -v` on the port names it"
            return TransportError("port-busy", "another program has it open", todo, self.where)
        return TransportError(
            "port-unusable",
            f"it cannot be opened as a serial port: {exc}",
            "check the port's name in stations.toml",
            self.where,
        )


def _choices() -> str:
    by_id = sorted(str(path) for path in Path("/dev/serial/by-id").glob("*"))
    ports = by_id or sorted(str(info.device) for info in serialx.list_serial_ports())
    if not ports:
        return "check the cable and the board's power; this host has no serial ports at all"
    return f"check the cable and the board's power; the ports here: {', '.join(ports)}"
