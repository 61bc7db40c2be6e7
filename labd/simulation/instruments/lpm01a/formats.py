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

    def begin(self) -> bytes:
        """Return nothing: ASCII has no start record."""
        return b""

    def sample(self, value: float) -> bytes:
        """Return a sample as ``DDDD±EE``."""
        nul, self._after_stamp = (b"\0" if self._after_stamp else b""), False
        return nul + decimal(value) + b"\r\n"

    def samples(self, values: NDArray[np.float64]) -> bytes:
        """Return one line per sample."""
        return b"".join(map(self.sample, values.tolist()))

    def stamp(self, time_ms: int, load_percent: int) -> bytes:
        """Three digits of seconds; beyond 999 s they start again and ``>`` replaces the blank."""
        self._after_stamp = True
        seconds, milliseconds = divmod(time_ms, 1000)
        blank = " " if seconds < _SECONDS_SHOWN else ">"
        seconds %= _SECONDS_SHOWN
        text = f"TimeStamp:{blank}{seconds:03d}s {milliseconds:03d}ms, buff {load_percent:02d}%"
        return b"\r\n" + text.encode() + b"\r\n"

    def event(self, number: int) -> bytes:
        """``event NN ris``, whichever edge the instrument is set to mark."""
        return f"event {number % 100:02d} ris\r\n".encode()

    def power(self, *, on: bool) -> bytes:
        """``pwr on`` or ``pwr off``."""
        return b"\r\npwr on\r\n" if on else b"\r\npwr off\r\n"

    def power_down(self) -> bytes:
        """``pwr off``: no other line is known."""
        return self.power(on=False)

    def record(self, kind: int, payload: bytes) -> bytes:
        """Return nothing: ASCII has no such records."""
        del kind, payload
        return b""

    def overcurrent(self, text: str) -> bytes:
        """Return an overcurrent report: the line of an error."""
        return self.error(text)

    def error(self, text: str) -> bytes:
        """``error`` and what happened."""
        return f"\r\nerror {text}\r\n".encode()

    def end(self) -> bytes:
        """``end``."""
        return b"\r\nend\r\n"


class BinaryHexa:
    """``bin_hexa``: one big-endian word per sample, records ``F0 Fx … FF FF`` between them.

    No record for an edge on D7 is documented, so there is none here.
    """

    def begin(self) -> bytes:
        """A stamp at 0 ms: the words are aligned behind it."""
        return self.stamp(0, 0)

    def samples(self, values: NDArray[np.float64]) -> bytes:
        """Four bits p, twelve bits v, for v·16^-p."""
        return hexadecimal(values)

    def stamp(self, time_ms: int, load_percent: int) -> bytes:
        """31 bits of milliseconds; beyond them they start again and the top bit is set."""
        over, time_ms = divmod(time_ms, 1 << _TIME_BITS)
        word = time_ms | bool(over) << _TIME_BITS
        return self.record(0xF3, word.to_bytes(4) + bytes((load_percent,)))

    def event(self, number: int) -> bytes:
        """Nothing."""
        del number
        return b""

    def power(self, *, on: bool) -> bytes:
        """F9."""
        return self.record(0xF9, bytes((on,)))

    def record(self, kind: int, payload: bytes = b"") -> bytes:
        """F0, the kind, the payload, FF FF."""
        return bytes((0xF0, kind)) + payload + b"\xff\xff"

    def power_down(self) -> bytes:
        """F6."""
        return self.record(0xF6)

    def overcurrent(self, text: str) -> bytes:
        """F5; it has no text."""
        del text
        return self.record(0xF5)

    def error(self, text: str) -> bytes:
        """F1 and what happened."""
        return self.record(0xF1, text.encode("ascii", "replace") + b"\r\n")

    def end(self) -> bytes:
        """F4."""
        return self.record(0xF4)


SampleFormat = AsciiDecimal | BinaryHexa


def decimal(value: float) -> bytes:
    """Four significant digits and a power of ten: 640.9 µA is ``6409-07``."""
    if value <= 0:
        return b"0000-09"
    text = f"{value:.3e}"
    return f"{text[0]}{text[2:5]}{int(text[6:]) - 3:+03d}".encode()


def hexadecimal(values: NDArray[np.float64]) -> bytes:
    """Twelve bits and a negative power of sixteen each, nearest: 640.9 µA is ``52 A0``."""
    positive = np.maximum(values, 16.0**-_TOP_POWER / 2)
    power = np.clip(np.floor(np.log2(_LARGEST / positive) / 4), 0, _TOP_POWER)
    mantissa = np.rint(np.maximum(values, 0.0) * 16.0**power)
    words = (power * 4096 + np.minimum(mantissa, _LARGEST)).astype(">u2")
    return words.tobytes()
