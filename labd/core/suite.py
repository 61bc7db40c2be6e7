"""The benchmarks and what the published rules ask of each.

Sources: the MLPerf Tiny rules and the submission checker's targets (closed division), the
input sizes of the reference firmware's data buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labd.core.errors import JobError


class Metric(StrEnum):
    """Which quality number decides."""

    TOP1 = "top1_pct"
    AUC = "auc"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark of the suite.

    Args:
        name: what ``m-model-[…]`` must say.
        title: for people.
        input_bytes: payload of one ``db load``.
        outputs: how many numbers ``m-results-[…]`` carries.
        metric: the quality metric its target is stated in.
        target: least metric for a pass (closed division), per cent or area.
        official: whether a result may stand in a submission.
        baud: of the reference's performance build.
    """

    name: str
    title: str
    input_bytes: int
    outputs: int
    metric: Metric
    target: float
    official: bool = True
    baud: int = 115200


SUITE: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("kws01", "keyword spotting", 490, 12, Metric.TOP1, 90.0),
        Benchmark("ic01", "image classification", 3072, 10, Metric.TOP1, 85.0),
        Benchmark("vww01", "visual wake words", 27648, 2, Metric.TOP1, 80.0),
        Benchmark("ad01", "anomaly detection", 2560, 1, Metric.AUC, 0.85, baud=921600),
        Benchmark("digits01", "handwritten digits", 64, 10, Metric.TOP1, 95.0, official=False),
    )
}
"""Benchmarks this procedure can run. Streaming wake word (sww01) has another protocol."""

ENERGY_BAUD = 9600
"""Of every reference energy build."""

MIN_WINDOW_S = 10.0
"""A window is at least this long …"""

MIN_INFERENCES = 10
"""… and holds at least this many inferences (rules-of-run; the reference runner says *and*)."""

WINDOWS = 5
"""Five windows, each on another input file; the median is the score."""

WARMUPS = 10
"""Warm-up inferences before each window, as the published runner scripts have it."""


def benchmark(name: str) -> Benchmark:
    """Look a benchmark up by name.

    Raises:
        JobError: there is none of that name; the text lists those there are.
    """
    found = SUITE.get(name)
    if found is None:
        raise JobError(
            "benchmark-unknown",
            f"benchmark {name!r} is not in the suite",
            f"use one of {', '.join(sorted(SUITE))}",
        )
    return found
