"""Open the journal's database and translate its errors."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    OperationalError,
    StatementError,
)
from sqlalchemy.pool import StaticPool

from labd.core.errors import ConfigError, InfraError, LabdBug
from labd.store.journal import tables

BUSY_TIMEOUT_S = 5.0


def open_engine(url: str) -> Engine:
    """Open or create the journal's database.

    Raises:
        ConfigError: it cannot be opened, is not a journal, or was written by a newer labd.
    """
    try:
        sqlite = make_url(url).get_backend_name() == "sqlite"
        engine = (
            _open_sqlite(url) if sqlite else create_engine(url, json_serializer=_to_strict_json)
        )
    except (ArgumentError, ImportError) as error:
        raise ConfigError(
            "journal", f"{url!r} names no database that labd supports: {error}"
        ) from error
    try:
        with engine.begin() as connection:
            _upgrade_schema(connection)
    except DatabaseError as error:
        engine.dispose()
        remedy = "check the path and its permissions, or move the file away"
        raise ConfigError("journal", f"cannot use {url}: {error.orig}", remedy) from error
    except ConfigError:
        engine.dispose()
        raise
    return engine


@contextmanager
def transaction(engine: Engine) -> Generator[Connection]:
    """Run one transaction; afterwards all of it is on disk, or nothing.

    Raises:
        LabdBug: it violates a constraint of the tables, or JSON cannot hold a value.
        InfraError: the database failed (disk full, locked); nothing was changed.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError as error:
        raise LabdBug("journal-rule", f"the journal refused a change: {error.orig}") from error
    except OperationalError as error:
        remedy = "check the disk; nothing was changed"
        raise InfraError("journal", f"the journal failed: {error.orig}", remedy) from error
    except StatementError as error:
        raise LabdBug("journal-data", f"the journal cannot store it: {error.orig}") from error


def to_json_values(record: BaseModel) -> dict[str, Any]:
    """Return a record as plain JSON values.

    Raises:
        LabdBug: a value does not match its schema, or is NaN or infinite.
    """
    try:
        return json.loads(_to_strict_json(record.model_dump(mode="json", warnings="error")))
    except (ValueError, TypeError) as error:
        raise LabdBug("journal-data", f"the journal cannot store it: {error}") from error


def _to_strict_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _open_sqlite(url: str) -> Engine:
    """Open one connection for one thread at a time; every commit is durable."""
    engine = create_engine(
        url,
        poolclass=StaticPool,
        json_serializer=_to_strict_json,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins too late: see on_begin
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _upgrade_schema(connection: Connection) -> None:
    names = inspect(connection).get_table_names()
    if not names:
        tables.metadata.create_all(connection)
        row = {"version": tables.SCHEMA_VERSION, "journal": _new_id()}
        connection.execute(insert(tables.schema).values(row))
        return
    if tables.schema.name not in names:
        raise ConfigError("journal", "the database holds something other than labd's journal")
    version = connection.execute(select(tables.schema.c.version)).scalar_one()
    while version in tables.UPGRADES:
        for statement in tables.UPGRADES[version]:
            connection.exec_driver_sql(statement)
        version += 1
        connection.execute(update(tables.schema).values(version=version))
    if version != tables.SCHEMA_VERSION:
        what = f"the journal has schema version {version}, this labd knows {tables.SCHEMA_VERSION}"
        raise ConfigError("journal-version", what, "run the labd that wrote it, or a newer one")
    unnamed = tables.schema.c.journal == ""
    connection.execute(update(tables.schema).where(unnamed).values(journal=_new_id()))


def _new_id() -> str:
    return secrets.token_hex(8)
