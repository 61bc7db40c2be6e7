"""Translation of pydantic's errors: every mistake of a document, its place, what is allowed.

Used for the documents that people write: requests and stations.toml.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from labd.wire.topics import NAME_PATTERN, NAME_RULE

Loc = tuple[int | str, ...]

LABELS_FILE_PATTERN = r"^[A-Za-z0-9_-]{1,60}\.csv$"

REMARK_PATTERN = r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$"
"""Free text that is safe to print in a terminal."""

_SHOWN_CHARS = 40


class Mistake(BaseModel):
    """One mistake in a document.

    Args:
        at: where, e.g. ``modes[1]``; empty for the document as a whole.
        text: what is wrong there.
        allowed: the values allowed there, if they are few.
    """

    model_config = ConfigDict(frozen=True)

    at: str
    text: str
    allowed: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """One line: the place, then what is wrong."""
        return f"{self.at}: {self.text}" if self.at else self.text


def format_location(loc: Loc) -> str:
    """Format a location as ``station[0].dut.port``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def format_value(value: object) -> str:
    """Format a value in one short line, as JSON and TOML do, with control characters escaped."""
    text = repr(value) if isinstance(value, str | bytes) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def unknown_value_mistake(at: str, value: object, allowed: Sequence[str]) -> Mistake:
    """Return the mistake of a value that is not in ``allowed``; suggest the nearest."""
    choices = ", ".join(allowed) or "nothing at all"
    text = f"{format_value(value)} is not one of {choices}{_suggest_nearest(value, allowed)}"
    return Mistake(at=at, text=text, allowed=tuple(allowed))


def unknown_key_mistake(at: str, key: str, allowed: Sequence[str]) -> Mistake:
    """Return the mistake of an unknown key; suggest the nearest known one."""
    choices = ", ".join(allowed)
    text = (
        f"{format_value(key)} is not a key here{_suggest_nearest(key, allowed)} (known: {choices})"
    )
    return Mistake(at=at, text=text, allowed=tuple(allowed))


def to_mistake(error: ErrorDetails, keys: Sequence[str]) -> Mistake:
    """Translate one error of pydantic.

    Args:
        error: as ``ValidationError.errors()`` lists it.
        keys: the keys allowed at the place of an unknown one.
    """
    at = format_location(error["loc"])
    if error["type"] == "extra_forbidden":
        return unknown_key_mistake(at, str(error["loc"][-1]), keys)
    if error["type"] in ("enum", "literal_error"):
        return unknown_value_mistake(at, error["input"], _expected_values(error))
    words = _WORDS.get(error["type"])
    return Mistake(
        at=at,
        text=words(error["input"], error.get("ctx", {})) if words else _pydantic_message(error),
    )


def format_first_error(error: ValidationError) -> str:
    """Return the first error of a document that labd wrote itself, in one line."""
    return str(to_mistake(error.errors(include_url=False)[0], ()))


def _suggest_nearest(value: object, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, allowed, n=1) if isinstance(value, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def _expected_values(error: ErrorDetails) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return re.findall(r"[\w./-]+", re.sub(r"' or '", "' '", expected))


def _pydantic_message(error: ErrorDetails) -> str:
    message = error["msg"]
    return f"{format_value(error['input'])}: {message[:1].lower()}{message[1:]}"


def _describe_pattern_mismatch(value: object, ctx: dict[str, Any]) -> str:
    pattern = ctx["pattern"]
    words = _PATTERN_WORDS.get(pattern, f"does not match {pattern}")
    return f"{format_value(value)} {words}"


def _describe_type_mismatch(what: str) -> Callable[[object, dict[str, Any]], str]:
    return lambda value, _ctx: f"{format_value(value)} is not {what}"


def _describe_limit(word: str, key: str, unit: str = "") -> Callable[[object, dict[str, Any]], str]:
    return lambda value, ctx: f"{format_value(value)} is not {word} {ctx[key]}{unit}"


_PATTERN_WORDS = {
    NAME_PATTERN: f"is not a name: {NAME_RULE}",
    LABELS_FILE_PATTERN: "is not the name of a labels file, such as y_labels_alt.csv",
    REMARK_PATTERN: "has control or invisible characters",
}
_WORDS: dict[str, Callable[[object, dict[str, Any]], str]] = {
    "json_invalid": lambda _value, ctx: f"not JSON: {ctx['error']}",
    "value_error": lambda _value, ctx: str(ctx["error"]),
    "missing": lambda _value, _ctx: "is missing",
    "string_type": _describe_type_mismatch("a string"),
    "int_type": _describe_type_mismatch("a whole number"),
    "int_from_float": _describe_type_mismatch("a whole number"),
    "int_parsing_size": _describe_type_mismatch("a number of sensible size"),
    "float_type": _describe_type_mismatch("a number"),
    "finite_number": _describe_type_mismatch("a finite number"),
    "bool_type": _describe_type_mismatch("true or false"),
    "list_type": _describe_type_mismatch("a list"),
    "tuple_type": _describe_type_mismatch("a list"),
    "dict_type": _describe_type_mismatch("a table"),
    "model_type": _describe_type_mismatch("a table"),
    "string_pattern_mismatch": _describe_pattern_mismatch,
    "string_too_short": _describe_limit("at least", "min_length", " characters long"),
    "string_too_long": _describe_limit("at most", "max_length", " characters long"),
    "too_short": _describe_limit("at least", "min_length", " long"),
    "too_long": _describe_limit("at most", "max_length", " long"),
    "greater_than": _describe_limit("more than", "gt"),
    "greater_than_equal": _describe_limit("at least", "ge"),
    "less_than": _describe_limit("less than", "lt"),
    "less_than_equal": _describe_limit("at most", "le"),
}
