"""An LPM01A in ASCII host mode whose samples come when the test says so."""

from __future__ import annotations

from collections.abc import Callable

PROMPT = "\r\nPowerShield > "


class FakeLpm01a:
    """Acknowledges, streams, stamps; ``refuses`` names commands answered with an error."""

    def __init__(self, rate_hz: int = 1000) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.commands: list[str] = []
        self.refuses: set[str] = set()
        self.acquiring = False
        self.powered = False
        self.produced = 0
        self.version = "1.0.6"
        self._rate_hz = rate_hz
        self._events = 97
        self._line = ""

    def receive(self, data: bytes) -> None:
        """Lines from the host."""
        self._line += data.decode("ascii")
        while "\n" in self._line:
            line, _, self._line = self._line.partition("\n")
            self._execute(line.strip())

    def _execute(self, command: str) -> None:
        self.commands.append(command)
        if command in self.refuses or (command == "stop" and not self.acquiring):
            self._reply(f"error {command}\r\nError detail: not now")
            return
        data = {
            "powershield": " 540619864-1110659081-4784204",
            "version": f": {self.version}",
            "status": " ok",
        }.get(command, "")
        self._reply(f"ack {command}{data}")
        if command.startswith("pwr "):
            self.powered = command.startswith("pwr on")
        elif command == "start":
            self.acquiring, self.produced = True, 0
            self.stamp()
        elif command == "stop":
            self.end()

    def _reply(self, text: str) -> None:
        self.send(f"{PROMPT}{text}\r\n\r\n".encode())

    def stamp(self) -> None:
        """The time stamp of this moment."""
        ms = self.produced * 1000 // self._rate_hz
        self.send(b"\r\nTimeStamp: %03ds %03dms, buff 00%%\r\n" % divmod(ms, 1000))

    def produce(self, count: int) -> None:
        """Stream so many samples; sample k reads k mod 9000 + 1000 times 1e-8."""
        for _ in range(count):
            nul = b"\0" if self.produced % 1000 == 0 else b""
            self.send(nul + b"%04d-08\r\n" % (1000 + self.produced % 9000))
            self.produced += 1
            if self.produced % 1000 == 0:
                self.stamp()

    def skip(self, count: int) -> None:
        """Samples the instrument took but the cable lost."""
        for _ in range(count):
            self.produced += 1
            if self.produced % 1000 == 0:
                self.stamp()

    def event(self) -> None:
        """An edge on D7."""
        self.send(b"event %02d ris\r\n" % self._events)
        self._events = (self._events + 1) % 100

    def overrun(self) -> None:
        """The host was too slow."""
        self.send(b"\r\nerror Transmit buffer overrun\r\n")
        self.end()

    def end(self) -> None:
        """The acquisition is over."""
        self.acquiring = False
        self.send(b"\r\nend\r\n\r\nsummary beg\r\nmin 1000-08\r\nmax 9999-08\r\nsummary end\r\n")
        self.send(f"{PROMPT}Acquisition completed\r\n\r\n".encode())
