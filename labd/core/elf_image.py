"""ELF executables as bytes at flash addresses."""

from __future__ import annotations

import struct

_MAGIC = b"\x7fELF\x01\x01"  # 32 bits, little-endian
_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM = struct.Struct("<8I")
_EXECUTABLE = 2
_ARM = 40
_LOADABLE = 1


def load_segments(elf: bytes) -> list[tuple[int, bytes]]:
    """Return load address and bytes of each loadable segment of an ARM executable.

    Raises:
        ValueError: it is another file, or damaged; the text states why.
    """
    if elf.startswith(b":"):
        raise ValueError("it is an Intel HEX file; an ELF file is needed")
    if not elf.startswith(_MAGIC):
        raise ValueError("it is not a 32-bit little-endian ELF file")
    if len(elf) < _HEADER.size:
        raise ValueError("it is cut short")
    _, kind, machine, _, _, offset, _, _, _, entry_size, entries, *_ = _HEADER.unpack_from(elf)
    if kind != _EXECUTABLE or machine != _ARM:
        raise ValueError(f"it is not an ARM executable (ELF type {kind}, machine {machine})")
    if entry_size != _PROGRAM.size or offset + entries * entry_size > len(elf):
        raise ValueError("its program headers are damaged")
    table = elf[offset : offset + entries * entry_size]
    segments: list[tuple[int, bytes]] = []
    for kind, start, _virtual, physical, size, *_ in _PROGRAM.iter_unpack(table):
        if start + size > len(elf) and kind == _LOADABLE:
            raise ValueError("it is cut short")
        if kind == _LOADABLE and size:
            segments.append((physical, elf[start : start + size]))
    return segments
