"""The LPM01A's samples and marks as bytes, in either of its formats (UM2269)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SECONDS_SHOWN = 1000
_TIME_BITS = 31
_LARGEST = 4095
_TOP_POWER = 14


class AsciiDecimal:
    """``ascii_dec``: a line for everything; the sample after a stamp has a leading NUL."""

    def __init__(self) -> None:
        self._after_stamp = False

    def encode_start(self) -> bytes:
        """Return nothing: ASCII has no start record."""
        return b""

    def encode_sample(self, value: float) -> bytes:
        """Return a sample as ``DDDD±EE``."""
        nul, self._after_stamp = (b"\0" if self._after_stamp else b""), False
        return nul + format_decimal(value) + b"\r\n"

    def encode_samples(self, values: NDArray[np.float64]) -> bytes:
        """Return one line per sample."""
        return b"".join(map(self.encode_sample, values.tolist()))

    def encode_time_stamp(self, time_ms: int, load_percent: int) -> bytes:
        """Three digits of seconds; beyond 999 s they start again and ``>`` replaces the blank."""
        self._after_stamp = True
        seconds, milliseconds = divmod(time_ms, 1000)
        blank = " " if seconds < _SECONDS_SHOWN else ">"
        seconds %= _SECONDS_SHOWN
        text = f"TimeStamp:{blank}{seconds:03d}s {milliseconds:03d}ms, buff {load_percent:02d}%"
        return b"\r\n" + text.encode() + b"\r\n"

    def encode_event(self, number: int) -> bytes:
        """``event NN ris``, whichever edge the instrument is set to mark."""
        return f"event {number % 100:02d} ris\r\n".encode()

    def encode_power_state(self, *, on: bool) -> bytes:
        """``pwr on`` or ``pwr off``."""
        return b"\r\npwr on\r\n" if on else b"\r\npwr off\r\n"

    def encode_power_down(self) -> bytes:
        """``pwr off``: no other line is known."""
        return self.encode_power_state(on=False)

    def encode_record(self, kind: int, payload: bytes) -> bytes:
        """Return nothing: ASCII has no such records."""
        del kind, payload
        return b""

    def encode_overcurrent(self, text: str) -> bytes:
        """Return an overcurrent report: the line of an error."""
        return self.encode_error(text)

    def encode_error(self, text: str) -> bytes:
        """``error`` and what happened."""
        return f"\r\nerror {text}\r\n".encode()

    def encode_end(self) -> bytes:
        """``end``."""
        return b"\r\nend\r\n"


class BinaryHexa:
    """``bin_hexa``: one big-endian word per sample, records ``F0 Fx … FF FF`` between them.

    No record for an edge on D7 is documented, so there is none here.
    """

    def encode_start(self) -> bytes:
        """A stamp at 0 ms: the words are aligned behind it."""
        return self.encode_time_stamp(0, 0)

    def encode_samples(self, values: NDArray[np.float64]) -> bytes:
        """Four bits p, twelve bits v, for v·16^-p."""
        return encode_hexadecimal(values)

    def encode_time_stamp(self, time_ms: int, load_percent: int) -> bytes:
        """31 bits of milliseconds; beyond them they start again and the top bit is set."""
        over, time_ms = divmod(time_ms, 1 << _TIME_BITS)
        word = time_ms | bool(over) << _TIME_BITS
        return self.encode_record(0xF3, word.to_bytes(4) + bytes((load_percent,)))

    def encode_event(self, number: int) -> bytes:
        """Nothing."""
        del number
        return b""

    def encode_power_state(self, *, on: bool) -> bytes:
        """F9."""
        return self.encode_record(0xF9, bytes((on,)))

    def encode_record(self, kind: int, payload: bytes = b"") -> bytes:
        """F0, the kind, the payload, FF FF."""
        return bytes((0xF0, kind)) + payload + b"\xff\xff"

    def encode_power_down(self) -> bytes:
        """F6."""
        return self.encode_record(0xF6)

    def encode_overcurrent(self, text: str) -> bytes:
        """F5; it has no text."""
        del text
        return self.encode_record(0xF5)

    def encode_error(self, text: str) -> bytes:
        """F1 and what happened."""
        return self.encode_record(0xF1, text.encode("ascii", "replace") + b"\r\n")

    def encode_end(self) -> bytes:
        """F4."""
        return self.encode_record(0xF4)


SampleFormat = AsciiDecimal | BinaryHexa


def format_decimal(value: float) -> bytes:
    """Four significant digits and a power of ten: 640.9 µA is ``6409-07``."""
    if value <= 0:
        return b"0000-09"
    text = f"{value:.3e}"
    return f"{text[0]}{text[2:5]}{int(text[6:]) - 3:+03d}".encode()


def encode_hexadecimal(values: NDArray[np.float64]) -> bytes:
    """Twelve bits and a negative power of sixteen each, nearest: 640.9 µA is ``52 A0``."""
    positive = np.maximum(values, 16.0**-_TOP_POWER / 2)
    power = np.clip(np.floor(np.log2(_LARGEST / positive) / 4), 0, _TOP_POWER)
    mantissa = np.rint(np.maximum(values, 0.0) * 16.0**power)
    words = (power * 4096 + np.minimum(mantissa, _LARGEST)).astype(">u2")
    return words.tobytes()
