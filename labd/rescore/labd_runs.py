"""Re-scoring of labd's own runs: ``<state>/traces/<job>/<attempt>``.

The folder holds a SigMF trace with its windows, the outputs of an accuracy run, and for
each mode the result labd gave (``result-<mode>.json``). What was stored as float32 cannot
give all digits again, so numbers agree to a millionth.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from labd.core.errors import ConfigError, MeasurementInvalid
from labd.core.model import EnergyMethod, Finding, Mode, StreamFormat
from labd.core.recording import Recording
from labd.core.runner_arithmetic import WindowEnergy
from labd.core.windows import energies
from labd.rescore.accuracy_scores import LoggedAnswer, score_mlcommons
from labd.rescore.compare import (
    compare,
    limit_findings,
    official_keys,
    score_windows,
    unrecomputed_scores,
    window_findings,
)
from labd.rescore.eembc import note_negative
from labd.rescore.published import Printed, Published, PublishedWindow
from labd.rescore.session_files import SessionFiles
from labd.rescore.session_score import (
    SCORE_KEYS,
    WINDOW_KEYS,
    Recomputed,
    ScoredWindow,
    SessionScore,
)
from labd.rescore.tolerant_reading import TextLines, read_json
from labd.store.traces.reader import Trace, read_trace
from labd.store.traces.sigmf import TracePaths

STORED_PRECISION = 1e-6
"""Share by which float32 samples, added up, may be off."""

MARGIN_S = 0.003
"""The published methods look at whole milliseconds, a little beyond the edges."""


def is_own(files: SessionFiles) -> bool:
    """Whether a folder holds a run of labd."""
    return any(files.every(kind) for kind in ("sigmf", "samples", "outputs", "own"))


def score_own(files: SessionFiles, name: Path) -> list[SessionScore]:
    """Every mode of one run that can be told from its folder."""
    results = {mode: _result(files, mode) for mode in Mode}
    benchmark = next((str(r["benchmark"]) for r, _ in results.values() if "benchmark" in r), None)
    scores: list[SessionScore] = []
    for mode, (result, findings) in results.items():
        raw = _recompute(files, mode, benchmark, result)
        if raw is None and not result and not findings:
            continue
        scores.append(_judged(name, benchmark, mode, raw or Recomputed(), result, findings))
    return scores


def _judged(
    name: Path,
    benchmark: str | None,
    mode: Mode,
    raw: Recomputed,
    result: dict[str, Any],
    findings: Sequence[Finding],
) -> SessionScore:
    published = _published(result)
    comparison = compare(raw, published)
    judged = (
        [] if mode is Mode.ACCURACY else window_findings(raw.windows, published, streaming=False)
    )
    official = official_keys(benchmark, mode)
    verdict = [*findings, *raw.findings, *judged, *comparison.findings]
    verdict += unrecomputed_scores(raw.score, published, official, verdict)
    limits = limit_findings(benchmark, mode, raw.score)
    return SessionScore(
        name,
        "labd",
        benchmark,
        mode,
        raw.windows,
        raw.score,
        published,
        comparison.agrees_on(official) if published.score else comparison.agrees,
        (*verdict, *limits),
    )


def _result(files: SessionFiles, mode: Mode) -> tuple[dict[str, Any], list[Finding]]:
    """What labd itself concluded; energy windows stand in the trace as well."""
    findings: list[Finding] = []
    for path in files.every("own"):
        if path.name.removesuffix(".gz") != f"result-{mode}.json":
            continue
        value, damage = read_json(path)
        if isinstance(value, dict):
            return cast("dict[str, Any]", value), findings
        findings.append(Finding("file-damaged", f"{path.name} {damage or 'is no result'}"))
    return {}, findings


def _recompute(
    files: SessionFiles, mode: Mode, benchmark: str | None, result: dict[str, Any]
) -> Recomputed | None:
    if mode is Mode.ACCURACY and (outputs := files.first("outputs")):
        return _score_outputs(outputs, benchmark)
    if mode is Mode.ENERGY and (meta := files.first("sigmf")):
        return _score_trace(meta, result)
    if mode is Mode.PERFORMANCE and result:
        return _score_laps(result)
    return _nothing_of(files, mode, result)


def _nothing_of(files: SessionFiles, mode: Mode, result: dict[str, Any]) -> Recomputed | None:
    """What a mode gives whose raw data are gone, though it was measured."""
    samples = files.first("samples") if mode is Mode.ENERGY else None
    if samples is None and not (result.get("score") or result.get("windows")):
        return None
    raw = Recomputed()
    if mode is Mode.ENERGY:
        name = (samples or files.folder / "energy.sigmf-data").with_suffix(".sigmf-meta").name
    else:
        name = "accuracy-outputs.csv"
    raw.note("file-missing", f"{name} is not there")
    return raw


def _score_outputs(path: Path, benchmark: str | None) -> Recomputed:
    raw = Recomputed()
    answers: list[LoggedAnswer] = []
    lines = TextLines(path)
    odd = 0
    for row in csv.reader(lines):
        try:
            answers.append(LoggedAnswer(row[0], tuple(float(x) for x in row[2:]), int(row[1])))
        except (ValueError, IndexError):
            odd += 1
    if lines.damage or odd or not answers:
        text = lines.damage or f"{odd} of {odd + len(answers)} rows hold no outputs"
        raw.note("file-damaged", f"{path.name}: {text}")
    score_mlcommons(answers, benchmark, raw)
    return raw


def _score_trace(meta: Path, result: dict[str, Any]) -> Recomputed:
    raw = Recomputed()
    try:
        trace = read_trace(meta.with_name(meta.name.removesuffix(".sigmf-meta")))
    except ConfigError as error:
        raw.note("file-damaged", error.what)
        return raw
    if not trace.complete:
        raw.note("trace-short", _cut_text(trace))
    _check_hash(trace, raw)
    result.setdefault("windows", [dict(window) for window in trace.windows])
    for window in trace.windows:
        _add_window(trace, window, _method(result, window), raw)
    score_windows(raw, _published(result))
    return raw


def _cut_text(trace: Trace) -> str:
    length_s = len(trace.values) / trace.sample_rate_hz
    there = {"edges": len(trace.edges), "windows": len(trace.windows)}
    missing = " and ".join(what for what, count in there.items() if not count)
    kept = f"it holds {there['edges']} edges and {there['windows']} windows"
    return f"the recording was cut off after {length_s:.3f} s: " + (
        f"its {missing} are missing" if missing else kept
    )


def _check_hash(trace: Trace, raw: Recomputed) -> None:
    """Compare the samples with the SHA-512 of their recording: a second or two a gigabyte."""
    kept = trace.meta["global"].get("core:sha512")
    if kept is None:  # written once a trace is closed
        return
    data = TracePaths(trace.path).data
    with data.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").hexdigest()
    if found != kept:
        text = (
            f"{data.name} is not what was recorded: its SHA-512 is {found[:16]}…, not {kept!s:.16}…"
        )
        raw.note("trace-altered", text)


def _method(result: dict[str, Any], told: dict[str, Any]) -> EnergyMethod:
    """Whose arithmetic a window's energy follows: as the result says, else as its number does."""
    details = result.get("details")
    named = cast("dict[str, Any]", details).get("method") if isinstance(details, dict) else None
    if named in list(EnergyMethod):
        return EnergyMethod(named)
    each, chosen = told.get("methods"), told.get("energy_per_inference_uj")
    known = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
    return next((m for m in EnergyMethod if known.get(m) == chosen), EnergyMethod.LABD)


