"""The board: an STM32L4R5 executing firmware, with its memories and its supply.

Time while executing: cycles = retired instructions × 1.3 + stalls. 1.3 is an average for
compiled code on a Cortex-M4 behind the ART accelerator; stalls are the waits the UART model
shortens. Between slices time is the station's; ``wake_if_due`` synchronises the two again.
"""

from __future__ import annotations

import ctypes
import logging
import random
import struct
from collections.abc import Callable
from enum import Enum, auto

from labd.simulation.mcu.chip import REGISTER_REGIONS, Chip, Cpu, Pins
from labd.simulation.mcu.currents import Ledger, core_current_na
from labd.simulation.mcu.engine import Engine, SliceOutcome
from labd.simulation.mcu.image import FLASH_BASE, FLASH_SIZE, SRAM_BASE, SRAM_SIZE, FlashContents
from labd.simulation.mcu.rcc import RESET_BROWN_OUT, RESET_PIN, RESET_SOFTWARE, ClockError, Clocks
from labd.simulation.virtual_time import PS_PER_S, Timeline

_CPI_NUMERATOR, _CPI_DENOMINATOR = 13, 10
_SRAM2_ALIAS, _SRAM2_OFFSET, _SRAM2_SIZE = 0x1000_0000, 0x3_0000, 0x1_0000
_SYSTEM_MEMORY, _SYSTEM_SIZE = 0x1FFF_7000, 0x1000
_UID_OFFSET, _FLASH_SIZE_OFFSET = 0x590, 0x5E0


class CpuState(Enum):
    """State of the CPU."""

    OFF = auto()
    RUNNING = auto()
    SLEEPING = auto()
    """In WFI until an enabled interrupt is pending."""
    POLLING = auto()
    """Executing, but only asking the UART for input."""
    STUCK = auto()
    """A fault or an ordered hang: nothing runs until power cycle, reset or flash."""


# an enum's attribute takes 0.1 µs to look up before Python 3.12, and a slice needs twenty
_OFF, _RUNNING, _SLEEPING, _POLLING, _STUCK = CpuState
_FAULTED, _SLEPT, _LOOPED = SliceOutcome.FAULT, SliceOutcome.SLEEPING, SliceOutcome.LOOPING


