"""EEMBC's Arduino UNO io-manager around a fake DUT, as the published session logs show it.

What it answers to ``name``, ``version`` and to words it does not know stands in no published
log: those texts are invented.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from labd.simulation.cable import PtyCable
from labd.simulation.instruments.reference_dut import HandDut, SimulatedDut

TORN = b"\x00\xfe\x80dy\r\nm-re\xff"
"""What a host reads while the board's processor starts: the end and the beginning of text."""


class SimulatedEembcUno:
    """Forwards the DUT's text as it comes; counts the falls of its timestamp line in µs.

    ``blocks`` makes it wait for its DUT as the MLCommons board does: whether the real one
    does is not known. ``lap_text`` may damage what it prints of a timestamp.
    """

    def __init__(self, dut: SimulatedDut, *, blocks: bool = False) -> None:
        self.dut = dut
        self.blocks = blocks
        self.send: Callable[[bytes], None] = lambda _: None
        self.spoil: Callable[[str], str] = lambda text: text
        self.lap_text: Callable[[str], str] = lambda text: text
        self.commands: list[str] = []
        self.resets = 0
        self.both_edges, self.timer = True, False
        self._deaf = False
        self._waiting = False
        self._host = ""
        self._line = b""
        dut.send = self._from_dut
        dut.on_pulse = self.pulse

    async def live(self) -> None:
        """Let the DUT boot, then only answer."""
        await self.dut.live()

    def reset(self, boot_s: float) -> None:
        """The port was opened: torn text, then deaf until the sketch runs."""
        self.resets += 1
        self.both_edges, self.timer = True, False
        self._deaf, self._waiting, self._host, self._line = True, False, "", b""
        self.send(TORN)
        asyncio.get_running_loop().call_later(boot_s, self._awake)

    def _awake(self) -> None:
        self._deaf = False

    def receive(self, data: bytes) -> None:
        """Characters from the host; ``%`` ends a command."""
        if not self._deaf:
            self._host += data.decode("ascii", "replace")
            self._serve()

    def _serve(self) -> None:
        while "%" in self._host and not self._waiting:
            text, _, self._host = self._host.partition("%")
            self._execute(self.spoil(text))

    def _execute(self, text: str) -> None:
        self.commands.append(text)
        word, _, rest = text.partition(" ")
        if word == "dut":
            self._passthrough(rest)
        elif word == "name":
            self._answer("m-name-[io-manager]")
        elif word == "version":
            self._answer("m-version-[1.0.3]")
        elif word == "tm":
            self.both_edges, self.timer = rest != "0", False
            mode = "CHANGE" if self.both_edges else "FALLING"
            self._answer(f"m-timestmp-mode-{mode}", "m-[Timer disabled after mode change]")
        elif word in {"enable-timer", "disable-timer"}:
            self.timer = word == "enable-timer"
            self._answer(f"m-timer-{'enabled' if self.timer else 'disabled'}")
        else:
            self._answer(f"e-[Unknown command: {word}]")

    def _answer(self, *lines: str) -> None:
        self.send("".join(f"{line}\r\n" for line in (*lines, "m-ready")).encode())

    def _passthrough(self, command: str) -> None:
        self._answer(f"m-dut-passthrough({command})")
        self._waiting = self.blocks
        self.dut.receive(command.encode() + b"%")

    def _from_dut(self, data: bytes) -> None:
        """At once, but by whole lines; nothing is heard while the processor starts."""
        if self._deaf:
            return
        self._line += data
        while b"\n" in self._line:
            line, _, self._line = self._line.partition(b"\n")
            self.send(b"[dut]: " + line.rstrip(b"\r") + b"\r\n")
            if line.rstrip().endswith(b"m-ready") and self._waiting:
                self._waiting = False
                self._serve()

    def pulse(self) -> None:
        """The DUT's timestamp line fell and rose again."""
        if self.timer and not self._deaf:
            for _ in range(2 if self.both_edges else 1):
                lap = f"m-lap-us-{self.dut.now_us % 2**32}"
                self.send(f"{self.lap_text(lap)}\r\n".encode())


def plug(*, energy: bool = False) -> PtyCable:
    """An io-manager with a kws01 DUT behind it, whose timestamp line is wired."""
    return PtyCable(SimulatedEembcUno(HandDut(energy=energy)))
