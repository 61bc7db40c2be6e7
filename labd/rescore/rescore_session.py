"""Re-scoring of one session folder, from its files to its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from labd.core.model import Finding, Mode
from labd.rescore import eembc, mlcommons
from labd.rescore.compare import (
    compare_with_published,
    limit_findings,
    median_scores,
    official_keys,
    score_windows,
    unrecomputed_scores,
    unstated_scores,
    window_findings,
)
from labd.rescore.eembc_log import EembcSession
from labd.rescore.published import Published
from labd.rescore.session_content import (
    SessionContent,
    benchmark_of,
    mode_of,
    read_content,
    runner_of,
)
from labd.rescore.session_files import SessionFiles
from labd.rescore.session_score import Recomputed, Runner, SessionScore

NEEDED: dict[Runner, dict[str, str]] = {
    "eembc": {"log": "log.txt", "results": "results.txt", "script": "script.async"},
    "mlcommons": {"log": "log.txt", "results": "results.txt", "data": "results.json"},
    "labd": {},
}
"""Files that the submission checker requires."""


def score_session(files: SessionFiles) -> SessionScore:
    """Re-score one folder."""
    content = read_content(files)
    runner = runner_of(content)
    benchmark = benchmark_of(content)
    mode = mode_of(content, runner)
    _note_missing(content, runner, mode)
    best = _best_attempt(_score_attempts(content, runner, benchmark, mode), content.published)
    streaming = benchmark == "sww01"
    comparison = compare_with_published(best, content.published)
    official = official_keys(benchmark, mode)
    windows_judged = (
        []
        if mode is Mode.ACCURACY
        else window_findings(best.windows, content.published, streaming=streaming)
    )
    known = best.score or {
        key: value for key, p in content.published.score.items() if (value := p.value) is not None
    }
    findings = [
        *content.findings,
        *best.findings,
        *windows_judged,
        *comparison.findings,
        *limit_findings(benchmark, mode, known),
    ]
    if mode is not Mode.ACCURACY and not any(f.code == "score-missing" for f in findings):
        findings += unstated_scores(best, content.published, official)
    findings += unrecomputed_scores(best.score, content.published, official, findings)
    return SessionScore(
        folder=files.folder,
        runner=runner,
        benchmark=benchmark,
        mode=mode,
        windows=best.windows,
        score=best.score,
        published=content.published,
        agrees=comparison.agrees_on(official),
        findings=findings,
    )


def _note_missing(content: SessionContent, runner: Runner | None, mode: Mode | None) -> None:
    if content.files.damage:
        return
    if runner is None:
        content.add_finding("no-session", "nothing in this folder is a session of a known runner")
        return
    needed = dict(NEEDED[runner])
    if runner == "eembc" and mode is Mode.ENERGY:
        needed |= {"trace": "trace1-energy.bin", "stamps": "trace1-timestamps.json"}
    for kind, name in needed.items():
        if content.files.first_of_kind(kind) is None:
            content.add_finding("file-missing", f"{name} is missing")


# ---- scoring ---------------------------------------------------------------------


def _score_attempts(
    content: SessionContent, runner: Runner | None, benchmark: str | None, mode: Mode | None
) -> list[Recomputed]:
    """Re-score each session in the folder, the most likely one first."""
    if runner == "mlcommons":
        return [_score_mlcommons(content, benchmark, mode)]
    sessions = list(reversed(content.sessions))
    if len(sessions) > 1:
        text = f"the log holds {len(sessions)} sessions; the one that was published counts"
        content.add_finding("several-sessions", text)
        sessions.append(join_sessions(content.sessions))
    if not sessions and mode is Mode.ENERGY:
        return _score_eembc(content, content.planned_session, benchmark, mode)
    return [
        result for session in sessions for result in _score_eembc(content, session, benchmark, mode)
    ]


def join_sessions(sessions: Sequence[EembcSession]) -> EembcSession:
    """Join several sessions of one log."""
    last = sessions[-1]
    return replace(
        last,
        loads=sum(session.loads for session in sessions),
        inferences=[each for session in sessions for each in session.inferences],
        laps_us=[lap for session in sessions for lap in session.laps_us],
        errors=[error for session in sessions for error in session.errors],
    )


def _score_eembc(
    content: SessionContent, session: EembcSession, benchmark: str | None, mode: Mode | None
) -> list[Recomputed]:
    damage = _describe_cut_off(content, session, mode)
    if mode is Mode.ACCURACY:
        results = [eembc.score_accuracy(session, benchmark)]
        if damage:  # a part of the set has a different score
            results[0].score.clear()
    elif mode is Mode.ENERGY:  # the trace may be whole where the log is not
        results = _score_trace(content, content.complete_session(session) if damage else session)
    else:
        results = [eembc.score_performance(session)]
        results[0].cut_off, results[0].partial = bool(damage), True
    for result in results:
        score_windows(result, content.published)
        if damage:
            result.add_finding("file-damaged", damage)
    return results


def _describe_cut_off(content: SessionContent, session: EembcSession, mode: Mode | None) -> str:
    """Return where the log ends, if it ends before its session; else empty."""
    log = content.files.first_of_kind("log")
    if log is None:
        return ""
    answers = mode is Mode.ACCURACY
    ends = (e.results or e.damaged if answers else e.finished for e in session.inferences)
    done = sum(map(bool, ends))
    planned = max(len(content.planned_session.inferences), len(content.published.windows))
    if not done:
        return f"{log.name} holds no finished inference of {planned or 'those'} that were to run"
    begun = len(session.inferences)
    if session.ended or done >= max(planned, begun):
        return ""
    return f"{log.name} is cut off: it holds {done} of {max(planned, begun)} inferences"


def _score_trace(content: SessionContent, session: EembcSession) -> list[Recomputed]:
    """Re-score windows: energy and length, or length only if the trace cannot be read."""
    trace, stamps = content.files.first_of_kind("trace"), content.files.first_of_kind("stamps")
    damages: list[str] = []
    read: eembc.EnergyTrace | None = None
    times: tuple[float, ...] | None = None
    if trace and stamps:
        read, damage = eembc.read_energy_trace(trace, stamps)
        damages.append(damage)
    if read is None and stamps:
        times, damage = eembc.read_stamps(stamps)
        damages.append(damage)
    notes = [Finding("file-damaged", damage) for damage in dict.fromkeys(filter(None, damages))]
    times = read.stamps_s if read else times or eembc.logged_stamps(session)
    results = eembc.score_energy(session, times, read) if times else [Recomputed()]
    if not times:
        eembc.note_device_findings(session, results[0])
    if times and read is None:
        text = "without a trace only the length of the windows can be recomputed"
        notes.insert(0, Finding("trace-missing", text))
    for result in results:
        result.findings += notes
    return results


def _score_mlcommons(
    content: SessionContent, benchmark: str | None, mode: Mode | None
) -> Recomputed:
    trials, facts = content.trials, content.facts
    if benchmark == "sww01":
        result = mlcommons.score_wakeword(trials, facts, energy=mode is Mode.ENERGY)
        if result.has_all_windows:
            result.score = median_scores(result.windows) | result.score
    elif mode is Mode.ACCURACY:
        result = mlcommons.score_accuracy(trials, facts, benchmark)
    elif mode is Mode.ENERGY:
        result = mlcommons.score_energy(trials)
        score_windows(result, content.published)
    else:
        result = mlcommons.score_performance(trials)
        if not trials and content.published is not content.logged:
            result.windows = mlcommons.logged_windows(content.logged.windows)
        score_windows(result, content.published)
    mlcommons.note_logged(facts, result)
    return result


def _best_attempt(attempts: Sequence[Recomputed], published: Published) -> Recomputed:
    """Return the attempt that fits the published numbers best: no finding, then most numbers."""
    ranked: list[tuple[tuple[bool, bool, int], Recomputed]] = []
    for attempt in attempts:
        found = compare_with_published(attempt, published)
        agrees = found.agrees is True
        ranked.append(((agrees and not found.findings, agrees, found.compared), attempt))
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else Recomputed()
