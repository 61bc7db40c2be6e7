"""Framing of the LPM01A's format ``bin_hexa`` (UM2269 chapter 4): two bytes per sample.

A sample is big-endian: four bits p, twelve bits v, worth v·16^-p. Since p is 15 in no sample,
neither ``F0 Fx`` nor ``FF FF`` can stand anywhere in whole samples, whatever their alignment:
they begin and end every record of metadata, so a record is found, and samples are aligned
again behind it, even after a lost byte. Records are taken by their length, because their
payload may hold anything. Replies to commands are text between samples; they differ from
samples by the prompt they begin with, whose line end would be a sample of 3338 A.

A lost and a doubled byte between the same two stamps cancel in the count, and all samples
between them are read one byte off (:mod:`drivers.lpm01a.byte_slip`). Such a stretch is detected
where it exceeds what the instrument measures, and where the current hardly varies. Not
detected: a flipped bit that leaves a value the instrument can measure; two of these bytes next
to each other (some ten samples); a stretch whose current changes its level, or whose two bytes
are nearly the same number.
"""

from __future__ import annotations

import re

import numpy as np

from drivers.lpm01a.framing import Framer
from drivers.lpm01a.stamp_check import Quantity

MAX_TEXT = 512
MAX_UNKNOWN = 16

_ERROR, _INFO, _STAMP, _END, _OVERCURRENT, _POWER_DOWN, _VOLTAGE, _TEMPERATURE, _POWER = range(
    0xF1, 0xFA
)
_LENGTHS = {
    _STAMP: 9,
    _END: 4,
    _OVERCURRENT: 4,
    _POWER_DOWN: 4,
    _VOLTAGE: 6,
    _TEMPERATURE: 6,
    _POWER: 5,
}
_TERMINATOR = b"\xff\xff"
_FIRST = 0xF0
_PROMPT = b"\r\nPowerShield > "
_BARE_PROMPT = _PROMPT.lstrip()
_RECORD = re.compile(rb"\xf0[\xf1-\xff]")
_NOT_TEXT = re.compile(rb"[^\t\r\n -~]")


