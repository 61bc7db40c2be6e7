"""Re-scoring of labd's runs: ``<state>/traces/<job>/<attempt>``.

The folder holds a SigMF trace with its windows, the outputs of an accuracy run, and the result
of each mode (``result-<mode>.json``). Samples are stored as float32, so numbers are compared
with a tolerance of 1e-6.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from labd.core.errors import ConfigError, MeasurementInvalid
from labd.core.model import DataStanding, EnergyMethod, Finding, Mode, Window
from labd.core.recording import Recording
from labd.core.runner_arithmetic import WindowEnergy
from labd.core.suite import SUITE
from labd.core.window_plan import is_rightly_left_out
from labd.core.windows import energies_by_method
from labd.protocol.words import COUNTER_MODULUS
from labd.rescore.accuracy_scores import LoggedAnswer, judge_answers, score_mlcommons
from labd.rescore.compare import (
    compare_with_published,
    input_findings,
    limit_findings,
    official_keys,
    score_windows,
    unrecomputed_scores,
    window_findings,
)
from labd.rescore.eembc import note_negative
from labd.rescore.logged_inferences import compare_with_inferences
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
from labd.wire.results import ResultFile
from labd.wire.validation import format_first_error

STORED_PRECISION = 1e-6
"""Relative error of a sum of float32 samples."""

MARGIN_S = 0.003
"""The published methods read whole milliseconds, slightly beyond the edges."""


def is_labd_run(files: SessionFiles) -> bool:
    """Whether a folder holds a run of labd."""
    return any(files.all_of_kind(kind) for kind in ("sigmf", "samples", "outputs", "own"))


def score_labd_run(files: SessionFiles) -> list[SessionScore]:
    """Score every mode that one run's folder holds."""
    results = {mode: _read_result(files, mode) for mode in Mode}
    benchmark = next((r.benchmark for r, _ in results.values() if r and r.benchmark), None)
    scores: list[SessionScore] = []
    for mode, (result, findings) in results.items():
        raw, published = _recompute_mode(files, mode, benchmark, result)
        if raw is None and result is None and not findings:
            continue
        raw = raw or Recomputed()
        if result and mode is not Mode.ACCURACY:
            raw.findings += _data_findings(result)
        scores.append(_compare_mode(files.folder, benchmark, mode, raw, published, findings))
    return scores


def _compare_mode(
    folder: Path,
    benchmark: str | None,
    mode: Mode,
    raw: Recomputed,
    published: Published,
    findings: Sequence[Finding],
) -> SessionScore:
    comparison = compare_with_published(raw, published)
    found = [*findings, *raw.findings]
    if mode is not Mode.ACCURACY:
        found += window_findings(raw.windows, published, streaming=False)
    official = official_keys(benchmark, mode)
    found += comparison.findings
    found += unrecomputed_scores(raw.score, published, official, found)
    found += limit_findings(benchmark, mode, raw.score)
    return SessionScore(
        folder,
        "labd",
        benchmark,
        mode,
        raw.windows,
        raw.score,
        published,
        comparison.agrees_on(official) if published.score else comparison.agrees,
        found,
    )


def _data_findings(result: ResultFile) -> list[Finding]:
    """Report data of timed windows that are not the official set, or not five different inputs."""
    counted = [window.input_file for window in result.windows if window.is_counted]
    findings = input_findings(counted)
    entry, dataset = SUITE.get(result.benchmark), result.details.dataset
    official = {DataStanding.OFFICIAL, DataStanding.UNVERIFIED}
    if entry and entry.official and dataset and dataset.standing not in official:
        findings.append(Finding("unofficial", dataset.text))
    return findings


def _read_result(files: SessionFiles, mode: Mode) -> tuple[ResultFile | None, list[Finding]]:
    """Read the result file of a mode."""
    findings: list[Finding] = []
    for path in files.all_of_kind("own"):
        if path.name.removesuffix(".gz") != f"result-{mode}.json":
            continue
        value, damage = read_json(path)
        try:
            return ResultFile.model_validate(value), findings
        except ValidationError as error:
            text = damage or f"is no result: {format_first_error(error)}"
            findings.append(Finding("file-damaged", f"{path.name} {text}"))
    return None, findings


