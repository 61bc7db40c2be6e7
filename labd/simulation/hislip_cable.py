"""A network cable with HiSLIP (IVI-6.1): what VISA opens as ``TCPIP::…::hislip0::INSTR``."""

from __future__ import annotations

import asyncio
import socket
import struct

from labd.simulation.instrument_cable import Device

HEAD = struct.Struct("!2sBBIQ")
INITIALIZE, INITIALIZED = 0, 1
DATA, DATA_END = 6, 7
CLEAR_COMPLETE, CLEARED = 8, 9
MAX_SIZE, MAX_SIZE_IS = 15, 16
ASYNC_INITIALIZE, ASYNC_INITIALIZED = 17, 18
ASYNC_CLEAR, ASYNC_CLEARED = 19, 23
SESSION = 1
VERSION_1_0 = 0x0100
MAX_MESSAGE_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 500


class HislipCable:
    """Serves hosts, each over its two connections; answers go to the one that asked last.

    What the device sends in one iteration of the loop is one answer; a long answer goes out in
    several messages.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.mute = False
        self.received = b""
        self.initialized = False
        self.plugged = True
        self.connections: list[_HislipConnection] = []
        self._message = 0
        self._outbox = b""
        self._host: _HislipConnection | None = None
        listening = socket.create_server(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        self.path = f"TCPIP::127.0.0.1::hislip0,{port}::INSTR"
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._serving = self._loop.create_task(
            self._loop.create_server(lambda: _HislipConnection(self), sock=listening)
        )
        device.send = self.send

    @property
    def waiting_bytes(self) -> int:
        """Bytes sent that the system has not taken yet."""
        return len(self._outbox)

    def send(self, data: bytes) -> None:
        """Send an answer, or a part of one."""
        if self._host is None or self.mute or not self.plugged:
            return
        if not self._outbox:
            self._loop.call_soon(self._write_answer)
        self._outbox += data

    def _write_answer(self) -> None:
        data, self._outbox = self._outbox, b""
        if self._host is None or not self.plugged:
            return
        while len(data) > MAX_PAYLOAD_BYTES:
            self._host.write_message(DATA, 0, self._message, data[:MAX_PAYLOAD_BYTES])
            data = data[MAX_PAYLOAD_BYTES:]
        self._host.write_message(DATA_END, 0, self._message, data)

    def unplug(self) -> None:
        """Pull the cable; safe to call twice."""
        if self.plugged:
            self.plugged = False
            self._serving.cancel()
            if self._serving.done() and not self._serving.cancelled():
                self._serving.result().close()
            self._listening.close()
            for connection in self.connections:
                connection.abort_connection()

    def on_host_message(
        self, connection: _HislipConnection, kind: int, number: int, payload: bytes
    ) -> None:
        """Take a message of the host on either connection."""
        if kind == INITIALIZE:
            self.initialized = True
            connection.write_message(INITIALIZED, 0, VERSION_1_0 << 16 | SESSION, b"")
        elif kind == ASYNC_INITIALIZE:
            connection.write_message(ASYNC_INITIALIZED, 0, 0, b"")
        elif kind == MAX_SIZE:
            connection.write_message(MAX_SIZE_IS, 0, 0, struct.pack("!Q", MAX_MESSAGE_BYTES))
        elif kind == ASYNC_CLEAR:
            connection.write_message(ASYNC_CLEARED, 0, 0, b"")
        elif kind == CLEAR_COMPLETE:
            connection.write_message(CLEARED, 0, 0, b"")
        elif kind in (DATA, DATA_END):
            self._host, self._message = connection, number
            self.received += payload
            self.device.receive(payload)


class _HislipConnection(asyncio.Protocol):
    def __init__(self, cable: HislipCable) -> None:
        self._cable = cable
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._cable.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._cable.connections.remove(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEAD.size:
            _, kind, _, number, size = HEAD.unpack_from(self._buffer)
            if len(self._buffer) < HEAD.size + size:
                return
            payload = self._buffer[HEAD.size : HEAD.size + size]
            self._buffer = self._buffer[HEAD.size + size :]
            self._cable.on_host_message(self, kind, number, payload)

    def write_message(self, kind: int, control: int, number: int, payload: bytes) -> None:
        """Send one message to the host."""
        if self._transport is not None:
            self._transport.write(HEAD.pack(b"HS", kind, control, number, len(payload)) + payload)

    def abort_connection(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()
