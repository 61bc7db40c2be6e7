"""The benchmarks and what the published rules require of each.

Sources, all in github.com/mlcommons/tiny: the rules in benchmark/MLPerfTiny_Rules.adoc, the
targets of the closed division in tools/submission/submission_checker.py, the input sizes in
the reference firmware under benchmark/reference_submissions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labd.core.errors import JobError


class Metric(StrEnum):
    """Quality metric that a target is stated in."""

    TOP1 = "top1_pct"
    AUC = "auc"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark of the suite.

    Args:
        name: as in ``m-model-[…]``.
        title: in plain words.
        input_bytes: payload of one ``db load``.
        outputs: numbers in ``m-results-[…]``.
        metric: quality metric of its target.
        target: smallest metric that passes (closed division), percent or area.
        official: whether a result may stand in a submission.
        baud: of the reference firmware's performance build.
    """

    name: str
    title: str
    input_bytes: int
    outputs: int
    metric: Metric
    target: float
    official: bool = True
    baud: int = 115200

    @property
    def classes(self) -> int:
        """Classes in the labels; with one output (an anomaly score) there are two."""
        return max(self.outputs, 2)


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
"""Benchmarks that labd can run. Streaming wake word (sww01) has another protocol."""

NOT_RUN = {
    "sww01": "labd re-scores streaming wake word, but does not run it: it has another protocol, "
    "and the DUT receives its input from the I/O manager",
    "ic02": "labd re-scores the larger image classification of round v1.4, but does not run it yet",
}
"""Official benchmarks that are not in the suite, and why."""

CLOSED_TARGETS: dict[str, tuple[Metric, float]] = {
    **{name: (each.metric, each.target) for name, each in SUITE.items() if each.official},
    "ic02": (Metric.TOP1, 91.0),
}
"""Smallest quality in the closed division. ic02 (from round v1.4 on) is re-scored only."""

ENERGY_BAUD = 9600
"""Baud rate of every reference energy build."""

MIN_WINDOW_S = 10.0
"""Minimum length of a window."""

MIN_INFERENCES = 10
"""Minimum inferences per window. Length and count must both hold: the EEMBC runner prints "must
take at least 10 seconds and 10 iterations to be valid"."""

MAX_INFERENCES = 2**31 - 1
"""Maximum inferences per window: the reference firmware reads N by ``atoi`` into a 32-bit int
(github.com/mlcommons/tiny, benchmark/api/internally_implemented.cpp)."""

WINDOWS = 5
"""Windows per run, each on another input file; the median is the score."""

WARMUPS = 10
"""Warm-up inferences before each window, as in the published runner scripts."""


def find_benchmark(name: str) -> Benchmark:
    """Look a benchmark up by name.

    Raises:
        JobError: there is none of that name; the text lists the known ones.
    """
    found = SUITE.get(name)
    if found is None and name in NOT_RUN:
        raise JobError("benchmark-not-run", NOT_RUN[name], "labd score reads its results")
    if found is None:
        raise JobError(
            "benchmark-unknown",
            f"benchmark {name!r} is not in the suite",
            f"use one of {', '.join(sorted(SUITE))}",
        )
    return found


def is_model_of(model: str, benchmark_name: str) -> bool:
    """Return whether a model string names a benchmark or a variant of it.

    A variant goes on with a character that is no letter or digit: ``kws01-mine``,
    ``ic01_pruned``, ``ad01.v2``. Upper and lower case are the same.
    """
    model, name = model.strip().lower(), benchmark_name.lower()
    rest = model.removeprefix(name)
    return model.startswith(name) and not rest[:1].isalnum()
