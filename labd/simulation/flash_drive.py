"""The ST-LINK's mass-storage drive: a folder into which firmware is copied to flash the board.

A file is taken once it is complete: it is not empty and no process has it open for writing (a
read lease is granted), or, on file systems without leases, it has not changed for five polls.
Names that begin with a dot are ignored, so that a writer may prepare a file and rename it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

POLL_S = 0.02
_STEADY_POLLS = 5
_DETAILS = "Version: simulated\r\nBoard: NUCLEO-L4R5ZI\r\nTarget: STM32L4R5ZIT6, 2048 KB flash\r\n"
_OWN = frozenset(("DETAILS.TXT", "FAIL.TXT"))


class FlashDrive:
    """The folder of one drive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes_seen: dict[str, tuple[int, int, int]] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "DETAILS.TXT").write_bytes(_DETAILS.encode())

    def take_complete_file(self) -> bytes | None:
        """Return the next complete file and remove it; None if there is none."""
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".") or path.name in _OWN or not path.is_file():
                continue
            if self._is_complete(path):
                data = path.read_bytes()
                path.unlink()
                self._sizes_seen.pop(path.name, None)
                (self._folder / "FAIL.TXT").unlink(missing_ok=True)
                return data
        return None

    def write_failure_report(self, reason: str) -> None:
        """Leave FAIL.TXT on the drive, as an ST-LINK does when it cannot program."""
        (self._folder / "FAIL.TXT").write_text(f"{reason}\r\n", newline="")

    def remove_folder(self) -> None:
        """Remove the drive."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_complete(self, path: Path) -> bool:
        status = path.stat()
        if status.st_size == 0:
            return False
        unwritten = _is_unwritten(path)
        if unwritten is not None:
            return unwritten
        size, modified, polls = self._sizes_seen.get(path.name, (0, 0, 0))
        same = (size, modified) == (status.st_size, status.st_mtime_ns)
        self._sizes_seen[path.name] = (status.st_size, status.st_mtime_ns, polls + 1 if same else 0)
        return self._sizes_seen[path.name][2] >= _STEADY_POLLS


def _is_unwritten(path: Path) -> bool | None:
    """Return whether no process has the file open for writing; None where it is unknown."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return True
