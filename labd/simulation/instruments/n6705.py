"""A Keysight N6705 with its modules and data logger, and its faults."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments import synthetic_load

TICK_S = 20.48e-6
BUFFER_S = 20.0
IO_IDLE_A = 0.0005
PULL_UP_A = 0.00033
HIGHEST_V = {"N6731B": 5.0, "N6781A": 20.0, "N6762A": 50.0}
ONE_CONVERTER = ("N673", "N674", "N675", "N677")
FUNCTIONS = ("CURR", "CURR:MINM", "VOLT", "VOLT:MINM")
VALUES = {"CURR": 1, "CURR:MINM": 2, "VOLT": 1, "VOLT:MINM": 2}

_CHANNELS = re.compile(r",?\s*\(@([\d,:]+)\)$")


class Refused(Exception):  # noqa: N818 - the instrument's reply to a command
    """An entry for the error queue."""


@dataclass
class Channel:
    """One module and its logger."""

    model: str
    output: bool = False
    volts: float = 0.0
    limit_a: float = 0.1
    emulation: str = "PS4Q"
    priority: str = "VOLT"
    period_s: float = 0.1
    source: str = "IMM"
    functions: set[str] = field(default_factory=lambda: {"VOLT"})  # on after power-up
    armed: bool = False
    triggered_s: float | None = None
    taken: int = 0

    def reset(self) -> None:
        """Return to the state after power-up."""
        self.__init__(self.model)


class SimulatedN6705:
    """Speaks the SCPI subset labd uses; what it does not know is ``-113``.

    Attributes:
        refuses: errors by beginning of a command that gets them.
        ignored_headers: headers of commands that are accepted and ignored.
        error_ends_message: whether an error ends the whole message, as a syntax error does.
        stuck_functions: functions that stay as they are whatever is commanded.
        hidden_functions: functions that log although a query denies it.
        rate_factor: records per period; 1 is correct.
        latency_s: delay from the end of a record to its appearance.
        update_s: interval at which records appear; 0 for each at its end.
        lost_records: records lost so far, by slot.
        delay_s: delay before every answer.
        dut_current_a: current of the DUT at given times, ampere.
    """

    def __init__(
        self,
        modules: dict[int, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.send: Callable[[bytes], None] = lambda _: None
        self.clock = clock
        modules = modules or {1: "N6781A", 2: "N6731B"}
        self.channels = {slot: Channel(model) for slot, model in modules.items()}
        self.name = "N6705C"
        self.commands: list[str] = []
        self.errors: deque[str] = deque()
        self.refuses: dict[str, str] = {}
        self.ignored_headers: set[str] = set()
        self.error_ends_message = False
        self.stuck_functions: set[str] = set()
        self.hidden_functions: set[str] = set()
        self.rate_factor = 1.0
        self.latency_s = 0.0
        self.update_s = 0.0
        self.lost_records: dict[int, int] = {}
        self.delay_s = 0.0
        self.dut_current_a = synthetic_load.synthetic_current_a
        self.tripped_slots: set[int] = set()
        self.overwritten = 0
        self._format = "ASC"
        self._line = b""

    @property
    def is_powered(self) -> bool:
        """Whether any output is on."""
        return any(channel.output for channel in self.channels.values())

    def on_connect(self) -> None:
        """A new connection begins with an empty input buffer."""
        self._line = b""

    def receive(self, data: bytes) -> None:
        """Take messages from the host, each ended by a line feed."""
        self._line += data
        while b"\n" in self._line:
            line, _, self._line = self._line.partition(b"\n")
            answers: list[bytes] = []
            for unit in line.decode("ascii").split(";"):
                answer = self._execute_or_queue_error(unit)
                if answer is None and self.error_ends_message:
                    break
                answers += [answer] if answer else []
            if answers:
                self._send_answer(b";".join(answers) + b"\n")

    def _send_answer(self, data: bytes) -> None:
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self.send, data)
        else:
            self.send(data)

    def _execute_or_queue_error(self, text: str) -> bytes | None:
        """Execute one command; return the answer of a query, None if it fails."""
        text = text.strip().removeprefix(":")
        self.commands.append(text)
        try:
            return self._execute_command(text)
        except Refused as error:
            self.errors.append(str(error))
            return None

    def _execute_command(self, text: str) -> bytes:
        for beginning, error in self.refuses.items():
            if text.startswith(beginning):
                raise Refused(error)
        header, _, rest = text.partition(" ")
        listed = _CHANNELS.search(rest)
        argument = _CHANNELS.sub("", rest).strip()
        channels = self._parse_channel_list(listed[1]) if listed else list(self.channels.values())
        if header.endswith("?"):
            return self._answer_query(header[:-1], argument, channels)
        if header not in self.ignored_headers:
            self._apply_command(header, argument, channels)
        return b""

    def _parse_channel_list(self, text: str) -> list[Channel]:
        slots: list[int] = []
        for part in text.split(","):
            first, _, last = part.partition(":")
            slots.extend(range(int(first), int(last or first) + 1))
        if not set(slots) <= set(self.channels):
            raise Refused('-222,"Data out of range"')
        return [self.channels[slot] for slot in slots]

    # ---- queries -------------------------------------------------------------------------

    def _answer_query(self, header: str, argument: str, channels: list[Channel]) -> bytes:
        if header == "FETC:ELOG":
            return self._fetch_records(int(argument), channels)
        answer = self._answer_for_instrument(header) or ",".join(
            self._answer_for_channel(header, argument, channel) for channel in channels
        )
        return answer.encode()

    def _answer_for_instrument(self, header: str) -> str:
        if header == "*IDN":
            return f"Keysight Technologies,{self.name},SIMULATED,E.03.06.2908"
        if header == "*OPC":
            return "1"
        if header == "SYST:ERR":
            return self.errors.popleft() if self.errors else '+0,"No error"'
        return f"+{len(self.channels)}" if header == "SYST:CHAN" else ""

    def _answer_for_channel(self, header: str, argument: str, channel: Channel) -> str:
        if header.startswith("SENS:ELOG:FUNC:"):
            name = header.removeprefix("SENS:ELOG:FUNC:")
            return str(int(name in channel.functions - self.hidden_functions))
        slot = next(slot for slot, other in self.channels.items() if other is channel)
        highest = HIGHEST_V.get(channel.model, 20.0)
        answers: dict[str, object] = {
            "SYST:CHAN:MOD": channel.model,
            "OUTP": int(channel.output),
            "VOLT": f"{highest if argument == 'MAX' else channel.volts:+.6E}",
            "SENS:ELOG:PER": f"{channel.period_s:+.6E}",
            "STAT:QUES:COND": f"+{int(slot in self.tripped_slots)}",
        }
        if header not in answers:
            raise Refused('-113,"Undefined header"')
        return str(answers[header])

    def _fetch_records(self, most: int, channels: list[Channel]) -> bytes:
        (channel,) = channels
        if channel.triggered_s is None:
            raise Refused('+302,"No data to fetch"')
        elapsed_s = max(0.0, self.clock() - channel.triggered_s - self.latency_s)
        if self.update_s:
            elapsed_s = elapsed_s // self.update_s * self.update_s
        slot = next(slot for slot, other in self.channels.items() if other is channel)
        produced = int(elapsed_s / channel.period_s * self.rate_factor) - self.lost_records.get(
            slot, 0
        )
        oldest = max(0, produced - int(BUFFER_S / channel.period_s))
        self.overwritten += max(0, oldest - channel.taken)
        first = max(channel.taken, oldest)
        count = max(0, min(most, produced - first))
        channel.taken = first + count
        rows = self._make_records(channel, first, count)
        return self._format_records(rows)

    def _make_records(self, channel: Channel, first: int, count: int) -> NDArray[np.float64]:
        start_s = channel.triggered_s or 0.0
        numbers = np.arange(first, first + count, dtype=np.float64)
        times_s = start_s + (numbers + 0.5) * channel.period_s / self.rate_factor
        current_a = self._channel_current(channel, times_s)
        volts = np.full(count, channel.volts if channel.output else 0.0)
        columns: list[NDArray[np.float64]] = []
        for name in FUNCTIONS:
            if name in channel.functions:
                columns += [current_a if name.startswith("CURR") else volts] * VALUES[name]
        return np.column_stack(columns) if columns else np.empty((0, 0))

    def _channel_current(
        self, channel: Channel, times_s: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if not channel.output:
            return np.zeros(len(times_s))
        if channel is self.channels.get(1):
            return np.minimum(self.dut_current_a(times_s), channel.limit_a)
        return np.where(
            synthetic_load.timestamp_line_is_high(times_s), IO_IDLE_A, IO_IDLE_A + PULL_UP_A
        )

    def _format_records(self, rows: NDArray[np.float64]) -> bytes:
        if self._format != "REAL":
            return ",".join(f"{value:+.6E}" for value in rows.ravel()).encode()
        data = rows.astype(">f4").tobytes()
        size = str(len(data))
        return f"#{len(size)}{size}".encode() + data

    # ---- commands ------------------------------------------------------------------------

    def _apply_command(self, header: str, argument: str, channels: list[Channel]) -> None:
        if header == "*RST":
            self._format = "ASC"
        elif header == "*CLS":
            self.errors.clear()
        elif header == "FORM":
            self._format = argument
        elif header not in ("FORM:BORD", "SENS:SWE:TINT:RES", "ABOR:DLOG"):
            for channel in channels:
                self._apply_to_channel(header, argument, channel)
            return
        if header == "*RST":
            for channel in self.channels.values():
                channel.reset()

    def _apply_to_channel(self, header: str, argument: str, channel: Channel) -> None:
        if header.startswith("SENS:ELOG:FUNC:"):
            self._switch_log_function(
                header.removeprefix("SENS:ELOG:FUNC:"), argument == "ON", channel
            )
        elif header in ("OUTP", "VOLT", "CURR", "CURR:LIM", "EMUL", "FUNC"):
            self._apply_output_setting(header, argument, channel)
        elif header in ("INIT:ELOG", "TRIG:ELOG", "ABOR:ELOG", "TRIG:ELOG:SOUR"):
            self._control_logger(header, argument, channel)
        elif header == "SENS:ELOG:PER":
            channel.period_s = round(float(argument) / TICK_S) * TICK_S
        elif header != "SENS:ELOG:CURR:RANG:AUTO":
            raise Refused('-113,"Undefined header"')

    def _switch_log_function(self, name: str, on: bool, channel: Channel) -> None:  # noqa: FBT001
        if name in self.stuck_functions or (name in self.hidden_functions and not on):
            return
        kept = channel.functions - {name}
        other = "VOLT" if name == "CURR" else "CURR"
        if on and channel.model.startswith(ONE_CONVERTER) and other in kept:
            raise Refused('-221,"Settings conflict error"')
        channel.functions = kept | {name} if on else kept

    def _apply_output_setting(self, header: str, argument: str, channel: Channel) -> None:
        smu = channel.model.startswith("N678")
        if header == "OUTP":
            channel.output = argument == "ON"
        elif header == "VOLT":
            if not 0 <= float(argument) <= HIGHEST_V.get(channel.model, 20.0):
                raise Refused('-222,"Data out of range"')
            channel.volts = float(argument)
        elif smu != (header != "CURR"):
            raise Refused('+308,"This model does not support this command"')
        elif header in ("CURR", "CURR:LIM"):
            channel.limit_a = float(argument)
        elif header == "EMUL":
            channel.emulation = argument
        else:
            channel.priority = argument

    def _control_logger(self, header: str, argument: str, channel: Channel) -> None:
        if header == "TRIG:ELOG:SOUR":
            channel.source = argument
        elif header == "INIT:ELOG":
            if not channel.functions:
                raise Refused('-221,"Settings conflict error"')
            channel.armed, channel.triggered_s, channel.taken = True, None, 0
        elif header == "ABOR:ELOG":
            channel.armed, channel.triggered_s = False, None
        elif channel.armed:
            channel.triggered_s = self.clock()
        else:
            raise Refused('-211,"Trigger ignored"')


def serve_n6705_on_tcp() -> TcpCable:
    """Return the instrument on a socket of this machine."""
    return TcpCable(SimulatedN6705())
