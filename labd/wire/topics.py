"""Topics of the wire contract, built and read in one place.

A level is 1 to 64 letters, digits, ``_`` or ``-``: dots, blanks and wildcards have a meaning
for one broker or another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from labd.core.errors import JobError

NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
NAME_RULE = "1 to 64 letters, digits, _ or -"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_PLACEHOLDER = re.compile(r"{(\w+)}")


class Kind(StrEnum):
    """What a topic carries."""

    COMMAND = "command"
    REPLY = "reply"
    DAEMON = "daemon"
    CLAIM = "claim"
    STATION = "station"
    JOB = "job"
    EVENT = "event"
    TRACE = "trace"


ADDRESSES: dict[Kind, str] = {
    Kind.COMMAND: "labd/{lab}/u/{user}/do/{verb}",
    Kind.REPLY: "labd/{lab}/u/{user}/re/{client}",
    Kind.DAEMON: "labd/{lab}/daemon/{host}",
    Kind.CLAIM: "labd/{lab}/claim/{instance}",
    Kind.STATION: "labd/{lab}/station/{station}",
    Kind.JOB: "labd/{lab}/job/{job}",
    Kind.EVENT: "labd/{lab}/job/{job}/event",
    Kind.TRACE: "labd/{lab}/job/{job}/trace",
}
"""Every topic; the last placeholder is the topic's name."""

_PATTERNS = {
    kind: re.compile(_PLACEHOLDER.sub(rf"(?P<\1>{_NAME.pattern})", address))
    for kind, address in ADDRESSES.items()
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A parsed topic.

    Args:
        kind: what it carries.
        name: the verb, client, host, instance, station or job.
        user: who asks or is answered; empty where the topic has no user.
    """

    kind: Kind
    name: str
    user: str = ""


def is_topic_level(text: str) -> bool:
    """Whether ``text`` may be a topic level."""
    return _NAME.fullmatch(text) is not None


def to_topic_level(text: str) -> str:
    """Make a topic level of any text, e.g. of a host name with dots."""
    return _NOT_NAME.sub("-", text)[:64] or "-"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one lab.

    Raises:
        JobError: ``bad-name``, here and in every method that takes a name, when a name cannot
            be a topic level.
    """

    lab: str

    def __post_init__(self) -> None:
        _require_topic_level("lab", self.lab)

    def command_topic(self, user: str, verb: str) -> str:
        """Requests of ``user`` for ``verb``."""
        return self._format_topic(Kind.COMMAND, user=user, verb=verb)

    def reply_topic(self, user: str, client: str) -> str:
        """Replies to ``client`` of ``user``."""
        return self._format_topic(Kind.REPLY, user=user, client=client)

    def daemon_topic(self, host: str) -> str:
        """Retained: whether the daemon on ``host`` is online."""
        return self._format_topic(Kind.DAEMON, host=host)

    def claim_topic(self, instance: str) -> str:
        """Claim to the lab by one daemon, before it connects."""
        return self._format_topic(Kind.CLAIM, instance=instance)

    def station_topic(self, station: str) -> str:
        """Retained: the state of ``station``."""
        return self._format_topic(Kind.STATION, station=station)

    def job_topic(self, job: str) -> str:
        """Retained: the state of ``job``."""
        return self._format_topic(Kind.JOB, job=job)

    def event_topic(self, job: str) -> str:
        """Stream: the events of ``job``."""
        return self._format_topic(Kind.EVENT, job=job)

    def trace_topic(self, job: str) -> str:
        """Stream: binary frames for live plots of ``job``."""
        return self._format_topic(Kind.TRACE, job=job)

    def subscription_filter(self, kind: Kind) -> str:
        """Return the subscription filter for all topics of one kind."""
        return _PLACEHOLDER.sub("+", ADDRESSES[kind].replace("{lab}", self.lab))

    def parse_topic(self, topic: str) -> Topic:
        """Parse a topic of this lab.

        Raises:
            JobError: ``bad-topic``: it is not one of this lab's.
        """
        for kind, pattern in _PATTERNS.items():
            found = pattern.fullmatch(topic)
            if found is not None and found["lab"] == self.lab:
                return Topic(kind, found.groups()[-1], found.groupdict().get("user", ""))
        raise JobError("bad-topic", f"{topic[:200]!r} is not a topic of lab {self.lab}")

    def _format_topic(self, kind: Kind, **names: str) -> str:
        for what, name in names.items():
            _require_topic_level(what, name)
        return ADDRESSES[kind].format(lab=self.lab, **names)


def _require_topic_level(what: str, name: str) -> None:
    if not is_topic_level(name):
        raise JobError("bad-name", f"{name[:80]!r} cannot name a {what}", f"use {NAME_RULE}")
