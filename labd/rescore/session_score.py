"""Result of re-scoring one session folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from labd.core.model import Finding, Mode
from labd.core.runner_arithmetic import WindowEnergy
from labd.rescore.published import Published

Runner = Literal["eembc", "mlcommons", "labd"]

SCORE_KEYS = (
    "median_throughput_ips",
    "median_energy_uj",
    "top1_pct",
    "auc",
    "tp",
    "fn",
    "fp",
    "duty_cycle",
    "mean_power_mw",
)


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """A window recomputed from raw data; ``number`` as the runner prints it."""

    number: int
    inferences: int | None = None
    runtime_s: float | None = None
    throughput_ips: float | None = None
    energy_uj: float | None = None
    power_uw: float | None = None
    energy_per_inference_uj: float | None = None

    @staticmethod
    def from_runtime(
        number: int, inferences: int | None, runtime_s: float, found: WindowEnergy | None = None
    ) -> ScoredWindow:
        """Compute throughput and energy per inference from the length and the energy."""
        rate = inferences / runtime_s if inferences is not None and runtime_s > 0 else None
        if found is None:
            return ScoredWindow(number, inferences, runtime_s, rate)
        each_uj = found.energy_uj / inferences if inferences else None
        return ScoredWindow(
            number, inferences, runtime_s, rate, found.energy_uj, found.power_uw, each_uj
        )

    def known_values(self) -> dict[str, float]:
        """Return the known numbers by key."""
        found = ((key, getattr(self, key)) for key in WINDOW_KEYS)
        return {key: value for key, value in found if value is not None and math.isfinite(value)}


WINDOW_KEYS = tuple(each.name for each in fields(ScoredWindow) if each.name != "number")


@dataclass(slots=True)
class Recomputed:
    """Windows and score recomputed from the raw data of a session.

    Args:
        windows: those that could be computed.
        score: the same; may hold keys that are only compared.
        damaged: numbers of the windows whose raw data are damaged.
        cut_off: whether the raw data end before the end of the session.
        partial: whether an intact log may cover only some of the published windows.
    """

    windows: list[ScoredWindow] = field(default_factory=list[ScoredWindow])
    score: dict[str, float] = field(default_factory=dict[str, float])
    findings: list[Finding] = field(default_factory=list[Finding])
    damaged: list[int] = field(default_factory=list[int])
    cut_off: bool = False
    partial: bool = False

    @property
    def fills_missing_windows(self) -> bool:
        """Whether windows missing in the raw data enter the median as printed."""
        return self.partial and self.has_all_windows and bool(self.windows)

    @property
    def has_all_windows(self) -> bool:
        """Whether no measured window is lost; only then is there a median."""
        return not (self.damaged or self.cut_off)

    def drop_window(self, number: int, code: str, text: str) -> None:
        """Mark a window as damaged, with a finding."""
        self.damaged.append(number)
        self.add_finding(code, text)

    def add_finding(self, code: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, text))


@dataclass(frozen=True, slots=True)
class SessionScore:
    """A session folder re-scored: windows and score recomputed from raw data, beside the published.

    Args:
        folder: by the path the user gave.
        runner: ``None`` if unknown, as are benchmark and mode.
        agrees: whether every published number that could be recomputed was reproduced to the
            printed digit, an official one of this mode among them; ``None`` if there was none
            to compare.
    """

    folder: Path
    runner: Runner | None
    benchmark: str | None
    mode: Mode | None
    windows: Sequence[ScoredWindow]
    score: dict[str, float]
    published: Published
    agrees: bool | None
    findings: Sequence[Finding]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``labd score --json`` prints."""
        return {
            "folder": str(self.folder),
            "runner": self.runner,
            "benchmark": self.benchmark,
            "mode": self.mode,
            "windows": [window.known_values() for window in self.windows],
            "score": {
                key: self.score[key]
                for key in SCORE_KEYS
                if key in self.score and math.isfinite(self.score[key])
            },
            "published": self.published.as_json(),
            "agrees": self.agrees,
            "findings": [{"code": found.code, "text": found.text} for found in self.findings],
        }
