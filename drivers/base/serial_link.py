"""A serial port (or ``socket://host:port``) with deadlines, bounded memory and clear errors.

All drivers of serial devices use :class:`Link`; only this module uses the serial library. Bytes
are kept in the chunks in which they arrived, each with its time on the host clock, so a line's
time is the time of the read that completed it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import serialx

from labd.aio.host_time import host_time_ns
from labd.aio.transcript import PortTranscript, open_port_transcript
from labd.aio.wire_log import PortLog, open_port_log
from labd.core.errors import DeadlineExceeded, LabdBug, TransportError, Where
from labd.protocol.lines import QUOTE, format_quote

log = logging.getLogger(__name__)

HIGH_WATER = 1 << 20
LOW_WATER = HIGH_WATER // 4
OPEN_DEADLINE_S = 10.0
CLOSE_DEADLINE_S = 2.0


# ---- the port ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one read, with the time of their arrival on the host clock."""

    data: bytes
    t_ns: int


class _ReceiveBuffer(asyncio.Protocol):
    """Holds received bytes, pauses the port above the high-water mark, records its loss."""

    def __init__(self, wire: PortLog | None, transcript: PortTranscript | None) -> None:
        self.wire = wire
        self.transcript = transcript
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
            raise LabdBug("serial-transport", "the serial library has no byte transport")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        chunk = Chunk(bytes(data), host_time_ns())
        self.chunks.append(chunk)
        if self.wire:
            self.wire.log_received(data)
        if self.transcript:
            self.transcript.add_received(chunk.data, chunk.t_ns)
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

    def take_chunk(self) -> Chunk:
        """Remove the oldest chunk; resume the port below the low-water mark."""
        chunk = self.chunks.popleft()
        self._size -= len(chunk.data)
        if not self.chunks and not self.lost:
            self._arrival.clear()
        if self._paused and self._size <= LOW_WATER and not self.lost and self._transport:
            self._paused = False
            self._transport.resume_reading()
        return chunk

    async def wait_for_data(self) -> None:
        """Wait until there is a chunk or the port is lost."""
        await self._arrival.wait()

    async def wait_writable(self) -> None:
        """Wait until the port accepts more bytes or is lost."""
        await self._writable.wait()


