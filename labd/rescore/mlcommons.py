"""Re-scoring of sessions of the MLCommons runner, from results.json or the log."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from labd.core.model import DataStanding, Mode
from labd.core.official_labels import wakewords_s
from labd.core.runner_arithmetic import WindowEnergy, mlcommons_energy
from labd.core.wakeword import DOCUMENTED_GRACE_S, WORDS, compute_duty_cycle, score_wakewords
from labd.protocol.words import COUNTER_MODULUS
from labd.rescore.accuracy_scores import LoggedAnswer, judge_answers, score_mlcommons
from labd.rescore.eembc import note_negative
from labd.rescore.mlcommons_log import MlcommonsLogFacts
from labd.rescore.published import PublishedWindow
from labd.rescore.session_score import Recomputed, ScoredWindow

MAX_WHOLE = 1 << 53
_DIGITS = re.compile(r"\s*[0-9]{1,15}\s*")
MODES = {"a": Mode.ACCURACY, "p": Mode.PERFORMANCE, "e": Mode.ENERGY}


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One element of results.json, as far as it is well-formed."""

    file: str = ""
    label: int | None = None
    classes: int | None = None
    iterations: int | None = None
    elapsed_us: int | None = None
    wrapped: bool = False
    inconsistent: bool = False
    results: tuple[float, ...] = ()
    samples_j: NDArray[np.float64] | None = None
    events: tuple[tuple[int, int], ...] = ()
    words_s: tuple[tuple[float, float], ...] = ()
    detections_ms: tuple[int, ...] = ()
    starts_s: tuple[float, ...] = ()
    stops_s: tuple[float, ...] = ()
    mode: Mode | None = None
    error: str = ""


def read_trials(value: Any) -> tuple[list[Trial], int]:
    """Read the elements of a parsed results.json; return them and the number of malformed ones."""
    elements = _as_list(value) if isinstance(value, list) else [value]
    trials = [
        _parse_trial(fields)
        for fields in map(_as_object, elements)
        if isinstance(fields.get("infer"), dict)
    ]
    return trials, len(elements) - len(trials)


def logged_windows(windows: Sequence[PublishedWindow]) -> list[ScoredWindow]:
    """Return windows as printed in a log, for a session without results.json.

    A log without the runner's final list has runtimes to the millisecond only; then the printed
    throughput is more exact than the recomputed one.
    """
    found: list[ScoredWindow] = []
    for window in windows:
        count, runtime, rate = (
            window.values.get(key) for key in ("inferences", "runtime_s", "throughput_ips")
        )
        if count and runtime and count.value and runtime.value:
            throughput = count.value / runtime.value
            if rate and rate.value and not rate.same_digits(throughput):
                throughput = rate.value
            found.append(ScoredWindow(window.number, int(count.value), runtime.value, throughput))
    return found


def note_logged(facts: MlcommonsLogFacts, result: Recomputed) -> None:
    """Report the errors in the log."""
    for code, errors in (("device-error", facts.device_errors), ("runner-error", facts.errors)):
        if errors:
            result.add_finding(code, f"the log holds {len(errors)} errors, the first: {errors[0]}")


def score_performance(trials: Sequence[Trial]) -> Recomputed:
    """Recompute windows from the recorded laps."""
    result = Recomputed()
    for number, trial in enumerate(trials, start=1):
        if trial.wrapped:
            result.add_finding("lap-wrapped", f"window {number}: the DUT's counter wrapped")
        if trial.elapsed_us is None or trial.iterations is None:
            result.drop_window(number, "lost-stamp", f"window {number} has no laps")
            continue
        _note_inconsistent(number, trial, result)
        runtime_s = trial.elapsed_us / 1_000_000
        result.windows.append(ScoredWindow.from_runtime(number, trial.iterations, runtime_s))
    _note_errors(trials, result)
    return result


def score_energy(trials: Sequence[Trial]) -> Recomputed:
    """Recompute windows from the samples between the last two events of every trial."""
    result = Recomputed()
    for number, trial in enumerate(trials):
        _note_inconsistent(number, trial, result)
        found = _trial_energy(number, trial, result)
        if found is None:
            continue
        result.windows.append(
            ScoredWindow.from_runtime(number, trial.iterations or 1, found.runtime_s, found)
        )
    _note_errors(trials, result)
    return result


