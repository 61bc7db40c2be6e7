"""JSON Schemas of the wire contract, generated from its models."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from labd.wire.job_events import EVENT
from labd.wire.messages import REQUESTS, DaemonStatus, JobStatus, LabMessage, Reply, StationStatus

SENT: tuple[type[LabMessage], ...] = (Reply, JobStatus, StationStatus, DaemonStatus)


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every message, by model name; requests as read, the rest as sent."""
    asked = {model.__name__: TypeAdapter(model).json_schema() for model in REQUESTS.values()}
    sent = {model.__name__: model.model_json_schema(mode="serialization") for model in SENT}
    return asked | sent | {"Event": EVENT.json_schema(mode="serialization")}
