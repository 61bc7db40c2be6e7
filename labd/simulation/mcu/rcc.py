"""Clocks, supply ranges and flash wait states of the STM32L4R5 (RM0432 chapters 3, 5, 6).

One file because the three are one rule: a system clock is legal only with enough core voltage
(PWR) and enough flash wait states (FLASH). On the chip a breach fetches wrong instructions;
here it raises :class:`ClockError`, which stops the CPU with the reason in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labd.simulation.mcu.peripheral_bus import WORD, Registers
from labd.simulation.virtual_time import PS_PER_US

HSI16_HZ = 16_000_000
LSE_HZ = 32_768
MHZ = 1_000_000

_MSI_HZ = (
    *(100_000, 200_000, 400_000, 800_000, 1 * MHZ, 2 * MHZ),
    *(4 * MHZ, 8 * MHZ, 16 * MHZ, 24 * MHZ, 32 * MHZ, 48 * MHZ),
)
_AHB_DIVIDERS = {8: 2, 9: 4, 10: 8, 11: 16, 12: 64, 13: 128, 14: 256, 15: 512}
_APB_DIVIDERS = {4: 2, 5: 4, 6: 8, 7: 16}
_STARTUP_PS = {"HSI16": 4 * PS_PER_US, "PLL": 15 * PS_PER_US}  # DS12023: tstab, tLOCK

# RCC register offsets
CR, CFGR, PLLCFGR, CCIPR, CSR = 0x00, 0x08, 0x0C, 0x88, 0x94
_ENABLES = (0x48, 0x4C, 0x50, 0x58, 0x5C, 0x60)  # AHB1-3, APB1_1, APB1_2, APB2
_RESET_TO_ENABLE = 0x20  # xxxRSTR lies this far below xxxENR
AHB2, APB1_1, APB1_2, APB2 = 0x4C, 0x58, 0x5C, 0x60

_MSION, _MSIRGSEL, _HSION, _PLLON = 1 << 0, 1 << 3, 1 << 8, 1 << 24
_MSIRDY, _HSIRDY, _PLLRDY = 1 << 1, 1 << 10, 1 << 25
_PLLREN = 1 << 24
_RMVF = 1 << 23
RESET_BROWN_OUT, RESET_PIN, RESET_SOFTWARE = 1 << 27, 1 << 26, 1 << 28

# PWR register offsets and bits
_PWR_CR1, _PWR_CR2, _PWR_SR2, _PWR_CR5 = 0x00, 0x04, 0x14, 0x80
_IOSV = 1 << 9
_R1MODE = 1 << 8
_FLASH_ACR = 0x00


class ClockError(Exception):
    """The firmware asked for a clock the chip cannot run with its present settings."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The frequencies (Hz) in force and the supply range they run in."""

    sysclk: int
    hclk: int
    pclk1: int
    timer1: int
    range: str
    """``boost``, ``normal`` (range 1) or ``low`` (range 2)."""


@dataclass(frozen=True, slots=True)
class _RangeLimit:
    top_hz: int
    hz_per_wait_state: tuple[int, ...]


# RM0432 table 13 (wait states) and 5.1.8 (ranges)
_LIMITS = {
    "boost": _RangeLimit(120 * MHZ, tuple(n * 20 * MHZ for n in range(1, 7))),
    "normal": _RangeLimit(80 * MHZ, tuple(n * 20 * MHZ for n in range(1, 7))),
    "low": _RangeLimit(26 * MHZ, (8 * MHZ, 16 * MHZ, 26 * MHZ)),
}


class Pwr(Registers):
    """Power control: the voltage range, and the supply of port G (VDDIO2)."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__({_PWR_CR1: 0x200, 0x08: 0x8000, _PWR_SR2: 0x100, _PWR_CR5: _R1MODE})
        self._changed = changed

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write a register, then check the clock rules again."""
        super().write(offset, value, mask)
        self._changed()

    @property
    def range(self) -> str:
        """The core supply range selected."""
        if self.read(_PWR_CR1) >> 9 & 3 == 2:  # noqa: PLR2004 - VOS = 10
            return "low"
        return "normal" if self.read(_PWR_CR5) & _R1MODE else "boost"

    @property
    def port_g_supplied(self) -> bool:
        """IOSV: VDDIO2 is declared valid."""
        return bool(self.read(_PWR_CR2) & _IOSV)


class Flash(Registers):
    """Flash interface: wait states. Programming from firmware is not modelled."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__({_FLASH_ACR: 0x600})
        self._changed = changed

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write a register, then check the clock rules again."""
        super().write(offset, value, mask)
        self._changed()

    @property
    def wait_states(self) -> int:
        """The wait states set (LATENCY)."""
        return self.read(_FLASH_ACR) & 0xF


