"""Re-scored sessions as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from labd.cli.terminal import make_console, styled
from labd.core.model import Finding
from labd.rescore import SessionScore

FOLDER_WIDTH = 60
"""Longer paths are continued on the next line."""

WIDEST = 10_000

AGREES = {
    True: styled("yes", "green"),
    False: styled("NO", "red"),
    None: styled("–", "dim"),
}


def show_scores(scores: Sequence[SessionScore], given: Sequence[Path]) -> None:
    """Print one line per session; a single session with its windows and findings.

    Args:
        scores: of the sessions.
        given: the folders the user named; sessions are shown by their place in these.
    """
    console = make_console()
    if len(scores) == 1:
        _show_details(console, scores[0], given)
    else:
        show_overview(console, scores, given)
        agreed = Counter(score.agrees for score in scores)
        console.print(
            f"{len(scores)} sessions: {agreed[True]} agree, {agreed[False]} differ, "
            f"{agreed[None]} could not be compared"
        )


def show_overview(console: Console, scores: Sequence[SessionScore], given: Sequence[Path]) -> None:
    """Print a table; if it is wider than the terminal, one paragraph per session."""
    table = _make_overview_table(scores, given)
    unbound = console.options.update_width(WIDEST)
    gaps = 2 * len(table.columns)  # Rich leaves them out of the minimum
    if console.measure(table, options=unbound).minimum + gaps <= console.width:
        console.print(table)
        return
    for score in scores:
        kind = " ".join((score.runner or "?", score.benchmark or "?", score.mode or "?"))
        facts = f"  {kind}: {format_session_score(score.score)}; agrees: "
        console.print(styled(path_below_given(score.folder, given), "bold"), soft_wrap=True)
        console.print(styled(facts).append_text(AGREES[score.agrees]))
        if score.findings:
            console.print(styled(f"  {_format_finding_codes(score.findings)}"))


def _make_overview_table(scores: Sequence[SessionScore], given: Sequence[Path]) -> Table:
    """Tabulate sessions; no column breaks a word."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("folder", no_wrap=True)
    for column in ("runner", "benchmark", "mode"):
        table.add_column(column, no_wrap=True)
    table.add_column("score", no_wrap=True)
    table.add_column("agrees", no_wrap=True)
    codes = [found.code for score in scores for found in score.findings]
    table.add_column("findings", min_width=max(map(len, ["findings", *codes])) + 1)
    for score in scores:
        table.add_row(
            styled(fold_path(path_below_given(score.folder, given))),
            score.runner or "?",
            score.benchmark or "?",
            score.mode or "?",
            styled(format_session_score(score.score).replace(", ", ",\n")),
            AGREES[score.agrees],
            styled(_format_finding_codes(score.findings)),
        )
    return table


def path_below_given(folder: Path, given: Sequence[Path]) -> str:
    """Return a session's path below the named folder; with several, beginning with its name."""
    for root in given:
        if folder != root and folder.is_relative_to(root):
            below = folder.relative_to(root)
            return str(below if len(given) == 1 else Path(root.name, below))
    return str(folder)


def fold_path(path: str, width: int = FOLDER_WIDTH) -> str:
    """Break a path behind slashes into lines of at most ``width`` characters."""
    lines = [""]
    for part in re.findall(r"[^/]*/|[^/]+", path):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def format_session_score(score: dict[str, float]) -> str:
    """Format the scores of a session."""
    parts: list[str] = []
    if "top1_pct" in score:
        parts.append(f"top-1 {score['top1_pct']:.1f} %")
    if "auc" in score:
        parts.append(f"AUC {score['auc']:.3f}")
    if "tp" in score:
        parts.append(f"TP/FN/FP {score['tp']:.0f}/{score['fn']:.0f}/{score['fp']:.0f}")
    if "duty_cycle" in score:
        parts.append(f"duty {score['duty_cycle']:.5g}")
    if "mean_power_mw" in score:
        parts.append(f"{score['mean_power_mw']:.4f} mW")
    elif "median_energy_uj" in score:
        parts.append(f"{score['median_energy_uj']:.3f} µJ/inf")
    if "median_throughput_ips" in score and "median_energy_uj" not in score:
        parts.append(f"{score['median_throughput_ips']:.3f} inf/s")
    return ", ".join(parts) or "–"


def _format_finding_codes(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.code for finding in findings)
    return ", ".join(code if n == 1 else f"{code} ×{n}" for code, n in counts.items())


def _show_details(console: Console, score: SessionScore, given: Sequence[Path]) -> None:
    show_overview(console, [score], given)
    if score.windows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("window", "inferences", "seconds", "inf/s", "µJ", "µW", "µJ/inf"):
            table.add_column(column, justify="right", no_wrap=True)
        for window in score.windows:
            numbers = (
                window.runtime_s,
                window.throughput_ips,
                window.energy_uj,
                window.power_uw,
                window.energy_per_inference_uj,
            )
            texts = ("" if number is None else f"{number:.3f}" for number in numbers)
            table.add_row(str(window.number), str(window.inferences), *texts)
        console.print(table)
    for finding in score.findings:
        console.print(styled(finding.code, "bold").append_text(styled(f"  {finding.text}")))
