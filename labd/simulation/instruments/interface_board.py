"""The MLCommons interface board (STM32H573I-DK) as an I/O manager, with its known faults.

Its firmware (mlcommons/tiny, ``interface/``) is one task that reads a command up to ``%``,
executes it and only then reads the next; here the task is a generator that yields how long it
is busy. Both serial ports fill queues of 100 characters from their interrupts; a character that
finds its queue full is lost. Two consequences for hosts: text that the DUT sent earlier is the
answer to the next ``dut`` command, and a DUT that does not answer blocks the board until reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Self

from labd.protocol.words import DUTY_STARTS, DUTY_STOPS, READY, RELAY_ECHO, RELAYED
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.simulation.uart_waveform import character_as_received, character_duration_ps
from labd.simulation.virtual_time import PS_PER_MS, PS_PER_S, Agenda, LoopAgenda

BOARD_NAME = "tinyML Enhanced Interface Board (simulated)"
"""The real board answers with the first part only."""

HOST_BAUD = 115_200
DEFAULT_DUT_BAUD = 9600
_TOP_BAUD = 2_000_000
_QUEUE = 100
_RESET_PS = 500 * PS_PER_MS  # sector erase, write, restart
_TICK_HZ = 100_000
_DETECTIONS, _DEBOUNCE_TICKS, _EDGES = 10_000, 1000, 100
_PER_LINE = 8

_WAIT_FOR_DUT = -1
Task = Generator[int, None, None]
"""Yields how long (ps) the firmware is busy, or that it waits for the DUT's next character."""


