"""A simulated Joulescope JS220 or JS110: its measurements as messages of the vendor's library.

Messages can be lost, delayed, doubled, or hold values that are no numbers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labd.simulation.instruments.synthetic_load import synthetic_current_a, timestamp_line_is_high

TICK_HZ = 2_000_000
EPOCH_S = 1_514_764_800  # 2018-01-01
SUPPLY_V = 3.0
MESSAGES_HZ = 20
MESSAGE_BYTES = 62_000

MessageFields = dict[str, Any]
Message = tuple[str, MessageFields]


class LibraryHost(Protocol):
    """The library while it runs."""

    def notify_subscribers(self, topic: str, value: Any) -> None:
        """Call the subscribers."""
        ...


class JoulescopeLoad:
    """Measured signals as functions of the tick: the made-up board of :mod:`.synthetic_load`."""

    def currents_a(self, ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Ampere."""
        return synthetic_current_a(ticks / TICK_HZ)

    def voltages_v(self, ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Volt."""
        return np.full(len(ticks), SUPPLY_V)

    def line_levels(self, line: int, ticks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the line is high: line 0 has the timestamps, the others are low."""
        return (
            timestamp_line_is_high(ticks / TICK_HZ) if line == 0 else np.zeros(len(ticks), np.bool_)
        )


class Signal:
    """One stream of an instrument, cut into messages as the library does."""

    def __init__(self, topic: str, field_id: int, index: int, step: int) -> None:
        self.topic = topic
        self.field_id = field_id
        self.index = index
        self.step = step
        self.is_on = False
        self.next_tick = 0  # the tick at which its next message begins

    @property
    def is_digital(self) -> bool:
        """Whether its values are single bits."""
        return self.field_id == 5  # noqa: PLR2004 - Field.GPI

    @property
    def message_ticks(self) -> int:
        """Ticks in a whole message."""
        most = MESSAGE_BYTES * 8 if self.is_digital else MESSAGE_BYTES // 4
        count = min(most, TICK_HZ // MESSAGES_HZ // self.step)
        return count // 8 * 8 * self.step


class SimulatedJoulescope:
    """One instrument on USB.

    Args:
        model: ``js220`` or ``js110``; ``&js220`` is one in its bootloader.
        serial: its serial number.
        load: what it measures.
    """

    def __init__(
        self,
        model: str = "js220",
        serial: str = "simulated-000123",
        load: JoulescopeLoad | None = None,
    ) -> None:
        self.model = model
        self.serial = serial
        self.path = f"u/{model}/{serial}"
        self.load = load or JoulescopeLoad()
        self.is_js110 = model == "js110"
        step = 1 if self.is_js110 else 2
        lines = (0, 1) if self.is_js110 else (0, 1, 2, 3, 7)
        self.signals = {
            "s/i": Signal("s/i", 1, 0, step),
            "s/v": Signal("s/v", 2, 0, step),
            **{f"s/gpi/{n}": Signal(f"s/gpi/{n}", 5, n, 1) for n in lines},
        }
        self.mute = False
        self.is_open = False
        self.opened = 0
        self.closed = 0
        self.history: list[tuple[str, Any]] = []
        self.values: dict[str, Any] = {}
        self.refuses: dict[str, str] = {}  # topic: "5 PARAMETER_INVALID"
        self.tick = 0 if self.is_js110 else 2**40 + 4_000
        self.time_base = self.tick
        self.rate_error_ppm = 12.0
        self.not_numbers: list[tuple[str, int, int]] = []  # topic, first tick, end
        self.tamper: Callable[[list[Message]], Iterable[Message]] = list
        self._host: LibraryHost | None = None
        self._lock = threading.RLock()

    @property
    def is_streaming(self) -> bool:
        """Whether any signal is on."""
        return any(signal.is_on for signal in self.signals.values())

    @property
    def interrupts_supply(self) -> bool:
        """Whether it interrupts the supply: it is closed, or its current range is off."""
        off = "s/i/range/select" if self.is_js110 else "s/i/range/mode"
        return not self.is_open or self.values.get(off) == "off"

    # ---- measuring and faults -----------------------------------------------------------

    def measure_for(self, seconds: float) -> None:
        """Measure for this long and send the messages that are complete."""
        with self._lock:
            end = self.tick + round(seconds * TICK_HZ) // 16 * 16
            while self.tick < end:
                self.tick = min(end, self.tick + TICK_HZ // MESSAGES_HZ)
                self._send_complete_messages()

    def lose_usb_data(self, seconds: float) -> None:
        """Lose data on USB: sample numbers go on; a JS110 fills up, a JS220 skips."""
        with self._lock:
            count = round(seconds * TICK_HZ) // 16 * 16
            if self.is_js110:
                self.not_numbers.append(("", self.tick, self.tick + count))
                self.measure_for(count / TICK_HZ)
                return
            for signal in self._active_signals():
                self._send_signal_until(signal, self.tick)
                signal.next_tick = self.tick + count
            self.tick += count

    def measure_not_a_number(self, topic: str, seconds: float) -> None:
        """Let ``s/i`` or ``s/v`` be no number for this long, and measure on."""
        with self._lock:
            end = self.tick + round(seconds * TICK_HZ)
            self.not_numbers.append((topic, self.tick, end))
        self.measure_for(seconds)

    def deliver_messages(self, messages: Iterable[Message]) -> None:
        """Have the library deliver these."""
        if self._host is not None and not self.mute:
            for topic, fields in messages:
                self._host.notify_subscribers(topic, fields)

    # ---- what the library does with it -----------------------------------------------------

    def set_library_host(self, host: LibraryHost | None) -> None:
        """Take note that the library began or ended."""
        self._host = host
        self.is_open = False

    def open(self) -> None:
        """Open with defaults: everything is off, and the DUT's supply is interrupted."""
        with self._lock:
            self.is_open = True
            self.opened += 1
            self.values = {} if self.is_js110 else {"c/fw/version": 0x01030002}
            for signal in self.signals.values():
                signal.is_on = False

    def close(self) -> None:
        """Close."""
        with self._lock:
            self.is_open = False
            self.closed += 1

    def set_topic(self, topic: str, value: Any) -> str:
        """Take a value; return why not, or an empty string."""
        with self._lock:
            if not self.is_open:
                return "22 CLOSED"
            self.history.append((topic, value))
            if topic in self.refuses:
                return self.refuses[topic]
            if topic == "s/gpi/+/!req":
                if self._host is not None:
                    self._host.notify_subscribers(
                        f"{self.path}/s/gpi/+/!value", self._gpi_snapshot()
                    )
                return ""
            allowed = _OPTIONS["js110" if self.is_js110 else "js220"].get(topic)
            if topic.endswith("/ctrl") and topic[:-5] in self.signals:
                self._switch_signal(self.signals[topic[:-5]], on=bool(value))
            elif allowed is None or value not in allowed:
                return "5 PARAMETER_INVALID"
            self.values[topic] = value
            return ""

    # ---- inside ----------------------------------------------------------------------------

    def _gpi_snapshot(self) -> int:
        now = np.array([self.tick], np.int64)
        lines = [signal.index for signal in self.signals.values() if signal.is_digital]
        return sum(int(self.load.line_levels(n, now)[0]) << n for n in lines)

    def _active_signals(self) -> list[Signal]:
        return [signal for signal in self.signals.values() if signal.is_on]

    def _switch_signal(self, signal: Signal, *, on: bool) -> None:
        if on and not signal.is_on:
            if self.is_js110 and not self.is_streaming:
                self.time_base -= self.tick
                self.tick = 0
            signal.next_tick = self.tick
        signal.is_on = on

    def _send_complete_messages(self) -> None:
        ready = True
        while ready:
            ready = [
                s for s in self._active_signals() if s.next_tick + s.message_ticks <= self.tick
            ]
            for signal in sorted(ready, key=lambda s: s.next_tick + s.message_ticks):
                self._send_signal_until(signal, signal.next_tick + signal.message_ticks)

    def _send_signal_until(self, signal: Signal, end: int) -> None:
        """Send a signal's values up to ``end``, whole bytes of a line."""
        unit = signal.step * (8 if signal.is_digital else 1)
        end = signal.next_tick + (end - signal.next_tick) // unit * unit
        if end <= signal.next_tick:
            return
        ticks = np.arange(signal.next_tick, end, signal.step)
        fields = self._message_fields(signal, self._message_values(signal, ticks))
        signal.next_tick = end
        self.deliver_messages(self.tamper([(f"{self.path}/{signal.topic}/!data", fields)]))

    def _message_values(self, signal: Signal, ticks: NDArray[np.int64]) -> NDArray[Any]:
        lost = np.zeros(len(ticks), np.bool_)
        for topic, first, stop in self.not_numbers:
            if topic in ("", signal.topic):
                lost |= (ticks >= first) & (ticks < stop)
        since = ticks - self.time_base
        if signal.is_digital:
            levels = self.load.line_levels(signal.index, since) & ~lost
            return np.packbits(levels, bitorder="little")
        values = (
            self.load.currents_a(since) if signal.field_id == 1 else self.load.voltages_v(since)
        )
        return np.where(lost, np.nan, values).astype(np.float32)

    def _message_fields(self, signal: Signal, data: NDArray[Any]) -> MessageFields:
        rate = TICK_HZ * (1 + self.rate_error_ppm / 1e6)
        seconds = (signal.next_tick - self.time_base) // TICK_HZ
        counter = max(self.time_base + seconds * TICK_HZ, 0)
        begin = (1_700_000_000 - EPOCH_S) << 30
        offset = begin + round((counter - self.time_base) / rate * 2**30)
        return {
            "sample_id": signal.next_tick,
            "utc": offset + round((signal.next_tick - counter) / rate * 2**30),
            "field_id": signal.field_id,
            "index": signal.index,
            "sample_rate": TICK_HZ,
            "decimate_factor": signal.step,
            "time_map": {
                "offset_time": offset,
                "offset_counter": counter,
                "counter_rate": rate,
            },
            "data": data,
        }


_RANGES = ("180 mA", "18 mA", "1.8 mA", "180 µA", "18 µA")
_OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "js220": {
        "h/fs": (2_000_000, 1_000_000, 500_000, 100_000, 10_000, 1000),
        "s/i/range/mode": ("auto", "manual", "off"),
        "s/i/range/select": ("10 A", *_RANGES),
        "s/v/range/mode": ("auto", "manual"),
        "s/v/range/select": ("15 V", "2 V"),
        "c/gpio/vref": ("external", "3v3"),
    },
    "js110": {
        "h/fs": (2_000_000, 1_000_000, 500_000, 100_000, 10_000, 1000),
        "s/i/range/select": ("auto", "10 A", "2 A", *_RANGES, "off"),
        "s/i/lsb_src": ("normal", "gpi0", "gpi1"),
        "s/v/lsb_src": ("normal", "gpi0", "gpi1"),
        "s/v/range/select": ("15 V", "5 V"),
        "s/extio/voltage": (0, 1800, 2100, 2500, 2700, 3000, 3300, 3600, 5000),
    },
}


# ---- faults between the library and its user ----------------------------


class MessageDisorder:
    """Loses, doubles and delays messages; for :attr:`SimulatedJoulescope.tamper`.

    Args:
        seed: of what is chosen.
        lose: share of messages that never come.
        double: share that comes twice.
        hold: up to how many later messages overtake one.
    """

    def __init__(self, seed: int, *, lose: float = 0, double: float = 0, hold: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a disturbance
        self._lose, self._double, self.hold = lose, double, hold
        self._held_messages: list[tuple[int, Message]] = []  # due at this count of messages
        self._sent = 0
        self.lost: list[Message] = []

    def __call__(self, messages: list[Message]) -> list[Message]:
        """Return what the user gets now."""
        for one in messages:
            self._sent += 1
            if self._random.random() < self._lose:
                self.lost.append(one)
                continue
            copies = 2 if self._random.random() < self._double else 1
            self._held_messages += [(self._sent + self._random.randint(0, self.hold), one)] * copies
        due = [one for at, one in self._held_messages if at <= self._sent]
        self._held_messages = [(at, one) for at, one in self._held_messages if at > self._sent]
        return due
