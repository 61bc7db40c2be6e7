"""Comparison of recomputed with published numbers, digit by digit, and with the rules."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from labd.core.model import Finding, Mode
from labd.core.suite import CLOSED_TARGETS, MIN_INFERENCES, MIN_WINDOW_S, WINDOWS
from labd.core.wakeword import MAX_FALSE_NEGATIVES, MAX_FALSE_POSITIVES, WORDS
from labd.rescore.published import Printed, Published, PublishedWindow
from labd.rescore.session_score import SCORE_KEYS, Recomputed, ScoredWindow

SWW_OFFICIAL = ("tp", "fn", "fp", "duty_cycle", "median_throughput_ips", "mean_power_mw")


def official_keys(benchmark: str | None, mode: Mode | None) -> Sequence[str]:
    """Return the scores that the submission checker reads for a benchmark in a mode."""
    if benchmark == "sww01":
        return SWW_OFFICIAL
    if mode is Mode.ACCURACY:
        return ("top1_pct", "auc")
    if mode is Mode.PERFORMANCE:
        return ("median_throughput_ips",)
    return ("median_energy_uj",) if mode is Mode.ENERGY else SCORE_KEYS


SINGLE = {
    "throughput_ips": "median_throughput_ips",
    "energy_per_inference_uj": "median_energy_uj",
}
"""A run of one window has no printed median: the window is the score."""


@dataclass(slots=True)
class Comparison:
    """Result of a comparison.

    ``compared`` counts the numbers compared, ``scores`` has the keys of the scores among them.
    """

    compared: int = 0
    scores: set[str] = field(default_factory=set[str])
    findings: list[Finding] = field(default_factory=list[Finding])
    differs: bool = False

    @property
    def agrees(self) -> bool | None:
        """Whether all numbers agree; ``None`` if none could be compared."""
        return None if not self.compared else not self.differs

    def agrees_on(self, official: Sequence[str]) -> bool | None:
        """Whether all numbers agree; ``None`` if no official score could be compared."""
        if self.agrees and not self.scores.intersection(official):
            return None
        return self.agrees

    def compare_number(self, code: str, what: str, ours: float, printed: Printed) -> None:
        """Compare one number."""
        self.compared += 1
        if not printed.same_digits(ours):
            self.differs = True
            text = f"{what}: {ours / printed.scale!r} recomputed, {printed.text} published"
            self.findings.append(Finding(code, text))


def compare_with_published(raw: Recomputed, published: Published) -> Comparison:
    """Compare every number that is both recomputed and published."""
    result = Comparison()
    pairs, missing = pair_windows(raw, published)
    singles = SINGLE if is_single(raw, published) else {}
    for ours, theirs in pairs:
        for key, value in ours.known_values().items():
            if key in theirs.values:
                what = f"window {theirs.number} {key}"
                result.compare_number("window-differs", what, value, theirs.values[key])
                result.scores.update([singles[key]] if key in singles else [])
    result.findings += _count_findings(raw, pairs, missing, published)
    for key, value in raw.score.items():
        if key in published.score:
            result.compare_number("score-differs", key, value, published.score[key])
            result.scores.add(key)
    return result


def is_single(raw: Recomputed, published: Published) -> bool:
    """Whether each published session was one window, so that no median was printed."""
    alone = all(len(block) == 1 for block in published.blocks)
    return alone and len(raw.windows) <= len(published.blocks)


def unstated_scores(
    raw: Recomputed, published: Published, official: Sequence[str]
) -> list[Finding]:
    """Report official numbers that were recomputed but are not in the result text."""
    if not published or (published.blocks and is_single(raw, published)):
        return []
    gaps = [key for key in official if key in raw.score and key not in published.score]
    recomputed = ", ".join(f"{key} {raw.score[key]:.6g}" for key in gaps)
    text = f"the result text lacks what the raw data give: {recomputed}"
    return [Finding("score-missing", text)] if gaps else []


def _count_findings(
    raw: Recomputed,
    pairs: Sequence[Pair],
    missing: Sequence[PublishedWindow],
    published: Published,
) -> Iterator[Finding]:
    count = len(raw.windows)
    if missing and count:
        numbers = ", ".join(str(window.number) for window in missing)
        text = (
            f"the raw data hold {count} of {len(pairs) + len(missing)} published windows; "
            f"missing: {numbers}"
        )
        if raw.fills_missing_windows:
            text += f"; the median uses these {len(missing)} as they were printed"
        yield Finding("windows-missing-in-log", text)
    if count > len(pairs) and published.blocks:
        text = f"the raw data hold {count} windows, {len(pairs)} of them are published"
        yield Finding("windows-unpublished", text)


Pair = tuple[ScoredWindow, PublishedWindow]


def pair_windows(raw: Recomputed, published: Published) -> tuple[list[Pair], list[PublishedWindow]]:
    """Pair recomputed with published windows; return the pairs and the published ones left.

    They are paired by number if the raw data hold as many windows, damaged ones included, as
    were published. A log with fewer windows than the result text is aligned in order, maximising
    the digits that agree, then the number of pairs.
    """
    windows, theirs = raw.windows, published.windows
    attempted = len(windows) + len(raw.damaged)
    if len(published.all_windows) == attempted:
        theirs = published.all_windows
    numbered = {window.number: window for window in windows}
    known = numbered.keys() | set(raw.damaged)
    named = {window.number for window in theirs}
    if len(named) == len(theirs) and len(known) == attempted and named <= known:
        pairs = [(numbered[w.number], w) for w in theirs if w.number in numbered]
        return pairs, [w for w in theirs if w.number not in numbered]
    if len(theirs) <= len(windows):
        return list(zip(windows, theirs, strict=False)), []
    chosen = _best_subset(windows, theirs)
    pairs = [(ours, theirs[i]) for ours, i in zip(windows, chosen, strict=True)]
    return pairs, [window for i, window in enumerate(theirs) if i not in chosen]


Points = tuple[int, int]


def _best_subset(windows: Sequence[ScoredWindow], theirs: Sequence[PublishedWindow]) -> list[int]:
    """Choose published windows for ours, in order, so that most of them agree."""
    spare = len(theirs) - len(windows)
    best: list[tuple[Points, list[int]]] = [((0, 0), [])] * (spare + 1)
    for row, ours in enumerate(windows):
        row_best: list[tuple[Points, list[int]]] = []
        for shift in range(spare + 1):
            (agreed, named), chosen = best[shift]
            more = _agreement_points(ours, theirs[row + shift])
            candidate = ((agreed + more[0], named + more[1]), [*chosen, row + shift])
            row_best.append(
                max(row_best[-1], candidate, key=_candidate_points) if row_best else candidate
            )
        best = row_best
    return best[-1][1]


def _candidate_points(candidate: tuple[Points, list[int]]) -> Points:
    return candidate[0]


def _agreement_points(ours: ScoredWindow, theirs: PublishedWindow) -> Points:
    both = [(v, theirs.values[k]) for k, v in ours.known_values().items() if k in theirs.values]
    agree = bool(both) and all(printed.same_digits(value) for value, printed in both)
    return int(agree), int(ours.number == theirs.number)


def score_windows(raw: Recomputed, published: Published) -> None:
    """Add the medians over all windows of a session to its score.

    There is no median if the raw data of a window are damaged. Windows that an intact log does
    not cover are taken as printed.
    """
    pairs, missing = pair_windows(raw, published)
    if not raw.has_all_windows or (missing and not raw.fills_missing_windows):
        return
    ours = {id(theirs): window for window, theirs in pairs}
    every = [ours.get(id(theirs)) or _as_printed(theirs) for theirs in published.windows]
    raw.score |= median_scores(every if missing and raw.windows else raw.windows)


def median_scores(windows: Sequence[ScoredWindow]) -> dict[str, float]:
    """Compute medians over windows, of the quantities that every window has."""
    score: dict[str, float] = {}
    throughputs = [w.throughput_ips for w in windows if w.throughput_ips is not None]
    energies = [w.energy_per_inference_uj for w in windows if w.energy_per_inference_uj is not None]
    if throughputs and len(throughputs) == len(windows):
        score["median_throughput_ips"] = statistics.median(throughputs)
    if energies and len(energies) == len(windows):
        score["median_energy_uj"] = statistics.median(energies)
    return score


def _as_printed(window: PublishedWindow) -> ScoredWindow:
    values = {key: printed.value for key, printed in window.values.items()}
    inferences = values.pop("inferences", None)
    return ScoredWindow(window.number, None if inferences is None else int(inferences), **values)


CAUSES = (
    "file-missing",
    "file-damaged",
    "trace-missing",
    "trace-lost",
    "trace-short",
    "lost-stamp",
    "windows-missing-in-log",
    "result-count",
    "unofficial",
    "results-damaged",
    "labels-unknown",
    "auc-impossible",
    "edges-unpaired",
)
"""Findings that can prevent a recomputation."""


def unrecomputed_scores(
    score: dict[str, float], published: Published, official: Sequence[str], so_far: list[Finding]
) -> list[Finding]:
    """Report official numbers that were published but could not be recomputed, and why."""
    lost = [key for key in official if key in published.score and key not in score]
    if not lost:
        return []
    why = [f"{found.code} ({found.text})" for found in so_far if found.code in CAUSES]
    numbers = ", ".join(f"{key} {published.score[key].text}" for key in lost)
    because = "; ".join(why[:3]) or "it is not in the raw data"
    return [Finding("not-recomputed", f"{numbers}: published, not recomputed: {because}")]


def window_findings(
    windows: Sequence[ScoredWindow], published: Published, *, streaming: bool
) -> list[Finding]:
    """Check the windows against the rules; the published ones if none were recomputed."""
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


def input_findings(files: Sequence[str]) -> list[Finding]:
    """Report inputs that more than one window ran on; the rules ask for five different ones.

    Args:
        files: input of each window, empty where it is unknown.
    """
    counts = Counter(file for file in files if file)
    repeated = [file for file, count in counts.items() if count > 1]
    if not repeated:
        return []
    text = f"{len(files)} windows ran on {len(counts)} inputs; repeated: {', '.join(repeated[:3])}"
    return [Finding("repeated-input", text)]


def limit_findings(
    benchmark: str | None, mode: Mode | None, score: dict[str, float]
) -> list[Finding]:
    """Check a score against the limits of the closed division."""
    if benchmark == "sww01" and "tp" in score:
        tp, fn, fp = (int(score[key]) for key in ("tp", "fn", "fp"))
        if fp <= MAX_FALSE_POSITIVES and fn <= MAX_FALSE_NEGATIVES and tp + fn == WORDS:
            return []
        text = (
            f"{fn} missed and {fp} false of {tp + fn} wake words; the closed division allows "
            f"{MAX_FALSE_NEGATIVES} and {MAX_FALSE_POSITIVES} of {WORDS}"
        )
        return [Finding("below-target", text)]
    key, target = CLOSED_TARGETS.get(benchmark or "", ("", 0.0))
    if mode is Mode.ACCURACY and key in score and score[key] < target:
        text = f"{key} {score[key]:.4g} is less than the closed division's {target:g}"
        return [Finding("below-target", text)]
    return []
