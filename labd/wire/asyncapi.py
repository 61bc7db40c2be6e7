"""An AsyncAPI 3.0 document of the wire contract, generated from its models and topics.

The document is labd's view: it receives requests and sends everything else.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from labd.wire.job_events import Event
from labd.wire.messages import (
    REQUESTS,
    DaemonStatus,
    JobStatus,
    LabClaim,
    Reply,
    StationStatus,
)
from labd.wire.schemas import DescribedSchema
from labd.wire.topics import ADDRESSES, NAME_RULE, Kind

EVENTS: tuple[type[BaseModel], ...] = get_args(get_args(Event)[0])

FRAME = {
    "contentType": "application/octet-stream",
    "summary": "Minimum, mean and maximum of the power, while a trace is written.",
    "description": (
        "Little-endian: a header of 48 bytes that begins with `LTF1`, then n × 3 float32 (minimum, "
        "mean, maximum of power in watts, NaN where all samples were lost). docs/wire-protocol.md "
        "has the offsets. At most ten per second and trace; frames are dropped, not queued."
    ),
    "payload": {"type": "string", "contentEncoding": "binary"},
}
"""The one message that is not JSON."""

PARAMETERS = {
    "lab": "name of the lab",
    "user": "who asks, and is answered; the broker's access list guards it",
    "client": "the `client` of the request",
    "host": "host of a daemon",
    "instance": "id of one life of a daemon's process",
    "station": "name of a station",
    "job": "id of a job",
}


def asyncapi_document() -> dict[str, Any]:
    """Return the document as plain values."""
    requests = {verb: model.__name__ for verb, model in REQUESTS.items()}
    events = [event.__name__ for event in EVENTS]
    messages, definitions = _describe_messages()
    channels = {
        f"{verb}Request": _describe_channel(Kind.COMMAND, [model], f"Requests `{verb}`.", verb)
        for verb, model in requests.items()
    }
    channels |= {
        "reply": _describe_channel(
            Kind.REPLY, ["Reply"], "One reply per request, sent after the commit."
        ),
        "daemon": _describe_channel(
            Kind.DAEMON, ["DaemonStatus"], "The state of a daemon; `offline` is its last will."
        ),
        "claim": _describe_channel(
            Kind.CLAIM,
            ["LabClaim"],
            "Claims to the lab, among daemons: one that is about to connect asks, others answer.",
        ),
        "station": _describe_channel(Kind.STATION, ["StationStatus"], "The state of a station."),
        "job": _describe_channel(Kind.JOB, ["JobStatus"], "The state of a job."),
        "event": _describe_channel(
            Kind.EVENT, events, "The events of a job, numbered from 0 without holes."
        ),
        "trace": _describe_channel(Kind.TRACE, ["Frame"], "Frames for live plots."),
    }
    operations = {verb: _describe_request(verb) for verb in requests}
    operations |= {
        "receiveClaim": {**_describe_publication("claim"), "action": "receive"},
        "publishDaemon": _describe_publication("daemon", retain=True),
        "publishClaim": _describe_publication("claim"),
        "publishStation": _describe_publication("station", retain=True),
        "publishJob": _describe_publication("job", retain=True),
        "publishEvent": _describe_publication("event"),
        "publishTrace": _describe_publication("trace", qos=0),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "labd",
            "version": str(Reply.model_fields["v"].default),
            "description": "Jobs, results and live traces of a lab of MLPerf Tiny boards.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "parameters": {
                name: {"description": f"{text}: {NAME_RULE}"} for name, text in PARAMETERS.items()
            },
            "schemas": definitions,
        },
    }


def _describe_messages() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return every message, and the schemas that their payloads refer to."""
    sent = (Reply, JobStatus, StationStatus, DaemonStatus, LabClaim, *EVENTS)
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        *((model.__name__, "validation", TypeAdapter(model)) for model in REQUESTS.values()),
        *((model.__name__, "serialization", TypeAdapter(model)) for model in sent),
    ]
    made, described = TypeAdapter.json_schemas(
        inputs,
        ref_template="#/components/schemas/{model}",
        schema_generator=DescribedSchema,
    )
    definitions: dict[str, Any] = described["$defs"]
    messages = {
        name: {"name": name, "summary": definitions[name]["description"], "payload": payload}
        for (name, _), payload in made.items()
    }
    return messages | {"Frame": {"name": "Frame", **FRAME}}, definitions


def _describe_channel(kind: Kind, messages: list[str], text: str, verb: str = "") -> dict[str, Any]:
    address = ADDRESSES[kind].replace("{verb}", verb)
    parameters = re.findall(r"{(\w+)}", address)
    return {
        "address": address,
        "description": text,
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in parameters},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _describe_request(verb: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{verb}Request"},
        "bindings": _mqtt_bindings(1),
        "reply": {"channel": {"$ref": "#/channels/reply"}},
    }


def _describe_publication(channel: str, *, qos: int = 1, retain: bool = False) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": _mqtt_bindings(qos, retain=retain),
    }


def _mqtt_bindings(qos: int, *, retain: bool = False) -> dict[str, Any]:
    return {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": "0.2.0"}}
