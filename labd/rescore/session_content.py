"""Content of a session folder: its texts, and which runner, benchmark and mode they are of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from labd.core.model import Finding, Mode
from labd.rescore import mlcommons
from labd.rescore.eembc_log import EembcLogReader, EembcSession, Inference, planned_counts
from labd.rescore.mlcommons import Trial
from labd.rescore.mlcommons_log import MlcommonsLogFacts, MlcommonsLogReader
from labd.rescore.published import (
    Published,
    ResultReader,
    count_strange_lines,
    ends_within_line,
    script_damage,
    text_findings,
)
from labd.rescore.session_files import (
    BENCHMARK_WORDS,
    SessionFiles,
    benchmark_of_path,
    mode_of_path,
)
from labd.rescore.session_score import Runner
from labd.rescore.tolerant_reading import TextLines, read_bytes, read_json


@dataclass(slots=True)
class SessionContent:
    """Everything read from a folder before it is scored."""

    files: SessionFiles
    sessions: list[EembcSession] = field(default_factory=list[EembcSession])
    facts: MlcommonsLogFacts = field(default_factory=MlcommonsLogFacts)
    trials: list[Trial] = field(default_factory=list[Trial])
    published: Published = field(default_factory=Published)
    logged: Published = field(default_factory=Published)
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def planned_session(self) -> EembcSession:
        """A session with the batches of the script, or else of the result text."""
        script = self.files.first_of_kind("script")
        counts = planned_counts(TextLines(script)) if script else []
        if not counts:
            stated = (window.values.get("inferences") for window in self.published.windows)
            counts = [int(printed.value) for printed in stated if printed and printed.value]
        return EembcSession(inferences=[Inference(count, "") for count in counts])

    def complete_session(self, session: EembcSession) -> EembcSession:
        """Complete a session of a log that is cut off with its planned batches."""
        seen = [each for each in session.inferences if each.finished]
        return replace(session, inferences=[*seen, *self.planned_session.inferences[len(seen) :]])

    def add_finding(self, code: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, text))


def read_content(files: SessionFiles) -> SessionContent:
    """Read a folder's texts; traces are read once the mode is known."""
    content = SessionContent(files)
    if files.damage:
        content.add_finding("folder-unreadable", f"the folder cannot be listed: {files.damage}")
        return content
    for kind in ("results", "log", "script", "data"):
        if len(files.all_of_kind(kind)) > 1:
            names = ", ".join(path.name for path in files.all_of_kind(kind))
            content.add_finding("several-files", f"{names}: the first one is used")
    if data := files.first_of_kind("data"):
        value, damage = read_json(data)
        content.trials, odd = mlcommons.read_trials(value)
        if damage:
            content.add_finding("file-damaged", f"{data.name} {damage}")
        elif odd:
            content.add_finding("file-damaged", f"{data.name} holds {odd} items without results")
    if log := files.first_of_kind("log"):
        _read_log(log, content)
    _read_published(files, content)
    _check_rest(files, content)
    return content


