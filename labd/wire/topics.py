"""Topic names of the wire contract (design §5), built and read in one place.

A level is 1 to 64 letters, digits, ``_`` or ``-``: dots, blanks and wildcards mean something
to one broker or another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from labd.core.errors import JobError

ROOT = "labd"
NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
NAME_RULE = "1 to 64 letters, digits, _ or -"
_LEVEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_LEVEL = re.compile(r"[^A-Za-z0-9_-]+")


class Kind(StrEnum):
    """What a topic carries."""

    COMMAND = "command"
    REPLY = "reply"
    DAEMON = "daemon"
    STATION = "station"
    JOB = "job"
    EVENT = "event"
    TRACE = "trace"


_SHAPES: dict[Kind, tuple[str, ...]] = {
    Kind.COMMAND: ("u", "{user}", "do", "{name}"),
    Kind.REPLY: ("u", "{user}", "re", "{name}"),
    Kind.DAEMON: ("daemon", "{name}"),
    Kind.STATION: ("station", "{name}"),
    Kind.JOB: ("job", "{name}"),
    Kind.EVENT: ("job", "{name}", "event"),
    Kind.TRACE: ("job", "{name}", "trace"),
}
_PLACES = ("{user}", "{name}")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart.

    Args:
        kind: what it carries.
        name: the verb, client, host, station or job.
        user: who asks or is answered; empty where the kind has no user.
    """

    kind: Kind
    name: str
    user: str = ""


def is_name(text: str) -> bool:
    """Whether ``text`` may stand as a topic level."""
    return _LEVEL.fullmatch(text) is not None


def as_name(text: str) -> str:
    """Make a topic level of any text, e.g. of a host name with dots."""
    return _NOT_LEVEL.sub("-", text)[:64] or "-"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one lab.

    Raises:
        JobError: ``bad-name``, here and in every method that takes a name, when a name cannot
            be a topic level.
    """

    lab: str

    def __post_init__(self) -> None:
        _check("lab", self.lab)

    def command(self, user: str, verb: str) -> str:
        """Where ``user`` asks for ``verb``."""
        return self._build(Kind.COMMAND, verb, user)

    def reply(self, user: str, client: str) -> str:
        """Where ``client`` of ``user`` gets its answers."""
        return self._build(Kind.REPLY, client, user)

    def daemon(self, host: str) -> str:
        """Retained: whether the daemon on ``host`` is there."""
        return self._build(Kind.DAEMON, host)

    def station(self, station: str) -> str:
        """Retained: how ``station`` is."""
        return self._build(Kind.STATION, station)

    def job(self, job: str) -> str:
        """Retained: where ``job`` stands."""
        return self._build(Kind.JOB, job)

    def event(self, job: str) -> str:
        """Stream: what happens to ``job``."""
        return self._build(Kind.EVENT, job)

    def trace(self, job: str) -> str:
        """Stream: binary frames for live plots of ``job``."""
        return self._build(Kind.TRACE, job)

    def every(self, kind: Kind) -> str:
        """The subscription filter for all topics of one kind."""
        levels = ["+" if level in _PLACES else level for level in _SHAPES[kind]]
        return "/".join([ROOT, self.lab, *levels])

    def parse(self, topic: str) -> Topic:
        """Take a topic of this lab apart.

        Raises:
            JobError: ``bad-topic``: it is not one of this lab's.
        """
        levels = tuple(topic.split("/"))
        if levels[:2] == (ROOT, self.lab):
            for kind, shape in _SHAPES.items():
                found = _match(shape, levels[2:])
                if found is not None:
                    return Topic(kind, found["{name}"], found.get("{user}", ""))
        raise JobError("bad-topic", f"{topic[:200]!r} is not a topic of lab {self.lab}")

    def _build(self, kind: Kind, name: str, user: str = "") -> str:
        values = {"{name}": _check(kind, name)}
        if "{user}" in _SHAPES[kind]:
            values["{user}"] = _check("user", user)
        return "/".join([ROOT, self.lab, *(values.get(level, level) for level in _SHAPES[kind])])


def _check(what: str, name: str) -> str:
    if not is_name(name):
        raise JobError("bad-name", f"{name[:80]!r} cannot name a {what}", f"use {NAME_RULE}")
    return name


def _match(shape: tuple[str, ...], levels: tuple[str, ...]) -> dict[str, str] | None:
    if len(shape) != len(levels):
        return None
    found: dict[str, str] = {}
    for expected, level in zip(shape, levels, strict=True):
        if expected in _PLACES and is_name(level):
            found[expected] = level
        elif expected != level:
            return None
    return found
