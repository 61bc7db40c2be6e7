"""The LPM01A's replies to commands, and the numbers in both (UM2269 chapter 4)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = re.compile(r"\d{4}[+-]\d\d")


@dataclass(frozen=True, slots=True)
class CommandReply:
    """The reply to a command: its ack and data, or its refusal."""

    accepted: bool
    data: str


def find_reply(line: str, command: str) -> CommandReply | None:
    """Return the reply to ``command`` if this line holds it."""
    found = re.search(rf"\b(ack|error|err) {re.escape(command)}(?!\w)[:\s]*(.*)", line)
    return CommandReply(found[1] == "ack", found[2].strip()) if found else None


def parse_number(text: str) -> float:
    """Return a reply's number, such as ``3292-03``.

    Raises:
        ValueError: it is not a number.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(f"{text[:4]}e{text[4:]}")


def format_rate(rate_hz: int) -> str:
    """Return a sample rate as the instrument writes it: ``1k``."""
    return f"{rate_hz // 1000}k"


def format_number(value: float) -> str:
    """Return a number as the instrument reads it: 1 mA is ``1000-6``; it has four digits."""
    mantissa, power = f"{value:.3e}".split("e")
    return f"{mantissa.replace('.', '')}{int(power) - 3:+d}"
