"""Numbers of a runner's result text, as printed, and whether the text is complete.

Scores are read as by the official submission checker (github.com/mlcommons/tiny,
tools/submission/submission_checker.py): the last matching line counts. A file may hold several
result blocks in sequence; a block begins where a window number repeats.

Runners print windows of one format, then their median; a text without one of these was cut off
or edited. Text below the last line that a runner prints was added.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from labd.core.model import Finding

_NUMBER = (
    r"([-+]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][-+]?\d{1,3})?|-?(?:nan|inf|NaN|Infinity))"
)
_HEADER = re.compile(r"(Energy data|Performance results) for (?:window|trial) (\d{1,9})\b")
_WINDOW_LINES = tuple(
    (re.compile(pattern.replace("#", _NUMBER)), key)
    for pattern, key in (
        (r"Inferences\s*:\s*#", "inferences"),
        (r"Runtime\s*:\s*# ?sec", "runtime_s"),
        (r"Elapsed time\s*:\s*#", "runtime_s"),
        (r"Throughput\s*:\s*# ?inf", "throughput_ips"),
        (r"Energy\s*:\s*# ?uJ", "energy_uj"),
        (r"Power\s*:\s*# ?uW", "power_uw"),
        (r"Power\s*:\s*# ?mW", "power_mw"),
        (r"Energy/Inf\.?\s*:\s*#", "energy_per_inference_uj"),
    )
)
_SCORE_LINES = tuple(
    (re.compile(pattern.replace("#", _NUMBER)), key)
    for pattern, key in (
        (r"Top[- ]1\s?%?\s?[:=]\s*#", "top1_pct"),
        (r"\bAUC\s?[:=]\s*#", "auc"),
        (r"Median throughput is\s+#", "median_throughput_ips"),
        (r"Median energy cost is\s+#", "median_energy_uj"),
        (r"Estimated throughput:\s*#", "median_throughput_ips"),
        (r"Average duty cycle:\s*#", "duty_cycle"),
        (r"Average period:\s*#", "period_s"),
    )
)
_WAKEWORDS = re.compile(
    r"(\d{1,9}) True positives, (\d{1,9}) False negatives, (\d{1,9}) False positives"
)
_CUT = re.compile(r"(?<!AUC:)(?<!AUC =)\s[-+.\d]+$")
"""A number at the end of a line that is cut off; an AUC has no unit behind it."""

_SIGNS = re.compile(r"esults for|data for|Top|AUC|Median|Average|Estimated|True positives")
"""Outside of a window, a line without any of these holds no number; logs have millions."""

_SCALE = {"power_mw": ("power_uw", 1000.0)}


@dataclass(frozen=True, slots=True)
class Printed:
    """A number as it was printed.

    Args:
        text: its digits.
        scale: factor from the printed unit to labd's.
        slack: allowed difference beyond rounding.
    """

    text: str
    scale: float = 1.0
    slack: float = 0.0

    @property
    def value(self) -> float | None:
        """In labd's unit; ``None`` if it is not finite."""
        number = float(self.text) * self.scale
        return number if math.isfinite(number) else None

    def same_digits(self, ours: float) -> bool:
        """Whether ``ours``, rounded to the printed digits, is the printed number.

        Halves may be rounded either way: the two runners' languages differ in it.
        """
        if self.value is None or not math.isfinite(ours):
            return False
        printed = Decimal(self.text)
        half = Decimal(5).scaleb(int(printed.as_tuple().exponent) - 1)
        return abs(Decimal(ours / self.scale) - printed) <= half + Decimal(self.slack)


@dataclass(slots=True)
class PublishedWindow:
    """One window as printed; ``kinds`` are its headers."""

    number: int
    values: dict[str, Printed] = field(default_factory=dict[str, Printed])
    kinds: set[str] = field(default_factory=set[str])


