"""The MLCommons interface board with its real faults, around a fake DUT."""

from __future__ import annotations

from collections.abc import Callable

from labd.simulation.cable import PtyCable
from labd.simulation.instruments.reference_dut import HandDut, SimulatedDut

QUEUE = 100
BUFFER = 100
EDGES = 100
PER_LINE = 8


class FakeInterfaceBoard:
    """Serves one host command at a time; hears the DUT only while one of its is open.

    ``sd_card`` is looked for at every start only: without it the firmware halts. ``spoil``
    may change a command on its way to the board.
    """

    def __init__(self, dut: SimulatedDut) -> None:
        self.dut = dut
        self.send: Callable[[bytes], None] = lambda _: None
        self.baud = 9600
        self.resets = 0
        self.starts: list[int] = []
        self.stops: list[int] = []
        self.detections: list[int] = []
        self.sd_card = True
        self.spoil: Callable[[str], str] = lambda text: text
        self._halted = False
        self._listening = False
        self._host = ""
        self._queue = b""
        dut.send = self._from_dut

    async def live(self) -> None:
        """Let the DUT boot, then only answer."""
        await self.dut.live()

    def receive(self, data: bytes) -> None:
        """Characters from the host; ``%`` ends a command."""
        if self._halted:
            return
        self._host = (self._host + data.decode("ascii"))[:BUFFER]
        self._serve()

    def _serve(self) -> None:
        while not self._listening and "%" in self._host:
            text, _, self._host = self._host.partition("%")
            self._execute(self.spoil(text))

    def _execute(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "dut":
            self._passthrough(rest)
        elif word == "name":
            self._answer("tinyML Enhanced Interface Board")
        elif word == "checkbaud":
            self._answer(f"baud is: {self.baud}")
        elif word == "setbaud":
            self._answer(f"set baud to: {rest}")
            self.baud = int(rest)
            self.reset()
        elif word == "record_detections":
            self.starts, self.stops, self.detections = [], [], []
            self._answer("Now recording detections")
        elif word == "print_detections":
            self._answer("Detection Timestamps (ms)", *(f"{at}," for at in self.detections))
        elif word == "print_dutycycle":
            self._print_dutycycle()
        else:
            self._answer()

    def reset(self) -> None:
        """By its own command, its ST-LINK or its supply: queues are empty, logs too."""
        self.resets += 1
        self.starts, self.stops, self.detections = [], [], []
        self._listening, self._queue, self._host = False, b"", ""
        self._halted = not self.sd_card

    def process(self, start: int, stop: int) -> None:
        """The DUT's processing pin rose and fell again; the log keeps the first edges only."""
        for log, tick in ((self.starts, start), (self.stops, stop)):
            if len(log) < EDGES:
                log.append(tick % 2**32)

    def _print_dutycycle(self) -> None:
        self.send(b"Duty cycle start times (s)\r\n" + self._rows(self.starts) + b"\r\n")
        self.send(b"Duty cycle stop times (s)\r\n" + self._rows(self.stops) + b"m-ready\r\n")

    @staticmethod
    def _rows(ticks: list[int]) -> bytes:
        """Eight to a line; what follows a line that is not full stands on that line."""
        rows = [ticks[i : i + PER_LINE] for i in range(0, len(ticks), PER_LINE)]
        lines = ["".join(f"{tick}, " for tick in row) for row in rows]
        full = ["\r\n" if len(row) == PER_LINE else "" for row in rows]
        return "".join(line + end for line, end in zip(lines, full, strict=True)).encode()

    def _answer(self, *lines: str) -> None:
        self.send("".join(f"{line}\r\n" for line in (*lines, "m-ready")).encode())

    def _passthrough(self, command: str) -> None:
        self._answer(f"m-dut-passthrough({command})")
        self._listening = True
        self.dut.receive(command.encode() + b"%")
        self._forward()

    def _from_dut(self, data: bytes) -> None:
        self._queue += data
        if self._listening:
            self._forward()
        else:
            self._queue = self._queue[:QUEUE]

    def _forward(self) -> None:
        while self._listening and b"\r\n" in self._queue:
            line, _, self._queue = self._queue.partition(b"\r\n")
            self.send(b"[dut]: " + line + b"\r\n")
            self._listening = line != b"m-ready"
        if not self._listening:
            self._serve()


def plug(*, energy: bool = False) -> PtyCable:
    """A board with a kws01 DUT behind it, whose processing pin is wired."""
    dut = HandDut(energy=energy)
    board = FakeInterfaceBoard(dut)
    dut.on_batch = lambda start_us, stop_us: board.process(start_us // 10, stop_us // 10)
    return PtyCable(board)
