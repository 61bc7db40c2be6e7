"""The journal's tables. Times are integer nanoseconds since the epoch.

A job's row holds the request and its state; its events are numbered from 0 by ``next_seq``,
without holes. The journal is the source of truth; files and MQTT messages are copies.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 9

UPGRADES: dict[int, tuple[str, ...]] = {
    1: ("ALTER TABLE job ADD COLUMN energy_method TEXT NOT NULL DEFAULT 'mlcommons'",),
    2: (
        """CREATE TABLE IF NOT EXISTS pin (
            job TEXT NOT NULL PRIMARY KEY REFERENCES job (job),
            "user" TEXT NOT NULL, t_ns BIGINT NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS removed (
            job TEXT NOT NULL, attempt INTEGER NOT NULL, t_ns BIGINT NOT NULL,
            PRIMARY KEY (job, attempt),
            FOREIGN KEY (job, attempt) REFERENCES run (job, attempt))""",
    ),
    3: ("ALTER TABLE schema ADD COLUMN journal TEXT NOT NULL DEFAULT ''",),
    4: (
        "ALTER TABLE job ADD COLUMN labels TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE job ADD COLUMN custom_data BOOLEAN NOT NULL DEFAULT FALSE",
    ),
    5: ("ALTER TABLE run ADD COLUMN dut_fault TEXT NOT NULL DEFAULT ''",),
    6: (
        """CREATE TABLE image (
            job TEXT NOT NULL REFERENCES job (job), board TEXT NOT NULL, build TEXT NOT NULL,
            name TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (job, board, build))""",
    ),
    7: (
        "ALTER TABLE job ADD COLUMN published_seq INTEGER NOT NULL DEFAULT 0",
        "UPDATE job SET published_seq = next_seq",
    ),
    8: ("ALTER TABLE job ADD COLUMN expire_after_s FLOAT",),
}
"""Statements that upgrade a journal from one version to the next; no accepted job is lost.

Version 1 had one energy method, ``mlcommons``; version 2 kept the files of every run; version 3
had no id; version 4 did not judge data sets; version 5 did not tell whose fault a fault is;
version 6 read a job's firmware when it ran; version 7 did not record what was published; in
version 8 no job expired.
"""

metadata = MetaData()

schema = Table(
    "schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("journal", Text, nullable=False),
)
"""One row: the version, and the random id of this journal."""

job = Table(
    "job",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("job", Text, nullable=False, unique=True),
    Column("user", Text, nullable=False),
    Column("benchmark", Text, nullable=False),
    Column("modes", JSON, nullable=False),
    Column("wanted_station", Text, nullable=False),
    Column("firmware", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("voltage_mv", Integer),
    Column("energy_method", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("custom_data", Boolean, nullable=False),
    Column("expire_after_s", Float),
    Column("state", Text, nullable=False),
    Column("submitted_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("station", Text, nullable=False),
    Column("verdict", Text),
    Column("reason", Text, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("next_seq", Integer, nullable=False),
    Column("published_seq", Integer, nullable=False, default=0),
)
"""Events below ``published_seq`` are known to have been published; a second behind at most."""

Index("job_by_state", job.c.state, job.c.submitted_ns)

one_job_per_station = Index(
    "one_job_a_station",
    job.c.station,
    unique=True,
    sqlite_where=job.c.state.in_(["leased", "running"]),
    postgresql_where=job.c.state.in_(["leased", "running"]),
)
"""The database refuses a second job on a busy station."""

run = Table(
    "run",
    metadata,
    Column("job", Text, ForeignKey("job.job"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("station", Text, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("dut_fault", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("job", Text, ForeignKey("job.job"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("t_ns", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("station", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("data", JSON, nullable=False),
)

result = Table(
    "result",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("mode", Text, nullable=False),
    Column("t_ns", BigInteger, nullable=False),
    Column("data", JSON, nullable=False),
    UniqueConstraint("job", "attempt", "mode"),
    ForeignKeyConstraint(["job", "attempt"], ["run.job", "run.attempt"]),
)

pin = Table(
    "pin",
    metadata,
    Column("job", Text, ForeignKey("job.job"), primary_key=True),
    Column("user", Text, nullable=False),
    Column("t_ns", BigInteger, nullable=False),
)
"""Jobs whose files are kept whatever the limits."""

removed = Table(
    "removed",
    metadata,
    Column("job", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("t_ns", BigInteger, nullable=False),
    ForeignKeyConstraint(["job", "attempt"], ["run.job", "run.attempt"]),
)
"""Runs whose files were removed to make room; written before the removal."""

image = Table(
    "image",
    metadata,
    Column("job", Text, ForeignKey("job.job"), primary_key=True),
    Column("board", Text, primary_key=True),
    Column("build", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
)
"""The firmware of a job, fixed when the job was accepted."""
