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
    ends_within,
    script_damage,
    strange_lines,
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
    def planned(self) -> EembcSession:
        """A session with the batches of the script, or else of the result text."""
        script = self.files.first("script")
        counts = planned_counts(TextLines(script)) if script else []
        if not counts:
            stated = (window.values.get("inferences") for window in self.published.windows)
            counts = [int(printed.value) for printed in stated if printed and printed.value]
        return EembcSession(inferences=[Inference(count, "") for count in counts])

    def completed(self, session: EembcSession) -> EembcSession:
        """Complete a session of a log that is cut off with its planned batches."""
        seen = [each for each in session.inferences if each.finished]
        return replace(session, inferences=[*seen, *self.planned.inferences[len(seen) :]])

    def note(self, code: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, text))


def gather(files: SessionFiles) -> SessionContent:
    """Read a folder's texts; traces are read once the mode is known."""
    content = SessionContent(files)
    if files.damage:
        content.note("folder-unreadable", f"the folder cannot be listed: {files.damage}")
        return content
    for kind in ("results", "log", "script", "data"):
        if len(files.every(kind)) > 1:
            names = ", ".join(path.name for path in files.every(kind))
            content.note("several-files", f"{names}: the first one is used")
    if data := files.first("data"):
        value, damage = read_json(data)
        content.trials, odd = mlcommons.read_trials(value)
        if damage:
            content.note("file-damaged", f"{data.name} {damage}")
        elif odd:
            content.note("file-damaged", f"{data.name} holds {odd} items without results")
    if log := files.first("log"):
        _read_log(log, content)
    _read_published(files, content)
    _check_rest(files, content)
    return content


def _read_log(path: Path, content: SessionContent) -> None:
    eembc_log, facts, results = EembcLogReader(), MlcommonsLogReader(), ResultReader()
    lines = TextLines(path)
    empty = True
    mlcommons_log = False
    stated = content.files.first("results") is not None
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
        content.note("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif empty:
        content.note("file-damaged", f"{path.name} is empty")
    content.sessions, content.facts = eembc_log.finish(), facts.facts
    content.facts.begun = mlcommons_log
    content.logged = results.finish()
    if not (empty or lines.damage or content.sessions or mlcommons_log or content.logged):
        content.note("file-damaged", f"{path.name} holds no session with an inference")


def _read_published(files: SessionFiles, content: SessionContent) -> None:
    path = files.first("results") or files.first("postproc")
    if path is None:
        content.published = content.logged
        return
    lines = TextLines(path)
    reader = ResultReader()
    last = ""
    for last in lines:
        reader.feed(last, cut=lines.open_ended)
    content.published = reader.finish()
    if lines.damage:
        content.note("file-damaged", f"{path.name} is damaged: {lines.damage}")
    elif not content.published:
        content.note("file-damaged", f"{path.name} states no result")
        return
    content.findings += text_findings(path.name, content.published)
    count, first = strange_lines(TextLines(path))
    if count and path == files.first("results"):
        text = f"{path.name} holds {count} lines that no runner prints, the first: {first[:40]!r}"
        content.note("file-damaged", text)
    elif lines.open_ended and ends_within(last):
        content.note("file-damaged", f"{path.name} ends within a line: {last[-40:]!r}")


def _check_rest(files: SessionFiles, content: SessionContent) -> None:
    """Check the ends of files whose content is also in another file."""
    if script := files.first("script"):
        data, damage = read_bytes(script)
        damage = damage or script_damage(data.decode("utf-8", "replace"))
        if damage:
            content.note("file-damaged", f"{script.name} {damage}")
    log = files.first("log")
    if log is None or not (content.facts.begun and content.trials and files.first("results")):
        return
    if lost := content.published.score.keys() - content.logged.score.keys():
        text = f"{log.name} is cut off: the runner's output in it lacks {', '.join(sorted(lost))}"
        content.note("file-damaged", text)
    accuracy = {"top1_pct", "auc"}
    if accuracy & content.published.score.keys():
        more = accuracy & content.logged.score.keys() - content.published.score.keys()
        if more:
            text = f"the result text lacks {more.pop()}, which is in {log.name}"
            content.note("score-missing", text)


# ---- runner, benchmark, mode ------------------------------------------------------------


def runner_of(content: SessionContent) -> Runner | None:
    """Return the runner of a session, by its content."""
    files = content.files
    if content.facts.begun or content.trials:
        return "mlcommons"
    if content.sessions or files.first("script") or files.first("trace"):
        return "eembc"
    if files.first("data"):
        return "mlcommons"
    if files.first("log") is None and not content.published:
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
        content.note("benchmark-differs", f"the path names {of_path}, the session ran {found}")
    return found or of_path


def mode_of(content: SessionContent, runner: Runner | None) -> Mode | None:
    """Return the mode: by the session, by the published numbers, or by the path."""
    found = _mlcommons_mode(content) if runner == "mlcommons" else _eembc_mode(content)
    found = found or _published_mode(content.published)
    of_path = mode_of_path(content.files.folder)
    if found and of_path and found is not of_path:
        content.note("mode-differs", f"the path names {of_path}, the session measured {found}")
    return found or of_path


def _mlcommons_mode(content: SessionContent) -> Mode | None:
    stated = next((trial.mode for trial in content.trials if trial.mode), None)
    if stated:
        return stated
    return Mode.ENERGY if content.facts.energy else None


def _eembc_mode(content: SessionContent) -> Mode | None:
    session = content.sessions[-1] if content.sessions else EembcSession()
    if session.code == "ulp-ml" or content.files.first("trace"):
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
