"""Simulated clocks tied by edges, case after case: is a map ever wrong, how often refused?

python -m tests.campaigns.clock_pairing [--cases 10000] [--kinds random,windows,mixed,periodic]
    [--edges 6] [--tick 1e-3]

Ten minutes; rates up to 100 ppm off each way; 1 µs Gaussian jitter on either clock; each
loses 20 % of the edges and sees 20 % false ones. A is a DUT's µs counter that wraps at 2^32 (or
one of coarser ticks), B the host's ns since 1970, so the offset is years. A map must be within
1 µs at its reference and 0.1 ppm, and every pair two stamps of one moment.

A false edge can fall within the jitter of the place of a lost one. No method can tell it from
the true edge and it moves the map by nothing; such pairs are counted as coincidences, beside
the number the maps themselves say to expect.

Few edges cannot tell 1 µs of offset from 1 µs of jitter, however surely they are paired: a map
is held to the limits only when its own bound is within them, else it counts as imprecise (what
``tie_edges`` refuses when it is given the limits).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from labd.core.clock_sync import Clock, ClockMap, Limits, tie_edges
from labd.core.errors import MeasurementInvalid

RUN_S = 600.0
JITTER_S = 1e-6
LOST = 0.2
FALSE = 0.2
DUT = Clock("dut", 1e-6, wraps_at=1 << 32)
HOST = Clock("host", 1e-9)
OFFSET_S, RATE_PPM = 1e-6, 0.1
SURE = Limits(confidence=0.9999)
Floats = NDArray[np.float64]
Rng = np.random.Generator


def random_times(rng: Rng, count: int) -> Floats:
    """Edges anywhere."""
    return np.sort(rng.uniform(0, RUN_S, count))


def window_times(rng: Rng, count: int) -> Floats:
    """Pairs of edges around windows of nearly one length, pauses of some ms more or less."""
    windows = max(1, count // 2)
    each = RUN_S / windows
    starts = np.arange(windows) * each + rng.normal(0, 0.002 * each, windows)
    lengths = 0.8 * each * (1 + rng.normal(0, 2e-4, windows))
    return np.sort(np.concatenate([starts, starts + lengths]) + 0.05 * each)


def mixed_times(rng: Rng, count: int) -> Floats:
    """Half anywhere, half windows."""
    half = count // 2
    return np.sort(np.concatenate([random_times(rng, count - half), window_times(rng, half)]))


def periodic_times(rng: Rng, count: int) -> Floats:
    """Pulses of one exact period: which is which is in the losses alone."""
    return (np.arange(count) + rng.uniform()) * RUN_S / count


KINDS: dict[str, Callable[[Rng, int], Floats]] = {
    "random": random_times,
    "windows": window_times,
    "mixed": mixed_times,
    "periodic": periodic_times,
}


@dataclass(frozen=True)
class Case:
    """What both clocks recorded, and the truth.

    ``label_a[i]`` is the number of the true edge, or -1; ``time_a[i]`` its true time.
    """

    ticks_a: NDArray[np.int64]
    ticks_b: NDArray[np.int64]
    label_a: NDArray[np.int64]
    label_b: NDArray[np.int64]
    time_a: Floats
    time_b: Floats
    start_a: int
    start_b: int
    rate_a: float
    rate_b: float
    a: Clock = DUT


def seen(rng: Rng, times: Floats, lost: float, false: float) -> tuple[Floats, NDArray[np.int64]]:
    """Lose edges, add false ones; times in order, and which true edge each is."""
    kept = np.flatnonzero(rng.uniform(size=len(times)) >= lost)
    extra = rng.uniform(0, RUN_S, round(false * len(times)))
    labels = np.concatenate([kept, np.full(len(extra), -1)])
    both = np.concatenate([times[kept], extra])
    order = np.argsort(both, kind="stable")
    return both[order], labels[order]


def make_case(
    seed: int,
    kind: str,
    count: int | None = None,
    lost: float = LOST,
    false: float = FALSE,
    a: Clock = DUT,
) -> Case:
    """Simulate one run; the number of edges is 12 to 2000, evenly in its logarithm."""
    rng = np.random.default_rng([seed, *kind.encode()])
    edges = count or round(np.exp(rng.uniform(np.log(12), np.log(2000))))
    times = KINDS[kind](rng, edges)
    time_a, label_a = seen(rng, times, lost, false)
    time_b, label_b = seen(rng, times, lost, false)
    rate_a, rate_b = rng.uniform(-1e-4, 1e-4, 2)
    start_a = int(rng.integers(1 << 32))
    start_b = 1_790_000_000_000_000_000 + int(rng.integers(1 << 50))
    late_a = time_a * (1 + rate_a) + rng.normal(0, JITTER_S, len(time_a))
    late_b = time_b * (1 + rate_b) + rng.normal(0, JITTER_S, len(time_b))
    ticks_a = np.maximum.accumulate(np.rint(late_a / a.tick_s).astype(np.int64)) + start_a
    ticks_b = np.maximum.accumulate(np.rint(late_b * 1e9).astype(np.int64)) + start_b
    return Case(
        ticks_a % (1 << 32),
        ticks_b,
        label_a,
        label_b,
        time_a,
        time_b,
        start_a,
        start_b,
        rate_a,
        rate_b,
        a,
    )


def errors(case: Case, tied: ClockMap) -> tuple[float, float]:
    """Error at the reference, s, and of the rate, ppm."""
    turns = round((int(case.ticks_a[0]) - case.start_a) / (1 << 32)) << 32
    true_s = (tied.at_a - turns - case.start_a) * case.a.tick_s / (1 + case.rate_a)
    true_b_s = true_s * (1 + case.rate_b)
    offset = (tied.at_b - case.start_b) * 1e-9 + tied.rest_s - true_b_s
    rate = (1 + case.rate_b) / (1 + case.rate_a) - 1
    return offset, (tied.rate - rate) * 1e6


@dataclass
class Tally:
    """What became of the cases."""

    cases: int = 0
    paired: int = 0
    exact: int = 0
    wrong: list[str] = field(default_factory=list[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    pairs: int = 0
    true_pairs: int = 0
    coincidences: int = 0
    expected: float = 0.0
    worst_offset_s: float = 0.0
    worst_rate_ppm: float = 0.0
    outside_bound: int = 0

    def add(self, name: str, case: Case, tied: ClockMap) -> None:
        """Judge one map."""
        self.paired += 1
        first, second = tied.pairs.T
        false = (case.label_a[first] != case.label_b[second]) | (case.label_a[first] < 0)
        apart = np.abs(case.time_a[first] - case.time_b[second])
        self.pairs += len(first)
        common = np.intersect1d(case.label_a, case.label_b)
        self.true_pairs += int(np.count_nonzero(common >= 0))
        self.coincidences += int(false.sum())
        self.expected += tied.evidence.chance_pairs
        offset, rate = (abs(error) for error in errors(case, tied))
        self.outside_bound += offset > tied.offset_error_s or rate > tied.rate_error_ppm
        wrong = (
            bool((apart > 2e-5 + 2 * tied.a.half_width_s).any()) or offset > 2 * tied.offset_error_s
        )
        if tied.offset_error_s <= OFFSET_S and tied.rate_error_ppm <= RATE_PPM:
            self.exact += 1
            self.worst_offset_s = max(self.worst_offset_s, offset)
            self.worst_rate_ppm = max(self.worst_rate_ppm, rate)
            wrong |= offset > OFFSET_S or rate > RATE_PPM
        if wrong:
            self.wrong.append(
                f"{name}: {offset * 1e6:.3f} µs, {rate:.4f} ppm, {int(false.sum())} false pairs"
            )


def run(kind: str, seeds: range, count: int | None = None, a: Clock = DUT) -> Tally:
    """Simulate and tie all cases of a kind."""
    tally = Tally(cases=len(seeds))
    for seed in seeds:
        case = make_case(seed, kind, count, a=a)
        try:
            tied = tie_edges(a, case.ticks_a, HOST, case.ticks_b, limits=SURE)
        except MeasurementInvalid as error:
            tally.refused[error.code] += 1
            continue
        tally.add(f"{kind} {seed}", case, tied)
    return tally


def report(kind: str, tally: Tally, seconds: float) -> str:
    """A kind's lines."""
    refused = ", ".join(f"{code} {number}" for code, number in sorted(tally.refused.items()))
    refused = refused or "none"
    found = f"paired {tally.paired} ({100 * tally.paired / tally.cases:.2f} %)"
    worst = f"{tally.worst_offset_s * 1e6:.3f} µs, {tally.worst_rate_ppm:.5f} ppm"
    chance = f"{tally.coincidences} coincidences ({tally.expected:.1f} expected)"
    lines = (
        f"{kind}: {tally.cases} cases, wrong {len(tally.wrong)}, {found}, refused {refused}",
        f"  bounded within the limits {tally.exact}, the worst error of these {worst}",
        f"  beyond the map's own bound {tally.outside_bound}",
        f"  {tally.pairs} pairs of {tally.true_pairs} that both saw, of them {chance}",
        f"  {1e3 * seconds / tally.cases:.1f} ms a case",
        *(f"  WRONG {line}" for line in tally.wrong[:10]),
    )
    return "\n".join(lines)


def main() -> int:
    """Run the campaign; the exit code says whether any map was wrong."""
    parser = argparse.ArgumentParser(description="Simulated clocks, tied by their edges.")
    parser.add_argument("--cases", type=int, default=10_000, help="in all, over the kinds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--kinds", default="random,windows,mixed", help=", ".join(KINDS))
    parser.add_argument("--edges", type=int, help="so many in each case instead of 12 to 2000")
    parser.add_argument("--tick", type=float, default=DUT.tick_s, help="of A's counter, s")
    options = parser.parse_args()
    clock = replace(DUT, tick_s=options.tick)
    kinds: list[str] = options.kinds.split(",")
    wrong = 0
    for number, kind in enumerate(kinds):
        cases = options.cases // len(kinds) + (number < options.cases % len(kinds))
        began = time.perf_counter()
        tally = run(
            kind, range(options.first_seed, options.first_seed + cases), options.edges, clock
        )
        print(report(kind, tally, time.perf_counter() - began), flush=True)  # noqa: T201
        wrong += len(tally.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
