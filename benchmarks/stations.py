"""Number of 100 kS/s power monitors that one daemon records on one core without a lost sample.

python benchmarks/stations.py [STATIONS] [SECONDS]

Sixteen simulated PPK2s stream 100 000 samples per second each through pseudo-terminals, from
another process. The drivers, the recording, the trace files with their pyramids and the live
frames run here as in labd, in one event loop pinned to one core. The core time of a plain Python
decoder is measured in the same run; it is only one step of the chain, and a simpler one:
ppk2_decoder.py compares the decoders.
"""

from __future__ import annotations

import asyncio
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from drivers.ppk2.driver import Ppk2, Ppk2Config
from labd.core.model import Gap, Samples
from labd.daemon.run_recorder import RunEvidence

STATIONS = 16
SECONDS = 20.0
RATE_HZ = 100_000
PLAIN_SAMPLES = 300_000

PRODUCER = """
import asyncio, json, sys
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.ppk2.device import SimulatedPpk2
from labd.simulation.virtual_time import LoopAgenda

async def main(count):
    cables = [PtyCable(SimulatedPpk2(LoopAgenda(real_time=True))) for _ in range(count)]
    print(json.dumps([cable.path for cable in cables]), flush=True)
    await asyncio.gather(*(cable.device.stream_by_wall_clock() for cable in cables))

asyncio.run(main(int(sys.argv[1])))
"""


@dataclass
class Tally:
    """Samples received from one station."""

    samples: int = 0
    lost: int = 0
    reason: str = ""


async def measure(path: str, folder: Path, begun: asyncio.Barrier, seconds: float) -> Tally:
    """Acquire from one station, write its trace and count samples."""
    monitor, tally = Ppk2(Ppk2Config(port=path)), Tally()
    identity = await monitor.open()
    try:
        await monitor.set_dut_supply(3000)
        await begun.wait()
        async with AsyncExitStack() as stack:
            evidence = RunEvidence(folder)
            trace = await stack.enter_async_context(
                evidence.open_trace("energy", monitor.stream_format, identity)
            )
            async with monitor.acquire() as acquisition:
                counting = asyncio.create_task(_count(acquisition, trace, tally))
                await asyncio.sleep(seconds)
            await counting
    finally:
        await monitor.close()
    return tally


async def _count(acquisition, trace, tally: Tally) -> None:  # noqa: ANN001 - the drivers' own
    async for item in acquisition:
        await trace.write([item])
        if isinstance(item, Samples):
            tally.samples += len(item)
        elif isinstance(item, Gap):
            tally.lost += item.count
            tally.reason = item.reason


def plain_core_s() -> float:
    """Return the core time of a plain loop per decoded sample, in seconds."""
    words = struct.pack(
        f"<{PLAIN_SAMPLES}I", *(1000 | (k % 64) << 18 for k in range(PLAIN_SAMPLES))
    )
    start, total, expected = time.process_time(), 0.0, 0
    for (word,) in struct.iter_unpack("<I", words):
        counter = word >> 18 & 63
        if counter == expected:
            reading = (word & 0x3FFF) * 4 * 1.8 / 163840 / 10.15
            total += reading * 3.0
        expected = (expected + 1) & 63
    return (time.process_time() - start) / PLAIN_SAMPLES


async def run(paths: list[str], seconds: float) -> None:
    """Measure on all stations at once and print the result."""
    begun = asyncio.Barrier(len(paths))
    with tempfile.TemporaryDirectory() as folder:
        before, wall = _core_s(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(measure(path, Path(folder) / str(number), begun, seconds))
                for number, path in enumerate(paths)
            ]
        spent, wall = _core_s() - before, time.perf_counter() - wall
    tallies = [task.result() for task in tasks]
    samples = sum(tally.samples for tally in tallies)
    lost = sum(tally.lost for tally in tallies)
    each, plain = spent / samples, plain_core_s()
    print(f"{len(paths)} stations, {samples / 1e6:.1f} M samples in {wall:.1f} s on one core")
    print(f"samples lost: {lost}", *{tally.reason for tally in tallies if tally.reason})
    print(f"core time per sample, labd: all of the chain        {each * 1e9:8.1f} ns")
    print(f"core time per sample, plain Python: decoding only   {plain * 1e9:8.1f} ns")
    print(f"labd's chain takes {each / plain:.1f} times as long as that decoder")
    print(f"the core was busy {spent / wall:.0%} of the time")


def _core_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    import json  # noqa: PLC0415 - only here

    stations = int(sys.argv[1]) if len(sys.argv) > 1 else STATIONS
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS  # noqa: PLR2004 - an argument
    cores = sorted(os.sched_getaffinity(0))
    producer = subprocess.Popen(
        [sys.executable, "-c", PRODUCER, str(stations)], stdout=subprocess.PIPE, text=True
    )
    try:
        if len(cores) > 1:
            os.sched_setaffinity(producer.pid, set(cores[1:]))
            os.sched_setaffinity(0, {cores[0]})
        paths = json.loads(producer.stdout.readline() if producer.stdout else "[]")
        asyncio.run(run(paths, seconds))
    finally:
        producer.terminate()
        producer.wait()


if __name__ == "__main__":
    main()
