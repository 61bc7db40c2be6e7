"""The health check: may this station serve?

A known answer: the built-in benchmark is flashed, one image of known outcome goes in, and
the right digit must come out. A station without flasher, or whose board has no built-in
firmware on the shelf, only has to answer by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labd.core.errors import JobError
from labd.core.model import Build, Finding
from labd.core.suite import benchmark
from labd.procedure.dataset import find_dataset
from labd.station.bench import StationBench

KNOWN = "digits01"
KNOWN_ANSWER_DEADLINE_S = 30.0


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
        ready = await bench.prepare(Build.PERFORMANCE)
        dataset = find_dataset(datasets, benchmark(KNOWN))
    except JobError as error:
        note = f"no known-answer check: {error}"
        return [*findings, Finding("no-known-answer", note, serious=False)]
    row = dataset.rows[0]
    await ready.dut.load(dataset.read(row))
    reply = await ready.dut.infer(1, 0, KNOWN_ANSWER_DEADLINE_S)
    answer = reply.results.index(max(reply.results))
    if answer != row.label:
        text = f"{KNOWN} took {row.file} for class {answer}, it is {row.label}"
        findings.append(Finding("known-answer", text, "the board computes wrongly: replace it"))
    return findings
