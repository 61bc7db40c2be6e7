"""Samples a second of the LPM01A decoder, beside a plain Python decoder of the same bytes.

python benchmarks/lpm01a_decoder.py
"""

import time

from drivers.lpm01a import Quantity, StreamDecoder
from labd.core.model import Samples

RATE_HZ = 1000
SECONDS = 500
CHUNK = 65_536


def stream() -> bytes:
    """An acquisition as the instrument sends it: energies, a stamp every 1000 samples."""
    parts = [b"\r\nTimeStamp: 000s 000ms, buff 00%\r\n"]
    for second in range(SECONDS):
        parts.extend(b"%04d-08\r\n" % (1000 + (7 * k + second) % 8000) for k in range(RATE_HZ))
        parts.append(b"\r\nTimeStamp: %03ds 000ms, buff 00%%\r\n" % (second + 1))
    return b"".join(parts)


def ours(data: bytes) -> int:
    """Samples the driver's decoder confirms."""
    decoder = StreamDecoder(RATE_HZ, Quantity(float(RATE_HZ), is_current=False))
    items = [
        item for at in range(0, len(data), CHUNK) for item in decoder.feed(data[at : at + CHUNK])
    ]
    return sum(len(item) for item in items if isinstance(item, Samples))


def plain(data: bytes) -> int:
    """Samples a loop over lines finds."""
    values: list[float] = []
    for line in data.split(b"\r\n"):
        if line[:1].isdigit():
            mantissa, exponent = line.decode().split("-")
            values.append(int(mantissa) * 10.0 ** -int(exponent))
    return len(values)


def main() -> None:
    data = stream()
    speed: dict[str, float] = {}
    for name, decode in (("labd", ours), ("plain Python", plain)):
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            count = decode(data)
            best = min(best, time.perf_counter() - start)
        assert count == RATE_HZ * SECONDS, (name, count)  # noqa: S101 - same work for both
        speed[name] = count / best
        print(f"LPM01A ASCII, {name:12}: {speed[name] / 1e6:6.2f} M samples/s")
    print(f"ratio: {speed['labd'] / speed['plain Python']:.1f}")


if __name__ == "__main__":
    main()
