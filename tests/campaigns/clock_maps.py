"""Simulated pairs of clocks, case after case: is a map ever wrong, how often is it refused?

python -m tests.campaigns.clock_maps [--cases 10000] [--first-seed 0] [--kinds none,late,...]

A run of up to two hours holds 2 to 20 batches; each gives two marks, its start and its stop.
A is a 32-bit counter with a tick of 1 µs to 1 ms that wraps during half of the runs; B is a
counter, a sampled line or the host clock in ns since 1970. Each clock is up to 100 ppm off.
Marks are up to 20 ms off. In half of the cases up to a third of the batches are lost. Each
kind adds one fault, of one mark where nothing else is stated:

none          nothing
late          B's stamp is up to 5 s late or early
mislabelled   B's stamp is that of another mark
false         B lost the edge, and a false edge within 30 s was paired in its place
host          the counter's stamp is up to 5 s late, in the order of the stamps
drift         the rate changes by up to 20 ppm during the run, within the marks' uncertainty
beyond        the relative rate is 5 to 100 times as large as the clocks' tolerances allow

A map is WRONG where its error exceeds its stated uncertainty, from the first mark to the last
or a tenth of the run outside of them. Beyond the promise of ``fit_clock_map``, and so not run
by default: ``two-late`` (two marks late) and ``marginal`` (a rate just above the tolerances).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labd.core.clock_map import Clock, ClockMap, Mark, fit_clock_map, unwrap_counter_stamps
from labd.core.errors import MeasurementInvalid

KINDS = ("none", "late", "mislabelled", "false", "host", "drift", "beyond")
BEYOND_THE_PROMISE = ("two-late", "marginal")
WRAPS_AT = 1 << 32
TICKS_A_S = (1e-6, 4e-6, 1e-5, 1e-3)
TICKS_B_S = (1e-9, 1e-6, 1e-5, 1e-3, 1e-2)
UNCERTAINTIES_S = (1e-5, 1e-3, 5e-3, 2e-2)
TOLERANCE_PPM = 100.0
MAX_RATE = 2 * TOLERANCE_PPM * 1e-6
ARRIVAL_S = 0.02
ROUNDING_S = 2e-9
Floats = NDArray[np.float64]
Rng = np.random.Generator


@dataclass
class Case:
    """What both clocks recorded, and the truth.

    ``times`` are the marks' true times by A, in seconds; B is then at ``b_of(times)`` seconds.
    """

    a: Clock
    b: Clock
    times: Floats
    start_a: int
    start_b: int
    rate: float
    bend_s: float
    length_s: float
    ticks_a: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    ticks_b: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    uncertainty_s: float = 0.0

    def b_of(self, times: Floats) -> Floats:
        """B's true time at A's, both from the run's start: a parabola that a drift bends."""
        u = times / self.length_s
        return times * (1 + self.rate) + 4 * self.bend_s * u * (u - 1)

    def fit(self, host_ns: list[int]) -> ClockMap:
        """Unwrap the counter by the host clock and fit the map."""
        at_a = unwrap_counter_stamps(self.a, WRAPS_AT, self.ticks_a % WRAPS_AT, host_ns)
        pairs = zip(at_a.tolist(), self.ticks_b.tolist(), strict=True)
        return fit_clock_map(self.a, self.b, [Mark(i, j, self.uncertainty_s) for i, j in pairs])


