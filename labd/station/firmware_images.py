"""Firmware images of the lab: ``<folder>/<board>/<name>-<build>.elf``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labd.core.errors import InfraError, JobError
from labd.core.model import Build


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """An ELF file.

    Args:
        path: where it is.
        sha256: of its bytes.
        name: of the file that it was taken from.
    """

    path: Path
    sha256: str
    name: str

    def verify(self) -> None:
        """Check that the file still has its SHA-256.

        Raises:
            InfraError: it is missing or was changed.
        """
        try:
            found = hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            what = f"{self.path}, a copy of {self.name}: {error.strerror}"
            raise InfraError("firmware-lost", what, "submit the job again") from error
        if found != self.sha256:
            what = f"{self.path}, a copy of {self.name}, was changed: its SHA-256 is {found}"
            raise InfraError("firmware-lost", what, "submit the job again")


def find_image(folders: Sequence[Path], board: str, name: str, build: Build) -> FirmwareImage:
    """Find the image of a firmware for a board, first folder first.

    Raises:
        JobError: no folder has it (the text lists them), or it cannot be read.
    """
    for folder in folders:
        path = folder / board / f"{name}-{build}.elf"
        if path.is_file():
            try:
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                return FirmwareImage(path, sha256, path.name)
            except OSError as error:
                raise JobError("firmware-unreadable", f"{path}: {error.strerror}") from error
    looked = ", ".join(str(folder / board) for folder in folders) or "no folder"
    raise JobError(
        "firmware-missing",
        f"there is no {name}-{build}.elf in {looked}",
        "build it (see firmware/README.md) or add its folder to [lab] firmware",
    )
