from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.errors import JobError
from labd.wire.topics import Kind, Topic, Topics, is_topic_level, to_topic_level

LAB = Topics("lab")
names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(user=names, name=names)
def test_what_is_built_is_read_back(user: str, name: str) -> None:
    built = {
        LAB.command_topic(user, name): Topic(Kind.COMMAND, name, user),
        LAB.reply_topic(user, name): Topic(Kind.REPLY, name, user),
        LAB.daemon_topic(name): Topic(Kind.DAEMON, name),
        LAB.claim_topic(name): Topic(Kind.CLAIM, name),
        LAB.station_topic(name): Topic(Kind.STATION, name),
        LAB.job_topic(name): Topic(Kind.JOB, name),
        LAB.event_topic(name): Topic(Kind.EVENT, name),
        LAB.trace_topic(name): Topic(Kind.TRACE, name),
    }
    assert len(built) == len(Kind)
    for topic, meant in built.items():
        assert LAB.parse_topic(topic) == meant


def test_topics_are_those_of_the_design() -> None:
    assert LAB.command_topic("ann", "submit") == "labd/lab/u/ann/do/submit"
    assert LAB.reply_topic("ann", "cli") == "labd/lab/u/ann/re/cli"
    assert LAB.subscription_filter(Kind.COMMAND) == "labd/lab/u/+/do/+"
    assert LAB.subscription_filter(Kind.EVENT) == "labd/lab/job/+/event"
    assert LAB.event_topic("j1") == "labd/lab/job/j1/event"


@given(st.text())
def test_any_other_text_is_refused_or_is_exactly_a_topic(text: str) -> None:
    with suppress(JobError):
        assert is_topic_level(LAB.parse_topic(f"labd/lab/{text}").name)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "labd/lab",
        "labd/other/job/j",
        "labd/lab/job/a.b",
        "labd/lab/job/+",
        "labd/lab/u/ann/do/",
        "labd/lab/u/a b/do/submit",
        "labd/lab/job/j/event/x",
        "x" * 70_000,
    ],
)
def test_foreign_and_hostile_topics(topic: str) -> None:
    with pytest.raises(JobError, match="is not a topic of lab lab"):
        LAB.parse_topic(topic)


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "+", "#", "a b", "ä", "a" * 65, "a\n"])
def test_names_that_no_topic_may_carry(name: str) -> None:
    with pytest.raises(JobError, match="use 1 to 64 letters"):
        LAB.job_topic(name)
    with pytest.raises(JobError, match="cannot name a lab"):
        Topics(name)


@given(st.text())
def test_any_text_gives_a_name(text: str) -> None:
    assert is_topic_level(to_topic_level(text))


def test_a_host_with_dots() -> None:
    assert to_topic_level("bench-3.lab.example") == "bench-3-lab-example"
