"""EEMBC's Arduino UNO io-manager in front of a DUT, as the published session logs show it.

No published log has its answers to ``name``, ``version`` and unknown words: those texts are
invented.
"""

from __future__ import annotations

from collections.abc import Callable

from labd.protocol.words import COUNTER_MODULUS, LAP, NAME, READY, RELAY_ECHO, RELAYED
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.simulation.virtual_time import PS_PER_S, Agenda, LoopAgenda

TORN = b"\x00\xfe\x80dy\r\nm-re\xff"
"""What a host reads while the board's processor starts: the end and the beginning of text."""


class SimulatedEembcUno:
    """Forwards the DUT's text as it comes; times the edges of its timestamp line in µs.

    Args:
        dut: behind it.
        agenda: its time; by default the DUT's.
        waits_for_dut: wait for the DUT's ``m-ready`` before the next command, as the MLCommons
            board does; whether the real one does is not known.

    Attributes:
        corrupt_command: changes a command on its way to the board.
        edit_lap_text: changes the text of a timestamp.
        resets: number of restarts so far.
    """

    def __init__(
        self, dut: SimulatedDut, *, agenda: Agenda | None = None, waits_for_dut: bool = False
    ) -> None:
        self.dut = dut
        self._agenda = agenda or dut.agenda
        self.waits_for_dut = waits_for_dut
        self.send: Callable[[bytes], None] = lambda _: None
        self.corrupt_command: Callable[[str], str] = lambda text: text
        self.edit_lap_text: Callable[[str], str] = lambda text: text
        self.commands: list[str] = []
        self.resets = 0
        self.both_edges, self.timer = True, False
        self._is_starting = False
        self._waits_for_ready = False
        self._host = ""
        self._line = b""
        dut.send = self._forward_dut_text
        dut.on_pulse = self.on_timestamp_pulse

    def reset(self, boot_s: float) -> None:
        """Restart as when the port is opened: torn text, then nothing until the sketch runs."""
        self.resets += 1
        self.both_edges, self.timer = True, False
        self._is_starting, self._waits_for_ready, self._host, self._line = True, False, "", b""
        self.send(TORN)
        runs_ps = self._agenda.now_ps() + round(boot_s * PS_PER_S)
        self._agenda.schedule(runs_ps, self._on_sketch_started, waits=True)

    def _on_sketch_started(self, _at_ps: int) -> None:
        self._is_starting = False

    def receive(self, data: bytes) -> None:
        """Take characters from the host; ``%`` ends a command."""
        if not self._is_starting:
            self._host += data.decode("ascii", "replace")
            self._execute_complete_commands()

    def _execute_complete_commands(self) -> None:
        while "%" in self._host and not self._waits_for_ready:
            text, _, self._host = self._host.partition("%")
            self._execute_command(self.corrupt_command(text))

    def _execute_command(self, text: str) -> None:
        self.commands.append(text)
        word, _, rest = text.partition(" ")
        if word == "dut":
            self._forward_to_dut(rest)
        elif word == "name":
            self._send_answer(f"{NAME}[io-manager]")
        elif word == "version":
            self._send_answer("m-version-[1.0.3-simulated]")
        elif word == "tm":
            self.both_edges, self.timer = rest != "0", False
            mode = "CHANGE" if self.both_edges else "FALLING"
            self._send_answer(f"m-timestmp-mode-{mode}", "m-[Timer disabled after mode change]")
        elif word in {"enable-timer", "disable-timer"}:
            self.timer = word == "enable-timer"
            self._send_answer(f"m-timer-{'enabled' if self.timer else 'disabled'}")
        else:
            self._send_answer(f"e-[Unknown command: {word}]")

    def _send_answer(self, *lines: str) -> None:
        self.send("".join(f"{line}\r\n" for line in (*lines, READY)).encode())

    def _forward_to_dut(self, command: str) -> None:
        self._send_answer(f"{RELAY_ECHO}{command})")
        self._waits_for_ready = self.waits_for_dut
        self.dut.receive(command.encode() + b"%")

    def _forward_dut_text(self, data: bytes) -> None:
        """Forward whole lines; text that comes while the processor starts is lost."""
        if self._is_starting:
            return
        self._line += data
        while b"\n" in self._line:
            line, _, self._line = self._line.partition(b"\n")
            self.send(RELAYED.encode() + line.rstrip(b"\r") + b"\r\n")
            if line.rstrip().endswith(READY.encode()) and self._waits_for_ready:
                self._waits_for_ready = False
                self._execute_complete_commands()

    def on_timestamp_pulse(self) -> None:
        """Time a low pulse of the DUT's timestamp line."""
        if self.timer and not self._is_starting:
            for _ in range(2 if self.both_edges else 1):
                lap = f"{LAP}{self.dut.now_us % COUNTER_MODULUS}"
                self.send(f"{self.edit_lap_text(lap)}\r\n".encode())


def serve_eembc_uno_on_pty(*, energy: bool = False) -> PtyCable:
    """Return an io-manager with a kws01 DUT behind it, whose timestamp line is wired."""
    dut = SimulatedDut(agenda=LoopAgenda(real_time=True), energy=energy, random_results=True)
    cable = PtyCable(SimulatedEembcUno(dut))
    dut.boot()
    return cable