@dataclass(frozen=True, slots=True)
class Published:
    """All numbers of a result text."""

    score: dict[str, Printed] = field(default_factory=dict[str, Printed])
    blocks: Sequence[Sequence[PublishedWindow]] = ()

    @property
    def windows(self) -> Sequence[PublishedWindow]:
        """Windows of the last block."""
        return self.blocks[-1] if self.blocks else ()

    @property
    def all_windows(self) -> Sequence[PublishedWindow]:
        """Windows of all blocks, in order."""
        return [window for block in self.blocks for window in block]

    def __bool__(self) -> bool:
        """Whether there is any number."""
        return bool(self.score or self.blocks)

    def as_json(self) -> dict[str, Any]:
        """Return score keys and ``windows``, in labd's units."""
        score: dict[str, Any] = {
            key: _to_plain_number(printed)
            for key, printed in self.score.items()
            if key != "period_s"
        }
        if self.blocks:
            score["windows"] = [
                {key: _to_plain_number(printed) for key, printed in window.values.items()}
                for window in self.windows
            ]
        return score


def _to_plain_number(printed: Printed) -> float | int | None:
    """Return a whole number as an integer."""
    return int(printed.text) if printed.text.isdecimal() else printed.value


class ResultReader:
    """Reader of a result text, line by line."""

    def __init__(self) -> None:
        self._score: dict[str, Printed] = {}
        self._blocks: list[dict[int, PublishedWindow]] = []
        self._window: PublishedWindow | None = None
        self._fresh = False
        self._power_mw: Printed | None = None

    def feed(self, line: str, *, cut: bool = False) -> None:
        """Read one line; a ``cut`` one had no line end, so its last number may lack digits."""
        if cut and _CUT.search(line):
            return
        if self._window is None and not _SIGNS.search(line):
            return
        if found := _HEADER.search(line):
            self._open_window(found[1], int(found[2]))
        elif words := _WAKEWORDS.search(line):
            self._score |= dict(zip(("tp", "fn", "fp"), map(Printed, words.groups()), strict=True))
        elif not self._feed_score(line) and self._window is not None:
            self._feed_window(self._window, line)

    def to_published(self) -> Published:
        """Return all numbers; the wake word power is the last power line, as in the checker."""
        score = dict(self._score)
        if "tp" in score and self._power_mw is not None:
            score["mean_power_mw"] = self._power_mw
        return Published(score, tuple(tuple(block.values()) for block in self._blocks))

    def _open_window(self, kind: str, number: int) -> None:
        """Begin a window; a header printed several times in a row counts once."""
        block = self._blocks[-1] if self._blocks else None
        doubled = self._fresh and self._window is not None and self._window.number == number
        self._fresh = True
        if block is None or (number in block and kind in block[number].kinds and not doubled):
            block = dict[int, PublishedWindow]()
            self._blocks.append(block)
        self._window = block.setdefault(number, PublishedWindow(number))
        self._window.kinds.add(kind)

    def _feed_score(self, line: str) -> bool:
        for pattern, key in _SCORE_LINES:
            if found := pattern.search(line):
                self._score[key] = Printed(found[1])
                self._window = None
                return True
        return False

    def _feed_window(self, window: PublishedWindow, line: str) -> None:
        for pattern, key in _WINDOW_LINES:
            if found := pattern.search(line):
                self._fresh = False
                if key == "power_mw":
                    self._power_mw = Printed(found[1])
                name, scale = _SCALE.get(key, (key, 1.0))
                window.values[name] = Printed(found[1], scale)
                return


# ---- completeness of a result text ----------------------------------------------------------

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


def count_strange_lines(lines: Iterable[str]) -> tuple[int, str]:
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


def ends_within_line(line: str) -> bool:
    """Whether the last line, which has no line end, is cut off."""
    return bool(line.strip()) and not _WHOLE_LINE.search(line)


def script_damage(text: str) -> str:
    """Return the damage of a command list: empty, or its bracket is not closed."""
    plain = text.strip().rstrip(";")
    if not plain:
        return "is empty"
    return "is cut off" if plain.startswith("[") and not plain.endswith("]") else ""


def text_findings(name: str, published: Published) -> Iterator[Finding]:
    """Yield findings about missing parts of the result text of this file name."""
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
