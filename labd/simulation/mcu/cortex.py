"""The Cortex-M4's own registers: interrupt enables and pendings, reset request, debug identity.

Interrupts are never *taken*: the engine has no exception entry. Firmware that masks them
(PRIMASK) and sleeps until one is pending runs as on the chip; the machine reports the other
kind as a fault instead of running it wrongly.
"""

from __future__ import annotations

from collections.abc import Callable

from labd.simulation.mcu.peripheral_bus import WORD, Registers

_ISER, _ICER, _ISPR, _ICPR = 0x100, 0x180, 0x200, 0x280
_BLOCK = 0x20  # bytes: eight words of 32 interrupts
_CPUID, _AIRCR = 0xD00, 0xD0C
_CORTEX_M4_R0P1 = 0x410F_C241
_VECTKEY, _SYSRESETREQ = 0x05FA, 1 << 2

DBGMCU_IDCODE = 0x101F_6470  # STM32L4R5, revision V (RM0432 57.6.1)


class SystemControl:
    """NVIC and SCB at 0xE000E000."""

    def __init__(self, on_reset_request: Callable[[], None]) -> None:
        self._on_reset_request = on_reset_request
        self.reset()

    def reset(self) -> None:
        """Disable all interrupts and clear what is pending."""
        self._enabled = 0
        self._pending = 0
        self._registers = Registers({_CPUID: _CORTEX_M4_R0P1})

    def raise_interrupt(self, number: int) -> None:
        """Latch an active interrupt line as pending."""
        self._pending |= 1 << number

    @property
    def is_wake_pending(self) -> bool:
        """Whether an enabled interrupt is pending, which ends WFI even under PRIMASK."""
        return bool(self._pending & self._enabled)

    def read(self, offset: int) -> int:
        """Return an enable or pending word, or storage."""
        for base in (_ISER, _ICER):
            if base <= offset < base + _BLOCK:
                return self._enabled >> 8 * (offset - base) & WORD
        for base in (_ISPR, _ICPR):
            if base <= offset < base + _BLOCK:
                return self._pending >> 8 * (offset - base) & WORD
        return self._registers.read(offset)

    def write(self, offset: int, value: int, mask: int) -> None:
        """Set or clear enables and pendings; ask for a reset through AIRCR."""
        if _ISER <= offset < _ISER + _BLOCK:
            self._enabled |= value << 8 * (offset - _ISER)
        elif _ICER <= offset < _ICER + _BLOCK:
            self._enabled &= ~(value << 8 * (offset - _ICER))
        elif _ISPR <= offset < _ISPR + _BLOCK:
            self._pending |= value << 8 * (offset - _ISPR)
        elif _ICPR <= offset < _ICPR + _BLOCK:
            self._pending &= ~(value << 8 * (offset - _ICPR))
        elif offset == _AIRCR:
            if value >> 16 == _VECTKEY and value & _SYSRESETREQ:
                self._on_reset_request()
        else:
            self._registers.write(offset, value, mask)
