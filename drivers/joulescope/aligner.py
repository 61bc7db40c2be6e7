"""Joulescope messages in, one confirmed stream out: aligned by ``sample_id``, never by index.

Current, voltage and every input line come in messages of their own, of different lengths and
in any order. All count ``sample_id`` in ticks of 2 MHz, whatever their own rate is: element k
of a message covers the ticks from ``sample_id + k·decimate_factor`` on (binding.pyx and
js220_usb.c of joulescope_driver). Here they are laid side by side by that count alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.joulescope.sample_blocks import Analog, B, Digital, Track, digital, holes
from labd.core.errors import InstrumentError, Where
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark

TICK_HZ = 2_000_000

WINDOW = TICK_HZ // 4
"""How long a message may stay out. The longest hold 50 ms; all come through one thread."""

START_LIMIT = 2 * TICK_HZ
"""A signal that has said nothing while another went on for so long is not coming."""

MAX_JUMP = 10 * TICK_HZ
"""A sample number so far from the rest is no loss but a fault."""

PIECE = TICK_HZ // 2
"""Ticks merged at a time, which bounds the memory a long loss can take."""

EPOCH_NS = 1_514_764_800 * 10**9  # 2018-01-01T00:00:00Z, where time64 begins
MARK_EVERY = TICK_HZ
_NAMES = {"i": "current", "v": "voltage"}


# ---- time ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TimeMap:
    """Where a tick lies in time, as the library last knew (``jsdrv_time_map_s``)."""

    offset_time: int
    offset_counter: int
    counter_rate: float

    def t_ns(self, tick: int) -> int:
        """UTC of a tick, ns since 1970, in whole numbers: a float holds no such time."""
        seconds = Fraction(tick - self.offset_counter) / Fraction(self.counter_rate)
        return EPOCH_NS + round((Fraction(self.offset_time, 1 << 30) + seconds) * 10**9)


# ---- the merger ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Loss:
    """Ticks [start, stop) of which a signal said nothing."""

    start: int
    stop: int
    reason: str


class Merger:
    """Turn messages into samples known in full, gaps, edges and time marks.

    A sample period is known where current, voltage and every line are, all of it: its power
    is the mean of current × voltage over the instrument's own samples, so nothing is lost by
    a low ``rate_hz``. Where any of them is missing (a jump of ``sample_id``) or not a number,
    the period is part of a gap. A line is unknown in a gap: an edge lies between two ticks,
    both in periods that are known. Its index has the resolution of a tick.

    Nothing is given out before it is complete, or so old that what is missing must be lost;
    what comes later than that is dropped. The stream begins where all signals are there.

    Args:
        rate_hz: samples a second to give out; a divisor of the instrument's own rate.
        lines: the input lines that are streamed.
        timestamp_line: the one whose falls count in :attr:`edges_seen`.
        time_uncertainty_ns: of a time map.
        where: the instrument, for error texts.
        window: how many ticks a message may stay out before it is lost.
    """

    def __init__(
        self,
        rate_hz: int,
        lines: Sequence[str],
        timestamp_line: str,
        time_uncertainty_ns: int,
        where: Where,
        window: int = WINDOW,
    ) -> None:
        self.edges_seen = 0
        self.lost_samples = 0
        self.total_samples = 0
        self._where = where
        self._window = window
        self._period = TICK_HZ // rate_hz
        self._timestamp_line = timestamp_line
        self._time_uncertainty_ns = time_uncertainty_ns
        self._analog: dict[str, Track[Analog]] = {"i": Track(), "v": Track()}
        self._lines: dict[str, Track[Digital]] = {line: Track() for line in lines}
        self._reach = -1
        self._began = -1  # the first tick of the first message
        self._origin = -1
        self._at = -1  # everything before has been given out
        self._ends: dict[int, bool] = {}  # the timestamp line's level where a piece ends …
        self._starts: dict[int, bool] = {}  # … and where one starts, until they meet
        self._level: dict[str, tuple[int, bool]] = {}  # each line's level before this tick
        self._last_known = False  # whether the last period given out was
        self._gap: list[int] = []  # first period of the open gap
        self._gap_reasons: dict[str, None] = {}
        self._dropped: list[int] = []  # ticks of edges that touch a gap
        self._time_map: TimeMap | None = None
        self._marks: list[TimeMap] = []
        self._out: list[StreamItem] = []

    @property
    def received(self) -> int:
        """Sample periods for which every signal has been heard, or has lost its turn."""
        if not all(track.heard for track in self._tracks()):
            return 0
        origin = self._origin if self._origin >= 0 else self._first_tick()
        return max(0, self._heard_to() - origin) // self._period

    @property
    def lost_share(self) -> float:
        """Share of the instrument's own samples that are missing or not numbers."""
        return self.lost_samples / self.total_samples if self.total_samples else 0.0

    def feed(self, signal: str, message: Mapping[str, Any]) -> list[StreamItem]:
        """Take one message of ``i``, ``v`` or a line; return what it completed, in order.

        Raises:
            InstrumentError: its numbers cannot belong to this stream.
        """
        start, step = int(message["sample_id"]), int(message["decimate_factor"])
        data = message["data"]
        if int(message["sample_rate"]) != TICK_HZ:
            raise self._fault(f"sample numbers count {message['sample_rate']} Hz, not {TICK_HZ}")
        if data is not None and len(data):
            self._check(signal, start, step)
            if signal in self._analog:
                self._insert(self._analog[signal], Analog(start, step, data))
            else:
                pieces = self._insert(self._lines[signal], digital(start, step, data))
                if signal == self._timestamp_line:
                    self._count_falls(pieces)
            self._note_time(message["time_map"])
            self._advance(self._reach - self._window)
        return self._drain()

    def finish(self) -> list[StreamItem]:
        """Nothing more comes: what is missing before the common end is lost."""
        if self._origin < 0 and all(track.heard for track in self._tracks()):
            self._begin()
        if self._origin >= 0:
            self._advance(self._heard_to())
            self._close_gap(self._index(self._at))
        return self._drain()

    # ---- taking messages in ----------------------------------------------------------------

    def _tracks(self) -> list[Track[Analog] | Track[Digital]]:
        return [*self._analog.values(), *self._lines.values()]

    def _track(self, signal: str) -> Track[Analog] | Track[Digital]:
        return self._analog[signal] if signal in self._analog else self._lines[signal]

    def _check(self, signal: str, start: int, step: int) -> None:
        """Refuse what would have to be shifted to fit."""
        name, track = _NAMES.get(signal, signal), self._track(signal)
        if step <= 0 or self._period % step:
            raise self._fault(f"{name} has one value in {step} ticks, a sample {self._period}")
        if not track.heard:
            track.step, track.phase = step, start % step
        if (step, start % step) != (track.step, track.phase):
            raise self._fault(f"{name} changed its grid at sample {start}")
        grids = {(one.step, one.phase) for one in self._analog.values() if one.heard}
        if len(grids) > 1:
            raise self._fault("current and voltage are not sampled at the same instants")
        if self._reach >= 0 and abs(start - self._reach) > MAX_JUMP:
            raise self._fault(f"{name} jumped from sample {self._reach} to {start}")

    def _fault(self, what: str) -> InstrumentError:
        todo = "close and open the instrument; if it comes again, report it with this text"
        return InstrumentError("sample-numbers", what, todo, self._where)

    def _insert(self, track: Track[B], block: B) -> list[B]:
        self._reach = max(self._reach, block.end)
        if self._began < 0:
            self._began = block.start
        return track.insert(block)

    def _count_falls(self, pieces: Sequence[Digital]) -> None:
        for piece in pieces:
            self.edges_seen += piece.falls
            before = self._ends.pop(piece.start, None)
            self.edges_seen += bool(before) and not piece.level
            if before is None:
                self._starts[piece.start] = piece.level
            after = self._starts.pop(piece.end, None)
            self.edges_seen += piece.last_level and after is False
            if after is None:
                self._ends[piece.end] = piece.last_level

    def _note_time(self, fields: Mapping[str, Any]) -> None:
        """Keep a new time map as a mark of its own, so that older marks stay where they are."""
        known = self._time_map
        new = TimeMap(
            int(fields["offset_time"]), int(fields["offset_counter"]), float(fields["counter_rate"])
        )
        if new.offset_time <= 0 or new.counter_rate <= 0:
            return  # the library has none yet
        if known is None or new.offset_counter >= known.offset_counter + MARK_EVERY:
            self._time_map = new
            self._marks.append(new)

    # ---- giving out ------------------------------------------------------------------------

    def _heard_to(self) -> int:
        """Where the slowest signal is, or may no longer be."""
        return max(
            min(track.reach for track in self._tracks()), self._reach - self._window, self._origin
        )

    def _index(self, tick: int) -> int:
        return (tick - self._origin) // self._period

    def _first_tick(self) -> int:
        """Where every signal is there, on the grid of the samples."""
        first = max(track.first for track in self._tracks())
        current = self._analog["i"]
        return first + (current.phase - first) % current.step

    def _begin(self) -> None:
        self._origin = self._at = self._first_tick()
        for track in self._tracks():
            track.begin(self._origin)

    def _advance(self, limit: int) -> None:
        if self._origin < 0 and not self._may_begin():
            return
        if self._origin < 0:
            self._begin()
        settled = min(track.settled(limit) for track in self._tracks())
        stop = self._at + max(0, settled - self._at) // self._period * self._period
        piece = max(PIECE // self._period, 1) * self._period
        while self._at < stop:
            self._give_out(min(stop, self._at + piece))
        for mark in self._marks:
            tick = max(mark.offset_counter, self._origin)
            index = (tick - self._origin) / self._period
            self._out.append(TimeMark(index, mark.t_ns(tick), self._time_uncertainty_ns, "utc"))
        self._marks.clear()

    def _may_begin(self) -> bool:
        silent = [name for name in (*self._analog, *self._lines) if not self._track(name).heard]
        if silent and self._reach - self._began > START_LIMIT:
            names = ", ".join(_NAMES.get(name, name) for name in silent)
            raise InstrumentError(
                "signal-missing",
                f"nothing comes of {names} while the other signals do",
                "close and open the instrument; update its firmware",
                self._where,
            )
        first = max(track.first for track in self._tracks())
        return not silent and self._reach - first >= self._window

    def _give_out(self, stop: int) -> None:
        """Give out the periods of [at, stop), then the edges in them."""
        start, losses = self._at, list[_Loss]()
        current, voltage = (self._values(name, stop, losses) for name in self._analog)
        with np.errstate(invalid="ignore", over="ignore"):
            power = current.astype(np.float64) * voltage
            pieces = {line: track.take(stop) for line, track in self._lines.items()}
            self._blank(stop, pieces, power, losses)
            complete = bool(np.isfinite(power.sum()))
            columns = [self._means(values) for values in (power, current, voltage)]
        self.total_samples += len(power)
        known = None if complete else self._known(power)
        edges = self._edges(start, pieces, known)
        self._emit(start, columns, known, losses)
        self._out.extend(edges)
        self._at = stop

    def _values(self, name: str, stop: int, losses: list[_Loss]) -> NDArray[np.float32]:
        """A signal's values from here to ``stop``; lost ones are not numbers."""
        start, track = self._at, self._analog[name]
        blocks = track.take(stop)
        if len(blocks) == 1 and (blocks[0].start, blocks[0].end) == (start, stop):
            return blocks[0].values
        values = np.full((stop - start) // track.step, np.nan, np.float32)
        for block in blocks:
            first = (block.start - start) // track.step
            values[first : first + len(block.values)] = block.values
        losses += [_Loss(*hole, f"{_NAMES[name]} lost") for hole in holes(start, stop, blocks)]
        return values

    def _blank(
        self,
        stop: int,
        pieces: Mapping[str, Sequence[Digital]],
        power_w: NDArray[np.float64],
        losses: list[_Loss],
    ) -> None:
        """Where a line is unknown nobody can say that no edge was there: no number either."""
        start, step = self._at, self._analog["i"].step
        for line, known in pieces.items():
            for begin, end in holes(start, stop, known):
                power_w[(begin - start) // step : -((start - end) // step)] = np.nan
                losses.append(_Loss(begin, end, f"{line} lost"))

    def _means(self, values: NDArray[Any]) -> NDArray[np.float64]:
        many = self._period // self._analog["i"].step
        if many == 1:
            return values.astype(np.float64)
        return values.reshape(-1, many).mean(axis=1, dtype=np.float64)

    def _known(self, power_w: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which periods are known in full; counts the samples that are not."""
        good = np.isfinite(power_w)
        self.lost_samples += len(good) - int(np.count_nonzero(good))
        many = self._period // self._analog["i"].step
        return np.logical_and.reduce(good.reshape(-1, many), axis=1)

    def _edges(
        self, start: int, pieces: Mapping[str, Sequence[Digital]], known: NDArray[np.bool_] | None
    ) -> list[Edge]:
        """The lines' edges between known ticks, in order; the others are counted."""
        found: list[tuple[int, str, bool]] = []
        for line, parts in pieces.items():
            step = self._lines[line].step
            for tick, rising in self._changes(line, parts):
                periods = ((tick - step - start) // self._period, (tick - start) // self._period)
                if all(self._is_known(period, known) for period in periods):
                    found.append((tick, line, rising))
                else:
                    self._dropped.append(tick)
        self._last_known = known is None or bool(known[-1])
        return [
            Edge((tick - self._origin) / self._period, line, rising=rising)
            for tick, line, rising in sorted(found)
        ]

    def _is_known(self, period: int, known: NDArray[np.bool_] | None) -> bool:
        if period < 0:
            return self._last_known
        return known is None or bool(known[period])

    def _changes(self, line: str, parts: Sequence[Digital]) -> Iterator[tuple[int, bool]]:
        for part in parts:
            end, level = self._level.get(line, (-1, False))
            if end == part.start and level != part.level:
                yield part.start, part.level
            level = part.level
            for tick in part.changes.tolist():
                level = not level
                yield tick, level
            self._level[line] = (part.end, level)

    def _emit(
        self,
        start: int,
        columns: Sequence[NDArray[np.float64]],
        known: NDArray[np.bool_] | None,
        losses: Sequence[_Loss],
    ) -> None:
        """Give out runs of known periods as samples; runs of others make or prolong the gap."""
        index, count = self._index(start), len(columns[0])
        turns = [] if known is None else (np.flatnonzero(known[1:] != known[:-1]) + 1).tolist()
        for first, last in zip([0, *turns], [*turns, count], strict=True):
            if known is None or known[first]:
                self._close_gap(index + first)
                power_w, current_a, voltage_v = (column[first:last] for column in columns)
                self._out.append(Samples(index + first, power_w, current_a, voltage_v))
            else:
                self._gap = self._gap or [index + first]
                begin, end = (start + place * self._period for place in (first, last))
                reasons = [loss.reason for loss in losses if loss.start < end and begin < loss.stop]
                self._gap_reasons.update(dict.fromkeys(reasons or ["not a number"]))

    def _close_gap(self, end: int) -> None:
        if not self._gap:
            return
        index = self._gap[0]
        last_tick = self._origin + end * self._period
        dropped = sum(tick <= last_tick for tick in self._dropped)
        self._dropped = [tick for tick in self._dropped if tick > last_tick]
        text = ", ".join(sorted(self._gap_reasons)) + (
            f"; {dropped} edges in it dropped" * bool(dropped)
        )
        self._out.append(Gap(index, end - index, text))
        self._gap.clear()
        self._gap_reasons.clear()

    def _drain(self) -> list[StreamItem]:
        out, self._out = self._out, []
        return out
