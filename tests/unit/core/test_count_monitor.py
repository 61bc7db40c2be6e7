"""The check of a count by the host's clock: losses it must find, delays it must not report."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.ppk2.stream import RULES
from labd.core.count_monitor import CountMonitor, Lost

Arrivals = Iterable[tuple[int, int]]
RATE = 100_000
CELL_SAMPLES = RATE // 2


def arrivals(
    seconds: float,
    *,
    ppm: float = 0.0,
    seed: int = 1,
    every: int = 500,
    jitter_us: float = 80.0,
    late_us: Callable[[float], float] = lambda _: 0.0,
    lost: Callable[[int], int] = lambda _: 0,
) -> list[tuple[int, int]]:
    """Chunks as an instrument of this rate sends them and a host reads them.

    Args:
        seconds: how long.
        ppm: the instrument's clock is slow by so much.
        seed: of the jitter.
        every: samples a chunk.
        jitter_us: mean delay of a chunk, exponentially distributed.
        late_us: further delay at a time.
        lost: samples missing on the wire up to a sample.
    """
    random = np.random.default_rng(seed)
    chunks: list[tuple[int, int]] = []
    free_ns = 0.0
    for sample in range(every, int(seconds * RATE), every):
        due_ns = sample * 10_000 * (1 + ppm * 1e-6)
        delay_us = random.exponential(jitter_us) + late_us(sample / RATE)
        free_ns = max(free_ns, due_ns + delay_us * 1000)  # in order
        chunks.append((sample - lost(sample), round(free_ns)))
    return chunks


def judge(chunks: Arrivals) -> tuple[list[Lost], CountMonitor]:
    """All that is found missing, with the indices put right after each."""
    clock, found, shift, index = CountMonitor(RULES), list[Lost](), 0, 0
    for received, t_ns in chunks:
        index = received + shift
        missing = clock.observe_delivery(index, t_ns)
        if missing is not None:
            found.append(missing)
            shift += missing.count
            clock.restart_at(index + missing.count)
    return found, clock


def after(sample: int, count: int) -> Callable[[int], int]:
    return lambda now: count if now > sample else 0


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-100, 100),
    st.integers(0, 1000),
    st.sampled_from([100, 500, 1024, 1999]),
    st.sampled_from([20.0, 200.0, 1500.0]),
)
def test_nothing_is_missing_where_nothing_was_lost(
    ppm: float, seed: int, every: int, jitter_us: float
) -> None:
    chunks = arrivals(20, ppm=ppm, seed=seed, every=every, jitter_us=jitter_us)
    found, clock = judge(chunks)
    assert found == []
    assert chunks[-1][0] - clock.confirmed < 2 * CELL_SAMPLES


@pytest.mark.parametrize(
    "late_us",
    [
        lambda t: 400_000.0 if 5 < t < 6 else 0.0,
        lambda t: 30_000.0 * max(0.0, t % 1 - 0.3),
        lambda t: 5_000.0 if 4 < t < 5.5 else 0.0,
        lambda t: 900.0 * np.random.default_rng(int(t * 7)).random() if t > 6 else 0.0,
        lambda t: 1000.0 + 9000.0 * np.random.default_rng(int(t * 2)).random() if t > 6 else 0.0,
        lambda t: 300.0 * (t - 6) if t > 6 else 0.0,
    ],
    ids=["stall", "sawtooth", "slow for a while", "busy", "overloaded", "later and later"],
)
@pytest.mark.parametrize("ppm", [-90.0, 0.0, 90.0])
def test_a_late_host_is_no_loss(late_us: Callable[[float], float], ppm: float) -> None:
    chunks = arrivals(25, ppm=ppm, late_us=late_us)
    found, clock = judge(chunks)
    assert found == []
    assert chunks[-1][0] - clock.confirmed < 13 * CELL_SAMPLES
    late_ms = max((t_ns - index * 10_000 * (1 + ppm * 1e-6)) / 1e6 for index, t_ns in chunks[-500:])
    assert clock.possibly_missing * 0.01 < max(10.0, 3 * late_ms)


@settings(max_examples=40, deadline=None)
@given(st.floats(-60, 60), st.integers(1, 60), st.floats(12, 25), st.integers(0, 1000))
@example(0.0, 1, 16.0078125, 11)  # one late delivery is all that the cell has before the loss
def test_any_number_of_wraps_is_missed_once_the_rate_is_known(
    ppm: float, wraps: int, at_s: float, seed: int
) -> None:
    at = int(at_s * RATE)
    found, _ = judge(arrivals(at_s + 5, ppm=ppm, seed=seed, lost=after(at, 64 * wraps)))
    (missing,) = found
    assert missing.count == 64 * wraps
    assert missing.since is not None
    assert at - 64 * wraps <= missing.since <= at + 2 * CELL_SAMPLES


@pytest.mark.parametrize("ppm", [-50.0, 0.0, 50.0])
def test_two_wraps_are_missed_from_the_third_second_on(ppm: float) -> None:
    found, _ = judge(arrivals(9, ppm=ppm, lost=after(300_000, 128)))
    assert [missing.count for missing in found] == [128]


def test_what_a_busy_host_may_hide_is_remembered() -> None:
    """A loss of one wrap just when the host becomes so busy that it cannot be seen."""
    random = np.random.default_rng(3)
    late = {cell: float(random.uniform(1000, 5000)) for cell in range(200)}
    found, clock = judge(
        arrivals(
            25, late_us=lambda t: late[int(4 * t)] if t > 12 else 0.0, lost=after(1_200_000, 64)
        )
    )
    assert found == []
    assert clock.possibly_missing >= 64


def test_the_last_chunks_are_judged_by_the_quickest_of_them() -> None:
    busy, prompt = CountMonitor(RULES), CountMonitor(RULES)
    for index, t_ns in arrivals(5, late_us=lambda t: 4000.0 if t > 4.5 else 0.0):
        busy.observe_delivery(index, t_ns)
    assert busy.confirmed < 451_000
    assert busy.settle_at_end(499_500) is None
    assert busy.confirmed == 499_500
    assert 300 < busy.possibly_missing < 500
    for index, t_ns in arrivals(5, late_us=lambda t: 80_000.0 if t > 4.5 else 0.0):
        prompt.observe_delivery(index, t_ns)
    assert prompt.settle_at_end(499_500) is None
    assert prompt.confirmed < 451_000


def test_each_loss_is_found() -> None:
    at = {600_000: 640, 1_200_000: 128, 1_800_000: 6400}
    found, _ = judge(
        arrivals(25, lost=lambda now: sum(n for start, n in at.items() if now > start))
    )
    assert [missing.count for missing in found] == list(at.values())


def test_a_host_that_is_late_by_more_and_more_is_too_late() -> None:
    found, _ = judge(arrivals(20, late_us=lambda t: max(0.0, 50_000 * (t - 5))))
    assert found
    assert "too late to tell" in found[0].why


def test_a_break_is_resolved_to_the_wrap_in_a_second() -> None:
    clock = CountMonitor(RULES)
    found: list[tuple[int, Lost]] = []
    for sample, t_ns in arrivals(10):
        index = sample - 64 * 12 if sample > 500_000 else sample
        if sample == 500_500:
            clock.on_counter_break(index)
        missing = clock.observe_delivery(index, t_ns)
        if missing is not None:
            found.append((sample, missing))
            break
    ((sample, missing),) = found
    assert (missing.count, missing.since) == (64 * 12, None)
    assert sample <= 500_500 + 2.1 * CELL_SAMPLES


@settings(max_examples=80, deadline=None)
@given(
    ppm=st.floats(-100, 100),
    seed=st.integers(0, 1000),
    lost_s=st.floats(0.1, 3),
    wraps=st.integers(1, 5),
    broke_s=st.floats(0.2, 6),
    missing=st.integers(0, 5),
    jitter_us=st.sampled_from([20.0, 80.0, 1500.0]),
)
def test_what_a_break_hides_is_right_or_possibly_missing(
    ppm: float,
    seed: int,
    lost_s: float,
    wraps: int,
    broke_s: float,
    missing: int,
    jitter_us: float,
) -> None:
    """Wraps lost before the rate is known, unseen; then a break, with wraps lost in it."""
    at, broke = int(lost_s * RATE), int((lost_s + broke_s) * RATE)
    clock, shift, broken = CountMonitor(RULES), 0, False
    for sample, t_ns in arrivals(lost_s + broke_s + 8, ppm=ppm, seed=seed, jitter_us=jitter_us):
        lost = 64 * (wraps * (sample > at) + missing * (sample > broke))
        index = sample - lost + shift
        if sample > broke and not broken:
            broken = True
            clock.on_counter_break(index - 500)
        found = clock.observe_delivery(index, t_ns)
        if found is not None:
            shift += found.count
            clock.restart_at(index + found.count)
    assert clock.confirmed > broke
    irregular = jitter_us > 100  # beyond what the module promises, a wrap may go undetected
    assert abs(64 * (wraps + missing) - shift) <= clock.possibly_missing + 64 * irregular


@settings(max_examples=40, deadline=None)
@given(st.floats(-100, 100), st.integers(0, 1000), st.floats(4, 12), st.integers(0, 60))
@example(100.0, 167, 4.0, 0)  # the minimum moves within a cell, to a delivery that is late
def test_a_break_is_resolved_exactly_once_the_host_was_observed(
    ppm: float, seed: int, broke_s: float, missing: int
) -> None:
    broke = int(broke_s * RATE)
    clock, found = CountMonitor(RULES), 0
    for sample, t_ns in arrivals(broke_s + 3, ppm=ppm, seed=seed):
        index = sample - 64 * missing * (sample > broke)
        if broke < sample <= broke + 500:
            clock.on_counter_break(index)
        result = clock.observe_delivery(index + found, t_ns)
        if result is not None:
            found += result.count
            clock.restart_at(index + found)
    assert (found, clock.possibly_missing) == (64 * missing, 0)


def test_a_host_that_is_too_late_makes_samples_possibly_missing() -> None:
    found, clock = judge(arrivals(20, late_us=lambda t: max(0.0, 50_000 * (t - 5))))
    assert clock.possibly_missing >= sum(missing.count for missing in found)
