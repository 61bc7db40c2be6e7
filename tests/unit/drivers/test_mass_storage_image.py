"""ELF executables to raw flash images."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mass_storage import RawImage, raw_image_from_elf
from labd.core.errors import JobError

FLASH = 0x0800_0000


def elf(*segments: tuple[int, bytes], kind: int = 2, machine: int = 40, load: int = 1) -> bytes:
    """A minimal executable with segments at physical addresses, virtual ones elsewhere."""
    header = struct.Struct("<16sHHIIIIIHHHHHH")
    program = struct.Struct("<IIIIIIII")
    body = header.size + program.size * len(segments)
    table, data = b"", b""
    for address, content in segments:
        size = len(content)
        at = body + len(data)
        table += program.pack(load, at, 0x2000_0000, address, size, size + 64, 5, 4)
        data += content
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    fields = (kind, machine, 1, FLASH | 1, header.size, 0, 0, header.size, program.size)
    return header.pack(ident, *fields, len(segments), 0, 0, 0) + table + data


def test_segments_are_laid_out_by_load_address_with_erased_holes() -> None:
    image = elf((FLASH + 8, b"data"), (FLASH, b"code"))
    assert raw_image_from_elf(image) == RawImage(FLASH, b"code\xff\xff\xff\xffdata")


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"", "not a 32-bit"),
        (b":020000040800F2\r\n", "Intel HEX file; an ELF file is needed"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "not a 32-bit"),
        (elf((FLASH, b"x"), machine=243), "not an ARM executable"),
        (elf((FLASH, b"x"), kind=1), "not an ARM executable"),
        (elf((FLASH, b"x"), load=2), "nothing to load"),
        (elf((FLASH, b"")), "nothing to load"),
        (elf((FLASH, b"four"))[:-1], "cut short"),
        (elf((FLASH, b"x"))[:60], "program headers are damaged"),
        (elf((FLASH, b"x"), (0x2000_0000, b"ram")), "bytes apart"),
    ],
)
def test_an_unfit_image_is_refused_with_its_reason(image: bytes, why: str) -> None:
    with pytest.raises(JobError, match=why):
        raw_image_from_elf(image)


@given(st.binary(max_size=200))
def test_garbage_is_refused_cleanly(garbage: bytes) -> None:
    with pytest.raises(JobError):
        raw_image_from_elf(b"\x7fELF\x01\x01\x01" + garbage)
