"""The peripherals' rules, without a CPU: clock gating, supply, pins, UART, timers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

pytest.importorskip("unicorn", reason="the extra 'emulator' is not installed")

from labd.simulation.digital_wire import Wire
from labd.simulation.mcu.chip import Chip, Cpu, Pins
from labd.simulation.mcu.rcc import RESET_BROWN_OUT, ClockError
from labd.simulation.uart_waveform import character_duration_ps

RCC, PWR, FLASH_ACR = 0x4002_1000, 0x4000_7000, 0x4002_2000
AHB2ENR, APB1ENR1, APB1ENR2 = RCC + 0x4C, RCC + 0x58, RCC + 0x5C
CR, CFGR, PLLCFGR, CCIPR, CSR = RCC, RCC + 0x08, RCC + 0x0C, RCC + 0x88, RCC + 0x94
GPIOE, GPIOF, GPIOG = 0x4800_1000, 0x4800_1400, 0x4800_1800
MODER, OTYPER, IDR, ODR, BSRR, AFRL, AFRH = 0x00, 0x04, 0x10, 0x14, 0x18, 0x20, 0x24
LPUART1, TIM2 = 0x4000_8000, 0x4000_0000
ISR, RDR, TDR, BRR = LPUART1 + 0x1C, LPUART1 + 0x24, LPUART1 + 0x28, LPUART1 + 0x0C
RXNE, ORE, TXE, TC = 1 << 5, 1 << 3, 1 << 7, 1 << 6
MS = 10**9


@dataclass
class World:
    """A clock to turn by hand, and what came out of the chip."""

    now_ps: int = 0
    sent: list[tuple[int, int, int]] = field(default_factory=list)
    edges: list[tuple[int, bool]] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    idle: int = 0
    resets: int = 0


def _stall(world: World, until: int) -> None:
    world.stalls.append(until)
    world.now_ps = max(world.now_ps, until)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def chip(world: World) -> Chip:
    pins = Pins(Wire("timestamp"), Wire("processing"), Wire("detected"))
    pins.timestamp.add_watcher(lambda at_ps, level: world.edges.append((at_ps, level)))
    cpu = Cpu(
        now_ps=lambda: world.now_ps,
        cycles=lambda: world.now_ps // 250_000,
        stall_until=lambda at_ps: _stall(world, at_ps),
        on_clock_change=lambda _clocks: None,
        on_idle=lambda: setattr(world, "idle", world.idle + 1),
        on_reset_request=lambda: setattr(world, "resets", world.resets + 1),
    )
    log = logging.LoggerAdapter(logging.getLogger("test"), {"station": "unit"})
    made = Chip(cpu, pins, lambda *byte: world.sent.append(byte), log)
    made.reset(RESET_BROWN_OUT)
    return made


def _set(chip: Chip, address: int, bits: int) -> None:
    chip.write(address, 4, chip.read(address, 4) | bits)


def _start_hsi(chip: Chip, world: World) -> None:
    _set(chip, CR, 1 << 8)
    world.now_ps += 5_000_000
    chip.write(CFGR, 4, 1)
    assert chip.read(CFGR, 4) >> 2 & 3 == 1


def _start_uart(chip: Chip, world: World, baud: int = 115_200) -> None:
    _start_hsi(chip, world)
    _set(chip, AHB2ENR, 1 << 6)
    _set(chip, APB1ENR1, 1 << 28)
    _set(chip, APB1ENR2, 1)
    _set(chip, PWR + 4, 1 << 9)
    chip.write(GPIOG + AFRL, 4, 8 << 28)
    chip.write(GPIOG + AFRH, 4, 8)
    chip.write(GPIOG + MODER, 4, 0xFFFF_FFFF & ~(0xF << 14) | 0xA << 14)
    chip.write(CCIPR, 4, 2 << 10)
    chip.write(BRR, 4, 16_000_000 * 256 // baud)
    chip.write(LPUART1, 4, 1 | 1 << 2 | 1 << 3 | 1 << 5)


def test_a_peripheral_without_clock_reads_zero_and_ignores_writes(chip: Chip) -> None:
    for register in (GPIOF + MODER, LPUART1, TIM2 + 0x2C, PWR):
        assert chip.read(register, 4) == 0
        chip.write(register, 4, 0x1234)
    _set(chip, AHB2ENR, 1 << 5)
    _set(chip, APB1ENR1, 1 | 1 << 28)
    _set(chip, APB1ENR2, 1)
    assert chip.read(GPIOF + MODER, 4) == 0xFFFF_FFFF
    assert chip.read(TIM2 + 0x2C, 4) == 0xFFFF_FFFF
    assert chip.read(PWR, 4) == 0x200
    assert chip.read(LPUART1, 4) == 0


def test_reset_bits_reset_the_peripheral(chip: Chip) -> None:
    _set(chip, APB1ENR1, 1)
    chip.write(TIM2 + 0x2C, 4, 99)
    chip.write(RCC + 0x38, 4, 1)
    chip.write(RCC + 0x38, 4, 0)
    assert chip.read(TIM2 + 0x2C, 4) == 0xFFFF_FFFF


def test_the_reset_cause_is_shown_until_cleared(chip: Chip) -> None:
    assert chip.read(CSR, 4) & RESET_BROWN_OUT
    chip.write(CSR, 4, 1 << 23)
    assert chip.read(CSR, 4) == 0


def test_oscillators_take_time_to_start(chip: Chip, world: World) -> None:
    assert chip.read(CR, 4) & 0x2
    _set(chip, CR, 1 << 8)
    assert not chip.read(CR, 4) & 1 << 10
    chip.write(CFGR, 4, 1)
    assert chip.read(CFGR, 4) >> 2 & 3 == 0
    world.now_ps += 5_000_000
    assert chip.read(CR, 4) & 1 << 10
    assert chip.read(CFGR, 4) >> 2 & 3 == 1
    assert chip.rcc.clocks.hclk == 16_000_000


def _start_pll(chip: Chip, world: World) -> None:
    _set(chip, CR, 1 << 8)
    world.now_ps += 5_000_000
    chip.write(PLLCFGR, 4, 30 << 8 | 1 << 4 | 2 | 1 << 24)
    _set(chip, CR, 1 << 24)
    world.now_ps += 50_000_000
    chip.write(CFGR, 4, 3)


def test_120_mhz_needs_boost_and_five_wait_states(chip: Chip, world: World) -> None:
    _set(chip, APB1ENR1, 1 << 28)
    chip.write(PWR + 0x80, 4, 0)
    chip.write(FLASH_ACR, 4, 0x705)
    _start_pll(chip, world)
    assert chip.rcc.clocks.hclk == 120_000_000
    assert chip.rcc.clocks.range == "boost"
    with pytest.raises(ClockError, match="wait states"):
        chip.write(FLASH_ACR, 4, 0x704)


def test_boost_written_without_the_clock_of_pwr_does_not_take(chip: Chip, world: World) -> None:
    chip.write(PWR + 0x80, 4, 0)
    chip.write(FLASH_ACR, 4, 0x705)
    with pytest.raises(ClockError, match="normal"):
        _start_pll(chip, world)


def test_range_2_ends_at_26_mhz(chip: Chip) -> None:
    _set(chip, APB1ENR1, 1 << 28)
    chip.write(PWR, 4, 2 << 9)
    msi_at = 0x3 | 1 << 3
    with pytest.raises(ClockError, match="wait states"):
        chip.write(CR, 4, msi_at | 8 << 4)  # 16 MHz
    with pytest.raises(ClockError, match="too fast for voltage range 'low'"):
        chip.write(CR, 4, msi_at | 11 << 4)  # 48 MHz


def test_only_an_output_drives_its_wire(chip: Chip, world: World) -> None:
    _set(chip, AHB2ENR, 1 << 5)
    chip.write(GPIOF + BSRR, 4, 1 << 29)
    assert world.edges == []  # analog: the pull-up holds the wire
    chip.write(GPIOF + MODER, 4, 0xFFFF_FFFF & ~(3 << 26) | 1 << 26)
    assert world.edges == [(0, False)]
    world.now_ps = 7
    chip.write(GPIOF + OTYPER, 4, 1 << 13)
    chip.write(GPIOF + BSRR, 4, 1 << 13)  # open drain: lets go
    assert world.edges[1:] == [(7, True)]
    assert chip.read(GPIOF + IDR, 4) >> 13 & 1
    assert chip.read(GPIOF + ODR, 4) == 1 << 13


def test_half_word_writes_reach_the_upper_half(chip: Chip) -> None:
    _set(chip, AHB2ENR, 1 << 5)
    chip.write(GPIOF + BSRR, 4, 0x00FF)
    chip.write(GPIOF + BSRR + 2, 2, 0x000F)
    assert chip.read(GPIOF + ODR, 2) == 0x00F0
    assert chip.read(GPIOF + ODR, 1) == 0xF0


def test_port_g_needs_vddio2(chip: Chip, world: World) -> None:
    _start_uart(chip, world)
    chip.write(PWR + 4, 4, 0)
    chip.write(TDR, 4, 0x41)
    assert world.sent == []
    chip.write(PWR + 4, 4, 1 << 9)
    world.now_ps += MS
    chip.write(TDR, 4, 0x42)
    assert [byte for byte, _, _ in world.sent] == [0x42]


def test_sending_takes_wire_time_and_txe_returns_first(chip: Chip, world: World) -> None:
    _start_uart(chip, world)
    start, frame = world.now_ps, character_duration_ps(115_201)
    chip.write(TDR, 4, 0x41)
    assert chip.read(ISR, 4) & (TXE | TC) == TXE
    chip.write(TDR, 4, 0x42)
    assert chip.read(ISR, 4) & TXE  # polling moved time to the moment it is true
    assert world.now_ps == start + frame
    assert [(byte, at) for byte, at, _ in world.sent] == [
        (0x41, start + frame),
        (0x42, start + 2 * frame),
    ]


def test_a_byte_not_read_in_time_is_an_overrun(chip: Chip, world: World) -> None:
    _start_uart(chip, world)
    for n in range(3):
        chip.uart.add_arrival(world.now_ps + n, 0x30 + n)
    world.now_ps += 10
    assert chip.read(ISR, 4) & (RXNE | ORE) == RXNE | ORE
    assert chip.read(RDR, 4) == 0x30
    assert chip.read(ISR, 4) & (RXNE | ORE) == ORE
    chip.write(LPUART1 + 0x20, 4, ORE)
    assert not chip.read(ISR, 4) & ORE


def test_a_byte_raises_the_interrupt_that_ends_wfi(chip: Chip, world: World) -> None:
    _start_uart(chip, world)
    chip.write(0xE000_E100 + 4 * 2, 4, 1 << 6)
    chip.uart.add_arrival(world.now_ps, 0x30)
    assert not chip.control.is_wake_pending
    chip.uart.process_arrivals(world.now_ps)
    assert chip.control.is_wake_pending
    chip.read(RDR, 4)
    chip.write(0xE000_E280 + 4 * 2, 4, 1 << 6)
    assert not chip.control.is_wake_pending


def test_polling_for_input_is_reported_as_idle(chip: Chip, world: World) -> None:
    _start_uart(chip, world)
    for _ in range(200):
        chip.read(ISR, 4)
    assert world.idle > 0
    idle = world.idle
    for _ in range(200):
        chip.read(ISR, 4)
        chip.read(TIM2 + 0x24, 4)  # with a timeout it is no idling
    assert world.idle == idle


@pytest.mark.parametrize("source", [0, 1, 2])
def test_the_speed_follows_the_kernel_clock(chip: Chip, world: World, source: int) -> None:
    _start_uart(chip, world)
    chip.write(CCIPR, 4, source << 10)
    assert chip.uart.baud == pytest.approx(115_200, rel=1e-4)
    chip.write(CFGR, 4, 0)  # back to MSI, 4 MHz
    assert chip.uart.baud == pytest.approx(115_200 if source == 2 else 28_800, rel=1e-4)


def test_tim2_counts_microseconds_after_an_update_event(chip: Chip, world: World) -> None:
    _start_hsi(chip, world)
    _set(chip, APB1ENR1, 1)
    chip.write(TIM2 + 0x28, 4, 15)
    chip.write(TIM2 + 0x14, 4, 1)
    chip.write(TIM2, 4, 1)
    world.now_ps += 1234 * 10**6
    assert chip.read(TIM2 + 0x24, 4) == 1234
    chip.write(TIM2 + 0x24, 4, 0xFFFF_FFFF)
    world.now_ps += 2 * 10**6
    assert chip.read(TIM2 + 0x24, 4) == 1


def test_a_reset_is_asked_for_with_the_key_only(chip: Chip, world: World) -> None:
    chip.write(0xE000_ED0C, 4, 4)
    assert world.resets == 0
    chip.write(0xE000_ED0C, 4, 0x05FA_0004)
    assert world.resets == 1
