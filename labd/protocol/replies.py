"""Replies of the MLPerf Tiny test harness, parsed and checked.

Parsing is as tolerant as the published session logs demand: echoes glued to replies, text in
between, trailing commas, line noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.errors import DutError, InfraError, Where
from labd.core.model import Build
from labd.protocol.lines import Line, format_quote, has_word
from labd.protocol.words import (
    BOOTED,
    COUNTER_MODULUS,
    INFER_DONE,
    INFER_START,
    LAP,
    LOAD_DONE,
    MODEL,
    NAME,
    PROFILE,
    RESULTS,
    TIMESTAMP_MODE,
    WARMUP_START,
)

# An `e-[` that ends a message's own name (`m-profile-[`, `m-name-[`) is no error; an echo
# may be glued to either, so nothing is anchored.
_ERROR = re.compile(r"(?P<message>m-[a-z-]*)?e-\[(?P<text>[^\]]*)\]?")
_BARE_FAILURE = re.compile(
    r"Supplied buffer size \d+ exceeds maximum of \d+|Input db has \d+ elemented, expected \d+"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_COUNT = r"([0-9]{1,20})"
_IN_BRACKETS = r"([^\]]*)\]"


def _pattern_after(word: str, pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(word) + pattern)


_NAME = _pattern_after(NAME, r"(?:dut-)?\[(.*)\]")
_PROFILE = _pattern_after(PROFILE, _IN_BRACKETS)
_MODEL = _pattern_after(MODEL, _IN_BRACKETS)
_RESULTS = _pattern_after(RESULTS, _IN_BRACKETS)
_TIMESTAMP_MODE = _pattern_after(TIMESTAMP_MODE, "(performance|energy)")
_LAP = _pattern_after(LAP, _COUNT + r"(?=m-|[^\w.]|$)")
_EXPECTING = _pattern_after("m-[Expecting ", _COUNT + r" bytes\]")
_WARMUP_START = _pattern_after(WARMUP_START, _COUNT)
_INFER_START = _pattern_after(INFER_START, _COUNT)
_INFER_DONE = _pattern_after(INFER_DONE, "")


@dataclass(frozen=True, slots=True)
class DutProfile:
    """Identity a DUT reports; ``build`` is ``None`` if its prologue was not received."""

    name: str
    model: str
    profile: str
    build: Build | None


@dataclass(frozen=True, slots=True)
class LoadReply:
    """A finished load; ``restarts`` has the reason for each restart."""

    size: int
    restarts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InferReply:
    """Checked reply to one ``infer`` command.

    Args:
        iterations: measured inferences, as echoed.
        warmups: inferences before them, as echoed.
        laps_us: the DUT's counter at both timestamps; ``None`` from an energy build.
        results: output tensor of the last inference.
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


def errors_in(lines: Sequence[Line]) -> list[str]:
    """Return the texts of all errors that the firmware reported, with or without ``e-[…]``."""
    found: list[str] = []
    for line in lines:
        found += [m["text"] for m in _ERROR.finditer(line.text) if m["message"] is None]
        found += _BARE_FAILURE.findall(line.text)
    return found


def _first_match(pattern: re.Pattern[str], lines: Sequence[Line]) -> str | None:
    return next((m[1] for line in lines if (m := pattern.search(line.text))), None)


def laps_in(lines: Sequence[Line]) -> list[int]:
    """Return all lap counters in order; one line may have several.

    Raises:
        DutError: one of them is not a plain number.
    """
    laps = [int(lap) for line in lines for lap in _LAP.findall(line.text)]
    if len(laps) != sum(line.text.count(LAP) for line in lines):
        raise dut_error("lap-damaged", f"{LAP} is not followed by a plain number", lines)
    return laps


def build_in(lines: Sequence[Line]) -> Build | None:
    """Return the build that a prologue announces."""
    mode = _first_match(_TIMESTAMP_MODE, lines)
    return Build(mode) if mode else None


def has_booted(lines: Sequence[Line]) -> bool:
    """Return whether these lines contain a boot prologue."""
    return has_word(BOOTED, lines)


def refuse_restart(command: str, lines: Sequence[Line], where: Where) -> None:
    """Refuse a reply with a boot prologue: the DUT restarted and has lost its input.

    Raises:
        InfraError: ``dut-restarted``.
    """
    if has_booted(lines):
        raise InfraError(
            "dut-restarted",
            f"the DUT restarted by itself around '{command[:40]}' and lost its input; "
            f"received {format_reply(lines)}",
            "check its supply; if every station reports it, the firmware crashes",
            where,
        )


def has_name(lines: Sequence[Line]) -> bool:
    """Return whether these lines contain an answer to ``name``."""
    return _first_match(_NAME, lines) is not None


def parse_identity(
    named: Sequence[Line], profiled: Sequence[Line], build: Build | None
) -> DutProfile:
    """Parse the answers to ``name`` and ``profile``.

    Raises:
        DutError: the name or the model is missing.
    """
    name, model = _first_match(_NAME, named), _first_match(_MODEL, profiled)
    if name is None or model is None:
        raise dut_error("identify", "the DUT does not report name and model", [*named, *profiled])
    return DutProfile(name, model, _first_match(_PROFILE, profiled) or "", build)


def expected_bytes(lines: Sequence[Line]) -> int | None:
    """Return the size in the answer to ``db load``, ``None`` if it has none."""
    text = _first_match(_EXPECTING, lines)
    return None if text is None else int(text)


def is_load_done(lines: Sequence[Line]) -> bool:
    """Return whether the DUT reports a full input buffer."""
    return has_word(LOAD_DONE, lines)


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
        DutError: it contains an error, a wrong echo, or wrong laps or results.
    """
    if errors := errors_in(lines):
        raise dut_error("infer-refused", f"infer failed: {'; '.join(errors)}", lines)
    start, done = _first_index(_INFER_START, lines), _first_index(_INFER_DONE, lines)
    if start is None or done is None or done < start:
        raise dut_error("infer-incomplete", "m-infer-start or m-infer-done is missing", lines)
    _check_echo(INFER_START, _first_match(_INFER_START, lines), iterations, lines)
    _check_echo(WARMUP_START, _first_match(_WARMUP_START, lines), warmups, lines)
    laps = laps_in(lines[start : done + 1])
    if len(laps) not in {0, 2}:
        raise dut_error("infer-laps", f"infer printed {len(laps)} timestamps instead of 2", lines)
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
        raise dut_error("infer-echo", f"{word}{asked} expected, the DUT sent {seen}", lines)


def _parse_output(lines: Sequence[Line]) -> tuple[float, ...]:
    text = _first_match(_RESULTS, lines)
    try:
        results = parse_results(text or "")
    except ValueError:
        raise dut_error("infer-results", f"{RESULTS}{text}] are not numbers", lines) from None
    if not results:
        raise dut_error("infer-results", "infer printed no results", lines)
    return results


def dut_error(code: str, what: str, lines: Sequence[Line]) -> DutError:
    """Return a firmware error that quotes the reply."""
    return DutError(code, f"{what}; reply: {format_reply(lines)}", "check the firmware")


def format_reply(lines: Sequence[Line]) -> str:
    """Return a reply as an error message quotes it."""
    return format_quote(" / ".join(line.text for line in lines))


def format_db_commands(data: bytes, db_bytes: int) -> list[str]:
    """Return the ``db`` commands that carry ``data``, ``db_bytes`` in each."""
    return [f"db {data[i : i + db_bytes].hex()}" for i in range(0, len(data), db_bytes)]
