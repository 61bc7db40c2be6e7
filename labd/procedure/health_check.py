"""Health check of a station: known answers of the built-in benchmark.

The built-in firmware is flashed and classifies some labelled images; most of them must be
right (the network itself misses a few). If the station has no flasher, or labd has no built-in
firmware for its board, it only has to answer ``name``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from labd.core.errors import JobError
from labd.core.model import Build, Finding, Mode
from labd.core.suite import find_benchmark
from labd.procedure.dataset import Dataset, find_dataset
from labd.station.dut import Dut
from labd.station.open_station import StationBench

KNOWN = "digits01"
NOT_HERE = {"dataset-missing", "firmware-missing"}
"""The lab may lack the built-in benchmark; every other error is a fault of the station."""

KNOWN_IMAGES = 10
KNOWN_RIGHT = 8
"""Guessing gets 8 or more of 10 right with a probability below 1e-6."""

ANSWER_DEADLINE_S = 30.0


async def check_station(bench: StationBench, datasets: Sequence[Path]) -> list[Finding]:
    """Check an open station; serious findings keep it out of service.

    Raises:
        LabdError: a part failed during the check.
    """
    findings = await bench.self_check()
    if not bench.can_flash:
        await bench.identify_any_build()
        return findings
    try:
        dataset = await asyncio.to_thread(
            find_dataset, datasets, find_benchmark(KNOWN), (Mode.ACCURACY,)
        )
        ready = await bench.prepare_dut(Build.PERFORMANCE)
    except JobError as error:
        if error.code not in NOT_HERE:
            raise
        await bench.identify_any_build()
        note = f"no known-answer check: {error}"
        return [*findings, Finding("no-known-answer", note, serious=False)]
    right = await _count_right(ready.dut, dataset)
    if right < KNOWN_RIGHT:
        text = f"{KNOWN}: {right} of {KNOWN_IMAGES} known answers were right"
        findings.append(
            Finding("known-answer", text, "the board computes wrong results: replace it")
        )
    return findings


async def _count_right(dut: Dut, dataset: Dataset) -> int:
    """Count the images that the board classifies as labelled."""
    right = 0
    for row in dataset.rows[:KNOWN_IMAGES]:
        await dut.load_input(dataset.read_file(row))
        reply = await dut.run_inferences(1, 0, ANSWER_DEADLINE_S)
        right += bool(reply.results) and reply.results.index(max(reply.results)) == row.label
    return right
