"""The reply to ``infer N W``, parsed and checked.

Parsing is as tolerant as the published session logs demand: echoes glued to replies, text in
between, trailing commas, line noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from labd.protocol.failure_texts import failures_in
from labd.protocol.lines import Line
from labd.protocol.replies import (
    COUNT,
    IN_BRACKETS,
    REPLY_DAMAGED,
    first_match,
    laps_in,
    malformed_reply,
    pattern_after,
    refused_command,
)
from labd.protocol.words import (
    COUNTER_MODULUS,
    INFER_DONE,
    INFER_START,
    RESULTS,
    WARMUP_START,
)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_RESULTS = pattern_after(RESULTS, IN_BRACKETS)
_WARMUP_START = pattern_after(WARMUP_START, COUNT)
_INFER_START = pattern_after(INFER_START, COUNT)
_INFER_DONE = pattern_after(INFER_DONE, "")

MALFORMED = frozenset(
    {REPLY_DAMAGED, "infer-incomplete", "infer-echo", "infer-laps", "infer-results", "lap-damaged"}
)
"""Codes of replies that the line may have damaged, visibly or not: ``infer`` is worth repeating."""


@dataclass(frozen=True, slots=True)
class InferReply:
    """Checked reply to one ``infer`` command.

    Args:
        iterations: measured inferences, as echoed.
        warmups: inferences before them, as echoed.
        laps_us: the DUT's counter at both timestamps; ``None`` from an energy build.
        results: output tensor of the last inference; empty if the DUT printed ``m-results-[]``.
        start_ns: host's monotonic time of arrival of ``m-infer-start``.
        done_ns: the same of ``m-infer-done``.
        lines: the whole reply.
    """

    iterations: int
    warmups: int
    laps_us: tuple[int, int] | None
    results: tuple[float, ...]
    start_ns: int
    done_ns: int
    lines: tuple[Line, ...]

    @property
    def command(self) -> str:
        """The command that it answers, as an error quotes it."""
        return f"infer {self.iterations} {self.warmups}"

    @property
    def runtime_us(self) -> int | None:
        """Time between the laps, at most 71.6 minutes: one counter wrap."""
        if self.laps_us is None:
            return None
        return (self.laps_us[1] - self.laps_us[0]) % COUNTER_MODULUS


def parse_results(text: str) -> tuple[float, ...]:
    """Return the numbers between the brackets of ``m-results-[…]``; empty items are skipped.

    Raises:
        ValueError: an item is not a finite number.
    """
    return tuple(_parse_number(item.strip()) for item in text.split(",") if item.strip())


def _parse_number(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r} is no number")
    return number


def parse_infer(lines: Sequence[Line], iterations: int, warmups: int) -> InferReply:
    """Parse and check a reply to ``infer N W``.

    Raises:
        DutError: it reports a failure, or is not a reply to this command.
        InfraError: the line damaged the reply or the command.
    """
    if failures := failures_in(lines):
        raise refused_command("infer-refused", "infer", failures, lines)
    start, done = _first_index(_INFER_START, lines), _first_index(_INFER_DONE, lines)
    if start is None or done is None or done < start:
        what = "m-infer-start or m-infer-done is missing"
        raise malformed_reply("infer-incomplete", what, lines)
    _check_echo(INFER_START, first_match(_INFER_START, lines), iterations, lines)
    _check_echo(WARMUP_START, first_match(_WARMUP_START, lines), warmups, lines)
    laps = laps_in(lines[start : done + 1])
    if len(laps) not in {0, 2}:
        what = f"{len(laps)} timestamps instead of 2"
        raise malformed_reply("infer-laps", what, lines)
    return InferReply(
        iterations=iterations,
        warmups=warmups,
        laps_us=(laps[0], laps[1]) if laps else None,
        results=_parse_output(lines),
        start_ns=lines[start].t_ns,
        done_ns=lines[done].t_ns,
        lines=tuple(lines),
    )


def _first_index(pattern: re.Pattern[str], lines: Sequence[Line]) -> int | None:
    return next((i for i, line in enumerate(lines) if pattern.search(line.text)), None)


def _check_echo(word: str, seen: str | None, asked: int, lines: Sequence[Line]) -> None:
    if seen is None and asked == 0:
        return
    if seen is None or int(seen) != asked:
        what = f"{word}{asked} expected, the DUT sent {seen}"
        raise malformed_reply("infer-echo", what, lines)


def _parse_output(lines: Sequence[Line]) -> tuple[float, ...]:
    text = first_match(_RESULTS, lines)
    if text is not None and not text.strip():
        return ()  # the printf of some builds cannot format floating point
    try:
        results = parse_results(text or "")
    except ValueError:
        what = f"{RESULTS}{text}] are not numbers"
        raise malformed_reply("infer-results", what, lines) from None
    if not results:
        raise malformed_reply("infer-results", "infer printed no results", lines)
    return results
