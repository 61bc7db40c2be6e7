"""Replies of the MLPerf Tiny test harness, parsed and checked.

Parsing is as tolerant as the published session logs demand: echoes glued to replies, text in
between, trailing commas, line noise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from labd.core.errors import DutError, InfraError, LabdError, Where
from labd.core.model import Build
from labd.protocol.failure_texts import errors_in
from labd.protocol.lines import Line, format_quote, has_word
from labd.protocol.words import BOOTED, LAP, LOAD_DONE, MODEL, NAME, PROFILE, TIMESTAMP_MODE

COUNT = r"([0-9]{1,20})"
IN_BRACKETS = r"([^\]]*)\]"


def pattern_after(word: str, pattern: str) -> re.Pattern[str]:
    """Compile a pattern that follows a word of the protocol; an echo may precede the word."""
    return re.compile(re.escape(word) + pattern)


_NAME = pattern_after(NAME, r"(?:dut-)?\[(.*)\]")
_PROFILE = pattern_after(PROFILE, IN_BRACKETS)
_MODEL = pattern_after(MODEL, IN_BRACKETS)
_TIMESTAMP_MODE = pattern_after(TIMESTAMP_MODE, "(performance|energy)")
_LAP = pattern_after(LAP, COUNT + r"(?=m-|[^\w.]|$)")
_EXPECTING = pattern_after("m-[Expecting ", COUNT + r" bytes\]")

REPLY_DAMAGED = "reply-damaged"
"""Code of a reply that the line damaged; the command may be sent again."""

_UNKNOWN = re.compile(r"Unknown command: ?(.*)")
_UNPRINTABLE = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")
_WORD = re.compile(r"m-(?:infer|warmup|lap|results)")
_WHOLE_WORD = re.compile(
    r"m-(?:infer-done|warmup-done|(?:infer|warmup)-start-\d+|results-\[[^\]]*\])"
    r"(?=m-|[^A-Za-z0-9]|$)|m-lap-us-"
)


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


def first_match(pattern: re.Pattern[str], lines: Sequence[Line]) -> str | None:
    """Return the first group of the first match, ``None`` without one."""
    return next((m[1] for line in lines if (m := pattern.search(line.text))), None)


def laps_in(lines: Sequence[Line]) -> list[int]:
    """Return all lap counters in order; one line may have several.

    Raises:
        LabdError: one of them is not a plain number; see :func:`malformed_reply`.
    """
    laps = [int(lap) for line in lines for lap in _LAP.findall(line.text)]
    if len(laps) != sum(line.text.count(LAP) for line in lines):
        raise malformed_reply("lap-damaged", f"{LAP} is not followed by a plain number", lines)
    return laps


def build_in(lines: Sequence[Line]) -> Build | None:
    """Return the build that a prologue announces."""
    mode = first_match(_TIMESTAMP_MODE, lines)
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


def refuse_unsolicited(command: str, lines: Sequence[Line], where: Where) -> None:
    """Refuse what the DUT sent before a command: that it restarted, or a late error.

    Raises:
        InfraError: ``dut-restarted``.
        DutError: ``late-error``; the reply before was not what it seemed.
    """
    refuse_restart(command, lines, where)
    if errors := errors_in(lines):
        what = f"after its last reply, before '{command[:40]}', the DUT sent: {'; '.join(errors)}"
        raise dut_error("late-error", what, lines)


def has_name(lines: Sequence[Line]) -> bool:
    """Return whether these lines contain an answer to ``name``."""
    return first_match(_NAME, lines) is not None


def parse_identity(
    named: Sequence[Line], profiled: Sequence[Line], build: Build | None
) -> DutProfile:
    """Parse the answers to ``name`` and ``profile``.

    Raises:
        LabdError: the name or the model is missing; see :func:`malformed_reply`.
    """
    name, model = first_match(_NAME, named), first_match(_MODEL, profiled)
    if name is None or model is None:
        what = "the DUT does not report name and model"
        raise malformed_reply("identify", what, [*named, *profiled])
    return DutProfile(name, model, first_match(_PROFILE, profiled) or "", build)


def expected_bytes(lines: Sequence[Line]) -> int | None:
    """Return the size in the answer to ``db load``, ``None`` if it has none."""
    text = first_match(_EXPECTING, lines)
    return None if text is None else int(text)


def is_load_done(lines: Sequence[Line]) -> bool:
    """Return whether the DUT reports a full input buffer."""
    return has_word(LOAD_DONE, lines)


def dut_error(code: str, what: str, lines: Sequence[Line]) -> DutError:
    """Return a firmware error that quotes the reply."""
    return DutError(code, f"{what}; reply: {format_reply(lines)}", "check the firmware")


def malformed_reply(code: str, what: str, lines: Sequence[Line]) -> LabdError:
    """Return the error of a reply that violates the protocol.

    It is the line's fault if the reply has unprintable bytes or broken words, as after an overrun
    of the UART, and else the firmware's.
    """
    if not is_damaged(lines):
        return dut_error(code, what, lines)
    return InfraError(
        REPLY_DAMAGED,
        f"the reply was damaged on the line: {what}; reply: {format_reply(lines)}",
        "check the wiring and the baud rate",
    )


def is_damaged(lines: Sequence[Line]) -> bool:
    """Return whether a reply has unprintable bytes, or words of the protocol that are broken."""
    return any(
        _UNPRINTABLE.search(line.text) or len(_WORD.findall(line.text)) != _whole_words(line.text)
        for line in lines
    )


def _whole_words(text: str) -> int:
    return len(_WHOLE_WORD.findall(text))


def refused_command(
    code: str, word: str, errors: Sequence[str], lines: Sequence[Line]
) -> LabdError:
    """Return the error of a refused command, which begins with ``word``.

    It is the line's fault if the DUT names another command than was sent.
    """
    what = "; ".join(errors)
    named = [found[1].strip() for error in errors if (found := _UNKNOWN.match(error))]
    if any(other != word for other in named):
        return InfraError(
            REPLY_DAMAGED,
            f"the command was damaged on the line: {what}",
            "check the wiring and the baud rate",
        )
    return dut_error(code, what, lines)


def format_reply(lines: Sequence[Line]) -> str:
    """Return a reply as an error message quotes it."""
    return format_quote(" / ".join(line.text for line in lines))


def format_db_commands(data: bytes, db_bytes: int) -> list[str]:
    """Return the ``db`` commands that carry ``data``, ``db_bytes`` in each."""
    return [f"db {data[i : i + db_bytes].hex()}" for i in range(0, len(data), db_bytes)]