class Rcc:
    """Reset and clock control, with its rules for PWR and FLASH."""

    def __init__(
        self, now_ps: Callable[[], int], on_clock_change: Callable[[Clocks], None]
    ) -> None:
        self._now_ps = now_ps
        self._on_clock_change = on_clock_change
        self.pwr = Pwr(self._update_clocks)
        self.flash = Flash(self._update_clocks)
        self._registers = Registers({CR: 0x63, PLLCFGR: 0x1000, 0x48: 0x100})
        self._started_ps: dict[str, int] = {}
        self._running: set[str] = set()
        """Oscillators seen ready since they were switched on."""
        self._reset_flags = 0
        self.on_peripheral_reset: Callable[[int, int], None] = lambda _register, _bits: None
        self.on_gate_change: Callable[[], None] = lambda: None
        """Called when a peripheral's clock may have been switched on or off."""
        self.clocks = Clocks(4 * MHZ, 4 * MHZ, 4 * MHZ, 4 * MHZ, "normal")

    def reset_with_cause(self, cause: int) -> None:
        """Reset the whole clock tree and show ``cause`` in RCC_CSR."""
        self._registers.reset()
        self.pwr.reset()
        self.flash.reset()
        self._started_ps.clear()
        self._running.clear()
        self._reset_flags = cause
        self.on_gate_change()
        self._update_clocks()

    def reset(self) -> None:
        """Do nothing: RCC has no reset bit."""

    def is_clock_enabled(self, register: int, bit: int) -> bool:
        """Return whether a peripheral's clock is on."""
        return bool(self._registers.read(register) >> bit & 1)

    def lpuart1_hz(self) -> int:
        """Return LPUART1's kernel clock (CCIPR bits 11:10); 0 while its source does not run."""
        source = self._registers.read(CCIPR) >> 10 & 3
        if source == 2:  # noqa: PLR2004 - HSI16
            return HSI16_HZ if self._is_ready("HSI16") else 0
        return (self.clocks.pclk1, self.clocks.sysclk, 0, LSE_HZ)[source]

    def read(self, offset: int) -> int:
        """Return a register: CR and CFGR show what runs; the rest is storage."""
        value = self._registers.read(offset)
        if offset == CR:
            value &= ~(_MSIRDY | _HSIRDY | _PLLRDY)
            value |= _MSIRDY if value & _MSION else 0
            value |= _HSIRDY if self._is_ready("HSI16") else 0
            return value | (_PLLRDY if self._is_ready("PLL") else 0)
        if offset == CFGR:
            self._update_clocks()
            return value & ~0xC | self._active_source << 2
        if offset == CSR:
            return value & ~0xFF00_0000 | self._reset_flags
        return value

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write a register, then start oscillators, switch the clock and reset blocks."""
        before = self._registers.read(offset)
        self._registers.write(offset, value, mask)
        after = self._registers.read(offset)
        if offset == CR:
            self._switch_oscillator("HSI16", _HSION, before, after)
            self._switch_oscillator("PLL", _PLLON, before, after)
        elif offset == CSR and after & _RMVF:
            self._reset_flags = 0
            self._registers.write(CSR, 0, _RMVF)
        elif offset + _RESET_TO_ENABLE in _ENABLES and after & ~before & WORD:
            self.on_peripheral_reset(offset + _RESET_TO_ENABLE, after)
        elif offset in _ENABLES:
            self.on_gate_change()
        if offset in (CR, CFGR, PLLCFGR):
            self._update_clocks()

    def _switch_oscillator(self, oscillator: str, bit: int, before: int, after: int) -> None:
        if after & ~before & bit:
            self._started_ps[oscillator] = self._now_ps()
        elif not after & bit:
            self._started_ps.pop(oscillator, None)
            self._running.discard(oscillator)

    def _is_ready(self, oscillator: str) -> bool:
        if oscillator in self._running:
            return True
        started_ps = self._started_ps.get(oscillator)
        if started_ps is None or self._now_ps() - started_ps < _STARTUP_PS[oscillator]:
            return False
        self._running.add(oscillator)
        return True

    def _msi_hz(self) -> int:
        control = self._registers.read(CR)
        selected = control >> 4 & 0xF if control & _MSIRGSEL else 6
        return _MSI_HZ[min(selected, len(_MSI_HZ) - 1)]

    def _pll_hz(self) -> int:
        settings = self._registers.read(PLLCFGR)
        source = (0, self._msi_hz(), HSI16_HZ, 0)[settings & 3]
        if not source or not settings & _PLLREN:
            return 0
        vco = source // ((settings >> 4 & 0xF) + 1) * (settings >> 8 & 0x7F)
        if not 64 * MHZ <= vco <= 344 * MHZ:
            raise ClockError(f"the PLL's oscillator cannot run at {vco} Hz (64 to 344 MHz)")
        return vco // (2 * ((settings >> 25 & 3) + 1))

    def _source_hz(self, source: int) -> int:
        """Return a clock source's frequency; 0 when it does not run (HSE is not fitted)."""
        if source == 0:
            return self._msi_hz() if self._registers.read(CR) & _MSION else 0
        if source == 1:
            return HSI16_HZ if self._is_ready("HSI16") else 0
        return self._pll_hz() if source == 3 and self._is_ready("PLL") else 0  # noqa: PLR2004

    @property
    def _active_source(self) -> int:
        """SWS: the source asked for once it runs, MSI until then."""
        wanted = self._registers.read(CFGR) & 3
        return wanted if self._source_hz(wanted) else 0

    def _update_clocks(self) -> None:
        settings = self._registers.read(CFGR)
        sysclk = self._source_hz(self._active_source) or _MSI_HZ[6]
        hclk = sysclk // _AHB_DIVIDERS.get(settings >> 4 & 0xF, 1)
        apb1 = _APB_DIVIDERS.get(settings >> 8 & 7, 1)
        pclk1 = hclk // apb1
        timer1 = pclk1 if apb1 == 1 else 2 * pclk1
        self._check_limits(hclk)
        clocks = Clocks(sysclk, hclk, pclk1, timer1, self.pwr.range)
        if clocks != self.clocks:
            self.clocks = clocks
            self._on_clock_change(clocks)

    def _check_limits(self, hclk: int) -> None:
        limit = _LIMITS[self.pwr.range]
        if hclk > limit.top_hz:
            raise ClockError(f"{hclk} Hz is too fast for voltage range '{self.pwr.range}'")
        steps = limit.hz_per_wait_state
        if hclk > steps[min(self.flash.wait_states, len(steps) - 1)]:
            raise ClockError(f"{self.flash.wait_states} flash wait states are too few at {hclk} Hz")