def _recompute_mode(
    files: SessionFiles, mode: Mode, benchmark: str | None, result: ResultFile | None
) -> tuple[Recomputed | None, Published]:
    """Score a mode from its raw data; return that and the published numbers."""
    published = _to_published(result.score, result.windows) if result else Published()
    if mode is Mode.ACCURACY and (outputs := files.first_of_kind("outputs")):
        return _score_outputs(outputs, benchmark, result), published
    if mode is Mode.ENERGY and (meta := files.first_of_kind("sigmf")):
        return _score_trace(meta, result)
    if mode is Mode.PERFORMANCE and result:
        return _score_laps(result.windows, published), published
    return _note_missing_data(files, mode, result), published


def _note_missing_data(
    files: SessionFiles, mode: Mode, result: ResultFile | None
) -> Recomputed | None:
    """Report the missing raw data of a mode that was measured."""
    samples = files.first_of_kind("samples") if mode is Mode.ENERGY else None
    if samples is None and not (result and (result.score or result.windows)):
        return None
    raw = Recomputed()
    if mode is Mode.ENERGY:
        name = (samples or files.folder / "energy.sigmf-data").with_suffix(".sigmf-meta").name
    else:
        name = "accuracy-outputs.csv"
    raw.add_finding("file-missing", f"{name} is missing")
    return raw


def _score_outputs(path: Path, benchmark: str | None, result: ResultFile | None) -> Recomputed:
    raw = Recomputed()
    answers: list[LoggedAnswer] = []
    lines = TextLines(path)
    odd = 0
    for row in csv.reader(lines):
        try:
            outputs = tuple(float(x) for x in row[2:])
            answers.append(LoggedAnswer(row[0], outputs, int(row[1]), inputs=None))
        except (ValueError, IndexError):
            odd += 1
    if lines.damage or odd or not answers:
        text = lines.damage or f"{odd} of {odd + len(answers)} rows hold no outputs"
        raw.add_finding("file-damaged", f"{path.name}: {text}")
    compare_with_inferences(path.with_name("accuracy-inferences.csv.gz"), answers, raw)
    dataset = result.details.dataset if result else None
    judge_answers(answers, benchmark, raw, dataset.sent_sha256 if dataset else "")
    score_mlcommons(answers, benchmark, raw)
    return raw


def _score_trace(meta: Path, result: ResultFile | None) -> tuple[Recomputed, Published]:
    """Score the windows of a trace; without a result file, its annotations are published."""
    raw = Recomputed()
    score, windows = (result.score, result.windows) if result else ({}, ())
    try:
        trace = read_trace(meta.with_name(meta.name.removesuffix(".sigmf-meta")))
    except ConfigError as error:
        raw.add_finding("file-damaged", error.what)
        return raw, _to_published(score, windows)
    if not trace.complete:
        raw.add_finding("trace-short", _cut_text(trace))
    _check_hash(trace, raw)
    published = _to_published(score, windows if result else trace.windows)
    chosen = result.details.method if result else None
    _check_left_out([_by_trace(trace, window) for window in trace.windows], raw)
    for window in filter(_is_counted, trace.windows):
        _add_window(trace, window, chosen or _infer_method(window), raw)
    score_windows(raw, published)
    return raw, published


def _is_counted(window: Window) -> bool:
    return window.is_counted


def _by_trace(trace: Trace, window: Window) -> Window:
    """Return a window with its length by the edges in the trace."""
    if window.edge_span is None:
        return window
    first, second = window.edge_span
    return replace(window, runtime_s=(second - first) / trace.sample_rate_hz)


def _by_laps(window: Window) -> Window:
    """Return a window with its length by the DUT's counter at its ends, if they were kept."""
    if window.laps_us is None:
        return window
    start_us, stop_us = window.laps_us
    return replace(window, runtime_s=(stop_us - start_us) % COUNTER_MODULUS / 1e6)


def _check_left_out(windows: Sequence[Window], raw: Recomputed) -> None:
    """Report windows that do not count although no rule leaves them out."""
    for window in windows:
        if not window.is_counted and not is_rightly_left_out(window, windows):
            text = (
                f"window {window.number} does not count ({window.not_counted}), but lasts "
                f"{window.runtime_s:.6g} s and has no later one with more inferences"
            )
            raw.add_finding("window-left-out", text)


