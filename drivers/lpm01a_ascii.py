"""The LPM01A's stream in format ``ascii_dec`` (UM2269 chapter 4): a line for everything.

A sample is ``DDDD±EE``, nine bytes with its line end. An edge of the D7 input is a line
between two samples; its place in the stream is its only time (± one sample).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from drivers.link import quoted
from drivers.lpm01a_blocks import SAMPLES_PER_STAMP, Quantity, StampedDecoder

RECORD_BYTES = 9  # DDDD±EE\r\n
STAMP_WRAP_MS = 1_000_000  # three digits of seconds
MAX_LINE = 4096

_STAMP = re.compile(rb"TimeStamp:[ <>]*(\d{3,})s[ <>]+(\d{3})ms, buff[ <>]+(\d{1,3})%")
_EVENT = re.compile(rb"event (\d\d) ris")
_DIGIT_COLUMNS = (0, 1, 2, 3, 5, 6)
_MANTISSA = np.array([1000.0, 100.0, 10.0, 1.0])
_POWERS = 10.0 ** np.arange(100)


def records_in(block: NDArray[np.uint8]) -> int:
    """How many well-formed sample records ``block``, shape (n, 9), begins with."""
    good = (block[:, 7] == ord("\r")) & (block[:, 8] == ord("\n"))
    good &= (block[:, 4] == ord("+")) | (block[:, 4] == ord("-"))
    for column in _DIGIT_COLUMNS:
        good &= (block[:, column] - np.uint8(ord("0"))) <= np.uint8(9)  # wraps below "0"
    return len(block) if bool(good.all()) else int(np.argmin(good))


def values_of(block: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The numbers of well-formed records: for negative exponents what ``float`` would read."""
    digits = (block[:, :7] - np.uint8(ord("0"))).astype(np.float64)
    mantissa = digits[:, :4] @ _MANTISSA
    scale = _POWERS[(digits[:, 5] * 10 + digits[:, 6]).astype(np.intp)]
    return np.where(block[:, 4] == ord("-"), mantissa / scale, mantissa * scale)


class AsciiDecoder(StampedDecoder):
    """Lines to samples, edges and gaps; see :class:`StampedDecoder`.

    A stamp's seconds have three digits and begin again after 999 (with a mark in place of a
    blank). The instrument calls every event ``ris``; with ``eventsrc d7 fal`` the edges fall.
    """

    def __init__(self, rate_hz: int, quantity: Quantity, set_mv: int | None = None) -> None:
        super().__init__(rate_hz, quantity, STAMP_WRAP_MS, set_mv)
        self._in_summary = False
        self._last_event: int | None = None

    def _cleaned(self, data: bytes) -> bytes:
        return data.replace(b"\0", b"")  # one may lead the sample after a stamp

    def _step(self, position: int) -> int:
        buffer = self._buffer
        whole = min((len(buffer) - position) // RECORD_BYTES, SAMPLES_PER_STAMP)
        if whole and buffer[position : position + 1].isdigit():
            block = np.frombuffer(buffer, np.uint8, whole * RECORD_BYTES, position)
            block = block.reshape(whole, RECORD_BYTES)
            if run := records_in(block):
                self._on_samples(values_of(block[:run]))
                return run * RECORD_BYTES
        end = buffer.find(b"\n", position, position + MAX_LINE)
        if end >= 0:
            self._on_line(buffer[position:end].strip(b"\r"))
            return end + 1 - position
        if len(buffer) - position < MAX_LINE:
            return 0
        self._on_line(buffer[position : position + MAX_LINE])
        return MAX_LINE

    def _on_line(self, line: bytes) -> None:
        if self._on_reply(line):
            return
        if self._in_summary or line == b"summary beg":
            self._in_summary = line != b"summary end"
        elif stamp := _STAMP.fullmatch(line):
            now_ms = (int(stamp[1]) * 1000 + int(stamp[2])) % STAMP_WRAP_MS
            self._on_stamp(now_ms, int(stamp[3]))
        elif event := _EVENT.fullmatch(line):
            self._on_event(int(event[1]))
        elif line == b"pwr off":
            self._on_power_lost("the DUT's power was switched off")
        elif line not in (b"", b"end", b"pwr on"):
            self._on_damage(f"a damaged line: {quoted(line.decode('ascii', 'replace'))}")

    def _on_event(self, number: int) -> None:
        last, self._last_event = self._last_event, number
        if last is not None and number != (last + 1) % 100:
            self._distrust(f"event {number:02d} after {last:02d}: one is missing")
        self._on_edge()
