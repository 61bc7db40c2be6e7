"""Plot of a power trace with its windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from labd.core.errors import ConfigError
from labd.store.traces.reader import Trace, read_trace

COLUMNS = 1600
"""One minimum, mean and maximum per column of the picture, so that short peaks stay visible."""


def plot_trace(trace: Path, picture: Path, title: str) -> None:
    """Plot a stored trace as PNG: power over time, windows shaded, gaps marked.

    ``trace`` is its path without a suffix.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - a second of import
    except ImportError:
        raise ConfigError(
            "no-matplotlib", "plots need matplotlib", "pip install 'labd[report]'"
        ) from None
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    read = read_trace(trace)
    draw: Any = plt
    figure = draw.figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _draw_trace(axes, read)
    axes.set_title(title, loc="left", parse_math=False)
    figure.savefig(picture, dpi=120)
    draw.close(figure)


def _draw_trace(axes: Any, trace: Trace) -> None:
    rate = trace.sample_rate_hz
    if not len(trace.power_w):
        axes.text(0.5, 0.5, "no samples", transform=axes.transAxes, ha="center")
        return
    summary = trace.summarise_range(COLUMNS)
    lows, means, highs = (1e3 * part for part in (summary.low, summary.mean, summary.high))
    seconds = summary.bounds[:-1] / rate
    axes.fill_between(seconds, lows, highs, step="post", color="#9db8d2", linewidth=0)
    axes.step(seconds, means, where="post", color="#1f4e79", linewidth=0.9, label="mean power")
    for window in trace.windows:
        if window.edge_span is None or window.energy_per_inference_uj is None:
            continue
        start, stop = (index / rate for index in window.edge_span)
        color = "#e8a33d" if window.is_counted else "#7f7f7f"
        axes.axvspan(start, stop, color=color, alpha=0.22, linewidth=0)
        text = f"window {window.number}\n{window.energy_per_inference_uj:.3f} µJ/inf"
        text += "" if window.is_counted else "\nnot counted"
        axes.text(
            (start + stop) / 2,
            0.03,
            text,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
        )
    for gap in trace.gaps:
        axes.axvspan(gap.index / rate, gap.end / rate, color="#c0392b", alpha=0.5)
    axes.set_xlabel("seconds since the acquisition began")
    axes.set_ylabel("power (mW)")
    axes.set_xlim(0, len(trace.power_w) / rate)
    axes.set_ylim(bottom=0, top=1.05 * float(np.nanmax(highs, initial=1e-3)))
