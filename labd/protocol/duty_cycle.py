"""The interface board's log of the DUT's processing pin: batches as pairs of counter ticks.

Source: github.com/mlcommons/tiny, benchmark/interface. The board logs rising and falling edges
separately, the first 100 of each, as ticks of a 32-bit counter that wraps after 11.9 hours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from labd.protocol.words import COUNTER_MODULUS, DUTY_STARTS, DUTY_STOPS

TICK_S = 1e-5
"""The heading states seconds; TIM2 counts at 100 kHz."""


def parse_duty_cycle(lines: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the start and stop ticks in a reply to ``print_dutycycle``.

    Raises:
        ValueError: a heading is missing or something below it is no tick.
    """
    _, starts_mark, rest = " ".join(lines).partition(DUTY_STARTS)
    starts, stops_mark, stops = rest.partition(DUTY_STOPS)
    if not (starts_mark and stops_mark):
        raise ValueError("start or stop times are missing")
    return _parse_ticks(starts), _parse_ticks(stops)


def _parse_ticks(text: str) -> list[int]:
    _, _, numbers = text.partition("(s)")
    ticks = [int(item) for item in numbers.replace(",", " ").split()]
    beyond = [tick for tick in ticks if not 0 <= tick < COUNTER_MODULUS]
    if beyond:
        raise ValueError(f"invalid tick {beyond[0]}")
    return ticks


def pair_intervals(starts: Sequence[int], stops: Sequence[int]) -> list[tuple[int, int]]:
    """Pair starts with stops; the ticks stay as logged, not unwrapped.

    A lost edge would shift all later pairs, so merged in time the two must alternate. Only a stop
    whose start precedes the log, and a start whose stop is still to come, may stand alone.

    Raises:
        ValueError: an edge was lost.
    """
    if not starts or not stops:
        if len(starts) + len(stops) > 1:
            raise ValueError(f"{len(starts)} starts but {len(stops)} stops")
        return []
    ahead = (stops[0] - starts[0]) % COUNTER_MODULUS
    if ahead >= COUNTER_MODULUS // 2:
        stops = stops[1:]
    pairs = list(zip(starts, stops, strict=False))
    if len(starts) - len(pairs) > 1 or len(stops) > len(pairs):
        raise ValueError(f"{len(starts)} starts but {len(stops)} stops")
    edges = [edge for pair in pairs for edge in pair] + list(starts[len(pairs) :])
    steps = [(b - a) % COUNTER_MODULUS for a, b in itertools.pairwise(edges)]
    if any(step >= COUNTER_MODULUS // 2 for step in steps) or sum(steps) >= COUNTER_MODULUS:
        raise ValueError("starts and stops do not alternate")
    return pairs
