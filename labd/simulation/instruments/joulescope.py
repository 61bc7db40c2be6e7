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

from labd.simulation.instruments.load import current_a, timestamp_high

TICK_HZ = 2_000_000
EPOCH_S = 1_514_764_800  # 2018-01-01
SUPPLY_V = 3.0
MESSAGES_HZ = 20
MESSAGE_BYTES = 62_000

Fields = dict[str, Any]
Sent = tuple[str, Fields]


class LibraryHost(Protocol):
    """The library while it runs."""

    def notify(self, topic: str, value: Any) -> None:
        """Call the subscribers."""
        ...


class JoulescopeLoad:
    """Measured signals as functions of the tick: the made-up board of :mod:`.load`."""

    def current(self, ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Ampere."""
        return current_a(ticks / TICK_HZ)

    def voltage(self, ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Volt."""
        return np.full(len(ticks), SUPPLY_V)

    def level(self, line: int, ticks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the line is high: line 0 has the timestamps, the others are low."""
        return timestamp_high(ticks / TICK_HZ) if line == 0 else np.zeros(len(ticks), np.bool_)


class Signal:
    """One stream of an instrument, cut into messages as the library does."""

    def __init__(self, topic: str, field_id: int, index: int, step: int) -> None:
        self.topic = topic
        self.field_id = field_id
        self.index = index
        self.step = step
        self.on = False
        self.next = 0  # the tick at which its next message begins

    @property
    def is_line(self) -> bool:
        """Whether its values are single bits."""
        return self.field_id == 5  # noqa: PLR2004 - Field.GPI

    @property
    def length(self) -> int:
        """Ticks in a whole message."""
        most = MESSAGE_BYTES * 8 if self.is_line else MESSAGE_BYTES // 4
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
        self, model: str = "js220", serial: str = "000123", load: JoulescopeLoad | None = None
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
        self.tamper: Callable[[list[Sent]], Iterable[Sent]] = list
        self._host: LibraryHost | None = None
        self._lock = threading.RLock()

    @property
    def streaming(self) -> bool:
        """Whether any signal is on."""
        return any(signal.on for signal in self.signals.values())

    @property
    def cuts_power(self) -> bool:
        """Whether it interrupts the supply: it is closed, or its current range is off."""
        off = "s/i/range/select" if self.is_js110 else "s/i/range/mode"
        return not self.is_open or self.values.get(off) == "off"

    # ---- measuring and faults -----------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Measure for this long and send the messages that are complete."""
        with self._lock:
            end = self.tick + round(seconds * TICK_HZ) // 16 * 16
            while self.tick < end:
                self.tick = min(end, self.tick + TICK_HZ // MESSAGES_HZ)
                self._send_whole()

    def lose(self, seconds: float) -> None:
        """Lose data on USB: sample numbers go on; a JS110 fills up, a JS220 skips."""
        with self._lock:
            count = round(seconds * TICK_HZ) // 16 * 16
            if self.is_js110:
                self.not_numbers.append(("", self.tick, self.tick + count))
                self.run(count / TICK_HZ)
                return
            for signal in self._running():
                self._send(signal, self.tick)
                signal.next = self.tick + count
            self.tick += count

    def not_a_number(self, topic: str, seconds: float) -> None:
        """Let ``s/i`` or ``s/v`` be no number for this long, and measure on."""
        with self._lock:
            end = self.tick + round(seconds * TICK_HZ)
            self.not_numbers.append((topic, self.tick, end))
        self.run(seconds)

    def deliver(self, messages: Iterable[Sent]) -> None:
        """Have the library deliver these."""
        if self._host is not None and not self.mute:
            for topic, fields in messages:
                self._host.notify(topic, fields)

    # ---- what the library does with it -----------------------------------------------------

    def attach(self, host: LibraryHost | None) -> None:
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
                signal.on = False

    def close(self) -> None:
        """Close."""
        with self._lock:
            self.is_open = False
            self.closed += 1

    def set(self, topic: str, value: Any) -> str:
        """Take a value; return why not, or an empty string."""
        with self._lock:
            if not self.is_open:
                return "22 CLOSED"
            self.history.append((topic, value))
            if topic in self.refuses:
                return self.refuses[topic]
            if topic == "s/gpi/+/!req":
                if self._host is not None:
                    self._host.notify(f"{self.path}/s/gpi/+/!value", self._snapshot())
                return ""
            allowed = _OPTIONS["js110" if self.is_js110 else "js220"].get(topic)
            if topic.endswith("/ctrl") and topic[:-5] in self.signals:
                self._switch(self.signals[topic[:-5]], on=bool(value))
            elif allowed is None or value not in allowed:
                return "5 PARAMETER_INVALID"
            self.values[topic] = value
            return ""

    # ---- inside ----------------------------------------------------------------------------

    def _snapshot(self) -> int:
        now = np.array([self.tick], np.int64)
        lines = [signal.index for signal in self.signals.values() if signal.is_line]
        return sum(int(self.load.level(n, now)[0]) << n for n in lines)

    def _running(self) -> list[Signal]:
        return [signal for signal in self.signals.values() if signal.on]

    def _switch(self, signal: Signal, *, on: bool) -> None:
        if on and not signal.on:
            if self.is_js110 and not self.streaming:
                self.time_base -= self.tick
                self.tick = 0
            signal.next = self.tick
        signal.on = on

    def _send_whole(self) -> None:
        ready = True
        while ready:
            ready = [s for s in self._running() if s.next + s.length <= self.tick]
            for signal in sorted(ready, key=lambda s: s.next + s.length):
                self._send(signal, signal.next + signal.length)

    def _send(self, signal: Signal, end: int) -> None:
        """Send a signal's values up to ``end``, whole bytes of a line."""
        unit = signal.step * (8 if signal.is_line else 1)
        end = signal.next + (end - signal.next) // unit * unit
        if end <= signal.next:
            return
        ticks = np.arange(signal.next, end, signal.step)
        fields = self._fields(signal, self._data(signal, ticks))
        signal.next = end
        self.deliver(self.tamper([(f"{self.path}/{signal.topic}/!data", fields)]))

    def _data(self, signal: Signal, ticks: NDArray[np.int64]) -> NDArray[Any]:
        lost = np.zeros(len(ticks), np.bool_)
        for topic, first, stop in self.not_numbers:
            if topic in ("", signal.topic):
                lost |= (ticks >= first) & (ticks < stop)
        since = ticks - self.time_base
        if signal.is_line:
            levels = self.load.level(signal.index, since) & ~lost
            return np.packbits(levels, bitorder="little")
        values = self.load.current(since) if signal.field_id == 1 else self.load.voltage(since)
        return np.where(lost, np.nan, values).astype(np.float32)

    def _fields(self, signal: Signal, data: NDArray[Any]) -> Fields:
        rate = TICK_HZ * (1 + self.rate_error_ppm / 1e6)
        seconds = (signal.next - self.time_base) // TICK_HZ
        counter = max(self.time_base + seconds * TICK_HZ, 0)
        begin = (1_700_000_000 - EPOCH_S) << 30
        offset = begin + round((counter - self.time_base) / rate * 2**30)
        return {
            "sample_id": signal.next,
            "utc": offset + round((signal.next - counter) / rate * 2**30),
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


class Disorder:
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
        self._held: list[tuple[int, Sent]] = []  # due at this count of messages
        self._sent = 0
        self.lost: list[Sent] = []

    def __call__(self, messages: list[Sent]) -> list[Sent]:
        """Return what the user gets now."""
        for one in messages:
            self._sent += 1
            if self._random.random() < self._lose:
                self.lost.append(one)
                continue
            copies = 2 if self._random.random() < self._double else 1
            self._held += [(self._sent + self._random.randint(0, self.hold), one)] * copies
        due = [one for at, one in self._held if at <= self._sent]
        self._held = [(at, one) for at, one in self._held if at > self._sent]
        return due
