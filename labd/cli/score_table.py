"""Re-scored sessions as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labd.cli.tables import PIPE_WIDTH
from labd.core.model import Finding
from labd.report.rescore import SessionScore

AGREES = {
    True: Text("yes", "green"),
    False: Text("NO", "red"),
    None: Text("–", "dim"),
}


def show_scores(scores: Sequence[SessionScore]) -> None:
    """A line a session; one alone with its windows and every finding."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    if len(scores) == 1:
        _show_details(console, scores[0])
    else:
        console.print(_overview(scores))
        agreed = Counter(score.agrees for score in scores)
        console.print(
            f"{len(scores)} sessions: {agreed[True]} agree, {agreed[False]} differ, "
            f"{agreed[None]} could not be compared"
        )


def _overview(scores: Sequence[SessionScore]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("folder", overflow="fold")
    for column in ("runner", "benchmark", "mode", "score"):
        table.add_column(column)
    table.add_column("agrees", no_wrap=True)
    table.add_column("findings")
    for score in scores:
        table.add_row(
            Text(str(score.folder)),
            score.runner or "?",
            score.benchmark or "?",
            score.mode or "?",
            Text(score_text(score.score)),
            AGREES[score.agrees],
            Text(_codes(score.findings)),
        )
    return table


def score_text(score: dict[str, float]) -> str:
    """The numbers of a session in a few words."""
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


def _codes(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.code for finding in findings)
    return ", ".join(code if n == 1 else f"{code} ×{n}" for code, n in counts.items())


def _show_details(console: Console, score: SessionScore) -> None:
    console.print(_overview([score]))
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
        console.print(Text.assemble((finding.code, "bold"), f"  {finding.text}"))
