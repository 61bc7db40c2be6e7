"""The hardware of one emulated station: board, instruments, ports, and the wires between them.

``pacing`` decides when time advances; this module decides what happens then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from labd.simulation.bench_port import SERIAL_BUFFER, BenchPort
from labd.simulation.digital_wire import LossyWire, Wire
from labd.simulation.instruments.interface_board import (
    DEFAULT_DUT_BAUD,
    SimulatedInterfaceBoard,
)
from labd.simulation.instruments.lpm01a.device import TRANSMIT_BUFFER, SimulatedLpm01a
from labd.simulation.instruments.ppk2.device import SimulatedPpk2
from labd.simulation.mcu.board import Board, CpuState
from labd.simulation.mcu.chip import Pins
from labd.simulation.mcu.currents import Total
from labd.simulation.mcu.image import FlashContents
from labd.simulation.uart_waveform import character_as_received, character_duration_ps
from labd.simulation.virtual_time import PS_PER_MS, Agenda, Timeline
from labd.wire.emulation import EmulatedStation

PARTS = ("dut", "io", "power")
USB_MV = 3300
_BROWN_OUT_PS = 20 * PS_PER_MS
_STANDARD_BAUDS = (
    *(1200, 2400, 4800, 9600, 19_200, 38_400, 57_600),
    *(115_200, 230_400, 460_800, 921_600, 1_000_000, 2_000_000),
)
_PROBE_SLICES = 500
_RUNNING = CpuState.RUNNING  # a name: an enum's attribute is slow to look up before Python 3.12


@dataclass(frozen=True, slots=True)
class TimestampFall:
    """A falling edge of the timestamp line, with what had been delivered by then."""

    at_ps: int
    total: Total


class StationHardware:
    """Board, instruments and ports of one station."""

    def __init__(
        self,
        config: EmulatedStation,
        image: FlashContents,
        directory: Path,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self.config = config
        self.log = log
        self.timeline = Timeline()
        self.timestamp_falls: list[TimestampFall] = []
        self._receive_free_ps = 0
        self._last_arrival_ps = 0
        self._receive_to_lose = 0
        self.ports = {part: _make_port(directory, part) for part in PARTS if part in config.parts}
        pins = Pins(Wire("timestamp"), Wire("processing"), Wire("detected"))
        self.board = Board(
            self.timeline,
            pins,
            self._on_dut_byte,
            log,
            seed=config.seed,
            extra_na=config.board_ua * 1000,
        )
        self.board.flash(image)
        self.agenda = Agenda(self.board.now_ps)
        self.monitor = self._make_monitor() if "power" in config.parts else None
        self.io = self._make_interface_board(image) if "io" in config.parts else None
        self.timestamp = LossyWire(self.monitor.on_timestamp_edge if self.monitor else _ignore_edge)
        self.processing = LossyWire(self.io.on_processing_edge if self.io else _ignore_edge)
        pins.timestamp.add_watcher(self._on_timestamp_edge)
        pins.processing.add_watcher(self.processing.pass_edge)
        if self.io is not None:
            pins.detected.add_watcher(self.io.on_detection_edge)
        if self.monitor is None:
            self.board.power_on(USB_MV)

    def _make_monitor(self) -> SimulatedLpm01a | SimulatedPpk2:
        make = SimulatedPpk2 if self.config.monitor == "ppk2" else SimulatedLpm01a
        monitor = make(self.agenda, self.board, seed=self.config.seed)
        monitor.send = self.ports["power"].send
        return monitor

    def _make_interface_board(self, image: FlashContents) -> SimulatedInterfaceBoard:
        io = SimulatedInterfaceBoard(
            self.agenda, baud=_find_firmware_baud(image, self.log), crystal_ppm=self.config.io_ppm
        )
        io.send, io.to_dut = self.ports["io"].send, self._send_to_dut
        return io

    # -- time

    @property
    def is_executing(self) -> bool:
        """Whether the CPU has something to do."""
        return self.board.state is _RUNNING

    @property
    def next_signal_ps(self) -> int | None:
        """When a wire next changes, if nothing that takes visible time comes first."""
        uart_ps, agenda_ps = self.board.next_uart_event_ps, self.agenda.next_ps
        if uart_ps is not None and (agenda_ps is None or uart_ps <= agenda_ps):
            return uart_ps
        return None if self.agenda.next_waits else agenda_ps

    @property
    def next_event_ps(self) -> int | None:
        """When the next pending event is due."""
        event_ps = self.agenda.next_ps
        uart_ps, end_ps = (
            self.board.next_uart_event_ps,
            self.monitor.acquisition_end_ps if self.monitor else None,
        )
        if uart_ps is not None and (event_ps is None or uart_ps < event_ps):
            event_ps = uart_ps
        if end_ps is not None and (event_ps is None or end_ps < event_ps):
            event_ps = end_ps
        return event_ps

    def advance_to(self, at_ps: int) -> None:
        """Let time pass while the CPU does not execute; not beyond the next event."""
        self.timeline.now_ps = max(self.timeline.now_ps, at_ps)
        self._run_due_events()

    def execute_slice(self) -> None:
        """Let the CPU execute a slice."""
        self.board.run_slice()
        self._run_due_events()

    def _run_due_events(self) -> None:
        self.agenda.run_due(self.timeline.now_ps)
        self.board.wake_if_due()
        if self.monitor is not None:
            self.monitor.advance_to(self.timeline.now_ps, self._waiting_power_bytes())

    def _waiting_power_bytes(self) -> int:
        """Return how many bytes the monitor's own buffer would hold.

        0 while the host reads: waiting bytes then only mean that the emulator is faster than
        the host, which depends on the wall clock and must not show in the stream.
        """
        port = self.ports["power"]
        return port.waiting_bytes if port.blocked else 0

    # -- what reaches the bench from outside

    def receive_from_host(self, part: str, data: bytes) -> None:
        """Take bytes of a host from a port."""
        if part == "dut":
            self._send_through_stlink(data)
        elif part == "io" and self.io is not None:
            self.io.receive(data)
        elif part == "power" and self.monitor is not None:
            self.monitor.receive(data)
        self._run_due_events()

    def first_command_size(self, part: str, data: bytes | bytearray) -> int:
        """Return the length of the first command in ``data``; 0 if it is not whole."""
        if part == "power" and self.monitor is not None:
            return self.monitor.first_command_size(data)
        return data.find(b"%") + 1

    def flash_board(self, image: FlashContents) -> str:
        """Program the board through its ST-LINK; return why it failed, or an empty string."""
        if not self.board.is_powered:
            return "The target has no supply voltage. Switch it on, then copy the file again."
        self.board.flash(image)
        return ""

    def unplug_cable(self, part: str) -> None:
        """Unplug a USB cable."""
        self.ports[part].unplug()
        if part == "dut" and self.monitor is None:
            self.board.power_off()

    def plug_cable(self, part: str) -> None:
        """Plug it in again; the device behind it restarts."""
        self.ports[part].plug()
        if part == "dut" and self.monitor is None and not self.board.is_powered:
            self.board.power_on(USB_MV)
        elif part == "io" and self.io is not None:
            self.io.reset()
        elif part == "power" and self.monitor is not None:
            self.monitor.restart()

    def brown_out_supply(self) -> None:
        """Let the supply fail for 20 ms."""
        if not self.board.is_powered:
            return
        voltage_mv = self.board.voltage_mv
        self.board.power_off()

        def restore_supply(_at_ps: int) -> None:
            if not self.board.is_powered:
                self.board.power_on(voltage_mv)

        self.agenda.schedule(self.timeline.now_ps + _BROWN_OUT_PS, restore_supply, waits=True)

    def lose_dut_input(self, count: int) -> None:
        """Lose the next bytes on the DUT's receive wire."""
        self._receive_to_lose += count

    # -- wires

    def _send_through_stlink(self, data: bytes) -> None:
        """Send bytes through the ST-LINK's serial port, which has the DUT's speed."""
        baud = self.board.uart_baud or DEFAULT_DUT_BAUD
        end_ps = max(self.timeline.now_ps, self._receive_free_ps)
        for byte in data:
            end_ps += character_duration_ps(baud)
            self._send_to_dut(byte, end_ps, baud)
        self._receive_free_ps = end_ps

    def _send_to_dut(self, byte: int, end_ps: int, baud: int) -> None:
        if self._receive_to_lose:
            self._receive_to_lose -= 1
            return
        self._last_arrival_ps = max(self._last_arrival_ps, end_ps)
        for seen in character_as_received(byte, baud, self.board.uart_baud):
            self.board.receive_byte(self._last_arrival_ps, seen)

    def _on_dut_byte(self, byte: int, end_ps: int, baud: int) -> None:
        if "dut" in self.ports:
            self.ports["dut"].send(bytes((byte,)))
        if self.io is not None:
            self.io.receive_dut_byte(byte, end_ps, baud)

    def _on_timestamp_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        if not level:
            self.timestamp_falls = [
                *self.timestamp_falls[-1:],
                TimestampFall(at_ps, self.board.ledger.total_until(at_ps)),
            ]
        self.timestamp.pass_edge(at_ps, level)


def _ignore_edge(_at_ps: int, _level: bool) -> None:  # noqa: FBT001 - a wire's watcher
    """Ignore the edges of this wire."""


def _make_port(directory: Path, part: str) -> BenchPort:
    # the monitor holds back (see pacing) and must not lose what it has written
    size = 16 * TRANSMIT_BUFFER if part == "power" else SERIAL_BUFFER
    return BenchPort(directory / part, buffer_bytes=size)


def _find_firmware_baud(firmware: FlashContents, log: logging.LoggerAdapter[logging.Logger]) -> int:
    """Return the baud rate that a firmware sets when it boots; 9600 if it sets none."""
    pins = Pins(Wire("timestamp"), Wire("processing"), Wire("detected"))
    board = Board(Timeline(), pins, lambda _byte, _end, _baud: None, log)
    board.flash(firmware)
    board.power_on(USB_MV)
    for _ in range(_PROBE_SLICES):
        if board.state is not _RUNNING:
            break
        board.run_slice()
    nearest = min(_STANDARD_BAUDS, key=lambda baud: abs(baud - board.uart_baud))
    return (
        nearest
        if character_as_received(0x55, board.uart_baud, nearest) == b"\x55"
        else DEFAULT_DUT_BAUD
    )
