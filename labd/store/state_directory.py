"""The state directory: where a lab keeps what outlives its daemon, and who may use it."""

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

    Args:
        root: absolute path; created when the lock is taken.
    """

    root: Path

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.root / "labd.sqlite3"

    @property
    def journal_url(self) -> str:
        """SQLAlchemy URL of the journal."""
        return f"sqlite:///{self.journal}"

    @property
    def broker(self) -> Path:
        """The embedded broker's files."""
        return self.root / "broker"

    @property
    def all_traces(self) -> Path:
        """Where every job's traces are."""
        return self.root / "traces"

    def traces(self, job: str, attempt: int) -> Path:
        """Where one attempt's traces go; not created here."""
        return self.all_traces / job / str(attempt)

    @contextmanager
    def lock(self) -> Generator[None]:
        """Be the only daemon on this directory; the kernel lets go when the process dies.

        Raises:
            ConfigError: ``state-busy``: another daemon holds it, ``state``: it is no directory
                that can be written.
        """
        path = self.root / "labd.lock"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            todo = "set `state` in [lab] to a directory labd may write"
            what = f"cannot keep state in {self.root}: {error.strerror}"
            raise ConfigError("state", what, todo) from error
        try:
            _hold(descriptor, path)
            yield
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader, or a crash, meets the old file or the new one, never a part.

    Raises:
        ValueError: ``value`` holds NaN or an infinity.
        OSError: the disk refuses.
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


def _hold(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        what = f"another labd (process {owner}) is using {path.parent}"
        todo = "stop it first, or give this one a `state` directory of its own"
        raise ConfigError("state-busy", what, todo) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
