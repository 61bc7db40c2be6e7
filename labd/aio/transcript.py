r"""Transcript of a run's serial lines: what was sent and received, with the host's times.

One line of text per line of a port::

    48211090012344 serial-dut # opened /dev/ttyACM0 at 115200 baud, UTC 2026-07-24T09:14:02.1+00:00
    48211093347120 serial-dut > name%
    48211096120077 serial-dut < m-name-dut-[unspecified]\r\n
    48211096540210 serial-dut # closed

The fields: the host clock in ns (CLOCK_MONOTONIC_RAW), the driver, ``>`` to the device, ``<``
from the device or ``#`` a note, and the bytes, escaped as in a Python bytes literal. A received
line has the time at which its end arrived; one without ``\n`` was interrupted there.

A link that carries text calls :func:`open_port_transcript` when it is opened, within the task of
a run. Other links, with their thousands of samples per second, have the wire log
(:mod:`labd.aio.wire_log`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from labd.aio.host_time import host_time_ns

TO_DEVICE, FROM_DEVICE, NOTE = ">", "<", "#"

MAX_LINE_BYTES = 4096
"""An unfinished line is cut here."""

Entry = tuple[int, str, str, bytes]
"""Time in ns, driver, direction, bytes."""


class Transcript:
    """Entries of all ports of a run that wait to be written; used within the event loop."""

    def __init__(self) -> None:
        self._waiting: list[Entry] = []
        self._is_open = True

    def add_entry(self, entry: Entry) -> None:
        """Append an entry; ignored once the transcript is closed."""
        if self._is_open:
            self._waiting.append(entry)

    def close(self) -> None:
        """Ignore further entries, which nothing writes any more."""
        self._is_open = False

    def take_entries(self) -> list[Entry]:
        """Remove and return the entries that wait."""
        entries, self._waiting = self._waiting, []
        return entries


class PortTranscript:
    """What one port contributes to a transcript.

    Args:
        transcript: of the run.
        device: name of its driver.
    """

    def __init__(self, transcript: Transcript, device: str) -> None:
        self._transcript = transcript
        self._device = device
        self._partial = b""
        self._partial_ns = 0

    def add_sent(self, data: bytes) -> None:
        """Add what was handed to the device."""
        self._end_partial_line()
        self._add(host_time_ns(), TO_DEVICE, data)

    def add_received(self, data: bytes, t_ns: int) -> None:
        """Add what came from the device, in pieces of any size, as lines."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._add(t_ns, FROM_DEVICE, line + b"\n")
        self._partial_ns = t_ns
        if len(self._partial) >= MAX_LINE_BYTES:
            self._end_partial_line()

    def add_opening(self, port: str, baud: int) -> None:
        """Add that the port was opened, with the time by UTC beside the host's clock."""
        utc = datetime.now(UTC).isoformat(timespec="microseconds")
        self.add_note(f"opened {port} at {baud} baud, UTC {utc}")

    def add_note(self, text: str) -> None:
        """Add what happened to the port itself."""
        self._end_partial_line()
        self._add(host_time_ns(), NOTE, text.encode())

    def _end_partial_line(self) -> None:
        if self._partial:
            partial, self._partial = self._partial, b""
            self._add(self._partial_ns, FROM_DEVICE, partial)

    def _add(self, t_ns: int, direction: str, data: bytes) -> None:
        self._transcript.add_entry((t_ns, self._device, direction, data))


def format_entries(entries: list[Entry]) -> str:
    """Return entries as lines of text."""
    return "".join(
        f"{t_ns} {device} {direction} {str(data)[2:-1]}\n"
        for t_ns, device, direction, data in entries
    )


_current: ContextVar[Transcript | None] = ContextVar("transcript", default=None)


def open_port_transcript(device: str) -> PortTranscript | None:
    """Return where a port of the run that is being recorded adds its lines, if there is one."""
    transcript = _current.get()
    return None if transcript is None else PortTranscript(transcript, device)


@contextmanager
def recorded_in(transcript: Transcript) -> Generator[None]:
    """Record the text of the ports that the body, and the tasks it starts, open."""
    token = _current.set(transcript)
    try:
        yield
    finally:
        _current.reset(token)
