"""Joulescope messages to one confirmed stream, aligned by ``sample_id``.

Current, voltage and each input line arrive in separate messages, of different lengths and in any
order. All of them count ``sample_id`` in ticks of 2 MHz, whatever their own rate is: element k of
a message covers the ticks from ``sample_id + k·decimate_factor`` (binding.pyx and js220_usb.c of
joulescope_driver). Only this count aligns them, never the index of an element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.joulescope.sample_blocks import (
    AnalogBlock,
    B,
    FallCounter,
    LineBlock,
    LinePart,
    LostTicks,
    PeriodStream,
    SignalTrack,
    line_block,
    uncovered_ranges,
)
from labd.core.errors import InstrumentError, Where
from labd.core.model import StreamItem, TimeMark

TICK_HZ = 2_000_000

MAX_DELAY = TICK_HZ // 4
"""Ticks a message may arrive behind the newest. A message holds 50 ms at most, and all messages
come through one thread."""

START_LIMIT = 2 * TICK_HZ
"""Ticks of the other signals after which a signal without any message is missing."""

MAX_JUMP = 10 * TICK_HZ
"""A larger jump of ``sample_id`` is a fault, not a loss."""

PIECE = TICK_HZ // 2
"""Ticks aligned at a time, which bounds the memory of a long loss."""

EPOCH_NS = 1_514_764_800 * 10**9  # 2018-01-01T00:00:00Z, epoch of the library's time64
MARK_EVERY = TICK_HZ
_NAMES = {"i": "current", "v": "voltage"}


@dataclass(frozen=True, slots=True)
class JoulescopeTimeMap:
    """UTC of a tick, as the library last estimated it (``jsdrv_time_map_s``)."""

    offset_time: int
    offset_counter: int
    counter_rate: float

    def utc_ns(self, tick: int) -> int:
        """Return the UTC of a tick, ns since 1970, without the rounding of a float."""
        seconds = Fraction(tick - self.offset_counter) / Fraction(self.counter_rate)
        return EPOCH_NS + round((Fraction(self.offset_time, 1 << 30) + seconds) * 10**9)


class MessageAligner:
    """Convert messages to samples, gaps, edges and time marks.

    A sample period is known if current, voltage and every line are known for all of it; else it
    is part of a gap. Its power is the mean of current × voltage over the instrument's own samples,
    at any ``rate_hz``. The index of an edge has the resolution of a tick.

    A period is released when it is complete, or when it is older than ``max_delay`` and what is
    missing must be lost; messages that arrive later are dropped. Index 0 is the first tick with
    all signals.

    Args:
        rate_hz: samples per second to release; a divisor of the instrument's own rate.
        lines: input lines that are streamed.
        timestamp_line: the line whose falling edges count in :attr:`edges_seen`.
        time_uncertainty_ns: of a time map.
        where: the instrument, for error texts.
        max_delay: ticks a message may arrive behind the newest before it is lost.
        piece: ticks aligned at a time.
    """

    def __init__(
        self,
        rate_hz: int,
        lines: Sequence[str],
        timestamp_line: str,
        time_uncertainty_ns: int,
        where: Where,
        max_delay: int = MAX_DELAY,
        piece: int = PIECE,
    ) -> None:
        self.lost_samples = 0
        self.total_samples = 0
        self._where = where
        self._max_delay = max_delay
        self._period = TICK_HZ // rate_hz
        self._piece = max(piece // self._period, 1) * self._period
        self._timestamp_line = timestamp_line
        self._time_uncertainty_ns = time_uncertainty_ns
        self._analog: dict[str, SignalTrack[AnalogBlock]] = {"i": SignalTrack(), "v": SignalTrack()}
        self._lines: dict[str, SignalTrack[LineBlock]] = {line: SignalTrack() for line in lines}
        self._tracks = {**self._analog, **self._lines}
        self._falls = FallCounter()
        self._reach = -1
        self._began = -1  # first tick of the first message
        self._origin = -1
        self._at = -1  # everything before has been released
        self._periods: PeriodStream | None = None
        self._time_map: JoulescopeTimeMap | None = None
        self._marks: list[JoulescopeTimeMap] = []
        self._out: list[StreamItem] = []

    @property
    def received_samples(self) -> int:
        """Sample periods for which every signal has arrived or is overdue."""
        if not all(track.has_started for track in self._tracks.values()):
            return 0
        origin = self._origin if self._origin >= 0 else self._first_tick()
        return max(0, self._received_until() - origin) // self._period

    @property
    def edges_seen(self) -> int:
        """Falling edges of the timestamp line received."""
        return self._falls.falls

    @property
    def lost_share(self) -> float:
        """Share of the instrument's own samples that are missing or not a number."""
        return self.lost_samples / self.total_samples if self.total_samples else 0.0

    def feed(self, signal: str, message: Mapping[str, Any]) -> list[StreamItem]:
        """Take one message of ``i``, ``v`` or a line; return what it completed, in order.

        Raises:
            InstrumentError: its sample numbers are impossible in this stream.
        """
        start, step = int(message["sample_id"]), int(message["decimate_factor"])
        data = message["data"]
        if int(message["sample_rate"]) != TICK_HZ:
            raise self._sample_number_error(
                f"sample_id counts {message['sample_rate']} Hz, not {TICK_HZ}"
            )
        if data is not None and len(data):
            self._check_grid(signal, start, step)
            if signal in self._analog:
                self._insert_block(self._analog[signal], AnalogBlock(start, step, data))
            else:
                blocks = self._insert_block(self._lines[signal], line_block(start, step, data))
                if signal == self._timestamp_line:
                    self._falls.add_blocks(blocks)
            self._note_time_map(message["time_map"])
            self._release_settled(self._reach - self._max_delay)
        return self._take_output()

    def finish(self) -> list[StreamItem]:
        """Release the rest: no more messages come, so what is missing is lost."""
        if self._periods is None and all(track.has_started for track in self._tracks.values()):
            self._start_stream()
        if self._periods is not None:
            self._release_settled(self._received_until())
            self._out.extend(self._periods.close_gap(self._at))
        return self._take_output()

    # ---- intake ----------------------------------------------------------------------------

    def _check_grid(self, signal: str, start: int, step: int) -> None:
        """Refuse a message that does not fit the grid of its signal."""
        name, track = _NAMES.get(signal, signal), self._tracks[signal]
        if step <= 0 or self._period % step:
            raise self._sample_number_error(
                f"{name} has one value per {step} ticks, a sample {self._period}"
            )
        if not track.has_started:
            track.step, track.phase = step, start % step
        if (step, start % step) != (track.step, track.phase):
            raise self._sample_number_error(f"{name} changed its grid at sample {start}")
        grids = {(one.step, one.phase) for one in self._analog.values() if one.has_started}
        if len(grids) > 1:
            raise self._sample_number_error(
                "current and voltage are not sampled at the same instants"
            )
        if self._reach >= 0 and abs(start - self._reach) > MAX_JUMP:
            raise self._sample_number_error(f"{name} jumped from sample {self._reach} to {start}")

    def _sample_number_error(self, what: str) -> InstrumentError:
        remedy = "close and open the instrument; if it happens again, report it with this text"
        return InstrumentError("sample-numbers", what, remedy, self._where)

    def _insert_block(self, track: SignalTrack[B], block: B) -> list[B]:
        self._reach = max(self._reach, block.end_tick)
        if self._began < 0:
            self._began = block.start
        return track.insert_block(block)

    def _note_time_map(self, fields: Mapping[str, Any]) -> None:
        """Keep a new time map for a mark; marks made from earlier maps do not change."""
        known = self._time_map
        new = JoulescopeTimeMap(
            int(fields["offset_time"]), int(fields["offset_counter"]), float(fields["counter_rate"])
        )
        if new.offset_time <= 0 or new.counter_rate <= 0:
            return  # the library has none yet
        if known is None or new.offset_counter >= known.offset_counter + MARK_EVERY:
            self._time_map = new
            self._marks.append(new)

    # ---- release ---------------------------------------------------------------------------

    def _received_until(self) -> int:
        """Return the tick that the slowest signal has reached, or must have reached."""
        slowest = min(track.reach for track in self._tracks.values())
        return max(slowest, self._reach - self._max_delay, self._origin)

    def _first_tick(self) -> int:
        """Return the first tick with all signals, on the grid of current and voltage."""
        first = max(track.first_tick for track in self._tracks.values())
        current = self._analog["i"]
        return first + (current.phase - first) % current.step

    def _start_stream(self) -> PeriodStream:
        self._origin = self._at = self._first_tick()
        for track in self._tracks.values():
            track.take_before(self._origin)
        self._periods = PeriodStream(self._origin, self._period)
        return self._periods

    def _release_settled(self, limit: int) -> None:
        """Release the periods that are settled, and the time marks."""
        if self._periods is None and not self._can_start_stream():
            return
        periods = self._periods or self._start_stream()
        settled = min(track.settled_until(limit) for track in self._tracks.values())
        stop = self._at + max(0, settled - self._at) // self._period * self._period
        while self._at < stop:
            self._release_periods(periods, min(stop, self._at + self._piece))
        for mark in self._marks:
            tick = max(mark.offset_counter, self._origin)
            index = (tick - self._origin) / self._period
            self._out.append(TimeMark(index, mark.utc_ns(tick), self._time_uncertainty_ns, "utc"))
        self._marks.clear()

    def _can_start_stream(self) -> bool:
        silent = [name for name, track in self._tracks.items() if not track.has_started]
        if silent and self._reach - self._began > START_LIMIT:
            names = ", ".join(_NAMES.get(name, name) for name in silent)
            raise InstrumentError(
                "signal-missing",
                f"no messages of {names} arrive while the other signals stream",
                "close and open the instrument; update its firmware",
                self._where,
            )
        first = max(track.first_tick for track in self._tracks.values())
        return not silent and self._reach - first >= self._max_delay

    def _release_periods(self, periods: PeriodStream, stop: int) -> None:
        """Release the periods of [at, stop), then the edges in them."""
        start, losses = self._at, list[LostTicks]()
        current, voltage = (self._analog_values(name, stop, losses) for name in self._analog)
        with np.errstate(invalid="ignore", over="ignore"):
            power = current.astype(np.float64) * voltage
            lines = {
                line: LinePart(track.step, track.take_before(stop))
                for line, track in self._lines.items()
            }
            self._blank_unknown_lines(stop, lines, power, losses)
            complete = bool(np.isfinite(power.sum()))
            columns = [self._period_means(values) for values in (power, current, voltage)]
        self.total_samples += len(power)
        known = None if complete else self._known_periods(power)
        self._out.extend(periods.add_periods(start, columns, known, lines, losses))
        self._at = stop

    def _analog_values(self, name: str, stop: int, losses: list[LostTicks]) -> NDArray[np.float32]:
        """Return a signal's values up to ``stop``, NaN where they are lost."""
        start, track = self._at, self._analog[name]
        blocks = track.take_before(stop)
        if len(blocks) == 1 and (blocks[0].start, blocks[0].end_tick) == (start, stop):
            return blocks[0].values
        values = np.full((stop - start) // track.step, np.nan, np.float32)
        for block in blocks:
            first = (block.start - start) // track.step
            values[first : first + len(block.values)] = block.values
        losses += [
            LostTicks(*hole, f"{_NAMES[name]} lost")
            for hole in uncovered_ranges(start, stop, blocks)
        ]
        return values

    def _blank_unknown_lines(
        self,
        stop: int,
        lines: Mapping[str, LinePart],
        power_w: NDArray[np.float64],
        losses: list[LostTicks],
    ) -> None:
        """Set the power to NaN where a line is unknown: an edge may be missing there."""
        start, step = self._at, self._analog["i"].step
        for line, part in lines.items():
            for begin, end in uncovered_ranges(start, stop, part.blocks):
                power_w[(begin - start) // step : -((start - end) // step)] = np.nan
                losses.append(LostTicks(begin, end, f"{line} lost"))

    def _period_means(self, values: NDArray[Any]) -> NDArray[np.float64]:
        count = self._period // self._analog["i"].step
        if count == 1:
            return values.astype(np.float64)
        return values.reshape(-1, count).mean(axis=1, dtype=np.float64)

    def _known_periods(self, power_w: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which periods are known, shape (n,); count the samples that are not."""
        good = np.isfinite(power_w)
        self.lost_samples += len(good) - int(np.count_nonzero(good))
        count = self._period // self._analog["i"].step
        return np.logical_and.reduce(good.reshape(-1, count), axis=1)

    def _take_output(self) -> list[StreamItem]:
        out, self._out = self._out, []
        return out
