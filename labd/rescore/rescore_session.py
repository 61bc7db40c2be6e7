"""One session folder from files to verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labd.core.model import Finding, Mode
from labd.rescore import eembc, mlcommons
from labd.rescore.compare import (
    compare,
    judge_gaps,
    judge_losses,
    judge_score,
    judge_windows,
    medians,
    official_keys,
    score_windows,
)
from labd.rescore.discover import SessionFiles
from labd.rescore.eembc_log import Session
from labd.rescore.evidence import Evidence, benchmark_of, gather, mode_of, runner_of
from labd.rescore.published import Published
from labd.rescore.session_report import Recomputed, Runner, SessionScore

NEEDED: dict[Runner, dict[str, str]] = {
    "eembc": {"log": "log.txt", "results": "results.txt", "script": "script.async"},
    "mlcommons": {"log": "log.txt", "results": "results.txt", "data": "results.json"},
    "labd": {},
}
"""What the submission checker asks for."""


def score_session(files: SessionFiles, name: Path | None = None) -> SessionScore:
    """Re-score one folder.

    Args:
        files: as :func:`labd.rescore.discover.find_sessions` gives them.
        name: what the report calls the folder; its path if not given.
    """
    evidence = gather(files)
    runner = runner_of(evidence)
    benchmark = benchmark_of(evidence)
    mode = mode_of(evidence, runner)
    _note_missing(evidence, runner, mode)
    best = _best(_attempts(evidence, runner, benchmark, mode), evidence.published)
    streaming = benchmark == "sww01"
    comparison = compare(best, evidence.published)
    official = official_keys(benchmark, mode)
    windows_judged = (
        []
        if mode is Mode.ACCURACY
        else judge_windows(best.windows, evidence.published, streaming=streaming)
    )
    known = best.score or {
        key: value for key, p in evidence.published.score.items() if (value := p.value) is not None
    }
    findings = [
        *evidence.findings,
        *best.findings,
        *windows_judged,
        *comparison.findings,
        *judge_score(benchmark, mode, known),
    ]
    if mode is not Mode.ACCURACY and not any(f.code == "score-missing" for f in findings):
        findings += judge_gaps(best, evidence.published, official)
    findings += judge_losses(best.score, evidence.published, official, findings)
    return SessionScore(
        folder=name or files.folder,
        runner=runner,
        benchmark=benchmark,
        mode=mode,
        windows=best.windows,
        score=best.score,
        published=evidence.published,
        agrees=comparison.agrees_on(official),
        findings=findings,
    )


def _note_missing(evidence: Evidence, runner: Runner | None, mode: Mode | None) -> None:
    if evidence.files.damage:
        return
    if runner is None:
        evidence.note("no-session", "nothing in this folder is a session of a known runner")
        return
    needed = dict(NEEDED[runner])
    if runner == "eembc" and mode is Mode.ENERGY:
        needed |= {"trace": "trace1-energy.bin", "stamps": "trace1-timestamps.json"}
    for kind, name in needed.items():
        if evidence.files.first(kind) is None:
            evidence.note("file-missing", f"{name} is not there")


# ---- what comes out ---------------------------------------------------------------------


def _attempts(
    evidence: Evidence, runner: Runner | None, benchmark: str | None, mode: Mode | None
) -> list[Recomputed]:
    """What each session in the folder gives, the likeliest first."""
    if runner == "mlcommons":
        return [_score_mlcommons(evidence, benchmark, mode)]
    sessions = list(reversed(evidence.sessions))
    if len(sessions) > 1:
        text = (
            f"the log holds {len(sessions)} sessions; the one that fits what was published counts"
        )
        evidence.note("several-sessions", text)
        sessions.append(joined(evidence.sessions))
    if not sessions and mode is Mode.ENERGY:
        return _score_eembc(evidence, evidence.planned, benchmark, mode)
    return [
        result
        for session in sessions
        for result in _score_eembc(evidence, session, benchmark, mode)
    ]


def joined(sessions: Sequence[Session]) -> Session:
    """Several sessions of one log as one."""
    last = sessions[-1]
    return replace(
        last,
        loads=sum(session.loads for session in sessions),
        inferences=[each for session in sessions for each in session.inferences],
        laps_us=[lap for session in sessions for lap in session.laps_us],
        errors=[error for session in sessions for error in session.errors],
    )


def _score_eembc(
    evidence: Evidence, session: Session, benchmark: str | None, mode: Mode | None
) -> list[Recomputed]:
    damage = _cut_off(evidence, session, mode)
    if mode is Mode.ACCURACY:
        results = [eembc.score_accuracy(session, benchmark)]
        if damage:  # a part of the set has another score
            results[0].score.clear()
    elif mode is Mode.ENERGY:  # the trace may be whole where the log is not
        results = _score_trace(evidence, evidence.completed(session) if damage else session)
    else:
        results = [eembc.score_performance(session)]
        results[0].cut_off, results[0].partial = bool(damage), True
    for result in results:
        score_windows(result, evidence.published)
        if damage:
            result.note("file-damaged", damage)
    return results


def _cut_off(evidence: Evidence, session: Session, mode: Mode | None) -> str:
    """Whether the log ends before its session did, and where."""
    log = evidence.files.first("log")
    if log is None:
        return ""
    answers = mode is Mode.ACCURACY
    ends = (e.results or e.damaged if answers else e.finished for e in session.inferences)
    done = sum(map(bool, ends))
    planned = max(len(evidence.planned.inferences), len(evidence.published.windows))
    if not done:
        return f"{log.name} holds no finished inference of {planned or 'those'} that were to run"
    begun = len(session.inferences)
    if session.ended or done >= max(planned, begun):
        return ""
    return f"{log.name} is cut off: it holds {done} of {max(planned, begun)} inferences"


def _score_trace(evidence: Evidence, session: Session) -> list[Recomputed]:
    """Windows with their energy, or with their length alone where the trace cannot be read."""
    trace, stamps = evidence.files.first("trace"), evidence.files.first("stamps")
    damages: list[str] = []
    read: eembc.EnergyTrace | None = None
    times: tuple[float, ...] | None = None
    if trace and stamps:
        read, damage = eembc.read_trace(trace, stamps)
        damages.append(damage)
    if read is None and stamps:
        times, damage = eembc.read_stamps(stamps)
        damages.append(damage)
    notes = [Finding("file-damaged", damage) for damage in dict.fromkeys(filter(None, damages))]
    times = read.stamps_s if read else times or eembc.logged_stamps(session)
    results = eembc.score_energy(session, times, read) if times else [Recomputed()]
    if times and read is None:
        text = "without a trace there is no energy to recompute, only the length of the windows"
        notes.insert(0, Finding("trace-missing", text))
    for result in results:
        result.findings += notes
    return results


def _score_mlcommons(evidence: Evidence, benchmark: str | None, mode: Mode | None) -> Recomputed:
    trials, facts = evidence.trials, evidence.facts
    if benchmark == "sww01":
        result = mlcommons.score_wakeword(trials, facts, energy=mode is Mode.ENERGY)
        if result.whole:
            result.score = medians(result.windows) | result.score
    elif mode is Mode.ACCURACY:
        result = mlcommons.score_accuracy(trials, facts, benchmark)
    elif mode is Mode.ENERGY:
        result = mlcommons.score_energy(trials)
        score_windows(result, evidence.published)
    else:
        result = mlcommons.score_performance(trials)
        if not trials and evidence.published is not evidence.logged:
            result.windows = mlcommons.logged_windows(evidence.logged.windows)
        score_windows(result, evidence.published)
    mlcommons.note_logged(facts, result)
    return result


def _best(attempts: Sequence[Recomputed], published: Published) -> Recomputed:
    """The attempt that fits what was published best: no finding, then the most numbers."""
    ranked: list[tuple[tuple[bool, bool, int], Recomputed]] = []
    for attempt in attempts:
        found = compare(attempt, published)
        agrees = found.agrees is True
        ranked.append(((agrees and not found.findings, agrees, found.compared), attempt))
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else Recomputed()