def _cut_text(trace: Trace) -> str:
    length_s = len(trace.values) / trace.sample_rate_hz
    there = {"edges": len(trace.edges), "windows": len(trace.windows)}
    missing = " and ".join(what for what, count in there.items() if not count)
    kept = f"it holds {there['edges']} edges and {there['windows']} windows"
    return f"the recording was cut off after {length_s:.3f} s: " + (
        f"its {missing} are missing" if missing else kept
    )


def _check_hash(trace: Trace, raw: Recomputed) -> None:
    """Compare the samples with the SHA-512 of their recording; 1 to 2 s per gigabyte."""
    kept = trace.meta["global"].get("core:sha512")
    if kept is None:  # written once a trace is closed
        return
    data = TracePaths(trace.path).data_file
    with data.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").hexdigest()
    if found != kept:
        text = f"{data.name} was changed: its SHA-512 is {found[:16]}…, recorded was {kept!s:.16}…"
        raw.add_finding("trace-altered", text)


def _infer_method(window: Window) -> EnergyMethod:
    """Infer from a window's numbers which method its energy follows."""
    chosen = window.energy_per_inference_uj
    return next((m for m in EnergyMethod if window.methods.get(m) == chosen), EnergyMethod.LABD)


def _add_window(trace: Trace, window: Window, method: EnergyMethod, raw: Recomputed) -> None:
    number, inferences = window.number, window.inferences
    if inferences <= 0:
        raw.add_finding("file-damaged", f"window {number} of the trace has no inferences")
        return
    if window.edge_span is None:
        raw.drop_window(number, "lost-stamp", f"window {number} has no edges")
        return
    first, second = window.edge_span
    if not 0 <= first < second <= len(trace.power_w):
        raw.drop_window(number, "trace-short", f"window {number} is not within the trace")
        return
    try:
        found = _window_energy(trace, first, second, method)
    except MeasurementInvalid as error:
        raw.drop_window(number, "trace-lost", f"window {number}: {error.what}")
        return
    note_negative(f"window {number}", found, raw)
    runtime_s = (second - first) / trace.sample_rate_hz
    raw.windows.append(ScoredWindow.from_runtime(number, inferences, runtime_s, found))


def _window_energy(trace: Trace, first: float, second: float, method: EnergyMethod) -> WindowEnergy:
    """Compute a window's energy from the stored samples around it.

    Raises:
        MeasurementInvalid: samples in it were lost, or the method does not apply.
    """
    margin = math.ceil(MARGIN_S * trace.sample_rate_hz)
    begin, end = max(0, math.floor(first) - margin), math.ceil(second) + margin
    power_w = np.asarray(trace.power_w[begin:end], np.float64)
    found = energies_by_method(
        Recording(trace.format, power_w, (), trace.gaps, begin), first, second
    )
    if method not in found:
        raise MeasurementInvalid("method", f"method {method} does not apply to this sample rate")
    return found[method]


def _score_laps(windows: Sequence[Window], published: Published) -> Recomputed:
    """Recompute runtimes from the laps and throughputs from the runtimes."""
    raw = Recomputed()
    measured = [_by_laps(window) for window in windows]
    _check_left_out(measured, raw)
    raw.windows += [
        ScoredWindow.from_runtime(each.number, each.inferences, each.runtime_s)
        for each in filter(_is_counted, measured)
        if each.runtime_s > 0
    ]
    score_windows(raw, published)
    return raw


def _to_published(score: Mapping[str, float], windows: Sequence[Window]) -> Published:
    """Return labd's result as published numbers, without the windows that do not count."""
    stated = tuple(
        PublishedWindow(each.number, _to_printed({key: getattr(each, key) for key in WINDOW_KEYS}))
        for each in filter(_is_counted, windows)
    )
    known = _to_printed({key: score.get(key) for key in SCORE_KEYS})
    return Published(known, (stated,) if stated else ())


def _to_printed(values: Mapping[str, float | None]) -> dict[str, Printed]:
    return {
        key: Printed(repr(value), slack=STORED_PRECISION * abs(value))
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    }
