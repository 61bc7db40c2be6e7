"""When virtual time moves: the two modes of a station.

``pace``, for people and for programs with timeouts. While the CPU executes or a wire carries
something, time runs as fast as the emulator can (some ten times real time at 16 MHz, about
1.4 times at 120 MHz) and never waits for the wall clock. While nothing happens, or something
takes visible time (a calibration, a board restarting), it follows the wall clock. Input is
taken as it arrives.

``freeze``, for repeatable runs: time never looks at the wall clock.

* It moves by execution, by wire time, and by fixed steps; events that take visible time are
  jumped to, an acquisition of set length is run to its end.
* Input is taken only when the station *stands still*: CPU asleep (or off, or stuck), wires
  idle, nothing under way. It is taken as one whole command (up to ``%`` for the DUT and the
  interface board, a line or an opcode for the monitor), so the way a host's bytes are cut up
  cannot matter; a command is acted on 1 ms after the last stand-still began (the host's
  turnaround). Orders (faults, firmware on the drive) are taken likewise.
* When everything the command caused is over, time moves on by 30 ms, then to the monitor's next
  time stamp if it acquires (1 s where the monitor has no time stamps), and stands still again.
  Every sample taken before a command's last effect is therefore confirmed by a time stamp
  without a host sleeping or asking for it.
* A board that executes for two virtual minutes without coming to rest is taken to be lost:
  from then on input is taken between slices, so that it can be switched off.

Both modes hold back for a slow reader of the power stream: with more than 64 KiB waiting,
virtual time stands, since the emulator may simply be faster than the host. After five wall
seconds without a byte taken the monitor does what the instrument does when its buffer is
full: it reports an overrun and ends the acquisition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from labd.simulation.station_hardware import StationHardware
from labd.simulation.virtual_time import PS_PER_MS, PS_PER_S

TURNAROUND_PS = PS_PER_MS
SETTLE_PS = 30 * PS_PER_MS
LOST_PS = 120 * PS_PER_S
OVERRUN_S = 5.0

_TICK_S = 0.005  # while samples stream
_IDLE_S = 0.5  # while nothing does
_LOOK_NS = 200_000  # between two looks for input while something happens: each costs system calls
_PS_PER_NS = 1000


class Outside(Protocol):
    """The world outside virtual time, as a station's thread reaches it."""

    def wait_for_input(self, timeout_s: float | None) -> None:
        """Pass waiting output on and sleep until a host or an order sends something."""
        ...

    def receive_input(self) -> list[tuple[str, bytes]]:
        """Return what hosts have sent since the last call, by part, in order of arrival."""
        ...

    def execute_orders(self) -> bool:
        """Execute the orders given meanwhile; return whether any changed something."""
        ...


class Pace:
    """Idle time follows the wall clock."""

    def __init__(
        self, wiring: StationHardware, outside: Outside, wall_ns: Callable[[], int]
    ) -> None:
        self._wiring = wiring
        self._outside = outside
        self._wall_ns = wall_ns
        self._idle_since_ns = wall_ns()
        self._next_look_ns = 0

    def step(self) -> None:
        """Execute, or jump to the next signal, or wait."""
        wall_ns = self._wall_ns()
        if wall_ns >= self._next_look_ns:
            self._next_look_ns = wall_ns + _LOOK_NS
            self._outside.execute_orders()
            self._take_input()
        wiring = self._wiring
        if wiring.is_executing:
            wiring.execute_slice()
            self._idle_since_ns = self._wall_ns()
        elif (signal_ps := wiring.next_signal_ps) is not None:
            wiring.advance_to(signal_ps)
            self._idle_since_ns = self._wall_ns()
        else:
            self._wait_idle()

    def _take_input(self) -> None:
        for part, data in self._outside.receive_input():
            self._wiring.receive_from_host(part, data)

    def _wait_idle(self) -> None:
        next_ps = self._wiring.next_event_ps
        now_ps = self._wiring.timeline.now_ps
        streaming = self._wiring.monitor is not None and self._wiring.monitor.is_acquiring
        timeout_s = _TICK_S if streaming else _IDLE_S
        if next_ps is not None:
            timeout_s = min(timeout_s, max(0.0, (next_ps - now_ps) / PS_PER_S))
        self._outside.wait_for_input(timeout_s)
        self._next_look_ns = 0
        wall_ns = self._wall_ns()
        now_ps += (wall_ns - self._idle_since_ns) * _PS_PER_NS
        self._idle_since_ns = wall_ns
        self._wiring.advance_to(now_ps if next_ps is None else min(now_ps, next_ps))


class Freeze:
    """Time moves only by events on the bench."""

    def __init__(self, wiring: StationHardware, outside: Outside) -> None:
        self._wiring = wiring
        self._outside = outside
        self._text = {part: bytearray() for part in wiring.config.parts}
        self._commands: list[tuple[str, bytes]] = []
        self._settled = False
        self._busy_since_ps = 0

    def step(self) -> None:
        """Execute firmware, else advance to the next event, else settle, else wait for input."""
        wiring = self._wiring
        if wiring.is_executing:
            wiring.execute_slice()
            if wiring.timeline.now_ps - self._busy_since_ps > LOST_PS:
                self._take_next_input()
        elif (event_ps := wiring.next_event_ps) is not None:
            wiring.advance_to(event_ps)
        elif not self._settled:
            wiring.advance_to(self._settle_end_ps())
            self._settled = True
        elif not self._take_next_input():
            self._outside.wait_for_input(None)

    def _settle_end_ps(self) -> int:
        """Return when settling ends: at the first time stamp after the minimum."""
        end_ps = self._wiring.timeline.now_ps + SETTLE_PS
        monitor = self._wiring.monitor
        return end_ps if monitor is None else monitor.next_time_stamp_ps(end_ps)

    def _take_next_input(self) -> bool:
        """Take one order or one command; return whether there was one."""
        if self._outside.execute_orders():
            self._mark_busy()
            return True
        self._collect_commands()
        if not self._commands:
            return False
        part, command = self._commands.pop(0)
        if not self._wiring.is_executing:
            self._wiring.advance_to(self._wiring.timeline.now_ps + TURNAROUND_PS)
        self._mark_busy()
        self._wiring.receive_from_host(part, command)
        return True

    def _mark_busy(self) -> None:
        self._settled = False
        self._busy_since_ps = self._wiring.timeline.now_ps

    def _collect_commands(self) -> None:
        for part, data in self._outside.receive_input():
            text = self._text[part]
            text += data
            while size := self._wiring.first_command_size(part, text):
                self._commands.append((part, bytes(text[:size])))
                del text[:size]
