"""Reader of the MLCommons runner's log, for sessions without results.json."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from labd.protocol.duty_cycle import TICK_S
from labd.protocol.failure_texts import errors_in_text
from labd.protocol.infer_reply import parse_results
from labd.protocol.words import DUTY_STARTS, DUTY_STOPS, READY

_FILE = re.compile(r"Loading file (\S+\.bin) segment (\d{1,9})")
_RUN = re.compile(r"Running inference with \d{1,9}/(\d{1,9}) ")
_RESULTS = re.compile(r"m-results    : \[([^\]]*)\]")
_MODEL = re.compile(r"Device model retrieved: (\w+)")
_LIST = re.compile(r"\[(\d{1,12}(?:, \d{1,12})*)\]")
_ERROR = re.compile(r"ERROR:? (.*)")
_NUMBERS = re.compile(r"(?:RX:)?(?:\s*\d{1,12},)*\s*(?:\d{1,12}\s*)?(?:m-ready)?")


@dataclass(slots=True)
class MlcommonsLogFacts:
    """Data of one session's log."""

    begun: bool = False
    model: str = ""
    energy: bool = False
    answers: list[tuple[str, tuple[float, ...]]] = field(
        default_factory=list[tuple[str, tuple[float, ...]]]
    )
    counts: list[int] = field(default_factory=list[int])
    detections_ms: list[int] = field(default_factory=list[int])
    starts_s: list[float] = field(default_factory=list[float])
    stops_s: list[float] = field(default_factory=list[float])
    device_errors: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])


class MlcommonsLogReader:
    """Reader of the log, line by line; a new session replaces the previous one."""

    def __init__(self) -> None:
        self.facts = MlcommonsLogFacts()
        self._file = ""
        self._edges: list[float] | None = None

    def feed(self, line: str) -> None:
        """Read one line."""
        if line.startswith("Logging initialized"):
            self.facts = MlcommonsLogFacts(begun=True)
            self._edges = None
        elif self._edges is not None and _NUMBERS.fullmatch(line):
            self._edges += [int(ticks) * TICK_S for ticks in re.findall(r"\d+", line)]
            if READY in line:
                self._edges = None
        elif DUTY_STARTS in line:
            self.facts.starts_s, self.facts.stops_s = [], []
            self._edges = self.facts.starts_s
        elif DUTY_STOPS in line:
            self._edges = self.facts.stops_s
        else:
            self._feed_rest(line)

    def _feed_rest(self, line: str) -> None:
        facts = self.facts
        if found := _FILE.search(line):
            self._file = found[1]
        elif found := _RUN.search(line):
            facts.counts.append(int(found[1]))
        elif found := _RESULTS.search(line):
            self._take_answer(found[1])
        elif found := _LIST.fullmatch(line):
            facts.detections_ms = [int(text) for text in found[1].split(",")]
        elif found := _MODEL.search(line):
            facts.model = found[1]
        elif "Power Edition Output" in line or "amples:" in line:
            facts.energy = True
        elif errors := errors_in_text(line):
            facts.device_errors += errors
        elif found := _ERROR.search(line):
            facts.errors.append(found[1].strip())

    def _take_answer(self, text: str) -> None:
        try:
            self.facts.answers.append((self._file, parse_results(text)))
        except ValueError:
            self.facts.errors.append(f"results that are no numbers: [{text[:40]}]")