class Link:
    """A serial port: raw bytes in both directions, a deadline for every wait.

    Args:
        port: device path or ``socket://host:port``.
        baud: bits per second; ignored by a socket or a pseudo-terminal.
        device: the driver's name, for error texts.
        is_dialogue: what it carries belongs into the transcript of a run.
    """

    def __init__(self, port: str, baud: int, device: str, *, is_dialogue: bool = False) -> None:
        self.port = port
        self.baud = baud
        self._device = device
        self._is_dialogue = is_dialogue
        self.where = Where(device=f"{device} at {port}")
        self._inbox: _ReceiveBuffer | None = None
        self._transport: serialx.BaseSerialTransport | None = None

    @property
    def is_open(self) -> bool:
        """Whether the port is held, lost or not."""
        return self._transport is not None

    async def open(self) -> None:
        """Take the port exclusively.

        Raises:
            TransportError: ``port-missing``, ``port-denied``, ``port-busy`` or ``port-unusable``.
            DeadlineExceeded: the operating system did not open it in time.
        """
        if self._transport:
            raise LabdBug("link-open-twice", "this link is already open", where=self.where)
        loop = asyncio.get_running_loop()
        transcript = open_port_transcript(self._device) if self._is_dialogue else None
        inbox = _ReceiveBuffer(open_port_log(self.port), transcript)
        try:
            async with asyncio.timeout(OPEN_DEADLINE_S):
                self._transport, _ = await serialx.create_serial_connection(
                    loop, lambda: inbox, self.port, self.baud, exclusive=True
                )
        except TimeoutError as exc:
            raise self._deadline_error("the system did not open the port", OPEN_DEADLINE_S) from exc
        except (OSError, ValueError, serialx.SerialException) as exc:
            raise await asyncio.to_thread(self._open_error, exc) from exc
        self._inbox = inbox
        log.debug("%s opened at %d baud", self.where.device, self.baud)
        if inbox.wire:
            inbox.wire.log_note(f"opened at {self.baud} baud")
        if transcript:
            transcript.add_opening(self.port, self.baud)

    async def close(self) -> None:
        """Free the port; safe to call twice, and when the device is gone.

        Raises:
            TransportError: ``port-close``: the operating system reported an error.
            DeadlineExceeded: the operating system did not free it in time.
        """
        transport, inbox, self._transport, self._inbox = self._transport, self._inbox, None, None
        if transport is None:
            return
        log.debug("%s closed", self.where.device)
        if inbox and inbox.wire:
            inbox.wire.log_note("closed")
        if inbox and inbox.transcript:
            inbox.transcript.add_note("closed")
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                try:
                    transport.abort()
                except (OSError, serialx.SerialException):
                    transport.close()  # may free it where abort failed
                    await transport.wait_closed()
                    raise
                await transport.wait_closed()
        except TimeoutError as exc:
            raise self._deadline_error(
                "the system did not free the port", CLOSE_DEADLINE_S
            ) from exc
        except (OSError, serialx.SerialException) as exc:
            what = f"closing {self.port} failed: {exc}"
            raise TransportError("port-close", what, "unplug the cable", self.where) from exc

    async def write(self, data: bytes, deadline_s: float = 5.0) -> None:
        """Write ``data`` in one piece.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the port accepts no more bytes.
        """
        inbox, transport = self._require_connected()
        try:
            transport.write(data)
            if inbox.wire:
                inbox.wire.log_sent(data)
            if inbox.transcript:
                inbox.transcript.add_sent(data)
            async with asyncio.timeout(deadline_s):
                await inbox.wait_writable()
        except TimeoutError as exc:
            raise self._deadline_error("the port accepts no more bytes", deadline_s) from exc
        except OSError as exc:
            raise self._port_lost_error(str(exc)) from exc
        self._require_connected()

    async def read(self, deadline_s: float | None) -> Chunk:
        """Return the next received bytes, at least one.

        With ``None`` it waits until the port is lost: for background tasks, which are cancelled.

        Raises:
            TransportError: the port went away; all that it delivered has been read.
            DeadlineExceeded: nothing arrived.
        """
        inbox = self._require_open()
        if not inbox.chunks:
            try:
                async with asyncio.timeout(deadline_s):
                    await inbox.wait_for_data()
            except TimeoutError as exc:
                if not inbox.chunks and not inbox.lost:  # after a stall both are true
                    raise self._deadline_error("nothing arrived", deadline_s or 0.0) from exc
        if not inbox.chunks:
            raise self._port_lost_error(inbox.reason)
        return inbox.take_chunk()

    async def read_until_quiet(self, quiet_s: float, deadline_s: float) -> bytes:
        """Return all bytes that arrive until the line has been silent for ``quiet_s``.

        Raises:
            TransportError: the port went away.
            DeadlineExceeded: the device did not stop sending; the error quotes its last bytes.
        """
        received = bytearray()
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    received += (await self.read(quiet_s)).data
        except DeadlineExceeded:
            return bytes(received)
        except TimeoutError as exc:
            text = bytes(received[-QUOTE:]).decode("ascii", "replace")
            raise self._deadline_error(
                f"the device does not stop sending, last {format_quote(text)}", deadline_s
            ) from exc

    def take_arrived_chunks(self) -> list[Chunk]:
        """Return all chunks that have arrived and were not read, without waiting."""
        inbox = self._require_open()
        return [inbox.take_chunk() for _ in range(len(inbox.chunks))]

    # ---- faults --------------------------------------------------------------------------

    def _require_open(self) -> _ReceiveBuffer:
        if self._inbox is None:
            raise LabdBug("link-closed", "this link is not open", where=self.where)
        return self._inbox

    def _require_connected(self) -> tuple[_ReceiveBuffer, asyncio.Transport]:
        inbox = self._require_open()
        if inbox.lost or self._transport is None:
            raise self._port_lost_error(inbox.reason)
        return inbox, self._transport

    def _port_lost_error(self, reason: str) -> TransportError:
        return TransportError(
            "port-lost",
            f"the port went away: {reason}",
            "check the cable, the hub's power and whether the device reset itself",
            self.where,
        )

    def _deadline_error(self, what: str, deadline_s: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            "no-answer",
            f"{what} within {deadline_s:g} s",
            "check power, wiring and baud rate",
            self.where,
        )

    def _open_error(self, exc: Exception) -> TransportError:
        """Return why the port did not open; lists the host's ports, so it may block."""
        if self.port.startswith("socket://") and isinstance(exc, OSError):
            remedy = "check the address, the device's network interface and the firewall"
            return TransportError("port-missing", f"nothing answers: {exc}", remedy, self.where)
        number = exc.errno if isinstance(exc, OSError) else None
        if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return TransportError(
                "port-missing", "there is no such port", _serial_ports_hint(), self.where
            )
        if number in (errno.EACCES, errno.EPERM):
            remedy = "add labd's user to the group that owns it (often dialout) and log in again"
            return TransportError("port-denied", "no permission to open it", remedy, self.where)
        if number == errno.EBUSY:
            remedy = "stop the other labd, terminal or debugger; `fuser -v` on the port names it"
            return TransportError("port-busy", "another program has it open", remedy, self.where)
        return TransportError(
            "port-unusable",
            f"it cannot be opened as a serial port: {exc}",
            "check the port's name in stations.toml",
            self.where,
        )


def _serial_ports_hint() -> str:
    by_id = sorted(str(path) for path in Path("/dev/serial/by-id").glob("*"))
    ports = by_id or sorted(str(info.device) for info in serialx.list_serial_ports())
    if not ports:
        return "check the cable and the board's power; this host has no serial ports at all"
    return f"check the cable and the board's power; the ports here: {', '.join(ports)}"
