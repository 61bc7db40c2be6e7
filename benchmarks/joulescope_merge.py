"""Samples per second of the Joulescope aligner, beside a loop over the same samples.

python benchmarks/joulescope_merge.py
"""

import time
from typing import Any

import numpy as np

from drivers.joulescope.aligner import TICK_HZ, MessageAligner
from labd.core.errors import Where
from labd.core.model import Edge, Samples

SECONDS = 4
ANALOG_VALUES = 15_500  # per message of current or voltage, as in the library
LINE_BYTES = 12_500
EDGES = 20

Message = tuple[str, dict[str, Any]]


def messages() -> list[Message]:
    """Return an acquisition of a JS220: 1 MS/s of current and voltage, 2 MS/s of one input."""
    rng = np.random.default_rng(1)
    count = SECONDS * TICK_HZ // 2
    current = rng.normal(0.01, 0.002, count).astype(np.float32)
    voltage = rng.normal(3.0, 0.001, count).astype(np.float32)
    level = np.ones(2 * count, np.uint8)
    for edge in range(EDGES):
        at = (2 * edge + 1) * count // EDGES
        level[at : at + 8000] = 0
    packed = np.packbits(level, bitorder="little")
    out: list[tuple[int, Message]] = []
    for name, data, size, ticks in (
        ("i", current, ANALOG_VALUES, 2),
        ("v", voltage, ANALOG_VALUES, 2),
        ("gpi0", packed, LINE_BYTES, 8),
    ):
        for at in range(0, len(data), size):
            part = data[at : at + size]
            fields = {
                "sample_id": at * ticks,
                "decimate_factor": 1 if name == "gpi0" else 2,
                "sample_rate": TICK_HZ,
                "time_map": {"offset_time": 1, "offset_counter": 0, "counter_rate": 2e6},
                "data": part,
            }
            out.append(((at + len(part)) * ticks, (name, fields)))
    return [one for _, one in sorted(out, key=lambda pair: pair[0])]


def ours(stream: list[Message], rate_hz: int) -> tuple[int, int]:
    """Return the number of the instrument's samples and of the edges."""
    aligner = MessageAligner(rate_hz, ("gpi0",), "gpi0", 0, Where())
    items = [item for name, fields in stream for item in aligner.feed(name, fields)]
    items += aligner.finish()
    per_sample = TICK_HZ // 2 // rate_hz
    samples = sum(len(item) for item in items if isinstance(item, Samples))
    return samples * per_sample, sum(isinstance(item, Edge) for item in items)


def plain(stream: list[Message], rate_hz: int) -> tuple[int, int]:
    """Return the same by a dictionary of ticks and a plain loop."""
    current: dict[int, float] = {}
    voltage: dict[int, float] = {}
    level, edges, samples, total = 1, 0, 0, 0.0
    per_sample = TICK_HZ // 2 // rate_hz
    powers: list[float] = []
    for name, fields in stream:
        at = fields["sample_id"]
        if name == "gpi0":
            for byte in fields["data"].tolist():
                for bit in range(8):
                    now = byte >> bit & 1
                    edges += now != level
                    level = now
            continue
        mine, other = (current, voltage) if name == "i" else (voltage, current)
        for value in fields["data"].tolist():
            if at in other:
                total += other.pop(at) * value
                samples += 1
                if samples % per_sample == 0:
                    powers.append(total / per_sample)
                    total = 0.0
            else:
                mine[at] = value
            at += 2
    return len(powers) * per_sample, edges


def main() -> None:
    stream = messages()
    wanted = (SECONDS * TICK_HZ // 2, 2 * EDGES)
    for rate_hz in (10_000, 1_000_000):
        speed: dict[str, float] = {}
        for name, merge in (("labd", ours), ("plain Python", plain)):
            best = float("inf")
            for _ in range(3):
                start = time.perf_counter()
                found = merge(stream, rate_hz)
                best = min(best, time.perf_counter() - start)
            assert found == wanted, (name, found)
            speed[name] = found[0] / best
            text = f"Joulescope 1 MS/s to {rate_hz / 1000:4.0f} kS/s, {name:12}"
            print(f"{text}: {speed[name] / 1e6:7.2f} M samples/s")
        print(f"ratio: {speed['labd'] / speed['plain Python']:.0f}")


if __name__ == "__main__":
    main()