def score_accuracy(
    trials: Sequence[Trial], facts: MlcommonsLogFacts, benchmark: str | None
) -> Recomputed:
    """Recompute top-1 and AUC from the outputs in results.json or in the log."""
    result = Recomputed()
    answers = [
        LoggedAnswer(t.file, t.results, t.label, classes=t.classes)
        for t in trials
        if t.results and not t.error
    ]
    if not trials:
        answers = [LoggedAnswer(file, results) for file, results in facts.answers]
    judgement = judge_answers(answers, benchmark, result)
    score_mlcommons(answers, benchmark, result)
    if not trials and judgement and judgement.standing is DataStanding.PART:
        result.score.clear()  # a log that is cut off holds only a part of the set
    if any(trial.inconsistent for trial in trials):
        count = sum(trial.inconsistent for trial in trials)
        result.add_finding(
            "elapsed-differs", f"{count} trials: elapsed_time is not end - start time"
        )
    _note_errors(trials, result)
    return result


def score_wakeword(
    trials: Sequence[Trial], facts: MlcommonsLogFacts, *, energy: bool
) -> Recomputed:
    """Recompute words found by the code's rule, duty cycle, and mean power if measured."""
    result = score_energy(trials) if energy and trials else Recomputed()
    trial = trials[-1] if trials else Trial()
    if len(trials) > 1:
        result.add_finding(
            "result-count", f"{len(trials)} recordings, the set holds one: the last counts"
        )
    detections = trial.detections_ms or tuple(facts.detections_ms)
    words = trial.words_s or wakewords_s()
    if detections:
        _score_words(detections, words, result)
    starts = trial.starts_s or tuple(facts.starts_s)
    stops = trial.stops_s or tuple(facts.stops_s)
    if starts or stops:
        _score_duty(starts, stops, result)
    if result.windows and result.windows[-1].power_uw is not None:
        result.score["mean_power_mw"] = result.windows[-1].power_uw / 1e3
    # a streaming window holds one recording, not inferences
    result.windows = [replace(window, throughput_ips=None) for window in result.windows]
    return result


def _score_words(
    detections: Sequence[int], words: Sequence[tuple[float, float]], result: Recomputed
) -> None:
    official = score_wakewords(detections, words)
    documented = score_wakewords(detections, words, DOCUMENTED_GRACE_S)
    result.score |= {"tp": official.tp, "fn": official.fn, "fp": official.fp}
    keeps = "within" if documented.within_limits else "outside"
    text = (
        f"{documented.tp} true positives, {documented.fn} false negatives, {documented.fp} false "
        f"positives by the documented rule (1 s after a word), {keeps} the closed limits; "
        f"official, by the code (2 s): {official.tp}, {official.fn}, {official.fp}"
    )
    result.add_finding("sww-documented-rule", text)
    if len(words) != WORDS:
        result.add_finding("word-count", f"{len(words)} wake words instead of {WORDS}")


def _score_duty(starts: Sequence[float], stops: Sequence[float], result: Recomputed) -> None:
    try:
        found = compute_duty_cycle(starts, stops)
    except ValueError as error:
        result.add_finding("edges-unpaired", str(error))
        return
    result.score["duty_cycle"] = found.duty_cycle
    result.score["period_s"] = found.period_s
    result.score["median_throughput_ips"] = found.throughput_ips
    shifted = sum(not 0 <= b - a <= found.period_s for a, b in zip(starts, stops, strict=True))
    if shifted:
        text = f"{shifted} of {len(starts)} frames end before they start or after the next one"
        result.add_finding("edges-shifted", text)


