"""Firmware images: ELF files and raw binaries, as bytes at flash addresses."""

from __future__ import annotations

import struct
from dataclasses import dataclass

FLASH_BASE = 0x0800_0000
FLASH_SIZE = 2 << 20
SRAM_BASE = 0x2000_0000
SRAM_SIZE = 640 << 10

_ELF_MAGIC = b"\x7fELF\x01\x01"  # 32 bits, little-endian
_MACHINE_ARM = 40
_PT_LOAD = 1


class ImageError(ValueError):
    """The file is not something this board can be flashed with; the text says why."""


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """What goes into flash: (offset from the start of flash, bytes), non-overlapping."""

    segments: tuple[tuple[int, bytes], ...]


def parse_image(data: bytes) -> FirmwareImage:
    """Read an ELF file or a raw binary that starts at the start of flash.

    Raises:
        ImageError: not loadable, or its vector table cannot start a Cortex-M4.
    """
    image = _parse_elf(data) if data.startswith(b"\x7fELF") else FirmwareImage(((0, data),))
    for offset, segment in image.segments:
        if not 0 <= offset <= FLASH_SIZE - len(segment):
            raise ImageError(f"{len(segment)} bytes at {FLASH_BASE + offset:#x} are outside flash")
    _check_vectors(image)
    return image


def _parse_elf(data: bytes) -> FirmwareImage:
    try:
        return _read_segments(data)
    except struct.error as error:
        raise ImageError("the ELF file is cut short") from error


def _read_segments(data: bytes) -> FirmwareImage:
    (machine,) = struct.unpack_from("<H", data, 18)
    if not data.startswith(_ELF_MAGIC) or machine != _MACHINE_ARM:
        raise ImageError("not a 32-bit little-endian ARM ELF file")
    (headers,) = struct.unpack_from("<I", data, 28)
    size, count = struct.unpack_from("<HH", data, 42)
    segments: list[tuple[int, bytes]] = []
    for index in range(count):
        kind, offset, _, physical, length = struct.unpack_from("<5I", data, headers + index * size)
        if kind == _PT_LOAD and length:
            if offset + length > len(data):
                raise ImageError("the ELF file is cut short")
            segments.append((physical - FLASH_BASE, data[offset : offset + length]))
    return FirmwareImage(tuple(segments))


def _check_vectors(image: FirmwareImage) -> None:
    first = next((data for offset, data in image.segments if offset == 0), b"")
    if len(first) < 8:  # noqa: PLR2004 - initial stack pointer and reset vector
        raise ImageError("no vector table at the start of flash")
    stack, reset = struct.unpack_from("<II", first)
    if not SRAM_BASE < stack <= SRAM_BASE + SRAM_SIZE:
        raise ImageError(f"the initial stack pointer {stack:#010x} is not in RAM")
    if not reset & 1 or not FLASH_BASE <= reset < FLASH_BASE + FLASH_SIZE:
        raise ImageError(f"the reset vector {reset:#010x} is not Thumb code in flash")
