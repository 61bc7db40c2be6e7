"""labd schema: the wire protocol and the results, for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from labd.cli.terminal import print_line
from labd.core.errors import ConfigError
from labd.wire.asyncapi import asyncapi_document
from labd.wire.schemas import json_schemas
from labd.wire.validation import unknown_value_mistake

ASYNCAPI_FILE = "asyncapi.json"


@click.command("schema")
@click.argument("name", required=False)
@click.option("--asyncapi", "as_asyncapi", is_flag=True, help="Print an AsyncAPI 3.0 document.")
@click.option(
    "--write",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write every schema and the AsyncAPI document into this folder.",
)
def schema_command(name: str | None, as_asyncapi: bool, folder: Path | None) -> None:
    """Print the JSON Schemas of the wire protocol and of results, or of NAME alone."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in schema_documents().items():
            (folder / file).write_text(text, encoding="utf-8")
    elif as_asyncapi:
        print_line(_format_json(asyncapi_document()), end="")
    else:
        print_line(_format_json(json_schemas() if name is None else _find_schema(name)), end="")


def schema_documents() -> dict[str, str]:
    """Return the text of every file that ``--write`` writes, by file name."""
    files = {f"{name}.json": made for name, made in json_schemas().items()}
    return {
        file: _format_json(made)
        for file, made in (files | {ASYNCAPI_FILE: asyncapi_document()}).items()
    }


def _find_schema(name: str) -> dict[str, Any]:
    every = json_schemas()
    if name not in every:
        raise ConfigError("no-schema", str(unknown_value_mistake("", name, list(every))))
    return every[name]


def _format_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
