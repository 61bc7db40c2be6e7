"""Reader of the EEMBC runner's log: sessions, commands, batches, laps and results.

The log is read line by line, since accuracy logs of anomaly detection have hundreds of
megabytes. No pattern is anchored, since devices add echoes, debug text and noise to lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from labd.protocol.failure_texts import errors_in_text, failures_in_text
from labd.protocol.infer_reply import parse_results
from labd.protocol.lines import text_before_ready
from labd.protocol.relay import split_relayed

_PREFIX = re.compile(r"\s*(\d{1,9}\.\d{3}) ([\w-]{1,20}): ?")
_COMMAND = re.compile(r"(?:io |dut )?infer (\d{1,9})")
_SYNC = re.compile(r"Command \"(?:io |dut )*timestamp\b")
_LOAD = re.compile(r"bloadp? (?:\w+ )?\\?\"?([^\"]+?\.bin)")
_CONFIG = re.compile(r"m-bm-cfg-name\[([^\]]*)\]-key\[(\w+)\]-val\[([^\]]*)\]")
_RUN = re.compile(r"m-bmark-run-name\[[^\]]*\]-code\[([\w-]+)\]")
_TOKEN = re.compile(
    r"m-(?:lap-us-(?P<lap>\d{1,20})|infer-start-(?P<start>\d{1,9})|(?P<done>infer-done)"
    r"|results-\[(?P<results>[^\]]*)(?P<closed>\])?|model-\[(?P<model>[^\]]*)\]"
    r"|session-start-id\[(?P<session>[^\]]*)\]|(?P<stop>sequencer-stop|session-stop-id)|regfile-fn\[(?P<file>[^\]]*)\]"
    r"|\[Dropped (?P<dropped>\d{1,12}) packets out of (?P<packets>\d{1,12}))"
)
_RUNNER_SOURCES = ("parser", "sequencer", "session", "ulp-mlperf", "ulp-ml")


@dataclass(slots=True)
class Inference:
    """One ``infer`` command in the log; host times are in seconds since the runner started.

    ``finished`` is true if the log holds its end.
    """

    inferences: int | None
    file: str
    command_s: float | None = None
    start_s: float | None = None
    done_s: float | None = None
    laps_us: list[int] = field(default_factory=list[int])
    results: tuple[float, ...] | None = None
    damaged: str = ""
    finished: bool = False


@dataclass(slots=True)
class EembcSession:
    """Log of one session.

    Args:
        sync_s: when the runner sent the command for the sync timestamp.
        ended: whether the runner logged the end of the session, so that it is not cut off.
    """

    name: str = ""
    code: str = ""
    model: str = ""
    config: dict[str, str] = field(default_factory=dict[str, str])
    folder_model: str = ""
    loads: int = 0
    inferences: list[Inference] = field(default_factory=list[Inference])
    laps_us: list[int] = field(default_factory=list[int])
    monitor_laps_us: list[int] = field(default_factory=list[int])
    io_laps_us: list[int] = field(default_factory=list[int])
    errors: list[str] = field(default_factory=list[str])
    files: list[str] = field(default_factory=list[str])
    dropped: tuple[int, int] = (0, 0)
    sync_s: float | None = None
    ended: bool = False


class EembcLogReader:
    """Reader of the log, line by line."""

    def __init__(self) -> None:
        self.sessions: list[EembcSession] = [EembcSession()]
        self._now: float | None = None
        self._source = ""
        self._file = ""
        self._commanded: float | None = None
        self._count: int | None = None
        self._open = False
        self._answering = False

    def feed(self, line: str, *, cut: bool = False) -> None:
        """Read one line; a line without a prefix continues the previous one.

        A ``cut`` line had no line end, so its last number may lack digits.
        """
        if prefix := _PREFIX.match(line):
            self._now, self._source = float(prefix[1]), prefix[2]
            line = line[prefix.end() :]
        if self._source in _RUNNER_SOURCES or not self._source:
            self._feed_runner(line)
        elif line:
            self._judge_text(line)
        if self._source != "sequencer" and "m-" in line:
            self._feed_tokens(line, len(line) if cut else None)

    @property
    def _current_session(self) -> EembcSession:
        return self.sessions[-1]

    def _judge_text(self, line: str) -> None:
        """Keep what a device reports as wrong: in any wording within a reply to ``infer``."""
        own, relayed = split_relayed(line)
        text = own if relayed is None else relayed
        in_reply = self._answering and (relayed is not None or self._source == "dut")
        self._current_session.errors += (failures_in_text if in_reply else errors_in_text)(text)
        if in_reply and text_before_ready(text) is not None:
            self._answering = False

    def _feed_runner(self, line: str) -> None:
        if "bload" in line and (load := _LOAD.search(line)):
            parts = re.split(r"[\\/]+", load[1])
            self._file = parts[-1]
            if len(parts) > 1:
                self._current_session.folder_model = parts[-2]
            self._current_session.loads += self._source != "sequencer"
        elif "infer" in line and (command := _COMMAND.search(line)):
            self._commanded, self._count = self._now, int(command[1])
            self._answering = True
        elif "timestamp" in line and _SYNC.search(line):
            self._current_session.sync_s = self._now
        elif found := _CONFIG.search(line):
            self._current_session.config[found[2]] = found[3]
        elif found := _RUN.search(line):
            self._current_session.code = found[1]

    def _feed_tokens(self, line: str, cut_at: int | None) -> None:
        runner = self._source in _RUNNER_SOURCES
        owner = "" if "[dut]" in line else self._source
        for found in _TOKEN.finditer(line):
            kind = found.lastgroup if found.lastgroup != "closed" else "results"
            if found.end() == cut_at and kind in {"lap", "start"}:
                continue
            if kind == "stop":
                self._current_session.ended = True
            elif kind == "session":
                self._start_session(found["session"])
            elif kind == "file":
                self._current_session.files.append(found["file"])
            elif kind == "packets":
                self._current_session.dropped = int(found["dropped"]), int(found["packets"])
            elif not runner:
                self._feed_device(kind or "", found, owner)

    def _start_session(self, name: str) -> None:
        self.sessions.append(EembcSession(name))
        self._file, self._commanded, self._count, self._open = "", None, None, False
        self._answering = False

    def _feed_device(self, kind: str, found: re.Match[str], owner: str) -> None:
        session = self._current_session
        if kind == "lap" and owner == "emon":
            session.monitor_laps_us.append(int(found["lap"]))
        elif kind == "lap" and owner == "io":  # its own clock, not the monitor's
            session.io_laps_us.append(int(found["lap"]))
        elif kind == "lap":
            session.laps_us.append(int(found["lap"]))
            if self._open:
                session.inferences[-1].laps_us.append(int(found["lap"]))
        elif kind == "start":
            count = int(found["start"])
            session.inferences.append(
                Inference(count, self._file, self._commanded, start_s=self._now)
            )
            self._commanded, self._count, self._open = None, None, True
            self._answering = True
        elif kind == "done" and self._open:
            session.inferences[-1].done_s = self._now
            session.inferences[-1].finished = True
            self._open = False
        elif kind == "results":
            self._take_results(found)
        elif kind == "model":
            session.model = found["model"]

    def _take_results(self, found: re.Match[str]) -> None:
        inferences = self._current_session.inferences
        self._open = False
        if not inferences or inferences[-1].results is not None or inferences[-1].damaged:
            inferences.append(Inference(self._count, self._file, self._commanded))
            self._commanded, self._count = None, None
        inferences[-1].finished = True
        try:
            inferences[-1].results = parse_results(found["results"])
        except ValueError:
            inferences[-1].damaged = found["results"][:40]
        if not (found["closed"] and inferences[-1].results):
            inferences[-1].damaged = f"[{found['results'][:40]}"
            inferences[-1].results = None

    def used_sessions(self) -> list[EembcSession]:
        """Return the sessions that ran anything, in order."""
        return [
            s
            for s in self.sessions
            if s.inferences or s.laps_us or s.monitor_laps_us or s.io_laps_us
        ]


def planned_counts(script: Iterable[str]) -> list[int]:
    """Return the inferences of each ``infer`` command of a script."""
    return [int(found[1]) for line in script if (found := _COMMAND.search(line))]
