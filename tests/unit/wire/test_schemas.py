"""The generated schemas, and the copy that is committed for readers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labd.cli.schema import schema_documents
from labd.wire.asyncapi import asyncapi_document
from labd.wire.job_events import EventType
from labd.wire.messages import REQUESTS
from labd.wire.schemas import json_schemas
from labd.wire.topics import ADDRESSES, Kind

DOCS = Path(__file__).parents[3] / "docs"


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (ref for ref in [value.get("$ref")] if isinstance(ref, str))
        for each in value.values():
            yield from refs(each)
    elif isinstance(value, list):
        for each in value:
            yield from refs(each)


def resolve(document: dict[str, Any], ref: str) -> Any:
    found: Any = document
    assert ref.startswith("#/")
    for key in ref[2:].split("/"):
        found = found[key]
    return found


def test_the_committed_copy_is_current() -> None:
    folder = DOCS / "schema"
    kept = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert kept == schema_documents(), "run: labd schema --write docs/schema"


@pytest.mark.parametrize(
    "document", [*json_schemas().values(), asyncapi_document()], ids=[*json_schemas(), "async"]
)
def test_every_reference_is_to_something(document: dict[str, Any]) -> None:
    for ref in refs(document):
        assert resolve(document, ref) is not None


def test_what_was_recorded_matches_its_schema() -> None:
    validate = pytest.importorskip("jsonschema", reason="the dev extra has it").validate
    recorded = json.loads((Path(__file__).parent / "recorded_job.json").read_text())
    made = json_schemas()
    for event in recorded["events"]:
        validate(event, made["Event"])
    for result in recorded["results"]:
        validate(result, made["ModeResult"])
    validate(recorded["file"], made["ResultFile"])
    validate(recorded["annotation"]["labd:window"], made["Window"])


def test_every_message_has_a_schema() -> None:
    found = json_schemas()
    assert set(found) == {
        *("Submit", "Cancel", "Pin", "Unpin", "ListJobs", "ListStations", "ReplayEvents"),
        *("Reply", "JobStatus", "StationStatus", "DaemonStatus", "LabClaim", "Event"),
        *("Window", "ModeResult", "ResultFile"),
    }
    assert found["Submit"]["additionalProperties"] is False
    assert found["Submit"]["required"] == ["job", "benchmark"]
    assert "additionalProperties" not in found["Event"]
    assert set(found["Event"]["discriminator"]["mapping"]) == set(EventType)


def test_the_keys_of_a_window_are_described_from_its_docstring() -> None:
    measured = json_schemas()["Event"]["$defs"]["MeasuredWindow"]["properties"]
    assert {key for key, value in measured.items() if "description" not in value} == set()
    assert "energy_uj" in measured["energy_uncertainty_uj"]["description"]
    assert measured["valid"]["type"] == "boolean"


def test_the_asyncapi_document_has_what_version_3_asks_for() -> None:
    document = asyncapi_document()
    assert re.fullmatch(r"3\.\d+\.\d+", document["asyncapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    for channel in document["channels"].values():
        assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].startswith("#/channels/")
        assert operation["bindings"]["mqtt"]["qos"] in {0, 1}
    for name, message in document["components"]["messages"].items():
        assert message["name"] == name
        assert message["payload"]
    used = {operation["channel"]["$ref"] for operation in document["operations"].values()}
    used.add("#/channels/reply")
    assert used == {f"#/channels/{name}" for name in document["channels"]}
    assert not any("$defs" in ref for ref in refs(document))


def test_the_asyncapi_document_and_the_manual_have_every_topic() -> None:
    described = {channel["address"] for channel in asyncapi_document()["channels"].values()}
    command = ADDRESSES[Kind.COMMAND]
    assert described == {
        *(command.replace("{verb}", verb) for verb in REQUESTS),
        *(address for address in ADDRESSES.values() if address != command),
    }
    manual = (DOCS / "wire-protocol.md").read_text(encoding="utf-8")
    for address in ADDRESSES.values():
        assert f"\n{address.replace('{', '<').replace('}', '>')} " in manual


def test_every_type_of_event_has_its_message() -> None:
    document = asyncapi_document()
    messages = document["channels"]["event"]["messages"].values()
    payloads = [resolve(document, message["$ref"])["payload"] for message in messages]
    types = [resolve(document, each["$ref"])["properties"]["type"]["const"] for each in payloads]
    assert sorted(types) == sorted(EventType)


def test_the_documents_are_json() -> None:
    assert all(json.loads(text) for text in schema_documents().values())
