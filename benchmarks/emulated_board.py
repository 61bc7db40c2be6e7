"""Processor time of the emulated board per UART character and per inference.

python benchmarks/emulated_board.py

The complete station (its thread, its pseudo-terminal, virtual time, clocks, currents) beside a
plain loop around unicorn that executes the same ELF: registers are a dictionary, there is no
time and no current, a character is there when it is read.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
import time
import tty
from collections import deque
from pathlib import Path

from unicorn.arm_const import UC_ARM_REG_PC, UC_ARM_REG_SP, UC_CPU_ARM_CORTEX_M4
from unicorn.unicorn import Uc
from unicorn.unicorn_const import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB

from labd.simulation.mcu.chip import REGISTER_REGIONS
from labd.simulation.mcu.image import FLASH_BASE, FLASH_SIZE, SRAM_BASE, SRAM_SIZE, parse_image
from labd.simulation.station_thread import StationThread
from labd.wire.emulation import EmulatedStation

REPO = Path(__file__).parents[1]
ELF = REPO / "firmware" / "prebuilt" / "nucleo-l4r5zi" / "digits01-performance.elf"
SAMPLES = 100
INFERENCES = 400
READY = b"m-ready\r\n"

LOADS = [f"db {bytes(range(at, min(at + 26, 64))).hex()}" for at in range(0, 64, 26)]
LOAD = ["db load 64", *LOADS]
INFER = [f"infer {INFERENCES} 0"]

CR, CFGR, TIM2_CNT = 0x4002_1000, 0x4002_1008, 0x4000_0024
ISR, RDR, TDR = 0x4000_801C, 0x4000_8024, 0x4000_8028
NEVER = 0xFFFF_FFF0


class Station:
    """The emulated board as labd runs it, on a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        config = EmulatedStation(name="benchmark", image=ELF, parts=["dut", "io"])
        self._thread = StationThread(config, parse_image(ELF.read_bytes()), folder)
        self._port = os.open(self._thread.port_paths["dut"], os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._port)
        self._thread.start()
        running = next(each for each in threading.enumerate() if each.name == "benchmark")
        self._clock = time.pthread_getcpuclockid(running.ident or 0)
        self._read()

    def ask(self, command: str) -> bytes:
        """Return the answer to a command."""
        os.write(self._port, f"{command}%".encode())
        return self._read()

    def _read(self) -> bytes:
        answer = b""
        while not answer.endswith(READY):
            answer += os.read(self._port, 4096)
        return answer

    def core_s(self) -> float:
        """Return the processor time of its thread so far."""
        return time.clock_gettime(self._clock)

    def close(self) -> None:
        """End the thread."""
        os.close(self._port)
        self._thread.stop()


class PlainBoard:
    """The same firmware in a plain loop around unicorn."""

    def __init__(self) -> None:
        self._engine = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._engine.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M4)
        self._engine.mem_map(FLASH_BASE, FLASH_SIZE)
        self._engine.mem_map(SRAM_BASE, SRAM_SIZE)
        for offset, data in parse_image(ELF.read_bytes()).segments:
            self._engine.mem_write(FLASH_BASE + offset, data)
        for base, size in REGISTER_REGIONS:
            self._engine.mmio_map(base, size, self._load, base, self._store, base)
        self._registers: dict[int, int] = {}
        self._received: deque[int] = deque()
        self._sent = bytearray()
        stack, self._pc = struct.unpack("<II", self._engine.mem_read(FLASH_BASE, 8))
        self._engine.reg_write(UC_ARM_REG_SP, stack)
        self._run()

    def ask(self, command: str) -> bytes:
        """Return the answer to a command."""
        self._sent.clear()
        for byte in f"{command}%".encode():
            self._received.append(byte)
            self._run()
        return bytes(self._sent)

    def core_s(self) -> float:
        """Return the processor time of this thread so far."""
        return time.thread_time()

    def _run(self) -> None:
        """Execute until the firmware waits for an interrupt."""
        self._engine.emu_start(self._pc | 1, NEVER)
        self._pc = self._engine.reg_read(UC_ARM_REG_PC)

    def _load(self, _engine: Uc, offset: int, _size: int, base: int) -> int:
        address = base + offset
        value = self._registers.get(address, 0)
        if address == ISR:
            return 0xC0 | bool(self._received) << 5
        if address == RDR:
            return self._received.popleft()
        if address == CR:
            return value | (value & 0x0100_0101) << 1 | (value & 1 << 8) << 2
        if address == CFGR:
            return value | (value & 3) << 2
        if address == TIM2_CNT:
            self._registers[TIM2_CNT] = value + 1
        return value

    def _store(self, _engine: Uc, offset: int, _size: int, value: int, base: int) -> None:
        if base + offset == TDR:
            self._sent.append(value)
        self._registers[base + offset] = value


def core_us(board: Station | PlainBoard, commands: list[str], times: int) -> tuple[float, int]:
    """Return the processor time of these commands, µs, and their characters, both directions."""
    start, characters = board.core_s(), 0
    for _ in range(times):
        for command in commands:
            characters += len(command) + 1 + len(board.ask(command))
    return (board.core_s() - start) * 1e6, characters


def best(board: Station | PlainBoard, commands: list[str], times: int) -> tuple[float, int]:
    return min(core_us(board, commands, times) for _ in range(3))


def compare(station: Station, plain: PlainBoard) -> None:
    for board in (station, plain):
        board.ask("name")
    ours, characters = best(station, LOAD, SAMPLES)
    theirs, same = best(plain, LOAD, SAMPLES)
    assert characters == same
    print(f"emulated board, per character, labd:          {ours / characters:8.1f} µs")
    print(f"emulated board, per character, plain unicorn: {theirs / characters:8.1f} µs")
    print(f"emulated board, per character, ratio: {ours / theirs:.1f}")
    ours, theirs = (best(board, INFER, 1)[0] / INFERENCES for board in (station, plain))
    print(f"emulated board, per inference, labd:          {ours:8.1f} µs")
    print(f"emulated board, per inference, plain unicorn: {theirs:8.1f} µs")
    print(f"emulated board, per inference, ratio: {ours / theirs:.1f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        station = Station(Path(folder))
        try:
            compare(station, PlainBoard())
        finally:
            station.close()


if __name__ == "__main__":
    main()
