"""The energy score in two lines: every method, then idle power, baseline and charge."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from labd.core.model import EnergyMethod, Window

SCORE = "median_energy_uj"
OWN_METHOD = EnergyMethod.LABD


def format_energy_score(
    score: Mapping[str, float], windows: Sequence[Window], method: EnergyMethod
) -> list[str]:
    """Format the score beside the other methods', then medians of the windows.

    Args:
        score: of energy mode.
        windows: of energy mode.
        method: that the score follows.
    """
    if SCORE not in score:
        return []
    others = [
        f"{uj:.3f} {name.removeprefix(f'{SCORE}_')}"
        for name, uj in score.items()
        if name.startswith(f"{SCORE}_") and name != f"{SCORE}_{method}"
    ]
    first = " · ".join([f"{score[SCORE]:.3f} µJ/inf by {method}", *others])
    second = " · ".join(_format_idle_and_charge(score, windows))
    return [first, second] if second else [first]


def _format_idle_and_charge(score: Mapping[str, float], windows: Sequence[Window]) -> list[str]:
    """Format idle power with the baseline, and the charge, as far as they were measured."""
    baseline = _median_of_known(window.baseline_per_inference_uj for window in windows)
    charge = _median_of_known(window.charge_uc for window in windows)
    idle = score.get("idle_power_uw", _median_of_known(window.idle_power_uw for window in windows))
    more: list[str] = []
    if idle is not None:
        more.append(f"idle {idle / 1000:.3f} mW")
        if baseline is not None:
            more[0] += f", {baseline:.2f} µJ/inf of it baseline"
    if charge is not None:
        more.append(f"{charge:.0f} µC per window")
    return more


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
