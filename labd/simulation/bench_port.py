"""Ports of the emulated bench: pseudo-terminals with permanent names, as udev makes them.

A port that no program reads behaves like a USB serial adapter: the kernel keeps about 20 KiB, and
what does not fit is lost (:meth:`BenchPort.send`), unless the sender reads
:attr:`BenchPort.waiting_bytes` and holds back, as the power monitor does.
"""

from __future__ import annotations

import os
from pathlib import Path

from labd.aio.wire_log import open_port_log
from labd.simulation.pseudo_terminal import PseudoTerminal

SERIAL_BUFFER = 16 * 1024


class BenchPort:
    """One serial device: a pseudo-terminal, a symbolic link to it, and the bytes to be sent."""

    def __init__(self, link: Path, *, buffer_bytes: int = SERIAL_BUFFER) -> None:
        self.link = link
        self._buffer_bytes = buffer_bytes
        self._out = bytearray()
        self._to_lose = 0
        self.blocked = False
        """Keep everything, as if the host had stopped reading."""
        self._terminal: PseudoTerminal | None = None
        self.path = ""
        self._wire = open_port_log(str(link))
        self.plug()

    @property
    def fileno(self) -> int | None:
        """Descriptor to wait on for input; None while unplugged."""
        return self._terminal.fileno if self._terminal else None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that could not be passed on yet."""
        return len(self._out)

    @property
    def has_whole_line(self) -> bool:
        """Whether a whole line waits to be passed on."""
        return b"\n" in self._out

    def plug(self) -> None:
        """Appear as a device; replace an old link of the same name."""
        if self._terminal is not None:
            return
        self._terminal = PseudoTerminal()
        self.path = self._terminal.path
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(f".{self.link.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.path)
        fresh.replace(self.link)

    def unplug(self) -> None:
        """Disappear: a host that has it open gets an error."""
        if self._terminal is None:
            return
        if self.link.is_symlink() and self.link.readlink() == Path(self.path):
            self.link.unlink()
        self._terminal.close()
        self._terminal = None
        self._out.clear()

    def lose_next_bytes(self, count: int) -> None:
        """Drop the next ``count`` bytes sent towards the host."""
        self._to_lose += count

    def send(self, data: bytes) -> None:
        """Send towards the host; what exceeds the buffer is lost."""
        lost = min(self._to_lose, len(data))
        self._to_lose -= lost
        room = max(0, self._buffer_bytes - len(self._out))
        if self._terminal is not None:
            self._out += data[lost : lost + room]

    def flush(self) -> int:
        """Pass on what the host's side takes now; return how many bytes that was."""
        if not self._out or self._terminal is None or self.blocked:
            return 0
        try:
            written = os.write(self._terminal.fileno, self._out)
        except BlockingIOError:
            return 0
        if self._wire:
            self._wire.log_received(self._out[:written])
        del self._out[:written]
        return written

    def receive(self) -> bytes:
        """Return what the host has sent since the last call."""
        data = self._terminal.read_available() if self._terminal else b""
        if self._wire and data:
            self._wire.log_sent(data)
        return data
