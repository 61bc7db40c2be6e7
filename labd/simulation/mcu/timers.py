"""TIM2, the 32-bit timer the firmware counts microseconds with (RM0432 chapter 38), and DWT."""

from __future__ import annotations

from collections.abc import Callable

from labd.simulation.mcu.peripheral_bus import WORD, Registers
from labd.simulation.virtual_time import PS_PER_S

_CR1, _SR, _EGR, _CNT, _PSC, _ARR = 0x00, 0x10, 0x14, 0x24, 0x28, 0x2C
_CEN, _UDIS, _URS = 1 << 0, 1 << 1, 1 << 2
_UG, _UIF = 1 << 0, 1 << 0


class Tim2:
    """TIM2 counting up from its kernel clock; an update event loads the prescaler."""

    def __init__(self, now_ps: Callable[[], int], kernel_hz: Callable[[], int]) -> None:
        self._now_ps = now_ps
        self._kernel_hz = kernel_hz
        self.reset()

    def reset(self) -> None:
        """Stop at 0, with the largest reload value."""
        self._registers = Registers({_ARR: WORD})
        self._divider = 1
        self._hz = 0
        self._count = 0
        self._since_ps = 0

    def latch_count(self) -> None:
        """Latch the present count, because the kernel clock or a setting changes."""
        self._count = self._present_count()
        self._since_ps = self._now_ps()
        running = self._registers.read(_CR1) & _CEN
        self._hz = self._kernel_hz() if running else 0

    def read(self, offset: int) -> int:
        """Return a register: CNT is live, SR shows overflows."""
        if offset == _CNT:
            return self._present_count() % (self._registers.read(_ARR) + 1)
        if offset == _SR and self._present_count() > self._registers.read(_ARR):
            self.latch_count()
            self._count %= self._registers.read(_ARR) + 1
            self._registers.write(_SR, _UIF, _UIF)
        return 0 if offset == _EGR else self._registers.read(offset)

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write a register; counting continues from the present count."""
        self.latch_count()
        if offset == _EGR:
            self._generate_update(value)
        elif offset == _CNT:
            self._count = value & mask
        elif offset == _SR:
            self._registers.write(_SR, 0, mask & ~value)  # flags are cleared by writing 0
        else:
            self._registers.write(offset, value, mask)
            self.latch_count()

    def _generate_update(self, value: int) -> None:
        if not value & _UG:
            return
        self._count = 0
        self._divider = (self._registers.read(_PSC) & 0xFFFF) + 1
        if not self._registers.read(_CR1) & (_UDIS | _URS):
            self._registers.write(_SR, _UIF, _UIF)

    def _present_count(self) -> int:
        ticks = (self._now_ps() - self._since_ps) * self._hz // (self._divider * PS_PER_S)
        return self._count + ticks


class Dwt:
    """The cycle counter; it stands still in sleep, as the core clock does."""

    _CTRL, _CYCCNT = 0x00, 0x04

    def __init__(self, cycles: Callable[[], int]) -> None:
        self._cycles = cycles
        self.reset()

    def reset(self) -> None:
        """Disable it and set it to 0."""
        self._enabled = False
        self._value = 0
        self._from = 0

    def read(self, offset: int) -> int:
        """Return a register: CYCCNT is live; CTRL shows one comparator set and the enable bit."""
        if offset == self._CYCCNT:
            return self._present_count() & WORD
        return 0x4000_0000 | self._enabled if offset == self._CTRL else 0

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write a register: enable, or set the count."""
        self._value, self._from = self._present_count(), self._cycles()
        if offset == self._CYCCNT:
            self._value = value & mask
        elif offset == self._CTRL:
            self._enabled = bool(value & mask & 1)

    def _present_count(self) -> int:
        return self._value + (self._cycles() - self._from if self._enabled else 0)
