"""The CPU: a Cortex-M4 of the unicorn engine, behind a small typed surface.

This is the only file that sees unicorn. It adds what the engine lacks for timing, a count of the
instructions executed that is valid also inside a register access (``retired_instructions``).
Unicorn counts instructions for ``emu_start(count=…)`` in a field of its internal structure; the
field's place is found by running known loops and is checked once at construction. Where it
cannot be found (another build of the engine) the count advances by whole slices, made short:
timing is then coarse (``exact_count`` is False) but still monotonic and repeatable.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from unicorn.arm_const import (  # pyright: ignore[reportMissingTypeStubs]
    UC_ARM_REG_PC,
    UC_ARM_REG_PRIMASK,
    UC_ARM_REG_SP,
    UC_CPU_ARM_CORTEX_M4,
)
from unicorn.unicorn import (  # pyright: ignore[reportMissingTypeStubs]
    Uc,
    UcError,
)
from unicorn.unicorn_const import (  # pyright: ignore[reportMissingTypeStubs]
    UC_ARCH_ARM,
    UC_MODE_MCLASS,
    UC_MODE_THUMB,
    UC_PROT_ALL,
    UC_PROT_EXEC,
    UC_PROT_READ,
)

SLICE = 20_000
"""Instructions a slice runs. Fixed: totals move slightly with it (translation blocks end)."""
COARSE_SLICE = 500

_NEVER = 0xFFFF_FFF0  # an address no code reaches: slices end by count, WFI or stop()
_STRUCT_BYTES = 8192
_WAIT_INSTRUCTIONS = (b"\x30\xbf", b"\x20\xbf")  # WFI, WFE
_BRANCH_TO_SELF = b"\xfe\xe7"


class SliceOutcome(Enum):
    """Why a slice ended."""

    SLICE_DONE = auto()
    STOPPED = auto()
    SLEEPING = auto()
    LOOPING = auto()
    """A branch to itself: where fault handlers end."""
    FAULT = auto()


@dataclass(frozen=True, slots=True)
class SliceEnd:
    """Outcome of a slice; ``detail`` describes a fault."""

    outcome: SliceOutcome
    detail: str = ""


_SLICE_DONE, _SLEEPING = SliceEnd(SliceOutcome.SLICE_DONE), SliceEnd(SliceOutcome.SLEEPING)


class Engine:
    """One Cortex-M4 with its memories; peripherals are callbacks of (address, size[, value])."""

    def __init__(self) -> None:
        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M4)
        self._blocks: list[tuple[int, ctypes.Array[ctypes.c_char]]] = []
        """The memories and their addresses; kept alive, because the engine points into them."""
        self._before = 0
        self._running = False
        self._stopped = False
        self._pc = 0
        self._register = ctypes.c_uint64()
        self._counter = self._find_instruction_counter()
        self.exact_count = self._counter is not None
        self._slice = SLICE if self.exact_count else COARSE_SLICE

    def map_memory(self, size: int, *bases: int, writable: bool) -> ctypes.Array[ctypes.c_char]:
        """Map one block of memory at every base (aliases) and return the block itself."""
        block = ctypes.create_string_buffer(size)
        protection = UC_PROT_ALL if writable else UC_PROT_READ | UC_PROT_EXEC
        for base in bases:
            self._blocks.append((base, block))
            self._uc.mem_map_ptr(base, size, protection, ctypes.addressof(block))
        return block

    def map_alias(
        self, block: ctypes.Array[ctypes.c_char], offset: int, size: int, base: int
    ) -> None:
        """Map part of a writable block at another address too."""
        part = (ctypes.c_char * size).from_buffer(block, offset)
        self._blocks.append((base, part))
        self._uc.mem_map_ptr(base, size, UC_PROT_ALL, ctypes.addressof(part))

    def map_registers(
        self,
        base: int,
        size: int,
        read: Callable[[int, int], int],
        write: Callable[[int, int, int], None],
    ) -> None:
        """Route a range to ``read(address, size)`` and ``write(address, size, value)``."""

        def on_read(_uc: Uc, offset: int, width: int, _data: object) -> int:
            return read(base + offset, width)

        def on_write(_uc: Uc, offset: int, width: int, value: int, _data: object) -> None:
            write(base + offset, width, value)

        self._uc.mmio_map(base, size, on_read, None, on_write, None)

    @property
    def retired_instructions(self) -> int:
        """Instructions executed since construction, the current one not counted."""
        if not self._running or self._counter is None:
            return self._before
        count = self._counter.value
        return self._before + count - 1 if count else self._before

    @property
    def program_counter(self) -> int:
        """Address of the next instruction, between slices."""
        return self._pc

    @property
    def interrupts_masked(self) -> bool:
        """Whether PRIMASK is set, between slices."""
        return bool(self._read_register(UC_ARM_REG_PRIMASK))

    def reset(self, stack: int, entry: int) -> None:
        """Restart at ``entry`` with this stack pointer; drop translated code."""
        self._uc.ctl_flush_tb()
        self._set_register(UC_ARM_REG_SP, stack)
        self._set_register(UC_ARM_REG_PRIMASK, 0)
        self._pc = entry & ~1

    def stop(self) -> None:
        """End the running slice; for use inside a register access.

        The access that called this is made again by the next slice.
        """
        self._stopped = True
        self._uc.emu_stop()

    def run_slice(self) -> SliceEnd:
        """Execute up to one slice of instructions."""
        self._running, self._stopped = True, False
        fault = ""
        try:
            self._uc.emu_start(self._pc | 1, _NEVER, count=self._slice)
        except UcError as error:
            fault = str(error)
        executed = self._slice if self._counter is None else self._counter.value
        self._running = False
        self._before += min(executed, self._slice)
        self._pc = self._read_register(UC_ARM_REG_PC)
        if fault:
            return SliceEnd(SliceOutcome.FAULT, fault)
        if self._stopped:
            return SliceEnd(SliceOutcome.STOPPED)
        if executed <= self._slice and self._read_code(self._pc - 2) in _WAIT_INSTRUCTIONS:
            return _SLEEPING
        if self._read_code(self._pc) == _BRANCH_TO_SELF:
            return SliceEnd(SliceOutcome.LOOPING)
        return _SLICE_DONE

    def _set_register(self, register: int, value: int) -> None:
        self._uc.reg_write(register, value)  # pyright: ignore[reportUnknownMemberType]

    def _read_register(self, register: int) -> int:
        """Return a register; the binding's ``reg_read`` takes three times as long."""
        self._uc._do_reg_read(register, ctypes.byref(self._register))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage,reportUnknownMemberType]
        return self._register.value

    def _read_code(self, address: int) -> bytes:
        """Return the two bytes of code at an address; nothing where no memory is."""
        for base, block in self._blocks:
            if base <= address < base + len(block):
                return ctypes.string_at(ctypes.addressof(block) + address - base, 2)
        return b""

    def _find_instruction_counter(self) -> ctypes.c_uint64 | None:
        """Locate the engine's own instruction counter; None unless exactly one field fits.

        After ``emu_start(count=n)`` it holds n + 1: it is raised before each instruction and
        stops the run on the first one too many.
        """
        # unicorn keeps its handle private and offers no other way to its structure
        uch = self._uc._uch  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        handle = uch.value if uch is not None else None
        if handle is None:
            return None
        scratch = 0x2000_0000
        self._uc.mem_map(scratch, 0x1000)
        self._uc.mem_write(scratch, b"\x00\xbf\xfd\xe7")  # nop; b .-2
        fits = set(range(0, _STRUCT_BYTES, 8))
        for count in (12_345, 777, 4_243):
            self._uc.emu_start(scratch | 1, _NEVER, count=count)
            fields = struct.unpack(
                f"<{_STRUCT_BYTES // 8}Q", ctypes.string_at(handle, _STRUCT_BYTES)
            )
            fits &= {offset for offset in fits if fields[offset // 8] == count + 1}
        self._uc.mem_unmap(scratch, 0x1000)
        if len(fits) != 1:
            return None
        return ctypes.c_uint64.from_address(handle + fits.pop())
