"""Firmware images of accepted jobs: files named by the SHA-256 of their bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from labd.core.errors import InfraError, JobError

_SUFFIX = ".elf"


class FirmwareStore:
    """Keeps copies of images in one directory.

    Args:
        directory: created when the first image is kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, sha256: str) -> Path:
        """Return where an image is kept."""
        return self._directory / f"{sha256}{_SUFFIX}"

    def keep_copy(self, image: Path) -> str:
        """Keep a copy of an image and return its SHA-256.

        Raises:
            JobError: the image cannot be read.
            InfraError: the copy cannot be written.
        """
        try:
            content = image.read_bytes()
        except OSError as error:
            raise JobError("firmware-unreadable", f"{image}: {error.strerror}") from error
        sha256 = hashlib.sha256(content).hexdigest()
        target = self.path(sha256)
        try:
            if not target.is_file() or target.stat().st_size != len(content):
                self._write_atomically(target, content)
        except OSError as error:
            what = f"cannot keep a copy of {image} in {self._directory}: {error.strerror}"
            raise InfraError("firmware-store", what, "check the disk") from error
        return sha256

    def sweep(self, needed: Collection[str]) -> list[str]:
        """Remove every file but these images; return the names of the removed ones.

        Raises:
            InfraError: a disk operation failed.
        """
        kept = {self.path(sha256).name for sha256 in needed}
        removed: list[str] = []
        try:
            for file in self._directory.glob("*") if self._directory.is_dir() else ():
                if file.name not in kept:
                    file.unlink(missing_ok=True)
                    removed.append(file.name)
        except OSError as error:
            what = f"cannot sweep {self._directory}: {error.strerror}"
            raise InfraError("firmware-store", what, "check the disk") from error
        return removed

    def _write_atomically(self, target: Path, content: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=self._directory)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
