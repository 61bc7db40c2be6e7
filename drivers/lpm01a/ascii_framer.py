"""Framing of the LPM01A's format ``ascii_dec`` (UM2269 chapter 4): one line per item.

A sample is ``DDDD±EE``, nine bytes with its line end. An edge of the D7 input is a line
between two samples; its place in the stream is its only time (± one sample).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from drivers.lpm01a.framing import Framer
from drivers.lpm01a.stamp_check import SAMPLES_PER_STAMP, Quantity
from labd.core.model import StreamItem
from labd.protocol.lines import format_quote

MAX_LINE = 4096

_STAMP = re.compile(rb"TimeStamp:[ <>]*(\d{3,})s[ <>]+(\d{3})ms, buff[ <>]+(\d{1,3})%")
_EVENT = re.compile(rb"event (\d\d) ris")
_RECORD = np.dtype(  # DDDD±EE\r\n as pairs of characters, each a table index
    {
        "names": ["high", "low", "sign", "power", "end"],
        "formats": ["<u2", "<u2", "u1", "<u2", "<u2"],
        "offsets": [0, 2, 4, 5, 7],
        "itemsize": 9,
    }
)
_LINE_END = int.from_bytes(b"\r\n", "little")


def _make_digit_table() -> NDArray[np.float64]:
    """Return the number of two digits read as a little-endian word; NaN if they are no digits."""
    pairs = np.full(1 << 16, np.nan)
    for number in range(100):
        pairs[int.from_bytes(b"%02d" % number, "little")] = number
    return pairs


_PAIRS = _make_digit_table()
_SCALES = 10.0**_PAIRS


def parse_samples(records: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the numbers of sample records, NaN for what is none; shape (n,).

    With a negative exponent it is exactly the number that ``float`` reads.
    """
    mantissa = _PAIRS.take(records["high"]) * 100 + _PAIRS.take(records["low"])
    scale = _SCALES.take(records["power"])
    minus = records["sign"] == ord("-")
    values = mantissa / scale
    if not minus.all():
        values = np.where(minus, values, mantissa * scale)
        values[~minus & (records["sign"] != ord("+"))] = np.nan
    values[records["end"] != _LINE_END] = np.nan
    return values


class AsciiFramer(Framer):
    """The framing of text.

    A stamp's seconds have three digits and begin again after 999 (with a mark in place of a
    blank). The instrument calls every event ``ris``; with ``eventsrc d7 fal`` the edges fall.
    """

    stamp_wrap_ms = 1_000_000

    def __init__(self, rate_hz: int, quantity: Quantity, set_mv: int | None = None) -> None:
        super().__init__(rate_hz, quantity, set_mv)
        self._in_summary = False
        self._last_event: int | None = None

    def feed(self, data: bytes) -> list[StreamItem]:
        """See :class:`Framer`; a zero byte may lead the sample after a stamp."""
        return super().feed(data.replace(b"\0", b""))

    def _consume_item(self, position: int) -> int:
        buffer = self._buffer
        whole = min((len(buffer) - position) // _RECORD.itemsize, SAMPLES_PER_STAMP)
        if whole and buffer[position : position + 1].isdigit():
            values = parse_samples(np.frombuffer(buffer, _RECORD, whole, position))
            plausible = values <= self._ceiling  # NaN is not
            if run := whole if plausible.all() else int(plausible.argmin()):
                self.check.add_samples(values[:run])
                return run * _RECORD.itemsize
        end = buffer.find(b"\n", position, position + MAX_LINE)
        if end >= 0:
            self._take_line(buffer[position:end].strip(b"\r"))
            return end + 1 - position
        if len(buffer) - position < MAX_LINE:
            return 0
        self._take_line(buffer[position : position + MAX_LINE])
        return MAX_LINE

    def _take_line(self, line: bytes) -> None:
        if self._take_reply(line):
            return
        if self._in_summary or line == b"summary beg":
            self._in_summary = line != b"summary end"
        elif stamp := _STAMP.fullmatch(line):
            now_ms = (int(stamp[1]) * 1000 + int(stamp[2])) % self.stamp_wrap_ms
            self.check.add_stamp(now_ms, int(stamp[3]))
        elif event := _EVENT.fullmatch(line):
            self._take_event(int(event[1]))
        elif line == b"pwr off":
            self.check.add_power_loss("the DUT's power was switched off")
        elif line not in (b"", b"end", b"pwr on"):
            quote = format_quote(line.decode("ascii", "replace"))
            self.check.add_damage(f"a damaged line: {quote}")

    def _take_event(self, number: int) -> None:
        last, self._last_event = self._last_event, number
        if last is not None and number != (last + 1) % 100:
            why = f"event {number:02d} after {last:02d}: one is missing"
            self.check.reject_block(why)
        self.check.add_edge()
