"""How the LPM01A answers commands, and the way it writes and reads numbers (UM2269 chapter 4)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = re.compile(r"\d{4}[+-]\d\d")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the instrument made of a command."""

    accepted: bool
    data: str


def answer_in(line: str, command: str) -> Answer | None:
    """The answer to ``command`` if this line holds it."""
    found = re.search(rf"\b(ack|error|err) {re.escape(command)}(?!\w)[:\s]*(.*)", line)
    return Answer(found[1] == "ack", found[2].strip()) if found else None


def parse_number(text: str) -> float:
    """A reply's number, such as ``3292-03``.

    Raises:
        ValueError: it is none.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(f"{text[:4]}e{text[4:]}")


def frequency_word(rate_hz: int) -> str:
    """The way the instrument writes a sample rate: ``1k``."""
    return f"{rate_hz // 1000}k"


def number_word(value: float) -> str:
    """The way the instrument reads a number: 1 mA is ``1000-6``; four digits count."""
    mantissa, power = f"{value:.3e}".split("e")
    return f"{mantissa.replace('.', '')}{int(power) - 3:+d}"
