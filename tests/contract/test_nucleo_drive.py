"""The flasher against a folder that behaves like a programmer's drive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.mass_storage import NucleoDrive, NucleoDriveConfig
from labd.core.errors import DeadlineExceeded, InstrumentError, JobError, TransportError
from labd.core.model import Identity
from tests.unit.drivers.test_mass_storage_image import FLASH, elf


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def arrivals(folder: Path) -> list[Path]:
    return list(folder.glob("[!.]*.bin"))


def write(image: Path, content: bytes) -> None:
    image.write_bytes(content)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "NODE_L4R5ZI"
    folder.mkdir()
    (folder / "DETAILS.TXT").write_text("Version: 0221\r\nMB1312 NUCLEO-L4R5ZI\r\n")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.elf"
    path.write_bytes(elf((FLASH, b"vectors and code")))
    return path


@asynccontextmanager
async def programmer(folder: Path, take: Callable[[Path], None]) -> AsyncGenerator[None]:
    """Takes any file that appears under its final name."""

    async def watch() -> None:
        while True:
            for path in arrivals(folder):
                take(path)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()
    await asyncio.wait([watching])


async def test_an_image_arrives_complete_and_the_drive_is_left_clean(
    drive: Path, image: Path
) -> None:
    taken: list[bytes] = []

    def take(path: Path) -> None:
        taken.append(path.read_bytes())
        path.unlink()

    flasher = NucleoDrive(NucleoDriveConfig(path=drive, board="MB1312"))
    identity = await flasher.open()
    assert identity == Identity("nucleo-drive", "MB1312 NUCLEO-L4R5ZI", firmware="0221")
    async with programmer(drive, take):
        await flasher.flash(image)
    assert taken == [b"vectors and code"]
    assert await flasher.self_check() == []
    await flasher.close()
    await flasher.close()
    assert names_in(drive) == ["DETAILS.TXT"]


async def test_no_partial_file_is_ever_programmed(
    drive: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_half_way: list[list[str]] = []
    sync = os.fsync

    def slow_sync(number: int) -> None:
        seen_half_way.append(names_in(drive))
        sync(number)

    monkeypatch.setattr(os, "fsync", slow_sync)
    async with programmer(drive, Path.unlink):
        await NucleoDrive(NucleoDriveConfig(path=drive)).flash(image)
    assert [[name for name in names if name[0] != "."] for names in seen_half_way] == [
        ["DETAILS.TXT"]
    ]


async def test_the_programmers_error_is_reported_once(drive: Path, image: Path) -> None:
    complaints = ["The flash write failed"]

    def take(path: Path) -> None:
        path.unlink()
        if complaints:
            loop = asyncio.get_running_loop()
            loop.call_later(0.15, (drive / "FAIL.TXT").write_text, complaints.pop())

    flasher = NucleoDrive(NucleoDriveConfig(path=drive))
    async with programmer(drive, take):
        with pytest.raises(InstrumentError, match="The flash write failed"):
            await flasher.flash(image)
        assert [finding.code for finding in await flasher.self_check()] == ["flash-failed"]
        await flasher.flash(image)


async def test_a_folder_without_a_programmer_ends_in_a_deadline(drive: Path, image: Path) -> None:
    flasher = NucleoDrive(NucleoDriveConfig(path=drive, deadline_s=0.2))
    with pytest.raises(DeadlineExceeded, match=r"labd\.bin"):
        await flasher.flash(image)
    assert names_in(drive) == ["DETAILS.TXT"]


async def test_a_missing_drive_is_named(tmp_path: Path, image: Path) -> None:
    flasher = NucleoDrive(NucleoDriveConfig(path=tmp_path / "NOWHERE"))
    for step in (flasher.open(), flasher.flash(image), flasher.self_check()):
        with pytest.raises(TransportError, match="NOWHERE"):
            await step
    await flasher.close()


async def test_a_simulated_drive_is_identified(drive: Path) -> None:
    write(drive / "DETAILS.TXT", b"Version: simulated\r\nBoard: NUCLEO-L4R5ZI\r\n")
    assert (await NucleoDrive(NucleoDriveConfig(path=drive)).open()).simulated


async def test_another_boards_drive_is_refused(drive: Path) -> None:
    with pytest.raises(InstrumentError, match="MB9999"):
        await NucleoDrive(NucleoDriveConfig(path=drive, board="MB9999")).open()


@pytest.mark.parametrize("content", [b"not an ELF", elf((0x1000_0000, b"code"))])
async def test_an_unfit_image_never_reaches_the_drive(
    drive: Path, image: Path, content: bytes
) -> None:
    write(image, content)
    with pytest.raises(JobError, match="cannot be flashed"):
        await NucleoDrive(NucleoDriveConfig(path=drive)).flash(image)
    assert names_in(drive) == ["DETAILS.TXT"]


async def test_a_missing_image_is_the_jobs_fault(drive: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"gone\.elf"):
        await NucleoDrive(NucleoDriveConfig(path=drive)).flash(tmp_path / "gone.elf")