def _make_value_table() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the exact value of every pair of bytes, by the pair read as a little-endian number.

    NaN where p = 15, which is metadata.
    """
    first, second = np.arange(1 << 16) & 0xFF, np.arange(1 << 16) >> 8
    power = first >> 4
    values = ((first & 15) << 8 | second) * 16.0**-power
    values[power == 15] = np.nan  # noqa: PLR2004
    return values


_VALUES = _make_value_table()


class BinaryFramer(Framer):
    """The framing of binary data, which has no edges.

    Before the first record and after the end mark the stream is text.
    """

    stamp_wrap_ms = 1 << 31  # bit 31: the rest has begun again

    def __init__(self, rate_hz: int, quantity: Quantity, set_mv: int | None = None) -> None:
        super().__init__(rate_hz, quantity, set_mv)
        self._values = np.where(self._ceiling >= _VALUES, _VALUES, np.nan)
        self._streaming = False
        self._ended = False

    def _consume_item(self, position: int) -> int:
        if self._streaming:
            return self._consume_stream(position)
        return self._consume_text(position)

    def _on_completed(self) -> None:
        if self._streaming:
            self.check.reject_block("the end of the stream is missing")
        super()._on_completed()

    # ---- text around the stream -----------------------------------------------------------

    def _consume_text(self, position: int) -> int:
        buffer = self._buffer
        end = buffer.find(b"\n", position, position + MAX_TEXT)
        if not self._ended:
            first = buffer.find(_FIRST, position, position + MAX_TEXT if end < 0 else end)
            if first >= 0:
                self._streaming = True
                return self._consume_stream(first) + first - position
        if end >= 0:
            self._take_reply(buffer[position:end].strip(b"\r\0"))
            return end + 1 - position
        return MAX_TEXT if len(buffer) - position >= MAX_TEXT else 0

    # ---- samples --------------------------------------------------------------------------

    def _consume_stream(self, position: int) -> int:
        start = self._next_record(position)
        if start == position:
            return self._take_record(position)
        end = self._end_before_partial_record(position) if start is None else start
        count = (end - position) // 2
        if count:
            values = self._values.take(np.frombuffer(self._buffer, "<u2", count, position))
            self.check.add_samples(values, self._buffer[position : position + 2 * count])
        if start is None or (end - position) % 2 == 0:
            return count * 2
        self.check.reject_block("an odd number of bytes between two records")
        return end - position

    def _next_record(self, position: int) -> int | None:
        """Return where the next record or reply begins, ``None`` if not in these bytes."""
        buffer = self._buffer
        found = _RECORD.search(buffer, position)
        record = found.start() if found else None
        reply = buffer.find(_BARE_PROMPT, position, record)
        if reply < 0:
            return record
        line_end = reply - 2
        return line_end if buffer.startswith(b"\r\n", max(line_end, position)) else reply

    def _end_before_partial_record(self, position: int) -> int:
        """Return up to where the buffer's end cannot be the beginning of a record."""
        buffer = self._buffer
        if buffer[-1:] == b"\xf0":
            return len(buffer) - 1
        for length in range(min(len(_PROMPT), len(buffer) - position), 0, -1):
            tail = buffer[-length:]
            if _PROMPT.startswith(tail) or _BARE_PROMPT.startswith(tail):
                return len(buffer) - length
        return len(buffer)

    # ---- records between them ---------------------------------------------------------------

    def _take_record(self, position: int) -> int:
        """Take a record or a reply; return its length, 0 if it is not whole."""
        buffer, body = self._buffer, position + 2
        if buffer[position] != _FIRST:
            end = self._text_record_end(body, b"\r\n\r\n")
        elif (kind := buffer[position + 1]) in _LENGTHS:
            end = self._fixed_record_end(position, _LENGTHS[kind])
        elif kind in (_ERROR, _INFO):
            end = self._text_record_end(body, _TERMINATOR)
        else:
            end = self._unknown_record_end(body)
        if end is None:
            return 0
        if end < 0:
            self.check.add_damage("a damaged record")
            return 1
        self._take_complete_record(self._buffer[position:end])
        return end - position

    def _fixed_record_end(self, position: int, length: int) -> int | None:
        """Return where a record of this length ends, -1 if it is none, ``None`` if not known."""
        record = self._buffer[position : position + length]
        if len(record) < length:
            return None
        plausible = record[1] != _STAMP or record[6] <= 100  # noqa: PLR2004 - per cent
        return position + length if plausible and record.endswith(_TERMINATOR) else -1

    def _text_record_end(self, body: int, terminator: bytes) -> int | None:
        """Return the end of a text record, -1 if invalid, ``None`` if incomplete."""
        buffer, limit = self._buffer, body + MAX_TEXT
        end = buffer.find(terminator, body, limit)
        strange = _NOT_TEXT.search(buffer, body, limit)
        if strange and (end < 0 or strange.start() < end):
            half = strange.start() == len(buffer) - 1 and terminator.startswith(strange[0])
            return None if half else -1
        if end < 0:
            return None if len(buffer) < limit else -1
        return end + len(terminator)

    def _unknown_record_end(self, body: int) -> int | None:
        """Return the end of a record of a reserved kind, -1 if invalid, ``None`` if incomplete."""
        end = self._buffer.find(_TERMINATOR, body, body + MAX_UNKNOWN)
        if end < 0:
            return None if len(self._buffer) < body + MAX_UNKNOWN else -1
        return end + len(_TERMINATOR)

    def _take_complete_record(self, record: bytes) -> None:
        if record[0] != _FIRST:
            for line in record.split(b"\r\n"):
                self._take_reply(line)
        else:
            self._take_metadata(record[1], record)

    def _take_metadata(self, kind: int, record: bytes) -> None:
        check = self.check
        if kind == _STAMP:
            check.add_stamp(int.from_bytes(record[2:6]) % self.stamp_wrap_ms, record[6])
        elif kind == _END:
            self._streaming, self._ended = False, True
        elif kind == _OVERCURRENT:
            check.add_power_loss("overcurrent: the DUT drew more than the instrument supplies")
        elif kind == _POWER_DOWN or (kind == _POWER and not record[2]):
            check.add_power_loss("the DUT's power was switched off")
        elif kind == _VOLTAGE:
            check.add_reading(check.notes.note_voltage, int.from_bytes(record[2:4]))
        elif kind == _TEMPERATURE:
            check.add_reading(
                check.notes.note_temperature, int.from_bytes(record[2:4], signed=True)
            )
        elif kind == _ERROR:
            check.add_error(record[2:-2].strip().decode("ascii"))
        elif kind == _INFO:
            check.notes.note_text(record[2:-2].strip().decode("ascii"))
        elif kind != _POWER:
            check.notes.note_text(f"record {record.hex(' ')}, which is unknown")
