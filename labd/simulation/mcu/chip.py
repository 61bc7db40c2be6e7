"""The STM32L4R5's peripherals, wired to each other and to the pins of a NUCLEO-L4R5ZI."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from labd.simulation.digital_wire import Wire
from labd.simulation.mcu import rcc as clock_tree
from labd.simulation.mcu.cortex import DBGMCU_IDCODE, SystemControl
from labd.simulation.mcu.gpio import GpioPort
from labd.simulation.mcu.lpuart import Lpuart, Surroundings
from labd.simulation.mcu.peripheral_bus import Peripheral, PeripheralBus, Registers, Slot
from labd.simulation.mcu.timers import Dwt, Tim2

REGISTER_REGIONS = (
    *((0x4000_0000, 0x3_0000), (0x4800_0000, 0x2000)),
    *((0x5000_0000, 0x8_0000), (0xE000_0000, 0x10_0000)),
)
_LPUART1_IRQ = 70
_LPUART1_BASE = 0x4000_8000
_LPUART1_FUNCTION, _TX_PIN, _RX_PIN = 8, 7, 8  # PG7 and PG8, alternate function 8
_PAGE_BITS = 10
_LPUART1_PAGE = _LPUART1_BASE >> _PAGE_BITS


@dataclass(frozen=True, slots=True)
class Pins:
    """The board's connector: wires by their role in the benchmark."""

    timestamp: Wire  # PF13, Arduino D7
    processing: Wire  # PE9
    detected: Wire  # PB8


@dataclass(frozen=True, slots=True)
class Cpu:
    """What the peripherals need of the CPU that accesses them."""

    now_ps: Callable[[], int]
    cycles: Callable[[], int]
    stall_until: Callable[[int], None]
    on_clock_change: Callable[[clock_tree.Clocks], None]
    on_idle: Callable[[], None]
    on_reset_request: Callable[[], None]


class Chip:
    """Every modelled register, reached through :meth:`read` and :meth:`write`."""

    def __init__(
        self,
        cpu: Cpu,
        pins: Pins,
        transmit: Callable[[int, int, int], None],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._cpu = cpu
        self._transmit = transmit
        self.control = SystemControl(cpu.on_reset_request)
        self.rcc = clock_tree.Rcc(cpu.now_ps, self._on_clock_change)
        self.uart = Lpuart(self._make_uart_surroundings())
        self._timer = Tim2(cpu.now_ps, lambda: self.rcc.clocks.timer1)
        self._dwt = Dwt(cpu.cycles)
        self._ports = {letter: self._make_port(letter) for letter in "ABCDEFGHI"}
        self._ports["F"].connect(13, pins.timestamp)
        self._ports["E"].connect(9, pins.processing)
        self._ports["B"].connect(8, pins.detected)
        self._gated: dict[tuple[int, int], Slot] = {}
        self._bus = PeripheralBus(log)
        self._attach_peripherals()
        self.rcc.on_peripheral_reset = self._reset_peripherals
        self.rcc.on_gate_change = self._update_clock_gates

    def read(self, address: int, size: int) -> int:
        """Load a register for the CPU."""
        if address >> _PAGE_BITS != _LPUART1_PAGE:
            self.uart.reset_poll_count()
        return self._bus.read(address, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Store a register for the CPU.

        Raises:
            ClockError: the store asks for a clock the chip cannot run with.
        """
        if address >> _PAGE_BITS != _LPUART1_PAGE:
            self.uart.reset_poll_count()
        self._bus.write(address, size, value)

    def reset(self, cause: int) -> None:
        """Reset every register and release the pins, as a system reset does."""
        self.rcc.reset_with_cause(cause)
        for part in (self.uart, self._timer, self._dwt, self.control, *self._ports.values()):
            part.reset()

    def power_off(self) -> None:
        """Remove the supply: release the pins, lose the bytes on the way."""
        self.reset(0)
        self.uart.power_off()

    def _on_clock_change(self, clocks: clock_tree.Clocks) -> None:
        self._timer.latch_count()
        self._cpu.on_clock_change(clocks)

    def _make_uart_surroundings(self) -> Surroundings:
        return Surroundings(
            now_ps=self._cpu.now_ps,
            stall_until=self._cpu.stall_until,
            kernel_hz=self.rcc.lpuart1_hz,
            is_receive_pin_connected=lambda: self._is_uart_pin(_RX_PIN),
            transmit=self._on_transmit,
            on_interrupt=lambda: self.control.raise_interrupt(_LPUART1_IRQ),
            on_idle=self._cpu.on_idle,
        )

    def _is_uart_pin(self, pin: int) -> bool:
        return self._ports["G"].alternate_function(pin) == _LPUART1_FUNCTION

    def _on_transmit(self, byte: int, end_ps: int, baud: int) -> None:
        if self._is_uart_pin(_TX_PIN):
            self._transmit(byte, end_ps, baud)

    def _make_port(self, letter: str) -> GpioPort:
        if letter == "G":  # its pins hang on VDDIO2
            return GpioPort(letter, self._cpu.now_ps, lambda: self.rcc.pwr.port_g_supplied)
        return GpioPort(letter, self._cpu.now_ps, lambda: True)

    def _attach_peripherals(self) -> None:
        for name, base, size, part in (
            ("RCC", 0x4002_1000, 0x400, self.rcc),
            ("FLASH", 0x4002_2000, 0x400, self.rcc.flash),
            ("DWT", 0xE000_1000, 0x1000, self._dwt),
            ("SCS", 0xE000_E000, 0x1000, self.control),
            ("DBGMCU", 0xE004_2000, 0x400, Registers({0: DBGMCU_IDCODE})),
        ):
            self._bus.attach(Slot(name, base, size, part, is_clocked=True))
        self._attach_gated("PWR", 0x4000_7000, self.rcc.pwr, (clock_tree.APB1_1, 28))
        self._attach_gated("TIM2", 0x4000_0000, self._timer, (clock_tree.APB1_1, 0))
        self._attach_gated("LPUART1", _LPUART1_BASE, self.uart, (clock_tree.APB1_2, 0))
        self._attach_gated("SYSCFG", 0x4001_0000, Registers({}), (clock_tree.APB2, 0))
        for bit, port in enumerate(self._ports.values()):
            base = 0x4800_0000 + 0x400 * bit
            self._attach_gated(f"GPIO{port.letter}", base, port, (clock_tree.AHB2, bit))

    def _attach_gated(
        self, name: str, base: int, part: Peripheral, enable: tuple[int, int]
    ) -> None:
        slot = Slot(name, base, 0x400, part, is_clocked=False)
        self._gated[enable] = slot
        self._bus.attach(slot)

    def _update_clock_gates(self) -> None:
        for enable, slot in self._gated.items():
            slot.is_clocked = self.rcc.is_clock_enabled(*enable)

    def _reset_peripherals(self, enable_register: int, bits: int) -> None:
        for (register, bit), slot in self._gated.items():
            if register == enable_register and bits >> bit & 1:
                slot.peripheral.reset()
