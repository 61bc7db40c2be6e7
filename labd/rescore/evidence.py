"""What a session folder holds: its texts read, and what they say it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from labd.core.model import Finding, Mode
from labd.rescore import mlcommons
from labd.rescore.discover import (
    BENCHMARK_WORDS,
    SessionFiles,
    benchmark_of_path,
    mode_of_path,
)
from labd.rescore.eembc_log import Inference, LogReader, Session, planned_counts
from labd.rescore.mlcommons import Trial
from labd.rescore.mlcommons_log import FactReader, LogFacts
from labd.rescore.published import Published, ResultReader
from labd.rescore.result_text import (
    ends_within,
    judge_text,
    script_damage,
    strange_lines,
)
from labd.rescore.session_files import Lines, read_bytes, read_json
from labd.rescore.session_report import Runner


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

    @property
    def planned(self) -> Session:
        """A session as the script, or else the result text, tells how many inferences ran."""
        script = self.files.first("script")
        counts = planned_counts(Lines(script)) if script else []
        if not counts:
            told = (window.values.get("inferences") for window in self.published.windows)
            counts = [int(printed.value) for printed in told if printed and printed.value]
        return Session(inferences=[Inference(count, "") for count in counts])

    def completed(self, session: Session) -> Session:
        """A session of a log that is cut off, with the inferences that were to follow."""
        seen = [each for each in session.inferences if each.finished]
        return replace(session, inferences=[*seen, *self.planned.inferences[len(seen) :]])

    def note(self, code: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, text))


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
    _check_rest(files, evidence)
    return evidence


def _read_log(path: Path, evidence: Evidence) -> None:
    eembc_log, facts, results = LogReader(), FactReader(), ResultReader()
    lines = Lines(path)
    empty = True
    mlcommons_log = False
    stated = evidence.files.first("results") is not None
    for line in lines:
        mlcommons_log = mlcommons_log or line.startswith("Logging initialized")
        if mlcommons_log:
            if not lines.open_ended:
                facts.feed(line)
        else:
            eembc_log.feed(line, cut=lines.open_ended)
        if mlcommons_log or not stated:
            results.feed(line, cut=lines.open_ended)
        empty = False
    if lines.damage:
        evidence.note("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif empty:
        evidence.note("file-damaged", f"{path.name} is empty")
    evidence.sessions, evidence.facts = eembc_log.finish(), facts.facts
    evidence.facts.begun = mlcommons_log
    evidence.logged = results.finish()
    if not (empty or lines.damage or evidence.sessions or mlcommons_log or evidence.logged):
        evidence.note("file-damaged", f"{path.name} holds no session with an inference")


def _read_published(files: SessionFiles, evidence: Evidence) -> None:
    path = files.first("results") or files.first("postproc")
    if path is None:
        evidence.published = evidence.logged
        return
    lines = Lines(path)
    reader = ResultReader()
    last = ""
    for last in lines:
        reader.feed(last, cut=lines.open_ended)
    evidence.published = reader.finish()
    if lines.damage:
        evidence.note("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif not evidence.published:
        evidence.note("file-damaged", f"{path.name} states no result")
        return
    evidence.findings += judge_text(path.name, evidence.published)
    count, first = strange_lines(Lines(path))
    if count and path == files.first("results"):
        text = f"{path.name} holds {count} lines that no runner prints, the first: {first[:40]!r}"
        evidence.note("file-damaged", text)
    elif lines.open_ended and ends_within(last):
        evidence.note("file-damaged", f"{path.name} ends within a line: {last[-40:]!r}")


def _check_rest(files: SessionFiles, evidence: Evidence) -> None:
    """Look for the ends of files whose content stands elsewhere too."""
    if script := files.first("script"):
        content, damage = read_bytes(script)
        damage = damage or script_damage(content.decode("utf-8", "replace"))
        if damage:
            evidence.note("file-damaged", f"{script.name} {damage}")
    log = files.first("log")
    if log is None or not (evidence.facts.begun and evidence.trials and files.first("results")):
        return
    if lost := evidence.published.score.keys() - evidence.logged.score.keys():
        text = f"{log.name} is cut off: the runner's output in it lacks {', '.join(sorted(lost))}"
        evidence.note("file-damaged", text)
    accuracy = {"top1_pct", "auc"}
    if accuracy & evidence.published.score.keys():
        more = accuracy & evidence.logged.score.keys() - evidence.published.score.keys()
        if more:
            text = f"the result text lacks {more.pop()}, which stands in {log.name}"
            evidence.note("score-missing", text)


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
    if "top1_pct" in published.score or "auc" in published.score:
        return Mode.ACCURACY
    if published.windows or "tp" in published.score:
        return Mode.PERFORMANCE
    return None
