"""A pseudo-terminal with a byte-level device behind it, in the test's own event loop."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from typing import Protocol


class Device(Protocol):
    """Bytes in, bytes out; ``send`` is plugged in by the pseudo-terminal."""

    send: Callable[[bytes], None]

    def receive(self, data: bytes) -> None: ...


class PtyDevice:
    """The device's end of a serial cable.

    ``tamper`` may change what the device sends (drop, double); ``mute`` drops it all.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.mute = False
        self.heard = b""
        device.send = self.send
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(slave)
        self._slave = slave  # held, so that closing and reopening is no hang-up
        self._outbox = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._master, self._read)
        self.plugged = True

    def send(self, data: bytes) -> None:
        if not self.plugged or self.mute:
            return
        self._outbox += self.tamper(data)
        self._write()

    def unplug(self) -> None:
        if self.plugged:
            self.plugged = False
            self._loop.remove_reader(self._master)
            self._loop.remove_writer(self._master)
            os.close(self._slave)
            os.close(self._master)

    def _read(self) -> None:
        data = os.read(self._master, 4096)
        self.heard += data
        self.device.receive(data)

    def _write(self) -> None:
        try:
            sent = os.write(self._master, self._outbox)
        except BlockingIOError:
            sent = 0
        self._outbox = self._outbox[sent:]
        if self._outbox:
            self._loop.add_writer(self._master, self._write)
        else:
            self._loop.remove_writer(self._master)
