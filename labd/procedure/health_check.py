"""The health check: may this station serve?

Known answers: the built-in benchmark is flashed, some images go in, and most of the right
digits must come out (the network itself misreads a few). A station without flasher, or whose
board has no built-in firmware on the shelf, only has to answer by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from labd.core.errors import JobError
from labd.core.model import Build, Finding
from labd.core.suite import benchmark
from labd.procedure.dataset import Dataset, find_dataset
from labd.station.dut import Dut
from labd.station.open_station import StationBench

KNOWN = "digits01"
NOT_HERE = {"dataset-missing", "firmware-missing"}
"""A lab may lack the built-in benchmark; everything else is a fault of the station."""

KNOWN_IMAGES = 10
KNOWN_RIGHT = 8
"""Guessing gets so many of ten right once in a million."""

ANSWER_DEADLINE_S = 30.0


async def check_station(bench: StationBench, datasets: Sequence[Path]) -> list[Finding]:
    """Look at an open station; serious findings keep it out of service.

    Raises:
        LabdError: a part failed while being looked at.
    """
    findings = await bench.self_check()
    if not bench.can_flash:
        await bench.answer()
        return findings
    try:
        dataset = await asyncio.to_thread(find_dataset, datasets, benchmark(KNOWN))
        ready = await bench.prepare(Build.PERFORMANCE)
    except JobError as error:
        if error.code not in NOT_HERE:
            raise
        await bench.answer()
        note = f"no known-answer check: {error}"
        return [*findings, Finding("no-known-answer", note, serious=False)]
    right = await _count_right(ready.dut, dataset)
    if right < KNOWN_RIGHT:
        text = f"{KNOWN}: {right} of {KNOWN_IMAGES} known answers were right"
        findings.append(Finding("known-answer", text, "the board computes wrongly: replace it"))
    return findings


async def _count_right(dut: Dut, dataset: Dataset) -> int:
    """How many of the first images the board reads as they are labelled."""
    right = 0
    for row in dataset.rows[:KNOWN_IMAGES]:
        await dut.load(dataset.read(row))
        reply = await dut.infer(1, 0, ANSWER_DEADLINE_S)
        right += reply.results.index(max(reply.results)) == row.label
    return right
