"""Completeness of a result text: all that a runner prints, and nothing else.

Runners print windows of one format, then their median; a text without one of these was cut off
or edited. Text below the last line that a runner prints was added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from labd.core.model import Finding
from labd.rescore.published import Published

_PREFIXED = re.compile(r"\s*(?:\d{1,9}\.\d{3}|\d{4}\.\d{6}) [\w-]{1,20}: ?")
_PLAIN = re.compile(
    r"\s*(?:-{3,}|# Inferences|Inferences|Runtime|Throughput|Power|Energy|Elapsed|Total Energy"
    r"|Performance results|Median|Accuracy|Average|Estimated|Top|AUC|Cannot compute|e-\[)"
)
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]|\ufffd{3}")

_WHOLE_LINE = re.compile(r"(?:[\d.%\]:-]|u[JW]|uJ/inf|mW|positives)\s*$")

MEDIANS = {
    "Performance results": "median_throughput_ips",
    "Energy data": "median_energy_uj",
}
"""The median that follows several windows of a kind."""


def strange_lines(lines: Iterable[str]) -> tuple[int, str]:
    """Count the lines that no runner prints (binary, or below the end) and return the first."""
    binary: list[str] = []
    below: list[str] = []
    for line in lines:
        if _BINARY.search(line):
            binary.append(line)
        elif _PREFIXED.match(line) or _PLAIN.match(line):
            below.clear()
        elif line.strip():
            below.append(line)
    strange = binary + below
    return len(strange), strange[0] if strange else ""


def ends_within(line: str) -> bool:
    """Whether the last line, which has no line end, is cut off."""
    return bool(line.strip()) and not _WHOLE_LINE.search(line)


def script_damage(text: str) -> str:
    """Return the damage of a command list: empty, or its bracket is not closed."""
    plain = text.strip().rstrip(";")
    if not plain:
        return "is empty"
    return "is cut off" if plain.startswith("[") and not plain.endswith("]") else ""


def text_findings(name: str, published: Published) -> Iterator[Finding]:
    """Yield findings about missing parts of a result text.

    Args:
        name: of the file.
        published: its numbers.
    """
    if not published.blocks:
        return
    windows = published.windows
    usual = windows[0].values.keys()
    for window in windows:
        if lost := [key for key in usual if key not in window.values]:
            text = f"{name} is cut off: window {window.number} has no {', '.join(lost)}"
            yield Finding("file-damaged", text)
            break
    kinds = {kind for window in windows for kind in window.kinds}
    for kind, median in MEDIANS.items():
        if len(windows) > 1 and kind in kinds and median not in published.score:
            text = f"{name} lists {len(windows)} windows, but no {median} after them"
            yield Finding("score-missing", text)
