"""The board with a few hand-assembled instructions in its flash."""

from __future__ import annotations

import logging
import struct

import pytest

pytest.importorskip("unicorn", reason="the extra 'emulator' is not installed")

from labd.simulation.digital_wire import Wire
from labd.simulation.mcu.board import Board, CpuState
from labd.simulation.mcu.chip import Pins
from labd.simulation.mcu.image import FlashContents, ImageError, parse_image
from labd.simulation.mcu.rcc import RESET_PIN
from labd.simulation.virtual_time import Timeline

MASK_INTERRUPTS, WAIT, FOREVER, UNDEFINED = 0xB672, 0xBF30, 0xE7FE, 0xDE00
Instruction = int | tuple[int, int]


def assemble(*code: Instruction) -> FlashContents:
    """Thumb half-words; (register, literal) loads a constant from behind the code."""
    literals = [item[1] for item in code if isinstance(item, tuple)]
    pool = 8 + (2 * len(code) + 3 & ~3)
    words: list[int] = []
    for index, item in enumerate(code):
        if isinstance(item, tuple):
            here = 8 + 2 * index + 4 & ~3
            at = pool + 4 * sum(isinstance(before, tuple) for before in code[:index])
            words.append(0x4800 | item[0] << 8 | (at - here) >> 2)
        else:
            words.append(item)
    body = struct.pack(f"<{len(words)}H", *words).ljust(pool - 8, b"\0")
    head = struct.pack("<II", 0x2000_1000, 0x0800_0009)
    return parse_image(head + body + struct.pack(f"<{len(literals)}I", *literals))


def make_board() -> Board:
    log = logging.LoggerAdapter(logging.getLogger("test"), {"station": "unit"})
    pins = Pins(Wire("timestamp"), Wire("processing"), Wire("detected"))
    return Board(Timeline(), pins, lambda _byte, _end_ps, _baud: None, log, seed=5)


def settle(board: Board) -> CpuState:
    for _ in range(100):
        if board.state is not CpuState.RUNNING:
            break
        board.run_slice()
    return board.state


# finds its mark in RAM: loops; does not: leaves it and sleeps
REMEMBERS = assemble(
    MASK_INTERRUPTS,
    (0, 0x2000_0100),
    0x6801,  # ldr r1, [r0]
    (2, 0xCAFE_F00D),
    0x4291,  # cmp r1, r2
    0xD001,  # beq over the next two
    0x6002,  # str r2, [r0]
    WAIT,
    FOREVER,
)


def test_a_reset_keeps_ram_and_power_off_loses_it() -> None:
    board = make_board()
    board.flash(REMEMBERS)
    board.power_on(3300)
    assert settle(board) is CpuState.SLEEPING
    board.restart(RESET_PIN)
    assert settle(board) is CpuState.STUCK
    board.power_off()
    board.power_on(3300)
    assert settle(board) is CpuState.SLEEPING


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ((FOREVER,), "endless loop"),
        ((UNDEFINED,), "Invalid instruction"),
        (((0, 0x3000_0000), 0x6801), "UNMAPPED"),
        (((0, 0x0800_0100), 0x6000), "write-protected"),
    ],
)
def test_a_fault_stops_the_cpu_until_it_is_flashed(code: tuple[Instruction, ...], why: str) -> None:
    board = make_board()
    board.flash(assemble(*code))
    board.power_on(3300)
    assert settle(board) is CpuState.STUCK
    assert why in board.why_stuck
    board.flash(assemble(MASK_INTERRUPTS, WAIT, FOREVER))
    assert settle(board) is CpuState.SLEEPING


def test_a_software_reset_restarts() -> None:
    board = make_board()
    reset = assemble((0, 0xE000_ED0C), (1, 0x05FA_0004), 0x6001, FOREVER)  # str r1, [r0]
    board.flash(reset)
    board.power_on(3300)
    for _ in range(5):
        board.run_slice()
        assert board.state is CpuState.RUNNING


def test_an_interrupt_that_would_be_taken_is_reported() -> None:
    board = make_board()
    board.flash(assemble((0, 0xE000_E100), (1, 1), 0x6001, (0, 0xE000_E200), 0x6001, FOREVER))
    board.power_on(3300)
    assert settle(board) is CpuState.STUCK
    assert "interrupt" in board.why_stuck


def test_system_memory_and_aliases() -> None:
    board = make_board()
    board.flash(assemble((0, 0x1FFF_75E0), 0x8801, (2, 2048), 0x4291, 0xD100, WAIT, FOREVER))
    board.power_on(3300)
    assert settle(board) is CpuState.SLEEPING


def test_cycles_are_instructions_times_cpi_at_four_megahertz() -> None:
    board = make_board()
    board.flash(assemble(0x3001, 0xE7FD))  # adds r0, #1; b back
    board.power_on(3300)
    board.run_slice()
    assert board.now_ps() == pytest.approx(20_000 * 1.3 * 250_000, rel=1e-3)
    assert board.ledger.current_na == 110_000 * 4 * 1200 // 1280


def test_off_draws_nothing_and_receives_nothing() -> None:
    board = make_board()
    board.flash(REMEMBERS)
    board.receive_byte(5, 0x41)
    assert board.next_uart_event_ps is None
    assert board.ledger.current_na == 0


def test_an_intel_hex_file_is_refused_as_one() -> None:
    with pytest.raises(ImageError, match="it is an Intel HEX file"):
        parse_image(b":020000040800F2\r\n" * 20)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, struct.pack("<II", 0x2000_1000, 0x0800_0008), b"\x7fELF\x01\x01"]
)
def test_images_that_cannot_start_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        parse_image(data)
