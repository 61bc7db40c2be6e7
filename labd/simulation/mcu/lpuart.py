"""LPUART1 (RM0432 chapter 51): the DUT's serial port, timed to the bit.

Sending: a data register and a shift register, so TXE returns while a byte is still on the
wire. Receiving: one byte register, or eight with FIFOEN; a byte that finds it full is lost and
sets ORE. Nothing here schedules anything: every register access first brings the model up to
the present, and the station asks ``next_arrival_ps`` and ``busy_until_ps`` to know the rest.

A firmware that waits by polling would cost emulation for nothing, so two waits are shortened:
polling for a sent byte advances time to that moment, and polling for input with nothing to
come (``POLLS_TO_IDLE`` status reads in a row and no other access) is reported by ``on_idle``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from labd.simulation.mcu.peripheral_bus import Registers
from labd.simulation.uart_waveform import character_duration_ps

_CR1, _CR3, _BRR, _ISR, _ICR, _RDR, _TDR, _PRESC = (
    *(0x00, 0x08, 0x0C, 0x1C, 0x20, 0x24, 0x28, 0x2C),
)
_UE, _RE, _TE, _RXNEIE, _TCIE, _TXEIE, _FIFOEN = (
    *(1 << 0, 1 << 2, 1 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 29),
)
_ORE, _RXNE, _TC, _TXE, _TEACK, _REACK = 1 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 21, 1 << 22
_PRESCALERS = (1, 2, 4, 6, 8, 10, 12, 16, 32, 64, 128, 256)
_FIFO_DEPTH = 8
_MIN_BRR = 0x300
POLLS_TO_IDLE = 64


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the UART needs of the chip around it."""

    now_ps: Callable[[], int]
    stall_until: Callable[[int], None]
    """Let the CPU wait, running, until a time."""
    kernel_hz: Callable[[], int]
    is_receive_pin_connected: Callable[[], bool]
    """Whether the receive pin is switched to the UART."""
    transmit: Callable[[int, int, int], None]
    """A byte leaves: (byte, time of its last bit, baud)."""
    on_interrupt: Callable[[], None]
    on_idle: Callable[[], None]


