from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labd.core.jobs import JobSpec, JobState
from labd.core.model import Mode, Priority
from labd.wire.messages import REQUESTS, Cancel, ListJobs, Pin, ReplayEvents, Request, Submit, Unpin
from labd.wire.requests import MAX_REQUEST_BYTES, BadRequest, parse_request

verbs = st.sampled_from([*REQUESTS, "reserve", ""])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
known_keys = st.sampled_from(
    sorted({key for model in REQUESTS.values() for key in model.model_fields})
)


def refused(payload: bytes | dict[str, Any], verb: str = "submit") -> BadRequest:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(BadRequest) as caught:
        parse_request(verb, data)
    return caught.value


def lines(error: BadRequest) -> list[str]:
    return [str(mistake) for mistake in error.errors]


def test_a_whole_submission() -> None:
    payload = {
        "v": 1,
        "job": "j-1",
        "benchmark": "kws01",
        "modes": ["energy", "accuracy"],
        "station": "bench-3",
        "firmware": "mine",
        "priority": "overnight",
        "voltage_mv": 1800,
        "client": "cli",
        "request": "r1",
    }
    found = parse_request("submit", json.dumps(payload).encode())
    assert isinstance(found, Submit)
    assert (found.client, found.request) == ("cli", "r1")
    assert found.to_job_spec("ann") == JobSpec(
        job="j-1",
        user="ann",
        benchmark="kws01",
        modes=(Mode.ENERGY, Mode.ACCURACY),
        station="bench-3",
        firmware="mine",
        priority=Priority.OVERNIGHT,
        voltage_mv=1800,
    )


def test_the_shortest_submission_measures_everything() -> None:
    found = parse_request("submit", b'{"job": "j", "benchmark": "kws01"}')
    assert isinstance(found, Submit)
    assert found.to_job_spec("ann") == JobSpec("j", "ann", "kws01", tuple(Mode))
    assert found.client == "default"


def test_the_other_verbs() -> None:
    assert parse_request("pin", b'{"job": "j"}') == Pin(job="j")
    assert parse_request("unpin", b'{"job": "j"}') == Unpin(job="j")
    assert parse_request("cancel", b'{"job": "j", "reason": "typo"}') == Cancel(
        job="j", reason="typo"
    )
    assert parse_request("jobs", b'{"states": ["queued"]}') == ListJobs(states=(JobState.QUEUED,))
    assert parse_request("events", b'{"job": "j", "from_seq": 7}') == ReplayEvents(
        job="j", from_seq=7
    )
    assert parse_request("stations", b"{}").client == "default"


def test_every_mistake_at_once_each_with_its_place() -> None:
    error = refused(
        {
            "job": "a b",
            "benchmrk": "kws01",
            "modes": ["accuracy", "enrgy"],
            "priority": 3,
            "voltage_mv": True,
            "v": 2,
        }
    )
    keys = (
        "v, client, request, expires_ns, job, benchmark, modes, station, firmware, priority, "
        "voltage_mv, energy_method, labels, custom_data, expire_after_s"
    )
    assert sorted(lines(error)) == [
        "benchmark: is missing",
        f"benchmrk: 'benchmrk' is not a key here; did you mean benchmark? (known: {keys})",
        "job: 'a b' is not a name: 1 to 64 letters, digits, _ or -",
        "modes[1]: 'enrgy' is not one of accuracy, performance, energy; did you mean energy?",
        "priority: 3 is not one of interactive, normal, overnight",
        "v: 2 is not one of 1",
        "voltage_mv: true is not a whole number",
    ]
    by_place = {mistake.at: mistake for mistake in error.errors}
    assert by_place["modes[1]"].allowed == ("accuracy", "performance", "energy")


