"""Text of devices, users and files, made safe for terminals and logs."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of control, format, surrogate and unassigned characters, and of line and
paragraph separators (Unicode Standard, section 4.5). Format characters can reorder a line."""


def make_visible(text: str, *, keep: str = "") -> str:
    r"""Replace every character that a terminal would act on by its escape, as in JSON.

    ESC becomes ``\u001b``, so that JSON stays valid.

    Args:
        text: from any source.
        keep: characters to leave as they are, for example ``"\n"``.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _HIDDEN
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))
