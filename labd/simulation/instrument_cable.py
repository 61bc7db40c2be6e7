"""Cables of instruments that run in an asyncio loop: a pseudo-terminal, or a loopback socket."""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from labd.aio.wire_log import PortLog, open_port_log
from labd.simulation.pseudo_terminal import PseudoTerminal


class Device(Protocol):
    """Bytes in, bytes out; the cable sets ``send``."""

    send: Callable[[bytes], None]

    def receive(self, data: bytes) -> None:
        """Take bytes from the host."""
        ...


@runtime_checkable
class StreamingDevice(Device, Protocol):
    """A device that streams without being asked."""

    async def stream_by_wall_clock(self) -> None:
        """Stream by the wall clock until cancelled."""
        ...


class NetworkDevice(Device, Protocol):
    """A device on a network."""

    def on_connect(self) -> None:
        """React to a host that has connected, as a server that greets it."""
        ...


class Cable(Protocol):
    """The device's end of a cable."""

    device: Device
    mute: bool
    received: bytes
    plugged: bool

    @property
    def path(self) -> str:
        """Path that a driver opens: a device or ``socket://127.0.0.1:PORT``."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Bytes sent that the host has not taken yet."""
        ...

    def unplug(self) -> None:
        """Pull the cable; safe to call twice."""
        ...


class _OutboxCable(ABC):
    """Both kinds of cable: what the device sends goes into an outbox.

    ``tamper`` may change what the device sends (drop, double); ``mute`` drops it all;
    ``blocked`` keeps it, as if the host did not read.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.mute = False
        self.blocked = False
        self.received = b""
        self.plugged = True
        self._bytes_to_lose = 0
        self._wire: PortLog | None = None
        self._outbox = bytearray()
        self._loop = asyncio.get_running_loop()
        device.send = self.send

    @property
    def waiting_bytes(self) -> int:
        """Bytes sent that the host has not taken yet."""
        return len(self._outbox)

    def lose_next_bytes(self, count: int) -> None:
        """Lose the next bytes towards the host."""
        self._bytes_to_lose += count

    def send(self, data: bytes) -> None:
        """Send towards the host."""
        if self.plugged and not self.mute:
            lost = min(self._bytes_to_lose, len(data))
            self._bytes_to_lose -= lost
            self._outbox += self.tamper(data[lost:])
            if not self.blocked:
                self._write_outbox()

    def _deliver_to_device(self, data: bytes) -> None:
        if self._wire:
            self._wire.log_sent(data)
        self.received += data
        self.device.receive(data)

    @abstractmethod
    def _write_outbox(self) -> None:
        """Hand the outbox to the system."""

    def _write_what_fits(self, descriptor: int) -> None:
        """Write as much as the host takes now, the rest when it takes more."""
        try:
            sent = os.write(descriptor, self._outbox)
        except BlockingIOError:
            sent = 0
        if self._wire and sent:
            self._wire.log_received(self._outbox[:sent])
        del self._outbox[:sent]
        if self._outbox:
            self._loop.add_writer(descriptor, self._write_outbox)
        else:
            self._loop.remove_writer(descriptor)


class PtyCable(_OutboxCable):
    """A serial cable: a pseudo-terminal in raw mode."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self._terminal = PseudoTerminal()
        self.path = self._terminal.path
        self._wire = open_port_log(self.path)
        self._loop.add_reader(self._terminal.fileno, self._read_host_bytes)

    def unplug(self) -> None:
        """Pull the cable; safe to call twice."""
        if self.plugged:
            self.plugged = False
            self._loop.remove_reader(self._terminal.fileno)
            self._loop.remove_writer(self._terminal.fileno)
            self._terminal.close()

    def _read_host_bytes(self) -> None:
        if data := self._terminal.read_available():
            self._deliver_to_device(data)

    def _write_outbox(self) -> None:
        self._write_what_fits(self._terminal.fileno)


class TcpCable(_OutboxCable):
    """A network cable: a listening socket on loopback that serves one host at a time.

    While a host is connected another one is refused, as by instruments with a single control
    socket.
    """

    def __init__(self, device: NetworkDevice) -> None:
        super().__init__(device)
        self._on_connect = device.on_connect
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0)
        self.port: int = self._server.getsockname()[1]
        self.path = f"socket://127.0.0.1:{self.port}"
        self._wire = open_port_log(self.path)
        self._peer: socket.socket | None = None
        self._loop.add_reader(self._server, self._accept_host)

    def unplug(self) -> None:
        """Close the connection and listen no more; safe to call twice."""
        if self.plugged:
            self.plugged = False
            self._disconnect_host()
            self._loop.remove_reader(self._server)
            self._server.close()

    def send(self, data: bytes) -> None:
        """Send towards the host; lost while none is connected."""
        if self._peer is not None:
            super().send(data)

    def _accept_host(self) -> None:
        peer, _ = self._server.accept()
        if self._peer is not None:
            peer.close()
            return
        peer.settimeout(0)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = peer
        self._outbox.clear()
        self._loop.add_reader(peer, self._read_host_bytes)
        self._on_connect()

    def _read_host_bytes(self) -> None:
        if self._peer is None:
            return
        try:
            data = self._peer.recv(65_536)
        except ConnectionError:
            data = b""
        if not data:
            self._disconnect_host()
            return
        self._deliver_to_device(data)

    def _write_outbox(self) -> None:
        if self._peer is None:
            return
        try:
            self._write_what_fits(self._peer.fileno())
        except ConnectionError:
            self._disconnect_host()

    def _disconnect_host(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            self._loop.remove_reader(peer)
            self._loop.remove_writer(peer)
            peer.close()
