"""What a DUT's replies say: the text protocol of the MLPerf Tiny test harness.

Read as loosely as the published session logs demand: echoes glued to replies, text in
between, trailing commas, line noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.errors import DutError
from labd.core.model import Build
from labd.protocol.lines import Line, quoted

BOOTED = "m-init-done"
"""Ends the boot prologue."""

COUNTER_MODULUS = 1 << 32
"""Microsecond counters of DUTs and tick counters of I/O managers have 32 bits."""

# An `e-[` that ends a message's own name (`m-profile-[`, `m-name-[`) is no error; an echo
# may be glued to either, so nothing is anchored.
_ERROR = re.compile(r"(?P<message>m-[a-z-]*)?e-\[(?P<text>[^\]]*)\]?")
_BARE_FAILURE = re.compile(
    r"Supplied buffer size \d+ exceeds maximum of \d+|Input db has \d+ elemented, expected \d+"
)
_NAME = re.compile(r"m-name-(?:dut-)?\[(.*)\]")
_PROFILE = re.compile(r"m-profile-\[([^\]]*)\]")
_MODEL = re.compile(r"m-model-\[([^\]]*)\]")
_TIMESTAMP_MODE = re.compile(r"m-timestamp-mode-(performance|energy)")
_LAP_WORD = "m-lap-us-"
_LAP = re.compile(r"m-lap-us-([0-9]{1,20})(?=m-|[^\w.]|$)")
_EXPECTING = re.compile(r"m-\[Expecting ([0-9]{1,20}) bytes\]")
_LOAD_DONE = re.compile(r"m-load-done")
_WARMUP_START = re.compile(r"m-warmup-start-([0-9]{1,20})")
_INFER_START = re.compile(r"m-infer-start-([0-9]{1,20})")
_INFER_DONE = re.compile(r"m-infer-done")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_RESULTS = re.compile(r"m-results-\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class DutProfile:
    """Who the DUT says it is; ``build`` is ``None`` when its prologue was not seen."""

    name: str
    model: str
    profile: str
    build: Build | None


@dataclass(frozen=True, slots=True)
class LoadReply:
    """A finished load; ``restarts`` says why each earlier attempt was given up."""

    size: int
    restarts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InferReply:
    """One checked ``infer`` command.

    Args:
        iterations: measured inferences, as echoed.
        warmups: inferences before them, as echoed.
        laps_us: the DUT's counter at both timestamps; ``None`` from an energy build.
        results: the output tensor of the last inference.
        start_ns: host's monotonic time at which ``m-infer-start`` arrived.
        done_ns: the same for ``m-infer-done``.
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
    def runtime_us(self) -> int | None:
        """Time between the laps; the DUT's counter wraps every 71.6 minutes."""
        if self.laps_us is None:
            return None
        return (self.laps_us[1] - self.laps_us[0]) % COUNTER_MODULUS


def errors_in(lines: Sequence[Line]) -> list[str]:
    """The texts of all failures the firmware reported, prefixed or not."""
    found: list[str] = []
    for line in lines:
        found += [m["text"] for m in _ERROR.finditer(line.text) if m["message"] is None]
        found += _BARE_FAILURE.findall(line.text)
    return found


def _first(pattern: re.Pattern[str], lines: Sequence[Line]) -> str | None:
    """The first group of the first match, anywhere in any line."""
    return next((m[1] for line in lines if (m := pattern.search(line.text))), None)


def laps_in(lines: Sequence[Line]) -> list[int]:
    """All lap counters, in order, even several in one line.

    Raises:
        DutError: one of them is no plain number.
    """
    laps = [int(lap) for line in lines for lap in _LAP.findall(line.text)]
    if len(laps) != sum(line.text.count(_LAP_WORD) for line in lines):
        raise dut_error("lap-damaged", f"a {_LAP_WORD} is followed by no plain number", lines)
    return laps


def build_in(lines: Sequence[Line]) -> Build | None:
    """The build a prologue announces."""
    mode = _first(_TIMESTAMP_MODE, lines)
    return Build(mode) if mode else None


def has_booted(lines: Sequence[Line]) -> bool:
    """Whether a boot prologue is among these lines."""
    return any(BOOTED in line.text for line in lines)


