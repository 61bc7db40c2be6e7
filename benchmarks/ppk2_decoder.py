"""Samples per second of the PPK2 decoder, beside a plain Python decoder of the same bytes.

Both convert, smooth the samples after a change of range, find the edges of D0 and follow the
counter. labd also withholds every sample until it is confirmed, with and without the host clock.

python benchmarks/ppk2_decoder.py
"""

import time
from collections.abc import Callable

import numpy as np

from drivers.ppk2.calibration import TYPICAL, current_table
from drivers.ppk2.converter import WordMeaning
from drivers.ppk2.stream import RATE_HZ, RULES, StreamDecoder
from labd.core.count_monitor import CountMonitor
from labd.core.model import Edge, Gap, Samples

SECONDS = 40
PLAIN_SECONDS = 4
VOLT = 3.0
BUSY = 300
PULSE = 400
CHUNKS = {"4 KiB reads": 4096, "64 KiB reads": 65_536}


def stream() -> bytes:
    """Return a busy DUT: 200 range changes and 4 edges of the timestamp line per second."""
    count = SECONDS * RATE_HZ
    random = np.random.default_rng(1)
    places = np.arange(count)
    adc = random.integers(2000, 9000, count)
    ranges = 2 + (places % 1000 < BUSY)
    counters = places % 64
    low = places % 50_000 < PULSE
    words = adc | ranges << 14 | counters << 18 | np.logical_not(low) << 24
    return words.astype("<u4").tobytes()


def ours(data: bytes, chunk: int, *, clock: bool) -> tuple[int, int]:
    """Return the samples and edges that the driver's decoder confirms."""
    table = current_table(TYPICAL, VOLT)
    meaning = WordMeaning(table, VOLT, spike_filter=True, lines=(0,), timestamp_line=0)
    decoder = StreamDecoder(meaning, CountMonitor(RULES) if clock else None)
    samples = edges = 0
    for at in range(0, len(data), chunk):
        part = data[at : at + chunk]
        t_ns = (at + len(part)) // 4 * 10_000
        items = decoder.feed(part, t_ns)
        if at + chunk >= len(data):
            items = [*items, *decoder.finish("", orderly=True)]
        for item in items:
            assert not isinstance(item, Gap)
            samples += len(item) if isinstance(item, Samples) else 0
            edges += isinstance(item, Edge)
    return samples, edges


def plain(data: bytes) -> tuple[int, int]:
    """Return the samples and edges that a loop over words finds."""
    r, gs, gi, o, s, i, ug = (TYPICAL[name] for name in TYPICAL)
    power: list[float] = []
    edges, expected, level = 0, 0, 1
    mean = slow = None
    last, after, settled = -1, 0, 0
    for at in range(0, len(data), 4):
        word = int.from_bytes(data[at : at + 4], "little")
        n = min(word >> 14 & 7, 4)
        w = (4 * (word & 0x3FFF) - o[n]) * (1.8 / 163840 / r[n])
        value = ug[n] * (w * (gs[n] * w + gi[n]) + s[n] * VOLT + i[n])
        before = mean, slow
        mean = value if mean is None else 0.18 * value + 0.82 * mean
        slow = value if slow is None else 0.06 * value + 0.94 * slow
        if last not in (-1, n):
            after, settled = 3, 0
        elif after:
            settled += 1
        if after:
            after -= 1
            if n == 4 and settled < 2:  # noqa: PLR2004 - the first two samples
                mean, slow = before
            value = slow if n == 4 else mean  # noqa: PLR2004 - the top range
        last = n
        if word >> 18 & 63 != expected:
            raise ValueError(at)
        expected = (expected + 1) & 63
        if word >> 24 & 1 != level:
            level ^= 1
            edges += 1
        power.append(value * VOLT)
    return len(power), edges


def speed(decode: Callable[[bytes], tuple[int, int]], data: bytes) -> float:
    """Return the best of three runs, in samples per second of core time."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        count, edges = decode(data)
        best = min(best, time.process_time() - start)
        assert count == len(data) // 4
        assert edges >= count // 50_000 * 2 - 1
    return count / best


def main() -> None:
    data = stream()
    slowest = speed(plain, data[: 4 * PLAIN_SECONDS * RATE_HZ])
    print(f"PPK2, plain Python, one by one           : {slowest / 1e6:7.2f} M samples/s")
    for name, chunk in CHUNKS.items():
        for clock in (False, True):
            rate = speed(lambda part, c=chunk, k=clock: ours(part, c, clock=k), data)
            what = f"{name}, {'host clock' if clock else 'counter only'}"
            print(f"PPK2, labd, {what:29}: {rate / 1e6:7.2f} M samples/s, x {rate / slowest:.0f}")


if __name__ == "__main__":
    main()