def make_clocks(rng: Rng, kind: str) -> Case:
    """Draw a run: two clocks and the batches' true times."""
    a = Clock("counter", float(rng.choice(TICKS_A_S)), tolerance_ppm=TOLERANCE_PPM)
    b = Clock("other", float(rng.choice(TICKS_B_S)), tolerance_ppm=TOLERANCE_PPM)
    length_s = float(np.exp(rng.uniform(np.log(100), np.log(7200))))
    batches = int(rng.integers(4 if kind == "beyond" else 2, 21))
    starts = (np.arange(batches) + rng.uniform(0, 0.3, batches)) * length_s / batches
    lasting = rng.uniform(0.1, 0.6) * length_s / batches
    lost = rng.choice(batches, int(rng.integers(batches // 3 + 1) * rng.integers(2)), replace=False)
    starts = np.delete(starts, lost if len(lost) < batches - 1 else [])
    times = np.stack([starts, starts + lasting], axis=1).ravel()
    rate = rng.uniform(-MAX_RATE, MAX_RATE)
    if kind == "beyond":
        rate = MAX_RATE * np.exp(rng.uniform(np.log(5), np.log(100))) * rng.choice([-1, 1])
    if kind == "marginal":
        rate = MAX_RATE * rng.uniform(1.0, 1.5) * rng.choice([-1, 1])
    start_a = int(rng.integers(WRAPS_AT))
    if rng.integers(2):
        start_a = WRAPS_AT - round(rng.uniform(0, length_s) / a.tick_s)
    start_b = 1_790_000_000_000_000_000 if b.tick_s <= 1e-9 else 0
    start_b += int(rng.integers(1 << 40))
    return Case(a, b, times, start_a % WRAPS_AT, start_b, rate, 0.0, length_s)


def make_case(seed: int, kind: str) -> tuple[Case, list[int]]:
    """Simulate one run with one fault; the case and the host's times of A's stamps, ns."""
    rng = np.random.default_rng([seed, *kind.encode()])
    case = make_clocks(rng, kind)
    half_s = case.uncertainty_s = float(rng.choice(UNCERTAINTIES_S))
    count = len(case.times)
    if kind == "drift":
        case.bend_s = min(half_s / 3, 20e-6 * case.length_s / 8) * rng.uniform(-1, 1)
    miss = rng.uniform(-1, 1, count) * (half_s - 2 * abs(case.bend_s))
    at_a = case.times.copy()
    at_b = case.b_of(case.times) + miss
    bad = int(rng.integers(count))
    late_s = float(np.exp(rng.uniform(np.log(1e-4), np.log(5.0)))) * rng.choice([-1, 1])
    if kind == "late":
        at_b[bad] += late_s
    elif kind == "mislabelled":
        at_b[bad] = at_b[rng.integers(count)]
    elif kind == "false":
        at_b[bad] += rng.uniform(-30, 30)
    elif kind == "host":
        at_a[bad] = min(at_a[bad] + abs(late_s), *at_a[bad + 1 : bad + 2], np.inf)
    elif kind == "two-late":
        at_b[rng.choice(count, 2, replace=False)] += late_s
    case.ticks_a = np.rint(at_a / case.a.tick_s).astype(np.int64) + case.start_a
    case.ticks_b = np.rint(at_b / case.b.tick_s).astype(np.int64) + case.start_b
    arrived = np.maximum.accumulate(case.times + rng.uniform(0, ARRIVAL_S, count))
    return case, np.rint(arrived * 1e9).astype(np.int64).tolist()


def worst_ratio(case: Case, found: ClockMap) -> tuple[float, float]:
    """Largest error over stated uncertainty, and the largest uncertainty among the marks, s."""
    first, last = case.times[0], case.times[-1]
    margin = 0.0 if case.bend_s or abs(case.rate) > MAX_RATE else 0.1 * (last - first)
    places = np.concatenate([case.times, np.linspace(first - margin, last + margin, 21)])
    ticks = np.rint(places / case.a.tick_s).astype(np.int64)
    true_s = case.b_of(ticks * case.a.tick_s)
    wraps = (case.ticks_a[0] // WRAPS_AT) * WRAPS_AT  # unwrapped ticks start within [0, 2^32)
    there = found.to_b(ticks + case.start_a - wraps)
    off_s = np.abs((there - case.start_b) * case.b.tick_s - true_s)
    stated_s = found.uncertainty_s(ticks + case.start_a - wraps)
    ratio = float((np.maximum(0.0, off_s - ROUNDING_S) / stated_s).max())
    return ratio, float(stated_s[: len(case.times)].max())


@dataclass
class Tally:
    """What became of the cases of one kind."""

    cases: int = 0
    right: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    left_out: int = 0
    worst: float = 0.0
    wrapped: int = 0
    uncertainties_s: list[float] = field(default_factory=list[float])


def run(kind: str, seeds: range) -> Tally:
    """Simulate and fit all cases of a kind."""
    tally = Tally(cases=len(seeds))
    for seed in seeds:
        case, host_ns = make_case(seed, kind)
        try:
            found = case.fit(host_ns)
        except MeasurementInvalid as error:
            tally.refused[error.code] += 1
            continue
        ratio, stated_s = worst_ratio(case, found)
        tally.worst = max(tally.worst, ratio)
        tally.left_out += found.outlier_candidates > 0
        tally.wrapped += int(np.ptp(case.ticks_a // WRAPS_AT) > 0)
        tally.uncertainties_s.append(stated_s)
        if ratio > 1:
            tally.wrong.append(f"{kind} {seed}: {ratio:.3f} of {stated_s * 1e3:.3f} ms")
        else:
            tally.right += 1
    return tally


def report(kind: str, tally: Tally, seconds: float) -> str:
    """A kind's lines."""
    codes = ", ".join(f"{code} {number}" for code, number in sorted(tally.refused.items()))
    refused = f"{tally.refused.total()} ({codes})" if codes else "0"
    median_ms = 1e3 * float(np.median(tally.uncertainties_s)) if tally.uncertainties_s else 0.0
    counts = f"right {tally.right}, refused {refused}, WRONG {len(tally.wrong)}"
    known = f"worst error / uncertainty {tally.worst:.3f}, median uncertainty {median_ms:.3f} ms"
    faults = f"one mark left out {tally.left_out}, counter wrapped {tally.wrapped}"
    lines = [f"{kind}: {tally.cases} cases, {counts}", f"  {known}", f"  {faults}"]
    lines += [f"  {1e3 * seconds / tally.cases:.1f} ms per case"]
    lines += [f"  WRONG {line}" for line in tally.wrong[:10]]
    return "\n".join(lines)


def main() -> int:
    """Run the campaign; the exit code says whether any map was wrong."""
    parser = argparse.ArgumentParser(description="Clock maps of simulated clocks with faults.")
    parser.add_argument("--cases", type=int, default=10_000, help="in total, over the kinds")
    parser.add_argument("--first-seed", type=int, default=0)
    known = ", ".join((*KINDS, *BEYOND_THE_PROMISE))
    parser.add_argument("--kinds", default=",".join(KINDS), help=known)
    options = parser.parse_args()
    kinds: list[str] = options.kinds.split(",")
    wrong = right = refused = 0
    for number, kind in enumerate(kinds):
        cases = options.cases // len(kinds) + (number < options.cases % len(kinds))
        began = time.perf_counter()
        tally = run(kind, range(options.first_seed, options.first_seed + cases))
        print(report(kind, tally, time.perf_counter() - began), flush=True)  # noqa: T201
        wrong += len(tally.wrong)
        right += tally.right
        refused += tally.refused.total()
    print(f"in total: right {right}, refused {refused}, WRONG {wrong}")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
