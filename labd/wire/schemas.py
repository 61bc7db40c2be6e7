"""JSON Schemas of the messages and results, generated from their models."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema, EnumSchema, ModelSchema

from labd.wire.job_events import EVENT
from labd.wire.messages import (
    REQUESTS,
    DaemonStatus,
    JobStatus,
    LabClaim,
    LabMessage,
    Reply,
    StationStatus,
)
from labd.wire.results import WINDOW, ModeResult, ResultFile

_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
_ROLE = re.compile(r":\w+:`~?[\w.]*?(\w+)`|``(.+?)``")

PUBLISHED: tuple[type[LabMessage], ...] = (
    Reply,
    JobStatus,
    StationStatus,
    DaemonStatus,
    LabClaim,
)

MODELS: dict[str, tuple[TypeAdapter[Any], JsonSchemaMode]] = {
    **{model.__name__: (TypeAdapter(model), "validation") for model in REQUESTS.values()},
    **{model.__name__: (TypeAdapter(model), "serialization") for model in PUBLISHED},
    "Event": (EVENT, "serialization"),
    "Window": (WINDOW, "serialization"),
    "ModeResult": (TypeAdapter(ModeResult), "serialization"),
    "ResultFile": (TypeAdapter(ResultFile), "serialization"),
}
"""Requests as labd reads them; everything else as labd writes it."""


class DescribedSchema(GenerateJsonSchema):
    """Describes every key by the ``Args`` section of its class, or of a base class."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles: they only repeat the key."""
        del schema
        return False

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """Describe the keys of a model."""
        return _add_descriptions(schema["cls"], super().model_schema(schema))

    def enum_schema(self, schema: EnumSchema) -> JsonSchemaValue:
        """Describe an enumeration."""
        return _add_descriptions(schema["cls"], super().enum_schema(schema))

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        """Describe the keys of a dataclass."""
        return _add_descriptions(schema["cls"], super().dataclass_schema(schema))


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of every message and result, by model name."""
    return {
        name: adapter.json_schema(mode=mode, schema_generator=DescribedSchema)
        for name, (adapter, mode) in MODELS.items()
    }


def _add_descriptions(model: type, made: JsonSchemaValue) -> JsonSchemaValue:
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        documented = inspect.cleandoc(base.__doc__ or "")
        texts |= dict(_ARGUMENT.findall(documented.partition("Args:\n")[2]))
    for key, value in made.get("properties", {}).items():
        if key in texts:
            value["description"] = _to_markdown(texts[key])
    if "description" in made:
        made["description"] = _to_markdown(made["description"].partition("Args:\n")[0])
    return made


def _to_markdown(text: str) -> str:
    """Turn reStructuredText roles and literals into Markdown, and join the lines."""
    marked = _ROLE.sub(lambda found: f"`{found[1] or found[2]}`", text)
    return "\n\n".join(" ".join(part.split()) for part in marked.strip().split("\n\n"))
