"""Samples per second of trace files: writing, summaries, sixteen stations at once, on one core.

python benchmarks/traces.py
"""

import asyncio
import math
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from labd.core.model import Identity, Samples, StreamFormat
from labd.daemon.trace_writer import open_trace
from labd.store.traces.reader import read_trace
from labd.store.traces.writer import TraceFile
from labd.wire.frames import FrameMaker

FORMAT = StreamFormat(100_000.0, 0.0, 0.0, "power")
WHO = Identity("power", "benchmark")
SAMPLES = 10_000_000
CHUNK = 10_000
PLAIN_SAMPLES = 500_000
POINTS = 2000
NODE = 64
STATIONS = 16
STATION_S = 5.0
STATION_CHUNK = 2_000


def best(work: Callable[[], object], rounds: int) -> float:
    """Return the shortest time, in seconds."""
    fastest = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def write_ours(path: Path, power: np.ndarray) -> None:
    """Write samples, hash and pyramid, and make frames for live plots."""
    frames = FrameMaker(1, 0, FORMAT.sample_rate_hz)
    with TraceFile(path, FORMAT, WHO, watch=frames.add_samples) as file:
        for at in range(0, SAMPLES, CHUNK):
            file.write_items([Samples(at, power)])
            frames.take_frame()


def write_plain(path: Path, power: list[float]) -> None:
    """Write the same samples and the first level of a pyramid in a plain loop."""
    pack = struct.Struct("<f").pack
    with path.open("wb") as file, path.with_suffix(".nodes").open("wb") as nodes:
        total, low, high = 0.0, math.inf, -math.inf
        for number, value in enumerate(power, 1):
            file.write(pack(value))
            total += value
            low = min(low, value)
            high = max(high, value)
            if number % NODE == 0:
                nodes.write(struct.pack("<dffII", total, low, high, NODE, 0))
                total, low, high = 0.0, math.inf, -math.inf


def summarise_plain(power: list[float]) -> list[tuple[float, float, float]]:
    """Return minimum, mean and maximum per point."""
    found: list[tuple[float, float, float]] = []
    for point in range(POINTS):
        some = power[point * len(power) // POINTS : (point + 1) * len(power) // POINTS]
        found.append((min(some), sum(some) / len(some), max(some)))
    return found


async def serve_stations(folder: Path) -> None:
    """Write a chunk per station at the instrument's rate."""

    async def station(number: int) -> None:
        power = np.random.default_rng(number).random(STATION_CHUNK)
        frames = FrameMaker(1, 0, FORMAT.sample_rate_hz)
        path = folder / f"station-{number}"
        start = time.monotonic()
        async with open_trace(path, FORMAT, WHO, frames, lambda _: None) as trace:
            for at in range(0, int(STATION_S * FORMAT.sample_rate_hz), STATION_CHUNK):
                due = start + (at + STATION_CHUNK) / FORMAT.sample_rate_hz
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await trace.write_items([Samples(at, power)])

    async with asyncio.TaskGroup() as tasks:
        for number in range(STATIONS):
            tasks.create_task(station(number))


def show(what: str, ours: float, plain: float) -> None:
    print(f"{what}, labd        : {ours / 1e6:8.2f} M samples/s")
    print(f"{what}, plain Python: {plain / 1e6:8.2f} M samples/s")
    print(f"ratio: {ours / plain:.1f}")


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    power = np.random.default_rng(1).random(CHUNK)
    few = np.random.default_rng(2).random(PLAIN_SAMPLES).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = iter(range(1000))
        ours = best(lambda: write_ours(folder / f"t{next(names)}", power), 3)
        plain = best(lambda: write_plain(folder / "plain", few), 3)
        show("trace writing", SAMPLES / ours, PLAIN_SAMPLES / plain)

        trace = read_trace(folder / "t0")
        warm = best(lambda: trace.summarise_range(POINTS), 20)
        cold = best(lambda: read_trace(folder / "t0").summarise_range(POINTS), 20)
        slow = best(lambda: summarise_plain(few), 3)
        show(f"summary of {POINTS} points", SAMPLES / warm, PLAIN_SAMPLES / slow)
        print(f"summary of {POINTS} points of {SAMPLES / 1e6:g} M samples: {warm * 1e3:.2f} ms,")
        print(f"  including opening and mapping the files: {cold * 1e3:.2f} ms")

        busy, start = time.process_time(), time.perf_counter()
        asyncio.run(serve_stations(folder))
        busy, took = time.process_time() - busy, time.perf_counter() - start
        print(
            f"{STATIONS} traces at {FORMAT.sample_rate_hz / 1e3:g} kS/s each: "
            f"{100 * busy / took:.0f} % of one core, {took - STATION_S:+.2f} s behind at the end"
        )


if __name__ == "__main__":
    main()
