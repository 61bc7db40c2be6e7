"""Export traces as JLS, the file format of the Joulescope UI.

Each channel is a signal with a fixed sample rate; a lost sample is NaN. Edges are text
annotations of the power, windows its vertical markers ``1a`` and ``1b``. A sample rate in JLS is
an integer per second: UTC marks correct a fractional rate. The trace's metadata is the file's
user data.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from labd.core.errors import ConfigError
from labd.store.traces.export_formats import (
    Progress,
    TraceRange,
    format_start_time,
    import_extra,
    write_then_replace,
)
from labd.store.traces.reader import Trace
from labd.store.traces.sigmf import UNITS

MARK_S = 60.0
"""Interval of UTC marks; the first and the last sample have one too."""

_PIECE = 1 << 18
_SOURCE = 1
_POWER = 1


def export_jls(trace: Trace, part: TraceRange, output: Path, progress: Progress) -> None:
    """Write a JLS file; sample 0 in it is the first sample of the part.

    Raises:
        ConfigError: ``no-pyjls``: it is not installed; ``jls``: JLS cannot hold this trace.
        OSError: a disk operation failed.
    """
    jls: Any = import_extra("pyjls", "JLS")
    if part.decimate != 1:
        raise ConfigError("jls", "JLS files contain their own summaries", "omit --decimate")
    if round(trace.sample_rate_hz) < 1:
        raise ConfigError("jls", "JLS needs at least one sample per second", "use csv or parquet")
    with write_then_replace(output) as path:
        try:
            writer = jls.Writer(str(path))
            try:
                _define_signals(jls, writer, trace)
                _write_samples(writer, trace, part, progress)
                _write_utc_and_annotations(jls, writer, trace, part)
            finally:
                writer.close()
        except RuntimeError as error:
            raise ConfigError("jls", f"pyjls cannot write {output}: {error}") from error


def _define_signals(jls: Any, writer: Any, trace: Trace) -> None:
    who = trace.instrument
    writer.source_def(
        source_id=_SOURCE,
        name=who.name or who.kind,
        vendor="",
        model=who.name,
        version=who.firmware,
        serial_number=who.serial,
    )
    for number, channel in enumerate(trace.channels, _POWER):
        writer.signal_def(
            signal_id=number,
            source_id=_SOURCE,
            signal_type=jls.SignalType.FSR,
            data_type=jls.DataType.F32,
            sample_rate=round(trace.sample_rate_hz),
            name=channel.rpartition("_")[0],
            units=UNITS[channel],
        )
    writer.user_data(0, json.dumps(trace.meta))


def _write_samples(writer: Any, trace: Trace, part: TraceRange, progress: Progress) -> None:
    for start in range(part.start, part.stop, _PIECE):
        stop = min(start + _PIECE, part.stop)
        for number in range(len(trace.channels)):
            some = np.array(trace.values[start:stop, number])  # pyjls needs a writable array
            writer.fsr_f32(_POWER + number, start - part.start, some)
        progress(stop - start)


def _write_utc_and_annotations(jls: Any, writer: Any, trace: Trace, part: TraceRange) -> None:
    """Write the UTC marks of every signal, then the annotations of the power in order."""
    epoch_s = datetime.fromisoformat(format_start_time(trace)).timestamp()
    every = max(1, math.floor(MARK_S * trace.sample_rate_hz))
    for index in sorted({*range(0, len(part), every), len(part) - 1}):
        utc_s = epoch_s + (part.start + index) / trace.sample_rate_hz
        for number in range(len(trace.channels)):
            writer.utc(_POWER + number, index, jls.utc_to_jls(utc_s))
    marks = [
        (edge.index, jls.AnnotationType.TEXT, f"{edge.line} {'rises' if edge.rising else 'falls'}")
        for edge in trace.edges
    ]
    for window in trace.windows:
        for index, side in zip(window.edge_span or (), "ab", strict=False):
            marks.append((index, jls.AnnotationType.VMARKER, f"{window.number}{side}"))
    for index, kind, text in sorted(marks, key=lambda mark: mark[0]):
        if part.start <= index < part.stop:
            writer.annotation(_POWER, math.floor(index) - part.start, math.nan, kind, 0, text)
