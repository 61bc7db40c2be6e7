"""The state directory: the files of a lab, locked by its daemon."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labd.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Layout of a lab's state directory.

    ::

        labd.lock            held while a daemon runs; holds its process id
        labd.sqlite3         the journal
        traces/<job>/<attempt>/
        broker/              the embedded broker's files
        firmware/            images of accepted jobs, by SHA-256

    Args:
        root: absolute path; created when the lock is taken.
    """

    root: Path

    @property
    def journal_file(self) -> Path:
        """The journal's file."""
        return self.root / "labd.sqlite3"

    @property
    def journal_url(self) -> str:
        """SQLAlchemy URL of the journal."""
        return f"sqlite:///{self.journal_file}"

    @property
    def broker_directory(self) -> Path:
        """The embedded broker's files."""
        return self.root / "broker"

    @property
    def firmware_directory(self) -> Path:
        """Copies of the images of accepted jobs."""
        return self.root / "firmware"

    @property
    def traces_directory(self) -> Path:
        """Traces of every job."""
        return self.root / "traces"

    def traces_of_attempt(self, job: str, attempt: int) -> Path:
        """Traces of one attempt; not created here."""
        return self.traces_directory / job / str(attempt)

    @contextmanager
    def hold_lock(self) -> Generator[None]:
        """Lock the directory for this process; the kernel unlocks it when the process dies.

        Raises:
            ConfigError: ``state-busy``: another daemon uses it; ``state``: it is not a
                writable directory.
        """
        path = self.root / "labd.lock"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            remedy = "set `state` in [lab] to a directory labd may write"
            what = f"cannot keep state in {self.root}: {error.strerror}"
            raise ConfigError("state", what, remedy) from error
        try:
            _lock_file(descriptor, path)
            yield
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically: a reader or a crash finds the old file or the new one.

    Raises:
        ValueError: ``value`` holds NaN or an infinity.
        OSError: a disk operation failed.
    """
    text = json.dumps(value, indent=1, allow_nan=False)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _lock_file(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        what = f"another labd (process {owner}) is using {path.parent}"
        remedy = "stop it first, or give this one another `state` directory"
        raise ConfigError("state-busy", what, remedy) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