def _trial_energy(number: int, trial: Trial, result: Recomputed) -> WindowEnergy | None:
    name = f"trial {number}"
    if trial.samples_j is None or not len(trial.samples_j):
        result.drop_window(number, "trace-missing", f"{name} has no energy samples")
        return None
    if len(trial.events) < 2:  # noqa: PLR2004 - start and stop
        text = f"{name} has {len(trial.events)} events instead of 2"
        result.drop_window(number, "lost-stamp", text)
        return None
    counters = [counter for counter, _ in trial.events]
    if any(b - a != 1 for a, b in pairwise(counters)):
        result.add_finding("lost-stamp", f"{name}: event counters {counters} are not consecutive")
    (_, first), (_, last) = trial.events[-2:]
    if not 0 <= first <= last <= len(trial.samples_j):
        text = f"{name}: its window {first} to {last} is not within {len(trial.samples_j)} samples"
        result.drop_window(number, "trace-short", text)
        return None
    found = mlcommons_energy(trial.samples_j, first, last)
    if not math.isfinite(found.energy_uj):
        result.drop_window(number, "trace-lost", f"{name} holds lost samples")
        return None
    note_negative(name, found, result)
    return found


def _note_inconsistent(number: int, trial: Trial, result: Recomputed) -> None:
    if trial.inconsistent:
        text = f"trial {number}: elapsed_time is not end_time - start_time"
        result.add_finding("elapsed-differs", text)


def _note_errors(trials: Sequence[Trial], result: Recomputed) -> None:
    if errors := [trial.error for trial in trials if trial.error]:
        result.add_finding("runner-error", f"{len(errors)} trials failed, the first: {errors[0]}")


# ---- elements of results.json, any part of which may be malformed -----------------------


def _parse_trial(element: dict[str, Any]) -> Trial:
    infer = _as_object(element.get("infer"))
    power = _as_object(element.get("power"))
    duty = _as_object(element.get("dutycycle") or infer.get("dutycycle"))
    elapsed = _parse_whole(infer.get("elapsed_time"))
    samples = _parse_numbers(power.get("samples"))
    return Trial(
        file=str(element.get("file") or infer.get("wav_file") or ""),
        label=_parse_whole(element.get("class")),
        classes=_parse_whole(element.get("classes")),
        iterations=_parse_whole(infer.get("iterations")),
        elapsed_us=None if elapsed is None else elapsed % COUNTER_MODULUS,
        wrapped=elapsed is not None and elapsed < 0,
        inconsistent=_is_inconsistent(elapsed, infer),
        results=tuple(x for x in _parse_numbers(infer.get("results")) if math.isfinite(x)),
        samples_j=np.array(samples, np.float64) if samples else None,
        events=_parse_events(power.get("timestamps")),
        words_s=tuple((a, b) for a, b in _parse_pairs(infer.get("detection_windows"))),
        detections_ms=_parse_whole_list(infer.get("detections")),
        starts_s=tuple(_parse_numbers(duty.get("start_times_s"))),
        stops_s=tuple(_parse_numbers(duty.get("stop_times_s"))),
        mode=MODES.get(str(element.get("mode"))),
        error=str(element.get("error") or ""),
    )


def _is_inconsistent(elapsed: int | None, infer: dict[str, Any]) -> bool:
    start, end = _parse_whole(infer.get("start_time")), _parse_whole(infer.get("end_time"))
    if elapsed is None or start is None or end is None:
        return False
    return (end - start - elapsed) % COUNTER_MODULUS != 0


def _as_object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _parse_whole(value: Any) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return int(value) if abs(value) < MAX_WHOLE and value == int(value) else None


def _parse_numbers(value: Any) -> list[float]:
    """Return a list of numbers; empty if any element is none."""
    items = _as_list(value)
    return items if all(type(item) in {int, float} for item in items) else []


def _parse_whole_list(value: Any) -> tuple[int, ...]:
    """Return a list of whole numbers; empty if any element is none."""
    found = [_parse_whole(item) for item in _as_list(value)]
    return tuple(item for item in found if item is not None) if None not in found else ()


def _parse_pairs(value: Any) -> list[list[float]]:
    pairs = [_parse_numbers(item) for item in _as_list(value)]
    return pairs if all(len(pair) == 2 for pair in pairs) else []  # noqa: PLR2004


def _parse_events(value: Any) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for item in _as_list(value):
        parts = [_parse_whole(part) for part in _as_list(item)[:2]]
        if len(parts) == 2 and parts[0] is not None and parts[1] is not None:  # noqa: PLR2004
            found.append((parts[0], parts[1]))
    return tuple(found)
