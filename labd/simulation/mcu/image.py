"""Firmware images: ELF files and raw binaries, as bytes at flash addresses."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from labd.core.elf_image import load_segments

FLASH_BASE = 0x0800_0000
FLASH_SIZE = 2 << 20
SRAM_BASE = 0x2000_0000
SRAM_SIZE = 640 << 10


class ImageError(ValueError):
    """The file cannot be flashed, for the reason in the text."""


@dataclass(frozen=True, slots=True)
class FlashContents:
    """Contents of flash: (offset from its start, bytes), without overlap."""

    segments: tuple[tuple[int, bytes], ...]


def parse_image(data: bytes) -> FlashContents:
    """Read an ELF file or a raw binary that starts at the start of flash.

    Raises:
        ImageError: not loadable, or its vector table cannot start a Cortex-M4.
    """
    named = data.startswith((b"\x7fELF", b":"))  # ELF, or Intel HEX, which is refused
    image = _parse_elf(data) if named else FlashContents(((0, data),))
    for offset, segment in image.segments:
        if not 0 <= offset <= FLASH_SIZE - len(segment):
            raise ImageError(f"{len(segment)} bytes at {FLASH_BASE + offset:#x} are outside flash")
    _check_vectors(image)
    return image


def _parse_elf(data: bytes) -> FlashContents:
    try:
        segments = load_segments(data)
    except ValueError as error:
        raise ImageError(f"the file cannot be flashed: {error}") from error
    return FlashContents(tuple((address - FLASH_BASE, content) for address, content in segments))


def _check_vectors(image: FlashContents) -> None:
    first = next((data for offset, data in image.segments if offset == 0), b"")
    if len(first) < 8:  # noqa: PLR2004 - initial stack pointer and reset vector
        raise ImageError("no vector table at the start of flash")
    stack, reset = struct.unpack_from("<II", first)
    if not SRAM_BASE < stack <= SRAM_BASE + SRAM_SIZE:
        raise ImageError(f"the initial stack pointer {stack:#010x} is not in RAM")
    if not reset & 1 or not FLASH_BASE <= reset < FLASH_BASE + FLASH_SIZE:
        raise ImageError(f"the reset vector {reset:#010x} is not Thumb code in flash")
