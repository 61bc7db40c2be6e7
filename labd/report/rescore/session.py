"""One session folder from files to verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from labd.core.model import Finding, Mode
from labd.report.rescore import eembc, mlcommons
from labd.report.rescore.eembc_log import LogReader, Session
from labd.report.rescore.files import Lines, read_json
from labd.report.rescore.folder import (
    BENCHMARK_WORDS,
    SessionFiles,
    benchmark_of_path,
    mode_of_path,
)
from labd.report.rescore.judge import (
    compare,
    complete_windows,
    judge_score,
    judge_windows,
)
from labd.report.rescore.mlcommons import Trial
from labd.report.rescore.mlcommons_log import FactReader, LogFacts
from labd.report.rescore.model import Recomputed, Runner, SessionScore
from labd.report.rescore.published import Published, ResultReader, read_published

CODES = {"ulp-ml": Mode.ENERGY, "ulp-mlperf": None}
NEEDED: dict[Runner, dict[str, str]] = {
    "eembc": {"log": "log.txt", "results": "results.txt", "script": "script.async"},
    "mlcommons": {"log": "log.txt", "results": "results.txt", "data": "results.json"},
    "labd": {},
}
"""What the submission checker asks for."""


@dataclass(slots=True)
class Evidence:
    """Everything read from a folder before it is judged."""

    files: SessionFiles
    sessions: list[Session] = field(default_factory=list[Session])
    facts: LogFacts = field(default_factory=LogFacts)
    trials: list[Trial] = field(default_factory=list[Trial])
    published: Published = field(default_factory=Published)
    logged: Published = field(default_factory=Published)
    findings: list[Finding] = field(default_factory=list[Finding])

    def note(self, code: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, text))


def score_session(files: SessionFiles, name: Path | None = None) -> SessionScore:
    """Re-score one folder.

    Args:
        files: as :func:`labd.report.rescore.folder.find_sessions` gives them.
        name: what the report calls the folder; its path if not given.
    """
    evidence = gather(files)
    runner = runner_of(evidence)
    benchmark = benchmark_of(evidence)
    mode = mode_of(evidence, runner)
    _note_missing(evidence, runner, mode)
    best = _best(_attempts(evidence, runner, benchmark, mode), evidence.published)
    streaming = benchmark == "sww01"
    comparison = compare(best.windows, best.score, evidence.published)
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
    return SessionScore(
        folder=name or files.folder,
        runner=runner,
        benchmark=benchmark,
        mode=mode,
        windows=best.windows,
        score=best.score,
        published=evidence.published,
        agrees=comparison.agrees,
        findings=findings,
    )


# ---- what is there ----------------------------------------------------------------------


def gather(files: SessionFiles) -> Evidence:
    """Read a folder's texts; traces wait until the mode is known."""
    evidence = Evidence(files)
    if files.damage:
        evidence.note("folder-unreadable", f"the folder cannot be listed: {files.damage}")
        return evidence
    for kind in ("results", "log", "script", "data"):
        if len(files.every(kind)) > 1:
            names = ", ".join(path.name for path in files.every(kind))
            evidence.note("several-files", f"{names}: the first one is used")
    if data := files.first("data"):
        value, damage = read_json(data)
        trials = mlcommons.read_trials(value)
        evidence.trials = trials.items
        if damage:
            evidence.note("file-damaged", f"{data.name} {damage}")
        elif trials.odd:
            evidence.note("file-damaged", f"{data.name} holds {trials.odd} items without results")
    if log := files.first("log"):
        _read_log(log, evidence)
    _read_published(files, evidence)
    return evidence


