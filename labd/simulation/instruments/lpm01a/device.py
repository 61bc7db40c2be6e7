"""The power monitor: an ST X-NUCLEO-LPM01A with PowerShield firmware.

Commands and replies follow UM2269 and the firmware's help text. What those leave open is
decided here: standalone (before ``htc``) every command but the questions is refused; ``stop``
without an acquisition is an error; ``psrst`` is acknowledged, keeps the link, is deaf for five
seconds and comes back with defaults and the target off.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.lpm01a.sample_stream import AcquisitionPlan, SampleStream
from labd.simulation.instruments.lpm01a.settings import (
    SETTERS,
    Lpm01aSettings,
    RefusedError,
    parse_choice,
    parse_number,
    parse_number_between,
    plan_acquisition,
    seconds_to_ps,
)
from labd.simulation.instruments.synthetic_load import Load, SyntheticLoad
from labd.simulation.instruments.wall_clock_streaming import advance_by_wall_clock
from labd.simulation.virtual_time import PS_PER_MS, PS_PER_S, Agenda, LoopAgenda

PROMPT = "PowerShield > "
OVERCURRENT_NA = 50_000_000
TRANSMIT_BUFFER = 64 * 1024
"""Bytes the instrument holds for a host that reads slowly; its load is in every time stamp."""

_BOARD_ID = "540619864-1110659081-4784204"
_CALIBRATION_PS = 150 * PS_PER_MS
_AUTOTEST_PS = 500 * PS_PER_MS
_RESTART_PS = 5 * PS_PER_S
_LCD_TEXT = re.compile(r'[12] "[^"]{0,16}"')

_ALWAYS_LEGAL = frozenset(
    ("help", "echo", "powershield", "version", "range", "status", "temp", "htc", "psrst")
)
_WHILE_ACQUIRING = frozenset(("pwr", "targrst", "stop", "lcd", "status", "temp"))


class SimulatedLpm01a:
    """The instrument between a host's lines and the load at its output.

    Args:
        agenda: its time; by default nothing that it does takes time.
        load: at its output; by default a made-up board.
        seed: of its noise.

    Attributes:
        version: of its firmware.
        refuses: commands that it answers with ``refusal`` (``err`` in the manual).
        ignores_commands: it reacts to nothing but ``psrst``.
        on_restart: called when it restarts, which makes its USB port vanish.
        error: what ``status`` reports and then forgets.
        commands: every line so far.
    """

    def __init__(
        self, agenda: Agenda | None = None, load: Load | None = None, *, seed: int = 0
    ) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.agenda = agenda or LoopAgenda(real_time=False)
        self.load = load or SyntheticLoad()
        self.version = "1.0.6-simulated"
        self.refuses: set[str] = set()
        self.refusal = "error"
        self.ignores_commands = False
        self.on_restart: Callable[[], None] = lambda: None
        self.commands: list[str] = []
        self.stream: SampleStream | None = None
        self._seed = seed
        self._settings = Lpm01aSettings()
        self._under_host_control = False
        self._busy = False
        self._restarting = False
        self.error = ""
        self._received = b""
        self._lines: deque[str] = deque()
        self._armed_plan: AcquisitionPlan | None = None
        self._power_changes = 0
        self._handlers = self._make_handlers()

    @property
    def is_powered(self) -> bool:
        """Whether its output is on."""
        return self.load.is_powered

    # -- commands

    def first_command_size(self, data: bytes | bytearray) -> int:
        """Return the length of the first command in ``data``; 0 if it is not whole."""
        return data.find(b"\n") + 1

    def receive(self, data: bytes) -> None:
        """Take lines from the host; each is answered when the ones before it are."""
        self._received += data
        while size := self.first_command_size(self._received):
            line = self._received[:size].decode("latin-1").strip()
            self._received = self._received[size:]
            if line and not self._restarting:
                self.commands.append(line)
                self.ignores_commands = self.ignores_commands and line != "psrst"
                self._lines += [] if self.ignores_commands else [line]
        self._execute_queued_lines()

    def restart(self) -> None:
        """Start as after plugging it in."""
        self._received = b""
        self._begin_restart("")

    def _execute_queued_lines(self) -> None:
        while self._lines and not self._busy and not self._restarting:
            self._execute_line(self._lines.popleft())

    def _execute_line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if line in self.refuses:
            self._send_reply(f"{self.refusal} {line}\r\nError detail: not now")
            return
        try:
            self._check_allowed(word, rest)
            answer = self._handlers[word](rest.strip())
        except RefusedError as refusal:
            self._send_reply(f"error {line}\r\nError detail: {refusal}")
            return
        if answer is not None:
            self._send_reply(f"echo {rest}" if word == "echo" else f"ack {line}{answer}")
        if word == "stop":
            self._finish_acquisition()

    def _check_allowed(self, word: str, rest: str) -> None:
        if word not in self._handlers:
            raise RefusedError("Command unknown, type 'help' for the list of commands")
        if rest == "get" or word in _ALWAYS_LEGAL:
            return
        if not self._under_host_control:
            raise RefusedError("PowerShield is in standalone mode, take control with 'htc'")
        if self.is_acquiring and word not in _WHILE_ACQUIRING:
            raise RefusedError("Acquisition on going")

    def _send_reply(self, text: str) -> None:
        self.send(f"\r\n{PROMPT}{text}\r\n\r\n".encode("ascii", "replace"))

    def _make_handlers(self) -> dict[str, Callable[[str], str | None]]:
        """Return by command: argument -> text behind ``ack <command>``, None if it comes later."""

        def make_setter(word: str) -> Callable[[str], str]:
            def apply_setting(rest: str) -> str:
                self._settings = SETTERS[word](self._settings, rest)
                return ""

            return apply_setting

        def make_constant_answer(answer: str) -> Callable[[str], str]:
            return lambda _rest: answer

        handlers: dict[str, Callable[[str], str | None]] = {
            "help": self._list_commands,
            "echo": make_constant_answer(""),
            "powershield": make_constant_answer(f" {_BOARD_ID}"),
            "version": lambda _rest: f": {self.version}",
            "range": make_constant_answer(" 100-09 50-03"),
            "status": self._report_status,
            "temp": self._report_temperature,
            "htc": self._take_control,
            "hrc": self._release_control,
            "lcd": self._check_lcd_text,
            "psrst": self._begin_restart,
            "autotest": lambda _rest: self._acknowledge_after(_AUTOTEST_PS, "autotest", " ok"),
            "calib": lambda _rest: self._acknowledge_after(_CALIBRATION_PS, "calib", ""),
            "volt": self._set_or_report_voltage,
            "pwr": self._switch_or_report_power,
            "targrst": self._reset_target,
            "start": self._start_acquisition,
            "stop": self._check_is_acquiring,
        }
        return handlers | {word: make_setter(word) for word in SETTERS}

    def _list_commands(self, _rest: str) -> str:
        return "\r\n" + "\r\n".join(sorted(self._handlers))

    def _report_status(self, _rest: str) -> str:
        text, self.error = self.error, ""
        return f" error: {text}" if text else " ok"

    def _report_temperature(self, rest: str) -> str:
        return " 28.0" if parse_choice(rest or "degc", "degc", "degf") == "degc" else " 82.4"

    def _take_control(self, _rest: str) -> str:
        self._under_host_control = True
        return ""

    def _release_control(self, _rest: str) -> str:
        self._under_host_control = False
        return ""

    def _check_lcd_text(self, rest: str) -> str:
        if not _LCD_TEXT.fullmatch(rest):
            raise RefusedError('Arguments must be: line 1 or 2, "text" of at most 16 characters')
        return ""

    def _begin_restart(self, _rest: str) -> str:
        self._discard_acquisition()
        self._switch_output(on=False)
        self._settings, self._under_host_control, self.error = Lpm01aSettings(), False, ""
        self._lines.clear()
        self._restarting = True
        self.on_restart()
        self.agenda.schedule(self.agenda.now_ps() + _RESTART_PS, self._end_restart, waits=True)
        return ""

    def _end_restart(self, _at_ps: int) -> None:
        self._restarting = False

    def _acknowledge_after(
        self, duration_ps: int, line: str, answer: str, then: Callable[[], None] | None = None
    ) -> None:
        """Acknowledge after this time; commands wait meanwhile."""
        self._busy = True

        def acknowledge(_at_ps: int) -> None:
            self._busy = False
            if then is not None:
                then()
            self._send_reply(f"ack {line}{answer}")
            self._execute_queued_lines()

        self.agenda.schedule(self.agenda.now_ps() + duration_ps, acknowledge, waits=True)

    # -- the target's supply

    def _set_or_report_voltage(self, rest: str) -> str | None:
        if rest == "get":
            return f" {self._settings.voltage_mv}-03"
        millivolts = int(parse_number_between(rest, Fraction(18, 10), Fraction(33, 10)) * 1000)

        def apply_voltage() -> None:
            self._settings = replace(self._settings, voltage_mv=millivolts)
            if self.load.is_powered:
                self.load.set_voltage(millivolts)

        return self._acknowledge_after(_CALIBRATION_PS, f"volt {rest}", "", apply_voltage)

    def _switch_or_report_power(self, rest: str) -> str:
        if rest == "get":
            return " on" if self.load.is_powered else " off"
        mode, _, status = rest.partition(" ")
        parse_choice(mode, "auto", "on", "off")
        shown = parse_choice(status or "nostatus", "nostatus", "status") == "status"
        self._settings = replace(self._settings, power_auto=mode == "auto", power_status=shown)
        if mode != "auto":
            self._switch_output(on=mode == "on")
        return ""

    def _reset_target(self, rest: str) -> str:
        off_s = parse_number(rest)
        if off_s != 0:
            parse_number_between(rest, Fraction(1, 100), 1)
        self.power_down_target()
        if off_s:
            changes = self._power_changes

            def switch_on_again(_at_ps: int) -> None:
                if changes == self._power_changes:
                    self._switch_output(on=True)

            self.agenda.schedule(
                self.agenda.now_ps() + seconds_to_ps(off_s), switch_on_again, waits=True
            )
        return ""

    def _switch_output(self, *, on: bool) -> None:
        self._power_changes += 1
        if on and not self.load.is_powered:
            self.load.power_on(self._settings.voltage_mv)
        elif not on and self.load.is_powered:
            self.load.power_off()

    # -- acquisitions

    @property
    def is_acquiring(self) -> bool:
        """Whether an acquisition runs or waits for its trigger."""
        return self.stream is not None or self._armed_plan is not None

    @property
    def acquisition_end_ps(self) -> int | None:
        """When a running acquisition of set length ends."""
        return self.stream.end_ps if self.stream else None

    def next_time_stamp_ps(self, not_before_ps: int) -> int:
        """Return when the first time stamp at or after this time is sent; this time if none is."""
        return self.stream.next_time_stamp_ps(not_before_ps) if self.stream else not_before_ps

    def _start_acquisition(self, _rest: str) -> str:
        plan = plan_acquisition(self._settings)
        if self._settings.power_auto:
            self._switch_output(on=True)
        self._armed_plan = plan
        delay_ps = seconds_to_ps(self._settings.trigdelay_s)

        def on_trigger(at_ps: int) -> None:
            if self._armed_plan is plan:
                self._begin_stream(plan, at_ps)

        if not self._settings.trigger_d7:
            self.agenda.schedule(self.agenda.now_ps() + delay_ps, on_trigger, waits=True)
        return ""

    def _begin_stream(self, plan: AcquisitionPlan, start_ps: int) -> None:
        self._armed_plan = None
        self.stream = SampleStream(plan, start_ps, self.load.ledger, self.send, seed=self._seed)
        self._send_power_mark()

    def _check_is_acquiring(self, _rest: str) -> str:
        if not self.is_acquiring:
            raise RefusedError("No acquisition on going")
        return ""

    def advance_to(self, now_ps: int, waiting: int = 0) -> None:
        """Stream what is complete by now; ``waiting`` bytes have not reached the host yet."""
        if self.load.is_powered and self.load.ledger.current_na > OVERCURRENT_NA:
            self.trip_overcurrent()
        if self.stream is None:
            return
        self.stream.load_percent = min(100, 100 * waiting // TRANSMIT_BUFFER)
        self.stream.write_samples_until(now_ps)
        if self.stream.current_has_changed:
            self._end_with_error("Static acquisition: current not constant")
        elif self.stream.is_finished:
            self._finish_acquisition()

    def stream_values(self, values: NDArray[np.float64]) -> None:
        """Stream samples of these values now, A or J; nothing unless it acquires."""
        if self.stream is not None:
            self.stream.write_values(values)

    def on_timestamp_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """Take an edge of D7."""
        if self._armed_plan is not None and self._settings.trigger_d7:
            self._begin_stream(self._armed_plan, at_ps)
        elif self.stream is not None and not level:
            self.stream.mark_falling_edge(at_ps)

    def lose_samples(self, count: int) -> None:
        """Leave the next samples out of the stream; time goes on."""
        if self.stream is not None:
            self.stream.lose_samples(count)

    def on_overrun(self) -> None:
        """End the acquisition: the host does not read and the transmit buffer is full."""
        self._end_with_error("Overrun: transmit buffer overrun")

    def trip_overcurrent(self) -> None:
        """Switch the target off: it draws too much."""
        self._switch_output(on=False)
        self._end_with_error("Overcurrent: target supply switched off", overcurrent=True)

    def power_down_target(self) -> None:
        """Switch the target off and mark it in the stream."""
        self._switch_output(on=False)
        if self.stream is not None:
            self.send(self.stream.format.encode_power_down())

    def send_record(self, kind: int, payload: bytes) -> None:
        """Send a metadata record, which only the binary format has."""
        if self.stream is not None:
            self.send(self.stream.format.encode_record(kind, payload))

    def _send_power_mark(self) -> None:
        if self.stream is not None and self._settings.power_status:
            self.send(self.stream.format.encode_power_state(on=self.load.is_powered))

    def _end_with_error(self, text: str, *, overcurrent: bool = False) -> None:
        self.error = text
        if self.stream is not None:
            mark = (
                self.stream.format.encode_overcurrent
                if overcurrent
                else self.stream.format.encode_error
            )
            self.send(mark(text))
            self._finish_acquisition()

    def _finish_acquisition(self) -> None:
        """Send end marks and summary; leave the supply as it was asked for afterwards."""
        if self.stream is not None:
            self.stream.write_samples_until(self.agenda.now_ps())
            self._send_power_mark()
            self.stream.write_end_and_summary()
        self._discard_acquisition()
        self.send(f"\r\n{PROMPT}Acquisition completed\r\n\r\n".encode())
        if self._settings.power_auto and not self._settings.power_after:
            self._switch_output(on=False)

    def _discard_acquisition(self) -> None:
        self.stream = self._armed_plan = None

    async def stream_by_wall_clock(self) -> None:
        """Stream by the wall clock until cancelled."""
        await advance_by_wall_clock(self, self.agenda, self.load)


def serve_lpm01a_on_pty() -> PtyCable:
    """Return the instrument on its USB serial port."""
    return PtyCable(SimulatedLpm01a(LoopAgenda(real_time=True)))