def has_name(lines: Sequence[Line]) -> bool:
    """Whether an answer to ``name`` is among these lines."""
    return _first(_NAME, lines) is not None


def parse_identity(
    named: Sequence[Line], profiled: Sequence[Line], build: Build | None
) -> DutProfile:
    """Read the answers to ``name`` and ``profile``.

    Raises:
        DutError: there is no name or no model in them.
    """
    name, model = _first(_NAME, named), _first(_MODEL, profiled)
    if name is None or model is None:
        raise dut_error("identify", "the DUT does not tell its name and model", [*named, *profiled])
    return DutProfile(name, model, _first(_PROFILE, profiled) or "", build)


def expected_bytes(lines: Sequence[Line]) -> int | None:
    """The size that the answer to ``db load`` repeats, if it does."""
    text = _first(_EXPECTING, lines)
    return None if text is None else int(text)


def is_load_done(lines: Sequence[Line]) -> bool:
    """Whether the input buffer is reported to be full."""
    return _index(_LOAD_DONE, lines) is not None


def parse_results(text: str) -> tuple[float, ...]:
    """Numbers between the brackets of ``m-results-[…]``; empty items are dropped.

    Raises:
        ValueError: an item is no number such as a DUT prints: no ``nan``, nothing infinite.
    """
    return tuple(_number(item.strip()) for item in text.split(",") if item.strip())


def _number(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r} is no number")
    return number


def parse_infer(lines: Sequence[Line], iterations: int, warmups: int) -> InferReply:
    """Check a reply to ``infer N W`` and take it apart.

    Raises:
        DutError: an error was reported, an echo differs, or laps or results are wrong.
    """
    if errors := errors_in(lines):
        raise dut_error("infer-refused", f"infer failed: {'; '.join(errors)}", lines)
    start = _index(_INFER_START, lines)
    done = _index(_INFER_DONE, lines)
    if start is None or done is None or done < start:
        raise dut_error("infer-incomplete", "infer gave no m-infer-start … m-infer-done", lines)
    _check_echo("m-infer-start", _first(_INFER_START, lines), iterations, lines)
    _check_echo("m-warmup-start", _first(_WARMUP_START, lines), warmups, lines)
    laps = laps_in(lines[start : done + 1])
    if len(laps) not in {0, 2}:
        raise dut_error("infer-laps", f"infer gave {len(laps)} timestamps, not two", lines)
    return InferReply(
        iterations=iterations,
        warmups=warmups,
        laps_us=(laps[0], laps[1]) if laps else None,
        results=_results(lines),
        start_ns=lines[start].t_ns,
        done_ns=lines[done].t_ns,
        lines=tuple(lines),
    )


def _index(pattern: re.Pattern[str], lines: Sequence[Line]) -> int | None:
    return next((i for i, line in enumerate(lines) if pattern.search(line.text)), None)


def _check_echo(what: str, seen: str | None, asked: int, lines: Sequence[Line]) -> None:
    if seen is None and asked == 0:
        return
    if seen is None or int(seen) != asked:
        raise dut_error("infer-echo", f"{what}-{asked} expected, the DUT said {seen}", lines)


def _results(lines: Sequence[Line]) -> tuple[float, ...]:
    text = _first(_RESULTS, lines)
    try:
        results = parse_results(text or "")
    except ValueError:
        raise dut_error("infer-results", f"m-results-[{text}] are no numbers", lines) from None
    if not results:
        raise dut_error("infer-results", "infer gave no results", lines)
    return results


def dut_error(code: str, what: str, lines: Sequence[Line]) -> DutError:
    """A fault of the firmware, quoting its reply."""
    return DutError(code, f"{what}; reply: {reply_text(lines)}", "see the firmware's protocol")


def reply_text(lines: Sequence[Line]) -> str:
    """A reply as an error message quotes it."""
    return quoted(" / ".join(line.text for line in lines))


def db_lines(data: bytes, db_bytes: int) -> list[str]:
    """The ``db`` commands that carry ``data``, each as long as the way allows."""
    return [f"db {data[i : i + db_bytes].hex()}" for i in range(0, len(data), db_bytes)]