def _read_log(path: Path, evidence: Evidence) -> None:
    eembc_log, facts, results = LogReader(), FactReader(), ResultReader()
    lines = Lines(path)
    empty = True
    mlcommons_log = False
    for line in lines:
        mlcommons_log = mlcommons_log or line.startswith("Logging initialized")
        if mlcommons_log:
            facts.feed(line)
        else:
            eembc_log.feed(line)
        results.feed(line)
        empty = False
    if lines.damage:
        evidence.note("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif empty:
        evidence.note("file-damaged", f"{path.name} is empty")
    evidence.sessions, evidence.facts = eembc_log.finish(), facts.facts
    evidence.logged = results.finish()


def _read_published(files: SessionFiles, evidence: Evidence) -> None:
    path = files.first("results") or files.first("postproc")
    if path is None:
        evidence.published = evidence.logged
        return
    lines = Lines(path)
    evidence.published = read_published(lines)
    if lines.damage:
        evidence.note("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif not evidence.published:
        evidence.note("file-damaged", f"{path.name} states no result")
        evidence.published = evidence.logged


def _note_missing(evidence: Evidence, runner: Runner | None, mode: Mode | None) -> None:
    if runner is None:
        evidence.note("no-session", "nothing in this folder is a session of a known runner")
        return
    needed = dict(NEEDED[runner])
    if runner == "eembc" and mode is Mode.ENERGY:
        needed |= {"trace": "trace1-energy.bin", "stamps": "trace1-timestamps.json"}
    for kind, name in needed.items():
        if evidence.files.first(kind) is None:
            evidence.note("file-missing", f"{name} is not there")


# ---- what it is -------------------------------------------------------------------------


def runner_of(evidence: Evidence) -> Runner | None:
    """Whose session this is, by its content."""
    files = evidence.files
    if evidence.facts.begun or evidence.trials:
        return "mlcommons"
    if evidence.sessions or files.first("script") or files.first("trace"):
        return "eembc"
    if files.first("data"):
        return "mlcommons"
    if files.first("log") is None and not evidence.published:
        return None
    windows = evidence.published.windows
    energies = any("power_uw" in w.values and w.values["power_uw"].scale != 1 for w in windows)
    if energies or "tp" in evidence.published.score:
        return "mlcommons"
    auc = evidence.published.score.get("auc")
    if auc is not None and len(auc.text.partition(".")[2]) > 2:  # noqa: PLR2004 - EEMBC's digits
        return "mlcommons"
    return "eembc" if evidence.published else None


def benchmark_of(evidence: Evidence) -> str | None:
    """What was run: by the input files' folder, the configuration, the DUT, or the path."""
    session = evidence.sessions[-1] if evidence.sessions else Session()
    told = (
        session.folder_model,
        session.config.get("model", ""),
        session.model,
        evidence.facts.model,
        "sww01" if any(t.detections_ms or t.words_s for t in evidence.trials) else "",
        "sww01" if "tp" in evidence.published.score else "",
    )
    found = next((BENCHMARK_WORDS[w.lower()] for w in told if w.lower() in BENCHMARK_WORDS), None)
    of_path = benchmark_of_path(evidence.files.folder)
    if found and of_path and found != of_path:
        evidence.note("benchmark-differs", f"the path says {of_path}, the session ran {found}")
    return found or of_path


def mode_of(evidence: Evidence, runner: Runner | None) -> Mode | None:
    """What was measured: by the session itself, by what was published, or by the path."""
    found = _mlcommons_mode(evidence) if runner == "mlcommons" else _eembc_mode(evidence)
    found = found or _published_mode(evidence.published)
    of_path = mode_of_path(evidence.files.folder)
    if found and of_path and found is not of_path:
        evidence.note("mode-differs", f"the path says {of_path}, the session measured {found}")
    return found or of_path


def _mlcommons_mode(evidence: Evidence) -> Mode | None:
    told = next((trial.mode for trial in evidence.trials if trial.mode), None)
    if told:
        return told
    return Mode.ENERGY if evidence.facts.energy else None


def _eembc_mode(evidence: Evidence) -> Mode | None:
    session = evidence.sessions[-1] if evidence.sessions else Session()
    if session.code == "ulp-ml" or evidence.files.first("trace"):
        return Mode.ENERGY
    run_mode = session.config.get("runMode")
    if run_mode == "multi":
        return Mode.ACCURACY
    return Mode.PERFORMANCE if run_mode else None


def _published_mode(published: Published) -> Mode | None:
    if any("energy_uj" in window.values for window in published.windows):
        return Mode.ENERGY
    if published.windows or "tp" in published.score:
        return Mode.PERFORMANCE
    if "top1_pct" in published.score or "auc" in published.score:
        return Mode.ACCURACY
    return None


# ---- what comes out ---------------------------------------------------------------------


def _attempts(
    evidence: Evidence, runner: Runner | None, benchmark: str | None, mode: Mode | None
) -> list[Recomputed]:
    """What each session in the folder gives, the likeliest first."""
    if runner == "mlcommons":
        return [_score_mlcommons(evidence, benchmark, mode)]
    sessions = list(reversed(evidence.sessions))
    if len(sessions) > 1:
        sessions.append(joined(evidence.sessions))
    return [_score_eembc(evidence, session, benchmark, mode) for session in sessions]


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
) -> Recomputed:
    if mode is Mode.ACCURACY:
        return eembc.score_accuracy(session, benchmark)
    if mode is not Mode.ENERGY:
        result = eembc.score_performance(session)
        _finish_medians(result, evidence.published)
        return result
    trace, stamps = evidence.files.first("trace"), evidence.files.first("stamps")
    if trace is None or stamps is None:
        return Recomputed()
    read, damage = eembc.read_trace(trace, stamps)
    result = eembc.score_energy(session, read) if read else Recomputed()
    if damage:
        result.note("file-damaged", damage)
    _finish_medians(result, evidence.published)
    return result


def _score_mlcommons(evidence: Evidence, benchmark: str | None, mode: Mode | None) -> Recomputed:
    trials, facts = evidence.trials, evidence.facts
    if benchmark == "sww01":
        energy = mode is Mode.ENERGY
        result = mlcommons.score_wakeword(trials, facts, energy=energy)
        result.score |= {
            key: value
            for key, value in eembc.medians(result.windows).items()
            if key not in result.score
        }
        return result
    if mode is Mode.ACCURACY:
        return mlcommons.score_accuracy(trials, facts, benchmark)
    result = (
        mlcommons.score_energy(trials)
        if mode is Mode.ENERGY
        else mlcommons.score_performance(trials)
    )
    _finish_medians(result, evidence.published)
    return result


def _finish_medians(result: Recomputed, published: Published) -> None:
    """Medians over all windows; those the raw data lack come as they were printed."""
    result.score |= eembc.medians(complete_windows(result.windows, published))


def _best(attempts: Sequence[Recomputed], published: Published) -> Recomputed:
    """The first attempt that agrees with what was published, else the first."""
    if not attempts:
        return Recomputed()
    ranked = [(compare(attempt.windows, attempt.score, published), attempt) for attempt in attempts]
    for comparison, attempt in ranked:
        if comparison.agrees and not comparison.findings:
            return attempt
    for comparison, attempt in ranked:
        if comparison.agrees:
            return attempt
    return attempts[0]
