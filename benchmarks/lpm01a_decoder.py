"""Samples per second of the LPM01A's decoders, each beside a plain Python decoder of its bytes.

python benchmarks/lpm01a_decoder.py
"""

import time
from collections.abc import Callable

from drivers.lpm01a.ascii_framer import AsciiFramer
from drivers.lpm01a.binary_framer import BinaryFramer
from drivers.lpm01a.framing import Framer
from drivers.lpm01a.stamp_check import Quantity
from labd.core.model import Samples

ASCII_HZ = 1000
BINARY_HZ = 100_000
STAMPS = 500
CHUNK = 65_536


def ascii_stream() -> bytes:
    """Return an acquisition in ASCII: energies, and a time stamp per 1000 samples."""
    parts = [b"\r\nTimeStamp: 000s 000ms, buff 00%\r\n"]
    for second in range(STAMPS):
        parts.extend(b"%04d-08\r\n" % (1000 + (7 * k + second) % 8000) for k in range(1000))
        parts.append(b"\r\nTimeStamp: %03ds 000ms, buff 00%%\r\n" % (second + 1))
    return b"".join(parts)


def binary_stream() -> bytes:
    """Return an acquisition in binary at full rate: 1 to 64 mA, a time stamp per 10 ms."""
    parts = [b"\xf0\xf3\0\0\0\0\0\xff\xff"]
    for stamp in range(1, STAMPS + 1):
        words = (0x3000 | (16 + (7 * k + stamp) % 256) for k in range(1000))
        parts.append(b"".join(word.to_bytes(2) for word in words))
        parts.append(b"\xf0\xf3" + (10 * stamp).to_bytes(4) + b"\0\xff\xff")
    return b"".join(parts)


def confirmed(decoder: Framer, data: bytes) -> int:
    """Return the samples that the driver's decoder confirms."""
    items = [
        item for at in range(0, len(data), CHUNK) for item in decoder.feed(data[at : at + CHUNK])
    ]
    return sum(len(item) for item in items if isinstance(item, Samples))


def our_ascii(data: bytes) -> int:
    quantity = Quantity(float(ASCII_HZ), is_current=False)
    return confirmed(AsciiFramer(ASCII_HZ, quantity), data)


def our_binary(data: bytes) -> int:
    quantity = Quantity(3.0, is_current=True)
    return confirmed(BinaryFramer(BINARY_HZ, quantity), data)


def plain_ascii(data: bytes) -> int:
    """Return the samples that a loop over lines finds."""
    values: list[float] = []
    for line in data.split(b"\r\n"):
        if line[:1].isdigit():
            mantissa, exponent = line.decode().split("-")
            values.append(int(mantissa) * 10.0 ** -int(exponent))
    return len(values)


def plain_binary(data: bytes) -> int:
    """Return the samples that a loop over pairs of bytes finds."""
    values: list[float] = []
    at = 0
    while at < len(data):
        word = int.from_bytes(data[at : at + 2])
        if word == 0xF0F3:  # noqa: PLR2004 - a time stamp of nine bytes
            at += 9
            continue
        values.append((word & 0xFFF) * 16.0 ** -(word >> 12))
        at += 2
    return len(values)


def compare(name: str, data: bytes, decoders: dict[str, Callable[[bytes], int]]) -> None:
    speed: list[float] = []
    for who, decode in decoders.items():
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            count = decode(data)
            best = min(best, time.perf_counter() - start)
        assert count == 1000 * STAMPS, (name, who, count)
        speed.append(count / best)
        print(f"LPM01A {name}, {who:12}: {speed[-1] / 1e6:6.2f} M samples/s")
    print(f"LPM01A {name}, ratio: {speed[0] / speed[1]:.1f}")


def main() -> None:
    compare("ASCII ", ascii_stream(), {"labd": our_ascii, "plain Python": plain_ascii})
    compare("binary", binary_stream(), {"labd": our_binary, "plain Python": plain_binary})


if __name__ == "__main__":
    main()
