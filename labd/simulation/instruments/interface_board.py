"""The I/O manager: the MLCommons interface board (STM32H573I-DK), quirks included.

Its firmware is one task that reads a command up to ``%``, carries it out and only then reads
the next; here the task is a generator that yields how long it is busy. Both serial ports fill
queues of 100 characters from their interrupts; what finds a queue full is lost. Hence two
behaviours hosts have to live with: text the DUT sent unasked is the answer to the next ``dut``
command, and a DUT that does not answer blocks the board until it is reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator

from labd.simulation.virtual_time import PS_PER_MS, PS_PER_S, Agenda
from labd.simulation.wires import frame_ps, received

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


class InterfaceBoard:
    """The board between a host, the DUT's UART and the DUT's pins."""

    def __init__(
        self,
        agenda: Agenda,
        now_ps: Callable[[], int],
        send: Callable[[bytes], None],
        to_dut: Callable[[int, int, int], None],
        *,
        baud: int = DEFAULT_DUT_BAUD,
        crystal_ppm: float = 0.0,
    ) -> None:
        """``to_dut(byte, end_ps, baud)`` puts a character on the DUT's receive wire."""
        self._agenda = agenda
        self._now_ps = now_ps
        self._send = send
        self._to_dut = to_dut
        self._baud = baud  # in flash: survives resets
        self._tick_mhz = round(_TICK_HZ * (1000 + crystal_ppm / 1000))
        self._boots = 0
        self._host_line_free_ps = 0
        self._ready = True
        self._start_over()

    def _start_over(self) -> None:
        self._host_queue: deque[int] = deque()
        self._dut_queue: deque[int] = deque()
        self._typed = bytearray()
        self._task: Task | None = None
        self._waiting_for_dut = False
        self._clear_logs(self._now_ps())

    def _clear_logs(self, at_ps: int) -> None:
        self._zero_ps = at_ps
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._detections: list[int] = []

    # -- what reaches the board

    def host_bytes(self, data: bytes) -> None:
        """Characters leave the host now, one after the other at 115200 baud."""
        start = max(self._now_ps(), self._host_line_free_ps)
        self._host_line_free_ps = start + len(data) * frame_ps(HOST_BAUD)
        self._agenda.at(self._host_line_free_ps, lambda at_ps: self._host_arrived(at_ps, data))

    def _host_arrived(self, at_ps: int, data: bytes) -> None:
        for byte in data:
            if self._ready and len(self._host_queue) < _QUEUE:
                self._host_queue.append(byte)
            self._read_host(at_ps)

    def dut_byte(self, byte: int, end_ps: int, baud: int) -> None:
        """A character on the DUT's transmit wire, sent at ``baud``, complete at ``end_ps``."""
        self._agenda.at(end_ps, lambda at_ps: self._dut_arrived(at_ps, byte, baud))

    def _dut_arrived(self, at_ps: int, byte: int, baud: int) -> None:
        if not self._ready:
            return
        for seen in received(byte, baud, self._baud):
            if len(self._dut_queue) < _QUEUE:
                self._dut_queue.append(seen)
        if self._waiting_for_dut:
            self._waiting_for_dut = False
            self._step(at_ps)

    def processing_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """PB5: the first hundred of each kind are kept."""
        log = self._starts if level else self._stops
        if len(log) < _EDGES:
            log.append(self._ticks(at_ps))

    def detected_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """PG15: falling edges at least 10 ms after the last."""
        if level or len(self._detections) >= _DETECTIONS:
            return
        tick = self._ticks(at_ps)
        if not self._detections or tick - self._detections[-1] >= _DEBOUNCE_TICKS:
            self._detections.append(tick)

    def reset(self) -> None:
        """Restart, as its button or its supply does; not answering for half a second."""
        self._ready = False
        self._boots += 1
        boot = self._boots
        self._start_over()

        def started(at_ps: int) -> None:
            if boot == self._boots:
                self._ready = True
                self._clear_logs(at_ps)

        self._agenda.at(self._now_ps() + _RESET_PS, started, waits=True)

    def _ticks(self, at_ps: int) -> int:
        return ((at_ps - self._zero_ps) * self._tick_mhz // (1000 * PS_PER_S)) & 0xFFFF_FFFF

    # -- the firmware's task

    def _read_host(self, at_ps: int) -> None:
        """Take characters from the queue, which only an idle task does."""
        while self._task is None and self._host_queue:
            byte = self._host_queue.popleft()
            if byte != ord("%"):
                self._typed.append(byte)
                continue
            command = self._typed.decode("latin-1")
            self._typed.clear()
            self._task = self._execute(command)
            self._step(at_ps)

    def _step(self, at_ps: int) -> None:
        task = self._task
        if task is None:
            return
        busy_ps = next(task, None)
        if self._task is not task:
            return  # the command reset the board
        if busy_ps is None:
            self._task = None
            self._read_host(at_ps)
        elif busy_ps == _WAIT_FOR_DUT:
            self._waiting_for_dut = True
        else:
            self._agenda.at(at_ps + busy_ps, lambda then_ps: self._resume(task, then_ps))

    def _resume(self, task: Task, at_ps: int) -> None:
        if self._task is task:
            self._step(at_ps)

    def _execute(self, command: str) -> Task:
        for word, action in self._commands().items():
            if command.startswith(word):
                rest = command[len(word) :]
                if rest and not rest.startswith(" "):
                    return  # the firmware's parser gives up without an answer
                yield from action(rest[1:])
                return
        yield from self._print("m-ready\r\n")

    def _commands(self) -> dict[str, Callable[[str], Task]]:
        """In the order the firmware tries them."""
        return {
            "name": lambda _: self._answer("tinyML Enhanced Interface Board\r\n"),
            "dut": self._passthrough,
            "ls": lambda _: self._answer(""),  # the SD card is empty
            "play": self._play,
            "setbaud": self._set_baud,
            "checkbaud": lambda _: self._answer(f"baud is: {self._baud}\r\n"),
            "record_detections": self._record,
            "print_detections": self._print_detections,
            "print_dutycycle": self._print_duty_cycle,
        }

    def _print(self, text: str) -> Task:
        yield len(text) * frame_ps(HOST_BAUD)
        self._send(text.encode("latin-1"))

    def _answer(self, text: str) -> Task:
        yield from self._print(f"{text}m-ready\r\n")

    def _passthrough(self, command: str) -> Task:
        yield from self._print(f"m-dut-passthrough({command})\r\nm-ready\r\n")
        for byte in f"{command}%".encode("latin-1"):
            yield frame_ps(self._baud)
            self._to_dut(byte, self._now_ps(), self._baud)
        line = ""
        while line != "m-ready":
            text = bytearray()
            yield from self._read_line(text)
            line = text.decode("latin-1")
            yield from self._print(f"[dut]: {line}\r\n")

    def _read_line(self, line: bytearray) -> Task:
        """Collect up to CR LF; as in the firmware, CR CR LF does not end a line."""
        matched = 0
        while matched < 2:  # noqa: PLR2004 - CR and LF
            while not self._dut_queue:
                yield _WAIT_FOR_DUT
            byte = self._dut_queue.popleft()
            matched = matched + 1 if byte == b"\r\n"[matched] else 0
            line.append(byte)
        del line[-2:]

    def _play(self, file: str) -> Task:
        if file:
            yield from self._print(f"Attempting to play {file}\r\n")
            yield from self._print(
                "Error playing file. Check that the file exists and is a 2-channel wav file.\n"
            )
        yield from self._answer("")

    def _set_baud(self, argument: str) -> Task:
        if not argument.isdecimal() or not 1 <= int(argument) <= _TOP_BAUD:
            yield from self._answer("")
            return
        yield from self._answer(f"set baud to: {int(argument)}\r\n")
        self._baud = int(argument)
        self.reset()

    def _record(self, _rest: str) -> Task:
        self._clear_logs(self._now_ps())
        yield from self._answer("Now recording detections\r\n")

    def _print_detections(self, _rest: str) -> Task:
        lines = "".join(f"{tick // 100},\r\n" for tick in self._detections)
        yield from self._answer(f"Detection Timestamps (ms)\r\n{lines}")

    def _print_duty_cycle(self, _rest: str) -> Task:
        starts, stops = _rows(self._starts), _rows(self._stops)
        if starts and not starts.endswith("\n"):
            starts += "\r\n"
        yield from self._answer(
            f"Duty cycle start times (s)\r\n{starts}Duty cycle stop times (s)\r\n{stops}"
        )


def _rows(ticks: list[int]) -> str:
    """Numbers, eight to a line; a last line that is not full is left open."""
    return "".join(
        f"{tick}, " + ("\r\n" if index % _PER_LINE == _PER_LINE - 1 else "")
        for index, tick in enumerate(ticks)
    )