class Board:
    """One NUCLEO-L4R5ZI."""

    def __init__(
        self,
        timeline: Timeline,
        pins: Pins,
        transmit: Callable[[int, int, int], None],
        log: logging.LoggerAdapter[logging.Logger],
        *,
        seed: int = 0,
        extra_na: int = 0,
    ) -> None:
        self._timeline = timeline
        self._log = log
        self._random = random.Random(seed)  # noqa: S311 - RAM contents, not a secret
        self._extra_na = extra_na
        self.ledger = Ledger()
        self.state = _OFF
        self.why_stuck = ""
        self.voltage_mv = 0
        """The supply; 0 when off."""
        self._executing = False
        self._stalls = 0
        self._epoch_ps, self._epoch_cycles, self._hz = 0, 0, 4_000_000
        self._fault = ""
        self._reset_requested = False
        self._idle = False
        self._engine = Engine()
        self._map_memory(seed)
        self._chip = Chip(self._make_cpu_interface(), pins, transmit, log)
        self._set_currents(self._chip.rcc.clocks)
        for base, size in REGISTER_REGIONS:
            self._engine.map_registers(base, size, self._read_register, self._write_register)
        if not self._engine.exact_count:
            log.warning("unicorn's instruction counter was not found: timing is coarse")

    def _map_memory(self, seed: int) -> None:
        engine = self._engine
        self._flash = engine.map_memory(FLASH_SIZE, FLASH_BASE, 0, writable=False)
        ctypes.memset(self._flash, 0xFF, FLASH_SIZE)
        self._sram = engine.map_memory(SRAM_SIZE, SRAM_BASE, writable=True)
        engine.map_alias(self._sram, _SRAM2_OFFSET, _SRAM2_SIZE, _SRAM2_ALIAS)
        system = engine.map_memory(_SYSTEM_SIZE, _SYSTEM_MEMORY, writable=False)
        struct.pack_into("<III", system, _UID_OFFSET, 0x0045_0030 + seed, 0x3139_5115, 0x2037_3558)
        struct.pack_into("<H", system, _FLASH_SIZE_OFFSET, FLASH_SIZE >> 10)

    def _make_cpu_interface(self) -> Cpu:
        return Cpu(
            now_ps=self.now_ps,
            cycles=self._elapsed_cycles,
            stall_until=self._stall_until,
            on_clock_change=self._on_clock_change,
            on_idle=self._on_idle,
            on_reset_request=self._on_reset_request,
        )

    # -- supply, flash and faults

    @property
    def is_powered(self) -> bool:
        """Whether it has a supply."""
        return self.state is not _OFF

    @property
    def uart_baud(self) -> int:
        """Baud rate that the firmware has set its UART to; 0 before it has."""
        return self._chip.uart.baud

    def flash(self, image: FlashContents) -> None:
        """Erase and program the flash, then restart if powered, as an ST-LINK does."""
        ctypes.memset(self._flash, 0xFF, FLASH_SIZE)
        for offset, data in image.segments:
            ctypes.memmove(ctypes.addressof(self._flash) + offset, data, len(data))
        if self.is_powered:
            self.restart(RESET_PIN)

    def power_on(self, voltage_mv: int) -> None:
        """Supply the board: RAM holds noise, the firmware starts from its vectors."""
        self.voltage_mv = voltage_mv
        ctypes.memmove(self._sram, self._random.randbytes(SRAM_SIZE), SRAM_SIZE)
        self.restart(RESET_BROWN_OUT | RESET_PIN)

    def set_voltage(self, voltage_mv: int) -> None:
        """Change the supply voltage of a running board."""
        self.voltage_mv = voltage_mv
        self._record_current()

    def power_off(self) -> None:
        """Cut the supply."""
        self.state = _OFF
        self.voltage_mv = 0
        self._chip.power_off()
        self._record_current()

    def restart(self, cause: int) -> None:
        """Reset the chip; RAM keeps what it holds."""
        self.state, self.why_stuck = _RUNNING, ""
        self._fault, self._reset_requested, self._idle = "", False, False
        self._chip.reset(cause)
        self._synchronise_clock()
        stack, entry = struct.unpack_from("<II", self._flash)
        self._engine.reset(stack, entry)
        self._record_current()

    def hang(self, why: str) -> None:
        """Stop the CPU; its current stays."""
        if self.is_powered:
            self.state, self.why_stuck = _STUCK, why
            self._log.error(
                "the board is stuck at pc %#010x: %s", self._engine.program_counter, why
            )
            self._record_current()

    def receive_byte(self, at_ps: int, byte: int) -> None:
        """Receive a byte, complete at ``at_ps``; it is lost while the board is off."""
        if self.is_powered:
            self._chip.uart.add_arrival(at_ps, byte)

    # -- running

    @property
    def next_uart_event_ps(self) -> int | None:
        """Time of the UART's next event: a byte has arrived, or the last one is sent."""
        if not self.is_powered:
            return None
        arrival_ps, sent_ps = self._chip.uart.next_arrival_ps, self._chip.uart.busy_until_ps
        if sent_ps > self._timeline.now_ps and (arrival_ps is None or sent_ps < arrival_ps):
            return sent_ps
        return arrival_ps

    def now_ps(self) -> int:
        """Return the present time, exact also inside a register access."""
        if not self._executing:
            return self._timeline.now_ps
        executed = self._engine.retired_instructions * _CPI_NUMERATOR // _CPI_DENOMINATOR
        cycles = executed + self._stalls - self._epoch_cycles
        return self._epoch_ps + cycles * PS_PER_S // self._hz

    def wake_if_due(self) -> None:
        """Leave sleep or polling if an interrupt or a UART byte has arrived."""
        state = self.state
        if state is _OFF:
            return
        self._chip.uart.process_arrivals(self._timeline.now_ps)
        if (state is _SLEEPING and self._chip.control.is_wake_pending) or (
            state is _POLLING and self._chip.uart.has_input
        ):
            self.state = _RUNNING
            self._synchronise_clock()
            self._record_current()

    def run_slice(self) -> None:
        """Execute one slice of instructions and advance the station's time with it."""
        self._executing = True
        end = self._engine.run_slice()
        self._timeline.now_ps = self.now_ps()
        self._executing = False
        if self._fault or end.outcome is _FAULTED:
            self.hang(self._fault or end.detail)
        elif self._reset_requested:
            self.restart(RESET_SOFTWARE)
        elif self._chip.control.is_wake_pending and not self._engine.interrupts_masked:
            self.hang("the firmware takes an interrupt, which this machine does not model")
        elif self._idle:
            self.state, self._idle = _POLLING, False
        elif end.outcome is _SLEPT:
            self.state = _SLEEPING
            self._record_current()
            self.wake_if_due()
        elif end.outcome is _LOOPED:
            self.hang("the firmware stands in an endless loop")

    def _elapsed_cycles(self) -> int:
        return self._engine.retired_instructions * _CPI_NUMERATOR // _CPI_DENOMINATOR + self._stalls

    def _synchronise_clock(self) -> None:
        """Synchronise the CPU's cycles with the station's time from here on."""
        self._epoch_ps, self._epoch_cycles = self.now_ps(), self._elapsed_cycles()
        self._hz = self._chip.rcc.clocks.hclk

    def _stall_until(self, at_ps: int) -> None:
        self._stalls += max(0, -(-(at_ps - self.now_ps()) * self._hz // PS_PER_S))

    def _on_clock_change(self, clocks: Clocks) -> None:
        self._set_currents(clocks)
        self._synchronise_clock()
        self._record_current()

    def _set_currents(self, clocks: Clocks) -> None:
        hclk, supply_range = clocks.hclk, clocks.range
        self._run_na = self._extra_na + core_current_na(hclk, supply_range, asleep=False)
        self._sleep_na = self._extra_na + core_current_na(hclk, supply_range, asleep=True)

    def _on_idle(self) -> None:
        self._idle = True
        self._engine.stop()

    def _on_reset_request(self) -> None:
        self._reset_requested = True
        self._engine.stop()

    def _record_current(self) -> None:
        current = 0
        if self.is_powered:
            current = self._sleep_na if self.state is _SLEEPING else self._run_na
        self.ledger.set_supply(self.now_ps(), current, self.voltage_mv)

    def _read_register(self, address: int, size: int) -> int:
        try:
            return self._chip.read(address, size)
        except ClockError as fault:
            self._stop_on_clock_error(fault)
            return 0

    def _write_register(self, address: int, size: int, value: int) -> None:
        try:
            self._chip.write(address, size, value)
        except ClockError as fault:
            self._stop_on_clock_error(fault)

    def _stop_on_clock_error(self, fault: ClockError) -> None:
        self._fault = str(fault)
        self._engine.stop()
