"""Replay every published reply to ``infer`` through labd's reply parser.

python -m tests.campaigns.replay_replies FOLDER...

The folders are checked-out results repositories (github.com/mlcommons/tiny_results_v0.5 to v1.3),
or any above or below them. Every log of the EEMBC runner is read and cut into replies, which pass
the same functions as in the drivers. A reply may be refused for two reasons: the line damaged it,
or the DUT itself reports a failure in it. Any other refusal makes the exit status 1. Logs of the
MLCommons runner hold no replies, but the outputs that it read from them; these are parsed alone.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labd.core.errors import DutError, InfraError
from labd.protocol.infer_reply import parse_infer, parse_results
from labd.protocol.lines import Line, LineSplitter, text_before_ready
from labd.protocol.relay import RelayedReply

PREFIX = re.compile(rb"\s*\d{1,9}\.\d{3} ([\w-]{1,20}): ?")
COMMAND = re.compile(rb'Command "(?:io |dut )*infer (\d{1,9})(?: (\d{1,9}))?')
PRINTED = re.compile(rb"m-results    : \[([^\]]*)\]")
DEFAULT_WARMUPS = 10
REFUSED = "blamed on the firmware"
MAX_LINES = 200
"""Longer replies are a log whose ``m-ready`` is lost."""


@dataclass
class PublishedReply:
    """One reply as logged; ``relayed`` if it came through an I/O manager."""

    place: str
    iterations: int
    warmups: int
    relayed: bool = False
    texts: list[bytes] = field(default_factory=list[bytes])

    def lines(self) -> list[Line] | None:
        """Return the reply as a driver hands it on; ``None`` if its end is not logged."""
        splitter = LineSplitter()
        every = [Line(text, 0) for raw in self.texts for text in splitter.feed(raw + b"\n")]
        if self.relayed:
            relayed = RelayedReply()
            for line in every:
                relayed.feed(line)
            return relayed.lines if relayed.finished else None
        found: list[Line] = []
        for line in every:
            head = text_before_ready(line.text)
            found += [Line(line.text if head is None else head, 0)] if head != "" else []
            if head is not None:
                return found
        return None


def replies_in(path: Path) -> Iterator[PublishedReply]:
    """Yield the replies to ``infer`` that a log of the EEMBC runner holds."""
    reply: PublishedReply | None = None
    source = b""
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        prefix = PREFIX.match(raw)
        source = prefix[1] if prefix else source
        text = raw[prefix.end() :] if prefix else raw
        if source == b"parser" and (asked := COMMAND.search(text)):
            if reply:
                yield reply
            warmups = int(asked[2]) if asked[2] else DEFAULT_WARMUPS
            reply = PublishedReply(f"{path}:{number}", int(asked[1]), warmups)
        elif reply and source in {b"dut", b"io"}:
            reply.relayed |= source == b"io"
            reply.texts.append(text)
            if len(reply.texts) > MAX_LINES or reply.lines() is not None:
                yield reply
                reply = None
    if reply:
        yield reply


def judge(reply: PublishedReply) -> tuple[str, str]:
    """Return the kind of outcome, and the text of a refusal."""
    lines = reply.lines()
    if lines is None:
        return "without m-ready", ""
    try:
        parse_infer(lines, reply.iterations, reply.warmups)
    except InfraError as error:
        return "damaged on the line", error.what
    except DutError as error:
        reports = error.code == "infer-refused"
        return "in which the DUT reports a failure" if reports else REFUSED, error.what
    return "accepted", ""


def main(folders: list[str]) -> int:
    """Replay all logs below the folders; print the counts and every refusal."""
    counts: Counter[str] = Counter()
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*log*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        for reply in replies_in(path):
            kind, why = judge(reply)
            counts[kind] += 1
            if why:
                sys.stdout.write(f"{kind}: {reply.place}: {why}\n")
        for printed in PRINTED.findall(path.read_bytes()):
            parse_results(printed.decode())
            counts["numbers in logs of the MLCommons runner"] += 1
    for kind, count in sorted(counts.items()):
        sys.stdout.write(f"{count:8} {kind}\n")
    return int(counts[REFUSED] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