def _add_window(trace: Trace, told: dict[str, Any], method: EnergyMethod, raw: Recomputed) -> None:
    number, first, second = told.get("number"), told.get("start_index"), told.get("stop_index")
    inferences = told.get("inferences")
    if not (isinstance(number, int) and isinstance(inferences, int) and inferences > 0):
        raw.note("file-damaged", "the trace holds a window without number or inferences")
        return
    if not (isinstance(first, (int, float)) and isinstance(second, (int, float))):
        raw.drop_window(number, "lost-stamp", f"window {number} has no edges")
        return
    if not 0 <= first < second <= len(trace.power_w):
        raw.drop_window(number, "trace-short", f"window {number} is not within the trace")
        return
    try:
        found = _energy(trace, float(first), float(second), method)
    except MeasurementInvalid as error:
        raw.drop_window(number, "trace-lost", f"window {number}: {error.what}")
        return
    note_negative(f"window {number}", found, raw)
    runtime_s = (second - first) / trace.sample_rate_hz
    raw.windows.append(
        ScoredWindow(
            number,
            inferences,
            runtime_s,
            inferences / runtime_s,
            found.energy_uj,
            found.power_uw,
            found.energy_uj / inferences,
        )
    )


def _energy(trace: Trace, first: float, second: float, method: EnergyMethod) -> WindowEnergy:
    """Energy of a window from the stored samples around it.

    Raises:
        MeasurementInvalid: samples in it were lost, or the method does not apply.
    """
    stream_format = StreamFormat(**trace.meta["global"]["labd:format"])
    margin = math.ceil(MARGIN_S * trace.sample_rate_hz)
    begin, end = max(0, math.floor(first) - margin), math.ceil(second) + margin
    power_w = np.asarray(trace.power_w[begin:end], np.float64)
    found = energies(Recording(stream_format, power_w, (), trace.gaps, begin), first, second)
    if method not in found:
        raise MeasurementInvalid("method", f"method {method} does not apply to this sample rate")
    return found[method]


def _score_laps(result: dict[str, Any]) -> Recomputed:
    """Throughputs from the runtimes kept: the laps themselves are in the journal only."""
    raw = Recomputed()
    for told in cast("list[Any]", result.get("windows") or []):
        window = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        number, count, runtime_s = (window.get(k) for k in ("number", "inferences", "runtime_s"))
        if not (isinstance(number, int) and isinstance(count, int)):
            raw.note("file-damaged", "the result holds a window without number or inferences")
        elif isinstance(runtime_s, (int, float)) and runtime_s > 0:
            raw.windows.append(ScoredWindow(number, count, runtime_s, count / runtime_s))
    score_windows(raw, _published(result))
    return raw


def _published(result: dict[str, Any]) -> Published:
    """What labd stated, as numbers to compare with."""
    score = result.get("score")
    windows = result.get("windows")
    told: list[PublishedWindow] = []
    for item in cast("list[Any]", windows) if isinstance(windows, list) else []:
        window = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
        if isinstance(window.get("number"), int):
            told.append(PublishedWindow(window["number"], _printed(window, WINDOW_KEYS)))
    known = cast("dict[str, Any]", score) if isinstance(score, dict) else {}
    return Published(_printed(known, SCORE_KEYS), (tuple(told),) if told else ())


def _printed(values: dict[str, Any], keys: Sequence[str]) -> dict[str, Printed]:
    return {
        key: Printed(repr(values[key]), slack=STORED_PRECISION * abs(values[key]))
        for key in keys
        if isinstance(values.get(key), (int, float)) and math.isfinite(values[key])
    }