def test_a_missing_job_id_says_what_it_is_for() -> None:
    assert "submitting it again is then harmless" in lines(refused({"benchmark": "kws01"}))[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modes": []}, "modes: [] is not at least 1 long"),
        ({"modes": ["energy", "energy"]}, "energy is listed more than once"),
        ({"modes": ["energy"] * 4}, "is not at most 3 long"),
        ({"modes": "energy"}, "modes: 'energy' is not a list"),
        ({"modes": {"energy": 1}}, 'modes: {"energy": 1} is not a list'),
        ({"voltage_mv": 3.3}, "voltage_mv: 3.3 is not a whole number"),
        ({"voltage_mv": "3000"}, "voltage_mv: '3000' is not a whole number"),
        ({"voltage_mv": 10**40}, "is not at most 5500"),
        ({"voltage_mv": -1}, "voltage_mv: -1 is not at least 1000"),
        ({"station": ""}, "station: '' is not a name"),
        ({"firmware": "../../etc/passwd"}, "firmware: '../../etc/passwd' is not a name"),
        ({"benchmark": "kws\x0001"}, r"benchmark: 'kws\x0001' is not a name"),
        ({"benchmark": None}, "benchmark: null is not a string"),
        ({"job": "j" * 65}, "is not a name"),
        ({"labels": "../y_labels.csv"}, "labels: '../y_labels.csv' is not"),
        ({"custom_data": 1}, "custom_data: 1 is not true or false"),
        ({"client": "a/b"}, "client: 'a/b' is not a name"),
    ],
)
def test_what_a_submission_may_not_hold(change: dict[str, Any], said: str) -> None:
    assert said in "\n".join(lines(refused({"job": "j", "benchmark": "kws01"} | change)))


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "not JSON: Expecting value"),
        (b"{", "not JSON: "),
        (b"null", "null is not a JSON object"),
        (b"[1]", "[1] is not a JSON object"),
        (b'"submit"', "'submit' is not a JSON object"),
        (b"\xff\xfe{}", "not UTF-8: invalid start byte at byte 0"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON: Unexpected UTF-8 BOM"),
        (b'{"job": "\x00"}', "not JSON: Invalid control character"),
        (b'{"job": "\\ud800", "benchmark": "k"}', "not JSON: "),
        (b'{"job": NaN, "benchmark": "k"}', "job: NaN is not a string"),
        (b'{"voltage_mv": Infinity}', "voltage_mv: Infinity is not a whole number"),
        (b'{"voltage_mv": 1e999}', "voltage_mv: Infinity is not a whole number"),
        (b'{"job": "a", "benchmark": "k", "job": "a"}', "key 'job' is listed more than once"),
        (b'{"voltage_mv": ' + b"9" * 5000 + b"}", "a number has thousands of digits"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deeply"),
        (b'{"job": ' + b"[" * 300 + b"]" * 300 + b"}", "recursion limit exceeded"),
        (b" " * 8_000_000, "8000000 bytes are too many: at most 65536"),
    ],
)
def test_hostile_payloads(payload: bytes, said: str) -> None:
    error = refused(payload)
    assert error.code == "bad-request"
    assert said in "\n".join(lines(error))
    assert len(str(error)) < 2000


def test_a_remark_cannot_paint_a_terminal() -> None:
    for remark in ("a\x1b[2J", "a\x00b", "a\u202eb", "a\u2028b", "\x9b31m"):
        error = refused({"job": "j", "reason": remark}, "cancel")
        assert lines(error)[0].endswith("has control or invisible characters")
        assert remark not in str(error)
    parse_request("cancel", '{"job": "j", "reason": "Zürich: 測試 ✓"}'.encode())


def test_a_refused_request_still_finds_its_asker() -> None:
    error = refused({"client": "cli", "request": "r-7", "modes": 3})
    assert (error.client, error.request) == ("cli", "r-7")
    error = refused({"client": "a/b", "request": 7})
    assert (error.client, error.request) == ("default", None)
    error = refused({"client": "cli", "request": "r-7"}, "sbmit")
    assert (error.code, error.client, error.request) == ("unknown-verb", "cli", "r-7")
    verbs = "submit, cancel, pin, unpin, jobs, stations, events"
    assert lines(error) == [f"verb: 'sbmit' is not one of {verbs}; did you mean submit?"]


def test_the_size_limit_is_exact() -> None:
    payload = b'{"job": "j", "benchmark": "kws01"}'
    padded = payload + b" " * (MAX_REQUEST_BYTES - len(payload))
    assert parse_request("submit", padded) == parse_request("submit", payload)
    refused(padded + b" ")


def outcome(verb: str, payload: bytes) -> Request | BadRequest:
    try:
        return parse_request(verb, payload)
    except BadRequest as error:
        return error


def check_only_two_outcomes(verb: str, payload: bytes) -> None:
    found = outcome(verb, payload)
    if isinstance(found, BadRequest):
        assert found.errors
        assert str(found).encode()
    else:
        assert type(found) is REQUESTS[verb]
        assert outcome(verb, found.model_dump_json().encode()) == found


@given(verb=verbs, payload=st.binary(max_size=200))
@example(verb="submit", payload=b'{"job":1e400}')
def test_any_bytes_give_a_request_or_a_refusal(verb: str, payload: bytes) -> None:
    check_only_two_outcomes(verb, payload)


@given(verb=verbs, value=st.dictionaries(known_keys | st.text(), json_values, max_size=6))
def test_any_json_gives_a_request_or_a_refusal(verb: str, value: dict[str, Any]) -> None:
    check_only_two_outcomes(verb, json.dumps(value).encode())
