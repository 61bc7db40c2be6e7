"""Comparing what was recomputed with what was published, digit by digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from labd.core.model import Finding, Mode
from labd.core.suite import MIN_INFERENCES, MIN_WINDOW_S, WINDOWS
from labd.core.wakeword import MOST_FALSE_NEGATIVES, MOST_FALSE_POSITIVES, WORDS
from labd.report.rescore.model import ScoredWindow
from labd.report.rescore.published import Printed, Published, PublishedWindow

TARGETS = {
    "ad01": ("auc", 0.85),
    "ic01": ("top1_pct", 85.0),
    "ic02": ("top1_pct", 91.0),
    "kws01": ("top1_pct", 90.0),
    "vww01": ("top1_pct", 80.0),
}
"""Least quality of the closed division (submission checker)."""


@dataclass(slots=True)
class Comparison:
    """What came out of a comparison; ``compared`` counts numbers, ``findings`` differences."""

    compared: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    differs: bool = False

    @property
    def agrees(self) -> bool | None:
        """Whether all agree; ``None`` when nothing could be compared."""
        return None if not self.compared else not self.differs

    def check(self, code: str, what: str, ours: float, printed: Printed) -> None:
        """Compare one number."""
        self.compared += 1
        if not printed.same_digits(ours):
            self.differs = True
            text = f"{what}: {ours / printed.scale!r} recomputed, {printed.text} published"
            self.findings.append(Finding(code, text))


def compare(
    windows: Sequence[ScoredWindow], score: dict[str, float], published: Published
) -> Comparison:
    """Compare every number that stands on both sides."""
    result = Comparison()
    pairs, missing = align(windows, published)
    for ours, theirs in pairs:
        for key, value in ours.values().items():
            if key in theirs.values:
                result.check(
                    "window-differs", f"window {theirs.number} {key}", value, theirs.values[key]
                )
    if missing and windows:
        numbers = ", ".join(str(window.number) for window in missing)
        text = (
            f"the raw data hold {len(windows)} of {len(pairs) + len(missing)} published windows; "
            f"missing: {numbers}"
        )
        result.findings.append(Finding("windows-missing-in-log", text))
    if windows and len(windows) > len(pairs) and published.blocks:
        text = f"the raw data hold {len(windows)} windows, {len(pairs)} of them are published"
        result.findings.append(Finding("windows-unpublished", text))
    for key, value in score.items():
        if key in published.score:
            result.check("score-differs", key, value, published.score[key])
    return result


def align(
    windows: Sequence[ScoredWindow], published: Published
) -> tuple[list[tuple[ScoredWindow, PublishedWindow]], list[PublishedWindow]]:
    """Pair recomputed with published windows, and name the published ones left over.

    By number where the counts agree. A log that covers fewer windows than the result text
    holds some of them, in order: those whose digits agree.
    """
    theirs = published.windows
    if len(published.all_windows) == len(windows):
        theirs = published.all_windows
    if len(theirs) <= len(windows):
        numbered = {window.number: window for window in windows}
        named = {window.number for window in theirs}
        if named <= set(numbered) and len(named) == len(theirs) and len(numbered) == len(windows):
            return [(numbered[window.number], window) for window in theirs], []
        return list(zip(windows, theirs, strict=False)), []
    chosen = _best_subset(windows, theirs)
    pairs = [(ours, theirs[i]) for ours, i in zip(windows, chosen, strict=True)]
    return pairs, [window for i, window in enumerate(theirs) if i not in chosen]


def _best_subset(windows: Sequence[ScoredWindow], theirs: Sequence[PublishedWindow]) -> list[int]:
    """Which published windows ours are, order kept, so that most of them agree."""
    spare = len(theirs) - len(windows)
    best: list[tuple[int, list[int]]] = [(0, [])] * (spare + 1)
    for row, ours in enumerate(windows):
        row_best: list[tuple[int, list[int]]] = []
        for shift in range(spare + 1):
            points, chosen = best[shift]
            points += _agreement(ours, theirs[row + shift])
            candidate = (points, [*chosen, row + shift])
            row_best.append(max(candidate, row_best[-1], key=_points) if row_best else candidate)
        best = row_best
    return best[-1][1]


def _points(candidate: tuple[int, list[int]]) -> int:
    return candidate[0]


def _agreement(ours: ScoredWindow, theirs: PublishedWindow) -> int:
    both = [(v, theirs.values[k]) for k, v in ours.values().items() if k in theirs.values]
    return int(bool(both) and all(printed.same_digits(value) for value, printed in both))


def complete_windows(
    windows: Sequence[ScoredWindow], published: Published
) -> Sequence[ScoredWindow]:
    """Our windows, and in their places those the raw data lack, as they were printed."""
    pairs, missing = align(windows, published)
    if not windows or not missing:
        return windows
    ours = {id(theirs): window for window, theirs in pairs}
    return [ours.get(id(theirs)) or _as_printed(theirs) for theirs in published.windows]


def _as_printed(window: PublishedWindow) -> ScoredWindow:
    values = {key: printed.value for key, printed in window.values.items()}
    inferences = values.pop("inferences", None)
    return ScoredWindow(window.number, None if inferences is None else int(inferences), **values)


def judge_windows(
    windows: Sequence[ScoredWindow], published: Published, *, streaming: bool
) -> list[Finding]:
    """What the rules say against the windows; the published ones where there are no others."""
    findings: list[Finding] = []
    source = "" if windows else " (as published)"
    every = list(windows) or [_as_printed(window) for window in published.windows]
    for window in every:
        name = f"window {window.number}"
        if window.runtime_s is not None and window.runtime_s < MIN_WINDOW_S:
            text = f"{name} lasts {window.runtime_s:.6g} s, less than {MIN_WINDOW_S:g} s{source}"
            findings.append(Finding("window-short", text))
        few = window.inferences is not None and window.inferences < MIN_INFERENCES
        if few and not streaming:
            text = (
                f"{name} holds {window.inferences} inferences, less than {MIN_INFERENCES}{source}"
            )
            findings.append(Finding("few-inferences", text))
    expected = 1 if streaming else WINDOWS
    if every and len(every) != expected:
        text = f"{len(every)} windows instead of {expected}{source}"
        findings.append(Finding("window-count", text))
    return findings


def judge_score(benchmark: str | None, mode: Mode | None, score: dict[str, float]) -> list[Finding]:
    """What the closed division's limits say against a score."""
    if benchmark == "sww01" and "tp" in score:
        tp, fn, fp = (int(score[key]) for key in ("tp", "fn", "fp"))
        if fp <= MOST_FALSE_POSITIVES and fn <= MOST_FALSE_NEGATIVES and tp + fn == WORDS:
            return []
        text = (
            f"{fn} missed and {fp} false of {tp + fn} wake words; the closed division allows "
            f"{MOST_FALSE_NEGATIVES} and {MOST_FALSE_POSITIVES} of {WORDS}"
        )
        return [Finding("below-target", text)]
    key, target = TARGETS.get(benchmark or "", ("", 0.0))
    if mode is Mode.ACCURACY and key in score and score[key] < target:
        text = f"{key} {score[key]:.4g} is less than the closed division's {target:g}"
        return [Finding("below-target", text)]
    return []