class Lpuart:
    """The registers, the two shift registers and the line into the receiver."""

    def __init__(self, chip: Surroundings) -> None:
        self._chip = chip
        self._line: deque[tuple[int, int]] = deque()
        self.reset()

    def reset(self) -> None:
        """Reset every register; keep the bytes that are on the line towards the receiver."""
        self._registers = Registers({})
        self._decode_control(0)
        self._kernel_hz = self._baud = 0
        self._received: deque[int] = deque()
        self._overrun = False
        self._data_free_ps = 0
        self.busy_until_ps = 0
        self._idle_polls = 0

    def power_off(self) -> None:
        """Lose the bytes that are on the way."""
        self._line.clear()
        self.reset()

    @property
    def baud(self) -> int:
        """Speed in force, 0 when it is not set up: 256 × kernel clock / (prescaler × BRR)."""
        kernel_hz = self._chip.kernel_hz()
        if kernel_hz != self._kernel_hz:
            self._kernel_hz, self._baud = kernel_hz, self._baud_at(kernel_hz)
        return self._baud

    def _baud_at(self, kernel_hz: int) -> int:
        divider = self._registers.read(_BRR) & 0xF_FFFF
        prescaler = _PRESCALERS[min(self._registers.read(_PRESC) & 0xF, len(_PRESCALERS) - 1)]
        return 256 * kernel_hz // (prescaler * divider) if divider >= _MIN_BRR else 0

    def _decode_control(self, control: int) -> None:
        """Decode CR1 into what every access needs of it."""
        enabled = bool(control & _UE)
        self._interrupts = control & (_RXNEIE | _TXEIE | _TCIE) if enabled else 0
        self._sends = enabled and bool(control & _TE)
        self._receives = enabled and bool(control & _RE)
        self._depth = _FIFO_DEPTH if control & _FIFOEN else 1

    # -- the wire's side

    def add_arrival(self, at_ps: int, byte: int) -> None:
        """Add a byte whose stop bit reaches the receive pin at ``at_ps`` (in order of time)."""
        self._line.append((at_ps, byte))

    @property
    def next_arrival_ps(self) -> int | None:
        """When the next byte on the line has arrived."""
        return self._line[0][0] if self._line else None

    @property
    def has_input(self) -> bool:
        """Whether RDR holds something."""
        return bool(self._received)

    def reset_poll_count(self) -> None:
        """Restart the count of idle polls, because the CPU did something else."""
        self._idle_polls = 0

    def process_arrivals(self, now_ps: int) -> None:
        """Receive the bytes that have arrived by now; raise the interrupt line if enabled."""
        line = self._line
        while line and line[0][0] <= now_ps:
            self._receive_byte(line.popleft()[1])
        if self._interrupts and self._is_interrupt_active(now_ps):
            self._chip.on_interrupt()

    def _receive_byte(self, byte: int) -> None:
        if not self._receives or not self.baud or not self._chip.is_receive_pin_connected():
            return
        if len(self._received) < self._depth:
            self._received.append(byte)
        else:
            self._overrun = True

    def _is_interrupt_active(self, now: int) -> bool:
        enabled = self._interrupts
        return bool(
            (enabled & _RXNEIE and (self._received or self._overrun))
            or (enabled & _TXEIE and now >= self._data_free_ps)
            or (enabled & _TCIE and now >= self.busy_until_ps)
        )

    # -- the CPU's side

    def read(self, offset: int) -> int:
        """Return a register: ISR and RDR are live, the rest is storage."""
        now = self._chip.now_ps()
        self.process_arrivals(now)
        if offset == _ISR:
            return self._read_status(now)
        self._idle_polls = 0
        if offset == _RDR:
            return self._received.popleft() if self._received else 0
        return 0 if offset in (_TDR, _ICR) else self._registers.read(offset)

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write a register: TDR sends, ICR clears, the rest is storage."""
        now = self._chip.now_ps()
        self.process_arrivals(now)
        self._idle_polls = 0
        if offset == _TDR:
            self._send_byte(value & 0xFF, now)
        elif offset == _ICR:
            self._overrun = self._overrun and not value & _ORE
        else:
            self._registers.write(offset, value, mask)
            self._decode_control(self._registers.read(_CR1))
            self._kernel_hz = self._baud = 0
            self.process_arrivals(now)

    def _send_byte(self, byte: int, now: int) -> None:
        baud = self.baud
        if not self._sends or not baud or now < self._data_free_ps:
            return  # not set up, or written over a byte not yet taken: lost
        start = max(now, self.busy_until_ps)
        self._data_free_ps = start
        self.busy_until_ps = start + character_duration_ps(baud)
        self._chip.transmit(byte, self.busy_until_ps, baud)

    def _read_status(self, now: int) -> int:
        now = self._skip_waiting(now)
        flags = _ORE if self._overrun else 0
        flags |= _RXNE if self._received else 0
        flags |= _TXE if now >= self._data_free_ps else 0
        flags |= _TC if now >= self.busy_until_ps else 0
        flags |= _TEACK if self._sends else 0
        return flags | (_REACK if self._receives else 0)

    def _skip_waiting(self, now: int) -> int:
        """Let time pass that the CPU would spend polling; return the time after it."""
        if now < self._data_free_ps:
            return self._stall_until(self._data_free_ps)
        self._idle_polls += 1
        if self._received or self._idle_polls < 2:  # noqa: PLR2004 - the first read is no poll
            return now
        pending = [t for t in (self.busy_until_ps, self.next_arrival_ps) if t and t > now]
        if pending:
            return self._stall_until(min(pending))
        if self._idle_polls >= POLLS_TO_IDLE:
            self._idle_polls = 0
            self._chip.on_idle()
        return now

    def _stall_until(self, at_ps: int) -> int:
        self._chip.stall_until(at_ps)
        now = self._chip.now_ps()
        self.process_arrivals(now)
        return now
