"""Wire log: every byte that a port carried, in both directions, with its time.

A text file, one line per read or write::

    48211093347120 2026-07-24T09:14:02.118204+00:00 /dev/ttyACM0 > 6e616d6525 |name%|
    48211096120077 2026-07-24T09:14:02.120977+00:00 /dev/ttyACM0 < 6d2d72656164790d0a |m-ready..|
    48211096540210 2026-07-24T09:14:02.121397+00:00 /dev/ttyACM0 # closed

The fields, separated by blanks: the host clock in ns (CLOCK_MONOTONIC_RAW); the same moment in
UTC; the port (blanks in it become ``_``); ``>`` to the device, ``<`` from the device, ``#`` a
note; the bytes in hex; the bytes as ASCII between bars, a dot for each that is not printable. The
lines of one port are in order. 100 000 samples per second of 4 bytes make 1.2 MB per second.

A port calls :func:`open_port_log` once, when it is opened; without a wire log it gets ``None`` and
pays one ``if`` per read. A thread formats and writes the lines every 0.5 s: a killed process
loses at most that. A full disk ends the log with one warning, never the measurement. If the disk
is so slow that more than 64 MB wait for it, the rest is left out and its size is noted.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from labd.aio.host_time import host_time_ns
from labd.core.errors import ConfigError

FLUSH_S = 0.5
CLOSE_S = 5.0
MAX_WAITING_BYTES = 64_000_000

TO_DEVICE, FROM_DEVICE, NOTE = ">", "<", "#"
HEADER = b"# labd wire log 1: host_ns utc port > (to device) or < (from device) hex |ASCII|\n"

_PRINTABLE = bytes(code if 0x20 <= code < 0x7F else ord(".") for code in range(0x100))  # noqa: PLR2004

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WireEntry:
    """One read, write or note of one port."""

    t_ns: int
    utc_ns: int
    port: str
    direction: str
    data: bytes

    def format_line(self) -> bytes:
        """Return it as the log writes it."""
        utc = datetime.fromtimestamp(self.utc_ns / 1e9, UTC).isoformat(timespec="microseconds")
        head = f"{self.t_ns} {utc} {self.port.replace(' ', '_')} {self.direction} ".encode()
        if self.direction == NOTE:
            return head + self.data + b"\n"
        ascii_text = self.data.translate(_PRINTABLE)
        return head + self.data.hex().encode() + b" |" + ascii_text + b"|\n"


class PortLog:
    """What one port writes into the wire log; usable from any thread."""

    def __init__(self, log: WireLog, port: str) -> None:
        self._log = log
        self._port = port

    def log_sent(self, data: bytes | bytearray) -> None:
        """Log bytes that were handed to the device."""
        self._queue_entry(TO_DEVICE, data)

    def log_received(self, data: bytes | bytearray) -> None:
        """Log bytes that came from the device."""
        self._queue_entry(FROM_DEVICE, data)

    def log_note(self, text: str) -> None:
        """Log what happened to the port itself."""
        self._queue_entry(NOTE, text.encode())

    def _queue_entry(self, direction: str, data: bytes | bytearray) -> None:
        now = WireEntry(host_time_ns(), time.time_ns(), self._port, direction, bytes(data))
        self._log.queue_entry(now)


class WireLog:
    """A wire log while it is written.

    Args:
        path: a file, which is appended to, or an existing directory, which gets one file per
            port.
        flush_s: period of writing.
        max_waiting_bytes: what may wait for the disk; more is left out.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: Path, flush_s: float = FLUSH_S, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._path = path
        self._flush_s = flush_s
        self._max_waiting_bytes = max_waiting_bytes
        self._per_port = path.is_dir()
        self._files: dict[Path, BinaryIO] = {}
        self._entries: list[WireEntry] = []
        self._waiting_bytes = 0
        self._missed_bytes = 0
        self._failed = False
        self._lock = threading.Lock()
        self._closing = threading.Event()
        if not self._per_port:
            self._file_for_port("")
        self._thread = threading.Thread(
            target=self._write_until_closed, name="wire log", daemon=True
        )
        self._thread.start()

    def queue_entry(self, entry: WireEntry) -> None:
        """Take an entry; never waits for the disk."""
        with self._lock:
            if self._waiting_bytes > self._max_waiting_bytes:
                self._missed_bytes += len(entry.data)
            elif not self._failed:
                self._entries.append(entry)
                self._waiting_bytes += len(entry.data)

    def close(self) -> None:
        """Write what waits and close the files; gives a hanging disk 5 s."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _write_until_closed(self) -> None:
        try:
            while not self._closing.wait(self._flush_s):
                self._write_queued_entries()
            self._write_queued_entries()
        except OSError as error:
            self._failed = True
            log.warning("wire log %s ended: %s", self._path, error.strerror)
        finally:
            for file in self._files.values():
                with suppress(OSError):
                    file.close()

    def _write_queued_entries(self) -> None:
        with self._lock:
            entries, self._entries, self._waiting_bytes = self._entries, [], 0
            missed, self._missed_bytes = self._missed_bytes, 0
        for entry in entries:
            self._file_for_port(entry.port).write(entry.format_line())
        for file in self._files.values():
            if missed:
                file.write(b"# %d bytes are missing here: the disk was too slow\n" % missed)
            file.flush()

    def _file_for_port(self, port: str) -> BinaryIO:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", port).strip("-")
        path = self._path / f"{name}.wire" if self._per_port else self._path
        if path not in self._files:
            self._files[path] = path.open("ab")
            self._files[path].write(HEADER)
        return self._files[path]


_current: list[WireLog] = []


def open_port_log(port: str) -> PortLog | None:
    """Return where a port logs its bytes, or ``None`` while no wire log is written."""
    return PortLog(_current[-1], port) if _current else None


@contextmanager
def log_wires_to(path: Path | None) -> Generator[None]:
    """Log the bytes of all ports that are opened inside; ``None`` logs nothing.

    Raises:
        ConfigError: the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        written = WireLog(path)
    except OSError as error:
        what = f"cannot write the wire log {path}: {error.strerror}"
        raise ConfigError("wire-log", what, "name a file, or a directory that exists") from error
    _current.append(written)
    try:
        yield
    finally:
        _current.remove(written)
        written.close()
