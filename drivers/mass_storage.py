"""Flash a board by copying a raw binary to its programmer's USB drive (ST-LINK, DAPLink).

The programmer writes a file that appears on its drive to the start of flash memory and removes
it; if it fails it leaves ``FAIL.TXT`` with the reason.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from drivers.base.identity import make_identity
from drivers.base.interfaces import DriverConfig
from drivers.base.registry import register_flasher
from labd.core.elf_image import load_segments
from labd.core.errors import DeadlineExceeded, InstrumentError, JobError, TransportError, Where
from labd.core.model import Finding, Identity

# ---- pure: ELF to raw binary -------------------------------------------------------------

MAX_IMAGE = 16 << 20
ERASED = b"\xff"


@dataclass(frozen=True, slots=True)
class RawImage:
    """Bytes to program from ``address`` on; holes have the value of erased flash."""

    address: int
    data: bytes


def raw_image_from_elf(elf: bytes) -> RawImage:
    """Return the loadable segments of an ARM executable as one block.

    Raises:
        JobError: it is another file, or damaged.
    """
    try:
        segments = load_segments(elf)
    except ValueError as exc:
        raise _unfit_image_error(str(exc)) from exc
    if not segments:
        raise _unfit_image_error("it has nothing to load")
    start = min(address for address, _ in segments)
    end = max(address + len(content) for address, content in segments)
    if end - start > MAX_IMAGE:
        raise _unfit_image_error(
            f"its segments lie {end - start} bytes apart: not all of them are in flash"
        )
    data = bytearray(ERASED * (end - start))
    for address, content in segments:
        data[address - start : address - start + len(content)] = content
    return RawImage(start, bytes(data))


def _unfit_image_error(why: str) -> JobError:
    return JobError("image-unfit", f"the firmware image cannot be flashed: {why}", "rebuild it")


# ---- the drive ---------------------------------------------------------------------------

IMAGE_NAME = "labd.bin"
PARTIAL_NAME = ".labd.partial"
DETAILS = "DETAILS.TXT"
_VERSION = re.compile(r"^Version: *(\S+)", re.MULTILINE)
BOARD_PAGE = "MBED.HTM"
FAIL = "FAIL.TXT"
POLL_S = 0.05
SETTLE_S = 0.3  # FAIL.TXT appears a moment after the file has gone


class NucleoDriveConfig(DriverConfig):
    """A programmer's USB drive, mounted."""

    path: Path = Field(description="the folder where the drive is mounted")
    board: str = Field("", description="text that DETAILS.TXT or MBED.HTM must contain")
    address: int = Field(0x0800_0000, description="start address of the board's flash memory", ge=0)
    deadline_s: float = Field(60.0, gt=0, le=600, description="longest programming time, seconds")


@register_flasher(config=NucleoDriveConfig)
class NucleoDrive:
    """A programmer with a USB drive."""

    def __init__(self, config: NucleoDriveConfig) -> None:
        self.config = config
        self._where = Where(device=f"nucleo-drive at {config.path}")

    async def open(self) -> Identity:
        """Check that the drive is there and, if ``board`` is configured, whose it is.

        Raises:
            TransportError: it is not mounted or cannot be written.
            InstrumentError: it belongs to another board.
        """
        details = await asyncio.to_thread(self._read_details)
        if self.config.board not in details:
            raise InstrumentError(
                "wrong-board",
                f"neither {DETAILS} nor {BOARD_PAGE} mentions '{self.config.board}'",
                "check `path` and `board` in stations.toml: drives may swap names after a replug",
                self._where,
            )
        board = next((line for line in details.splitlines() if "NUCLEO" in line), "")
        version = _VERSION.search(details)
        firmware = version[1] if version else ""
        return make_identity("nucleo-drive", board.strip(), firmware=firmware)

    async def flash(self, image: Path) -> None:
        """Write the ELF ``image`` and wait until the programmer has accepted it.

        Raises:
            JobError: the image does not fit this board.
            InstrumentError: the programmer refused or failed.
            DeadlineExceeded: it did not accept the file.
        """
        raw = await asyncio.to_thread(self._load_image, image)
        await asyncio.to_thread(self._copy_to_drive, raw.data)
        await self._wait_until_image_taken()
        await asyncio.sleep(SETTLE_S)
        failure = await asyncio.to_thread(self._read_drive_file, FAIL)
        if failure is not None:
            raise InstrumentError(
                "flash-failed",
                f"the programmer reports: {failure.strip()}",
                "replug the board; check that its target is powered and not held in reset",
                self._where,
            )

    async def self_check(self) -> list[Finding]:
        """Check that the drive is still there and has no FAIL.TXT."""
        await asyncio.to_thread(self._read_details)
        failure = await asyncio.to_thread(self._read_drive_file, FAIL)
        if failure is None:
            return []
        remedy = "replug the board: the programmer clears it at start"
        return [Finding("flash-failed", f"{FAIL}: {failure.strip()}", remedy, serious=False)]

    async def close(self) -> None:
        """Remove a partial copy, if there is one; safe to call twice."""
        await asyncio.to_thread(self._remove_drive_file, PARTIAL_NAME)

    # ---- blocking steps, each run in a thread ----------------------------------------------

    def _load_image(self, image: Path) -> RawImage:
        try:
            elf = image.read_bytes()
        except OSError as exc:
            raise JobError("image-missing", f"cannot read {image.name}: {exc}") from exc
        raw = raw_image_from_elf(elf)
        if raw.address != self.config.address:
            raise _unfit_image_error(
                f"its load address is {raw.address:#010x}, this board's flash starts at "
                f"{self.config.address:#010x}"
            )
        return raw

    def _copy_to_drive(self, data: bytes) -> None:
        """Write under another name and rename, so that no partial file is programmed."""
        partial = self.config.path / PARTIAL_NAME
        try:
            (self.config.path / FAIL).unlink(missing_ok=True)
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self.config.path / IMAGE_NAME)
        except OSError as exc:
            raise self._drive_error(exc) from exc

    def _read_details(self) -> str:
        if not os.access(self.config.path, os.W_OK | os.X_OK):
            raise self._drive_error(OSError(errno.ENOENT, "missing, or not writable"))
        return "\n".join(self._read_drive_file(name) or "" for name in (DETAILS, BOARD_PAGE))

    def _read_drive_file(self, name: str) -> str | None:
        try:
            return (self.config.path / name).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._drive_error(exc) from exc

    def _remove_drive_file(self, name: str) -> None:
        try:
            (self.config.path / name).unlink(missing_ok=True)
        except OSError as exc:
            raise self._drive_error(exc) from exc

    def _is_image_taken(self) -> bool:
        """Return whether the file is gone and the drive, which may re-enumerate, is back."""
        return self.config.path.is_dir() and not (self.config.path / IMAGE_NAME).exists()

    async def _wait_until_image_taken(self) -> None:
        end = time.monotonic() + self.config.deadline_s
        while not await asyncio.to_thread(self._is_image_taken):
            if time.monotonic() > end:
                await asyncio.to_thread(self._remove_drive_file, IMAGE_NAME)
                raise DeadlineExceeded(
                    "flash-not-taken",
                    f"the programmer did not take {IMAGE_NAME} within {self.config.deadline_s:g} s",
                    "replug the board; check that `path` is the programmer's drive, not a folder",
                    self._where,
                )
            await asyncio.sleep(POLL_S)

    def _drive_error(self, exc: OSError) -> TransportError:
        return TransportError(
            "drive-missing",
            f"the drive cannot be used: {exc.strerror}",
            "check that the board is plugged in and its drive mounted for labd's user",
            self._where,
        )
