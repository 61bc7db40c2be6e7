"""GPIO ports of the STM32L4R5 (RM0432 chapter 8): what each pin drives onto its wire."""

from __future__ import annotations

from collections.abc import Callable

from labd.simulation.digital_wire import Wire
from labd.simulation.mcu.peripheral_bus import Registers

PINS = 16
_MODER, _OTYPER, _IDR, _ODR, _BSRR, _AFRL, _AFRH, _BRR = (
    *(0x00, 0x04, 0x10, 0x14, 0x18, 0x20, 0x24, 0x28),
)
_OUTPUT, _ALTERNATE = 1, 2
_LOW_HALF = 0xFFFF
_MODER_RESET = {"A": 0xABFF_FFFF, "B": 0xFFFF_FEBF, "H": 0x0000_000F}


class GpioPort:
    """One port. Pins with a :class:`Wire` on them drive it as mode and output type select."""

    def __init__(
        self, letter: str, now_ps: Callable[[], int], supplied: Callable[[], bool]
    ) -> None:
        self.letter = letter
        self._now_ps = now_ps
        self._supplied = supplied
        self._registers = Registers({_MODER: _MODER_RESET.get(letter, 0xFFFF_FFFF)})
        self._wires: dict[int, Wire] = {}

    def connect(self, pin: int, wire: Wire) -> None:
        """Connect a wire to a pin."""
        self._wires[pin] = wire

    def reset(self) -> None:
        """Reset every register: pins become analog and release their wires."""
        self._registers.reset()
        self._drive_wires()

    def alternate_function(self, pin: int) -> int | None:
        """Return the alternate function that a pin is switched to; None if it is to none."""
        if self._pin_mode(pin) != _ALTERNATE or not self._supplied():
            return None
        return self._registers.read(_AFRH if pin > 7 else _AFRL) >> 4 * (pin & 7) & 0xF  # noqa: PLR2004

    def read(self, offset: int) -> int:
        """Return a register: IDR shows the wires; write-only registers read 0."""
        if offset == _IDR:
            return self._input_levels()
        return 0 if offset in (_BSRR, _BRR) else self._registers.read(offset)

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write a register, then drive the wires accordingly."""
        if offset == _BSRR:
            self._registers.write(_ODR, 0, value >> 16)
            self._registers.write(_ODR, _LOW_HALF, value & _LOW_HALF)
        elif offset == _BRR:
            self._registers.write(_ODR, 0, value & _LOW_HALF)
        else:
            self._registers.write(offset, value, mask)
        self._drive_wires()

    def _pin_mode(self, pin: int) -> int:
        return self._registers.read(_MODER) >> 2 * pin & 3

    def _driven_level(self, pin: int) -> bool | None:
        """Return the level a pin drives, or None if it drives none."""
        if self._pin_mode(pin) != _OUTPUT or not self._supplied():
            return None
        high = bool(self._registers.read(_ODR) >> pin & 1)
        open_drain = self._registers.read(_OTYPER) >> pin & 1
        return None if high and open_drain else high

    def _drive_wires(self) -> None:
        for pin, wire in self._wires.items():
            wire.drive(self._now_ps(), self._driven_level(pin))

    def _input_levels(self) -> int:
        if not self._supplied():
            return 0
        levels = 0
        for pin in range(PINS):
            wire = self._wires.get(pin)
            high = wire.level if wire else self._driven_level(pin)
            levels |= bool(high) << pin
        return levels
