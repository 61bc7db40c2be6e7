"""The peripheral bus: which register answers an address, and whether its clock is on.

A peripheral whose clock is off reads 0 and ignores writes, as on the chip. Addresses nothing
is modelled at read 0; each is logged once, because firmware that uses one may be relying on
something that is not there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

WORD = 0xFFFF_FFFF


class Peripheral(Protocol):
    """A block of 32-bit registers at offsets that are multiples of four."""

    def read(self, offset: int) -> int:
        """Return the register; may have side effects, as reading RDR has."""
        ...

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write ``value`` to the bits in ``mask`` (all of them, or the bytes addressed)."""
        ...

    def reset(self) -> None:
        """Reset every register."""
        ...


class Registers:
    """Plain storage registers with reset values, for blocks whose bits have no effect here."""

    def __init__(self, reset_values: dict[int, int]) -> None:
        self._reset_values = reset_values
        self.values = dict(reset_values)

    def read(self, offset: int) -> int:
        """Return the value last written, or the reset value."""
        return self.values.get(offset, 0)

    def write(self, offset: int, value: int, mask: int) -> None:
        """Store the masked bits."""
        self.values[offset] = (self.values.get(offset, 0) & ~mask) | (value & mask)

    def reset(self) -> None:
        """Reset every register."""
        self.values = dict(self._reset_values)


@dataclass(slots=True)
class Slot:
    """Address range of a peripheral, and whether its clock is on."""

    name: str
    base: int
    size: int
    peripheral: Peripheral
    is_clocked: bool


class PeripheralBus:
    """Address decoder of the CPU's register accesses, in pages of 1 KiB."""

    _PAGE_BITS = 10

    def __init__(self, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._log = log
        self._pages: dict[int, Slot] = {}
        self._reported: set[int] = set()

    def attach(self, slot: Slot) -> None:
        """Place a peripheral; its size is a whole number of pages."""
        first = slot.base >> self._PAGE_BITS
        for page in range(first, first + (slot.size >> self._PAGE_BITS)):
            self._pages[page] = slot

    def read(self, address: int, size: int) -> int:
        """Return the ``size`` bytes the CPU reads at ``address``."""
        slot = self._pages.get(address >> self._PAGE_BITS)
        if slot is None or not slot.is_clocked:
            self._log_unanswered(address, slot)
            return 0
        shift = 8 * (address & 3)
        return slot.peripheral.read((address & ~3) - slot.base) >> shift & ((1 << 8 * size) - 1)

    def write(self, address: int, size: int, value: int) -> None:
        """Write ``size`` bytes at ``address`` for the CPU."""
        slot = self._pages.get(address >> self._PAGE_BITS)
        if slot is None or not slot.is_clocked:
            self._log_unanswered(address, slot)
            return
        shift = 8 * (address & 3)
        mask = ((1 << 8 * size) - 1) << shift
        slot.peripheral.write((address & ~3) - slot.base, value << shift & mask, mask)

    def _log_unanswered(self, address: int, slot: Slot | None) -> None:
        if address not in self._reported:
            self._reported.add(address)
            why = f"the clock of {slot.name} is off" if slot else "nothing is modelled there"
            self._log.warning("access to %#010x: %s (reads 0, writes are ignored)", address, why)