class SimulatedInterfaceBoard:
    """The board between a host, the DUT's UART and the DUT's pins.

    Args:
        agenda: its time.
        baud: of the DUT's UART; in flash, survives resets.
        crystal_ppm: error of its timer.

    Attributes:
        send: sends bytes to the host.
        to_dut: ``to_dut(byte, end_ps, baud)`` puts a character on the DUT's receive wire.
        starts: ticks (10 µs) of the first rising edges of the processing pin; ``stops`` of the
            falling ones, ``detections`` of the falling edges of the detection pin.
        resets: number of restarts so far.
        has_sd_card: the firmware halts if it finds none when it starts.
        corrupt_command: changes a command on its way to the board.
    """

    def __init__(
        self, agenda: Agenda, *, baud: int = DEFAULT_DUT_BAUD, crystal_ppm: float = 0.0
    ) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.to_dut: Callable[[int, int, int], None] = lambda _byte, _end_ps, _baud: None
        self.baud = baud
        self.resets = 0
        self.has_sd_card = True
        self.corrupt_command: Callable[[str], str] = lambda command: command
        self._agenda = agenda
        self._tick_mhz = round(_TICK_HZ * (1000 + crystal_ppm / 1000))
        self._host_line_free_ps = 0
        self._dut_line_free_ps = 0
        self._ready = True
        self._clear_all_state()

    @classmethod
    def connected_to_dut(cls, dut: SimulatedDut, *, has_processing_wire: bool = False) -> Self:
        """Return a board that relays a simulated DUT, which talks at the board's speed."""
        board = cls(dut.agenda)
        board.to_dut = lambda byte, _end_ps, _baud: dut.receive(bytes((byte,)))
        dut.send = board._send_from_dut
        if has_processing_wire:
            dut.on_processing = lambda level: board.on_processing_edge(dut.agenda.now_ps(), level)
        return board

    def _clear_all_state(self) -> None:
        self._host_queue: deque[int] = deque()
        self._dut_queue: deque[int] = deque()
        self._typed = bytearray()
        self._task: Task | None = None
        self._waiting_for_dut = False
        self._clear_edge_logs(self._agenda.now_ps())

    def _clear_edge_logs(self, at_ps: int) -> None:
        self._tick_zero_ps = at_ps
        self.starts: list[int] = []
        self.stops: list[int] = []
        self.detections: list[int] = []

    # -- what reaches the board

    def receive(self, data: bytes) -> None:
        """Send characters from the host, one after the other at 115200 baud, from now on."""
        start = max(self._agenda.now_ps(), self._host_line_free_ps)
        self._host_line_free_ps = start + len(data) * character_duration_ps(HOST_BAUD)
        self._agenda.schedule(
            self._host_line_free_ps, lambda at_ps: self._on_host_bytes(at_ps, data)
        )

    def _on_host_bytes(self, at_ps: int, data: bytes) -> None:
        for byte in data:
            if self._ready and len(self._host_queue) < _QUEUE:
                self._host_queue.append(byte)
            self._read_host_queue(at_ps)

    def _send_from_dut(self, data: bytes) -> None:
        """Send characters from a simulated DUT, one after the other, from now on."""
        end_ps = max(self._agenda.now_ps(), self._dut_line_free_ps)
        for byte in data:
            end_ps += character_duration_ps(self.baud)
            self.receive_dut_byte(byte, end_ps, self.baud)
        self._dut_line_free_ps = end_ps

    def receive_dut_byte(self, byte: int, end_ps: int, baud: int) -> None:
        """Take a character from the DUT, sent at ``baud``, complete at ``end_ps``."""
        self._agenda.schedule(end_ps, lambda at_ps: self._on_dut_byte(at_ps, byte, baud))

    def _on_dut_byte(self, at_ps: int, byte: int, baud: int) -> None:
        if not self._ready:
            return
        for seen in character_as_received(byte, baud, self.baud):
            if len(self._dut_queue) < _QUEUE:
                self._dut_queue.append(seen)
        if self._waiting_for_dut:
            self._waiting_for_dut = False
            self._advance_task(at_ps)

    def on_processing_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """Log an edge of PB5; the first hundred of each kind are kept."""
        log = self.starts if level else self.stops
        if len(log) < _EDGES:
            log.append(self._tick_at(at_ps))

    def on_detection_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """Log a falling edge of PG15, if at least 10 ms have passed since the last."""
        if level or len(self.detections) >= _DETECTIONS:
            return
        tick = self._tick_at(at_ps)
        if not self.detections or tick - self.detections[-1] >= _DEBOUNCE_TICKS:
            self.detections.append(tick)

    def reset(self) -> None:
        """Restart, as by its button, its ST-LINK or its supply; it takes half a second."""
        self._ready = False
        self.resets += 1
        reset = self.resets
        self._clear_all_state()

        def finish_restart(at_ps: int) -> None:
            if reset == self.resets and self.has_sd_card:
                self._ready = True
                self._clear_edge_logs(at_ps)

        self._agenda.schedule(self._agenda.now_ps() + _RESET_PS, finish_restart, waits=True)

    def _tick_at(self, at_ps: int) -> int:
        return ((at_ps - self._tick_zero_ps) * self._tick_mhz // (1000 * PS_PER_S)) & 0xFFFF_FFFF

    # -- the firmware's task

    def _read_host_queue(self, at_ps: int) -> None:
        """Take characters from the queue, which only an idle task does."""
        while self._task is None and self._host_queue:
            byte = self._host_queue.popleft()
            if byte != ord("%"):
                self._typed.append(byte)
                continue
            command = self.corrupt_command(self._typed.decode("latin-1"))
            self._typed.clear()
            self._task = self._execute_command(command)
            self._advance_task(at_ps)

    def _advance_task(self, at_ps: int) -> None:
        task = self._task
        if task is None:
            return
        busy_ps = next(task, None)
        if self._task is not task:
            return  # the command reset the board
        if busy_ps is None:
            self._task = None
            self._read_host_queue(at_ps)
        elif busy_ps == _WAIT_FOR_DUT:
            self._waiting_for_dut = True
        else:
            self._agenda.schedule(at_ps + busy_ps, lambda then_ps: self._resume_task(task, then_ps))

    def _resume_task(self, task: Task, at_ps: int) -> None:
        if self._task is task:
            self._advance_task(at_ps)

    def _execute_command(self, command: str) -> Task:
        for word, action in self._command_handlers().items():
            if command.startswith(word):
                rest = command[len(word) :]
                if rest and not rest.startswith(" "):
                    return  # the firmware's parser stops without an answer
                yield from action(rest[1:])
                return
        yield from self._print_answer("")

    def _command_handlers(self) -> dict[str, Callable[[str], Task]]:
        """Return the commands in the order in which the firmware tries them."""
        return {
            "name": lambda _: self._print_answer(f"{BOARD_NAME}\r\n"),
            "dut": self._relay_command_to_dut,
            "ls": lambda _: self._print_answer(""),  # the SD card is empty
            "play": self._play_wav_file,
            "setbaud": self._set_baud,
            "checkbaud": lambda _: self._print_answer(f"baud is: {self.baud}\r\n"),
            "record_detections": self._record_detections,
            "print_detections": self._print_detections,
            "print_dutycycle": self._print_duty_cycle,
        }

    def _print_to_host(self, text: str) -> Task:
        yield len(text) * character_duration_ps(HOST_BAUD)
        self.send(text.encode("latin-1"))

    def _print_answer(self, text: str) -> Task:
        yield from self._print_to_host(f"{text}{READY}\r\n")

    def _relay_command_to_dut(self, command: str) -> Task:
        yield from self._print_answer(f"{RELAY_ECHO}{command})\r\n")
        for byte in f"{command}%".encode("latin-1"):
            yield character_duration_ps(self.baud)
            self.to_dut(byte, self._agenda.now_ps(), self.baud)
        line = ""
        while line != READY:
            text = bytearray()
            yield from self._read_dut_line(text)
            line = text.decode("latin-1")
            yield from self._print_to_host(f"{RELAYED}{line}\r\n")

    def _read_dut_line(self, line: bytearray) -> Task:
        """Collect up to CR LF; as in the firmware, CR CR LF does not end a line."""
        matched = 0
        while matched < 2:  # noqa: PLR2004 - CR and LF
            while not self._dut_queue:
                yield _WAIT_FOR_DUT
            byte = self._dut_queue.popleft()
            matched = matched + 1 if byte == b"\r\n"[matched] else 0
            line.append(byte)
        del line[-2:]

    def _play_wav_file(self, file: str) -> Task:
        if file:
            yield from self._print_to_host(f"Attempting to play {file}\r\n")
            yield from self._print_to_host(
                "Error playing file. Check that the file exists and is a 2-channel wav file.\n"
            )
        yield from self._print_answer("")

    def _set_baud(self, argument: str) -> Task:
        if not argument.isdecimal() or not 1 <= int(argument) <= _TOP_BAUD:
            yield from self._print_answer("")
            return
        yield from self._print_answer(f"set baud to: {int(argument)}\r\n")
        self.baud = int(argument)
        self.reset()

    def _record_detections(self, _rest: str) -> Task:
        self._clear_edge_logs(self._agenda.now_ps())
        yield from self._print_answer("Now recording detections\r\n")

    def _print_detections(self, _rest: str) -> Task:
        lines = "".join(f"{tick // 100},\r\n" for tick in self.detections)
        yield from self._print_answer(f"Detection Timestamps (ms)\r\n{lines}")

    def _print_duty_cycle(self, _rest: str) -> Task:
        starts, stops = _format_tick_rows(self.starts), _format_tick_rows(self.stops)
        if starts and not starts.endswith("\n"):
            starts += "\r\n"
        yield from self._print_answer(f"{DUTY_STARTS} (s)\r\n{starts}{DUTY_STOPS} (s)\r\n{stops}")


def _format_tick_rows(ticks: list[int]) -> str:
    """Return the numbers, eight per line; the last line stays open unless it is full."""
    return "".join(
        f"{tick}, " + ("\r\n" if index % _PER_LINE == _PER_LINE - 1 else "")
        for index, tick in enumerate(ticks)
    )


def serve_interface_board_on_pty(*, energy: bool = False) -> PtyCable:
    """Return a board on its serial port, with a kws01 DUT behind it."""
    dut = SimulatedDut(agenda=LoopAgenda(real_time=True), energy=energy, random_results=True)
    board = SimulatedInterfaceBoard.connected_to_dut(dut, has_processing_wire=True)
    dut.boot()
    return PtyCable(board)