def _read_log(path: Path, content: SessionContent) -> None:
    eembc_log, facts, results = EembcLogReader(), MlcommonsLogReader(), ResultReader()
    lines = TextLines(path)
    empty = True
    mlcommons_log = False
    stated = content.files.first_of_kind("results") is not None
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
        content.add_finding("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif empty:
        content.add_finding("file-damaged", f"{path.name} is empty")
    content.sessions, content.facts = eembc_log.used_sessions(), facts.facts
    content.facts.begun = mlcommons_log
    content.logged = results.to_published()
    if not (empty or lines.damage or content.sessions or mlcommons_log or content.logged):
        content.add_finding("file-damaged", f"{path.name} holds no session with an inference")


def _read_published(files: SessionFiles, content: SessionContent) -> None:
    path = files.first_of_kind("results") or files.first_of_kind("postproc")
    if path is None:
        content.published = content.logged
        return
    lines = TextLines(path)
    reader = ResultReader()
    last = ""
    for last in lines:
        reader.feed(last, cut=lines.open_ended)
    content.published = reader.to_published()
    if lines.damage:
        content.add_finding("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif not content.published:
        content.add_finding("file-damaged", f"{path.name} states no result")
        return
    content.findings += text_findings(path.name, content.published)
    count, first = count_strange_lines(TextLines(path))
    if count and path == files.first_of_kind("results"):
        text = f"{path.name} holds {count} lines that no runner prints, the first: {first[:40]!r}"
        content.add_finding("file-damaged", text)
    elif lines.open_ended and ends_within_line(last):
        content.add_finding("file-damaged", f"{path.name} ends within a line: {last[-40:]!r}")


def _check_rest(files: SessionFiles, content: SessionContent) -> None:
    """Check the ends of files whose content is also in another file."""
    if script := files.first_of_kind("script"):
        data, damage = read_bytes(script)
        damage = damage or script_damage(data.decode("utf-8", "replace"))
        if damage:
            content.add_finding("file-damaged", f"{script.name} {damage}")
    log = files.first_of_kind("log")
    if log is None or not (
        content.facts.begun and content.trials and files.first_of_kind("results")
    ):
        return
    if lost := content.published.score.keys() - content.logged.score.keys():
        text = f"{log.name} is cut off: the runner's output in it lacks {', '.join(sorted(lost))}"
        content.add_finding("file-damaged", text)
    accuracy = {"top1_pct", "auc"}
    if accuracy & content.published.score.keys():
        more = accuracy & content.logged.score.keys() - content.published.score.keys()
        if more:
            text = f"the result text lacks {more.pop()}, which is in {log.name}"
            content.add_finding("score-missing", text)


# ---- runner, benchmark, mode ------------------------------------------------------------


def runner_of(content: SessionContent) -> Runner | None:
    """Return the runner of a session, by its content."""
    files = content.files
    if content.facts.begun or content.trials:
        return "mlcommons"
    if content.sessions or files.first_of_kind("script") or files.first_of_kind("trace"):
        return "eembc"
    if files.first_of_kind("data"):
        return "mlcommons"
    if files.first_of_kind("log") is None and not content.published:
        return None
    windows = content.published.windows
    energies = any("power_uw" in w.values and w.values["power_uw"].scale != 1 for w in windows)
    if energies or "tp" in content.published.score:
        return "mlcommons"
    auc = content.published.score.get("auc")
    if auc is not None and len(auc.text.partition(".")[2]) > 2:  # noqa: PLR2004 - EEMBC's digits
        return "mlcommons"
    return "eembc" if content.published else None


def benchmark_of(content: SessionContent) -> str | None:
    """Return the benchmark: by the input files' folder, the configuration, the DUT or the path."""
    session = content.sessions[-1] if content.sessions else EembcSession()
    stated = (
        session.folder_model,
        session.config.get("model", ""),
        session.model,
        content.facts.model,
        "sww01" if any(t.detections_ms or t.words_s for t in content.trials) else "",
        "sww01" if "tp" in content.published.score else "",
    )
    found = next((BENCHMARK_WORDS[w.lower()] for w in stated if w.lower() in BENCHMARK_WORDS), None)
    of_path = benchmark_of_path(content.files.folder)
    if found and of_path and found != of_path:
        content.add_finding(
            "benchmark-differs", f"the path names {of_path}, the session ran {found}"
        )
    return found or of_path


def mode_of(content: SessionContent, runner: Runner | None) -> Mode | None:
    """Return the mode: by the session, by the published numbers, or by the path."""
    found = _mlcommons_mode(content) if runner == "mlcommons" else _eembc_mode(content)
    found = found or _published_mode(content.published)
    of_path = mode_of_path(content.files.folder)
    if found and of_path and found is not of_path:
        content.add_finding(
            "mode-differs", f"the path names {of_path}, the session measured {found}"
        )
    return found or of_path


def _mlcommons_mode(content: SessionContent) -> Mode | None:
    stated = next((trial.mode for trial in content.trials if trial.mode), None)
    if stated:
        return stated
    return Mode.ENERGY if content.facts.energy else None


def _eembc_mode(content: SessionContent) -> Mode | None:
    session = content.sessions[-1] if content.sessions else EembcSession()
    if session.code == "ulp-ml" or content.files.first_of_kind("trace"):
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
