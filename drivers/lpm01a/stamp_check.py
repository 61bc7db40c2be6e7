"""The check of the LPM01A's samples by its time stamps.

The instrument stamps its stream after every 1000 samples. Samples, edges and readings since the
last stamp form a block, which waits for the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivers.lpm01a.byte_slip import CONTEXT, has_byte_slip
from drivers.lpm01a.status_messages import StatusNotes
from labd.core.model import Edge, Gap, Samples, StreamItem

SAMPLES_PER_STAMP = 1000
STAMP_TOLERANCE_MS = 2
TIMESTAMP_LINE = "d7"
CEILING_A = 0.25
CEILING_V = 3.6
"""No reading exceeds these. UM2269: 50 mA while measuring a changing current, 200 mA a constant
one, at 3.3 V at most. A larger one was damaged on its way."""
PLAUSIBLE_LOSS_S = 60
"""Most that an unconfirmed last stamp can add to a gap; with a flipped bit it would be days."""
UNCONFIRMED = "no time stamp confirms what came last"


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a sample's number is: joules per sample period, or amperes at a set voltage."""

    power_factor: float
    is_current: bool

    @property
    def largest_value(self) -> float:
        """The largest number a whole sample can be: amperes, or joules per sample period."""
        return CEILING_A if self.is_current else CEILING_A * CEILING_V / self.power_factor

    def to_samples(self, index: int, values: NDArray[np.float64]) -> Samples:
        """Return the values as power, and as current where they are current."""
        power = values * self.power_factor
        return Samples(index, power, values if self.is_current else None)


@dataclass(slots=True)
class _Block:
    """Everything since the last stamp, as long as nothing is wrong with it."""

    values: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    raw: list[bytes] = field(default_factory=list[bytes])
    edges: list[int] = field(default_factory=list[int])  # positions in the block
    readings: list[tuple[Callable[[int], None], int]] = field(
        default_factory=list[tuple[Callable[[int], None], int]]
    )

    def clear(self) -> None:
        """Forget all of it."""
        self.values.clear()
        self.raw.clear()
        self.edges.clear()
        self.readings.clear()


class StampCheck:
    """Turns what a framer found into confirmed samples, gaps and edges.

    A stamp confirms its block when exactly 1000 samples came, every one is whole, no event is
    missing and its time is one stamp period after the last one's. Otherwise the block is
    dropped and becomes a gap whose length follows from the stamps' times; the first stamp after
    it must be confirmed by the next one before anything counts again. The end of the acquisition
    carries no count, so the samples after the last stamp are a gap: a driver waits for a stamp
    before it stops the instrument. Once the instrument has reported an error or cut the DUT's
    power, nothing counts any more.

    Args:
        rate_hz: samples per second.
        quantity: what the samples' numbers are.
        wrap_ms: where the stamps' time begins again, ms.
        set_mv: the supply voltage set, if known.
    """

    def __init__(
        self, rate_hz: int, quantity: Quantity, wrap_ms: int, set_mv: int | None = None
    ) -> None:
        self.started = False
        self.completed = False
        self.fault = ""
        self.received_samples = 0
        self.edges_seen = 0
        self.stamps = 0
        self.notes = StatusNotes(set_mv)
        self._period_ms = SAMPLES_PER_STAMP * 1000 // rate_hz
        self._quantity = quantity
        self._wrap_ms = wrap_ms
        self._plausible_loss = PLAUSIBLE_LOSS_S * rate_hz
        self._anchor = (0, 0)  # index and ms of the last confirmed stamp; time starts at zero
        self._base = (0, 0)  # the same of the last stamp, where this block begins
        self._count = 0  # samples, whole or not, since then
        self._count_since_anchor = 0
        self._block = _Block()
        self._context = b""  # the last bytes that were confirmed
        self._rejected = ""  # why this block cannot be confirmed
        self._ended = ""  # why no block ever can again
        self._gap_reason = ""  # why nothing since the anchor can be
        self._edges_dropped = 0
        self._items: list[StreamItem] = []

    @property
    def confirmed_samples(self) -> int:
        """Index after the last confirmed sample."""
        return self._anchor[0]

    @property
    def next_index(self) -> int | None:
        """Index of the next sample; ``None`` while samples are missing since the last stamp."""
        return None if self._rejected or self._gap_reason else self._base[0] + self._count

    def take_items(self) -> list[StreamItem]:
        """Return what was confirmed since the last call, in order."""
        items, self._items = self._items, []
        return items

    def finish(self, reason: str) -> list[StreamItem]:
        """Give up an acquisition that did not end by itself: its tail is a gap."""
        if not self.completed:
            self.reject_block(reason)
            self.mark_completed()
        return self.take_items()

    # ---- for a framer --------------------------------------------------------------------------

    def add_samples(self, values: NDArray[np.float64], raw: bytes = b"") -> None:
        """Take consecutive samples.

        Args:
            values: amperes, or joules per sample period, shape (n,); NaN where ``raw`` is no
                sample.
            raw: the bytes they were made of, two per sample; empty in ASCII.
        """
        room = SAMPLES_PER_STAMP - self._count
        if 0 < room < len(values):  # the same whatever way the bytes arrived in pieces
            self.add_samples(values[:room], raw[: 2 * room])
            values, raw = values[room:], raw[2 * room :]
        self._count += len(values)
        self._count_since_anchor += len(values)
        self.received_samples += len(values)
        if self._count > SAMPLES_PER_STAMP:
            self.reject_block("a time stamp is missing")
        if raw and math.isnan(values.sum()):
            self.reject_block("sample bytes are invalid or exceed the instrument's range")
        if not self._rejected:
            self._block.values.append(values)
            if raw:
                self._block.raw.append(raw)

    def add_damage(self, reason: str) -> None:
        """Take bytes that are in the place of a sample."""
        self._count += 1
        self._count_since_anchor += 1
        self.reject_block(reason)

    def add_edge(self) -> None:
        """Take an edge before the next sample."""
        self.edges_seen += 1
        if self._rejected:
            self._edges_dropped += 1
        else:
            self._block.edges.append(self._count)

    def add_stamp(self, now_ms: int, load_percent: int) -> None:
        """Take a time stamp: time since the start, and how full the transmit buffer was."""
        self.started = True
        self.stamps += 1
        index, then_ms = self._base
        if self._count == 0 and now_ms == then_ms and not self._rejected:
            return  # the one before the first sample
        if self._count != SAMPLES_PER_STAMP:
            self.reject_block(f"{self._count} samples between time stamps instead of 1000")
        if not self._is_one_period(then_ms, now_ms):
            self.reject_block(f"time stamps {then_ms} ms and {now_ms} ms in succession")
        if not self._rejected and self._has_byte_slip():
            self.reject_block("a stretch was read one byte off")
        self._count, rejected, self._rejected = 0, self._rejected, self._ended
        if not rejected:
            self._release_block(load_percent)
            self._anchor = self._base = (index + SAMPLES_PER_STAMP, now_ms)
            self._count_since_anchor = 0
            self.received_samples = max(self.received_samples, self._base[0])
            return
        self._gap_reason = self._gap_reason or rejected
        if self._is_past(now_ms):
            self._rejected = f"a time stamp of {now_ms} ms is older than the last confirmed one"
        else:
            self._base = (self._index_at(now_ms), now_ms)

    def add_reading(self, note: Callable[[int], None], number: int) -> None:
        """Note a number once its block is confirmed: it may be what is left of a stamp."""
        if not self._rejected:
            self._block.readings.append((note, number))

    def add_error(self, text: str) -> None:
        """Take an error that the instrument reports: nothing counts from here on."""
        self.fault = f"{self.fault}: {text}" if self.fault else text
        self._invalidate_rest(f"the instrument reported: {self.fault}")

    def add_power_loss(self, reason: str) -> None:
        """The DUT's power was cut: nothing counts from here on."""
        self.fault = self.fault or reason
        self._invalidate_rest(reason)

    def reject_block(self, reason: str) -> None:
        """Drop this block."""
        self._rejected = self._rejected or reason
        self._edges_dropped += len(self._block.edges)
        self._block.clear()
        self._context = b""

    def mark_completed(self) -> None:
        """Nothing more comes, so nothing can confirm the samples since the last stamp."""
        self.completed = True
        if self._count:
            self.reject_block(UNCONFIRMED)
        self._gap_reason = self._gap_reason or self._rejected
        if self._gap_reason:
            self._emit_gap(self._end_index())

    # ---- time stamps ---------------------------------------------------------------------

    def _invalidate_rest(self, reason: str) -> None:
        """Let nothing count from here on."""
        self._ended = self._ended or reason
        self.reject_block(reason)

    def _is_one_period(self, then_ms: int, now_ms: int) -> bool:
        error_ms = (now_ms - then_ms - self._period_ms) % self._wrap_ms
        return min(error_ms, self._wrap_ms - error_ms) <= STAMP_TOLERANCE_MS

    def _is_past(self, now_ms: int) -> bool:
        """Whether a stamp is older than the last confirmed one: part of the stream came again."""
        return (now_ms - self._anchor[1]) % self._wrap_ms > self._wrap_ms // 2

    def _index_at(self, now_ms: int) -> int:
        """Return the sample index at a stamp after a gap, from the last confirmed one."""
        index, then_ms = self._anchor
        elapsed_ms = (now_ms - then_ms) % self._wrap_ms
        return index + round(elapsed_ms / self._period_ms) * SAMPLES_PER_STAMP

    def _end_index(self) -> int:
        """Return where a stream ends after a gap: by its last stamp, if that is plausible."""
        by_count = self._anchor[0] + self._count_since_anchor
        by_stamp = self._base[0] + self._count
        return by_stamp if by_stamp - by_count <= self._plausible_loss else by_count

    # ---- blocks --------------------------------------------------------------------------

    def _has_byte_slip(self) -> bool:
        if not self._block.raw:
            return False
        raw, context = b"".join(self._block.raw), self._context
        self._context = raw[-2 * CONTEXT :]
        return has_byte_slip(raw, context)

    def _release_block(self, load_percent: int) -> None:
        """Deliver this block, after the gap before it if there is one."""
        block, start = self._block, self._base[0]
        if self._gap_reason:
            self._emit_gap(start)
        values = block.values[0] if len(block.values) == 1 else np.concatenate(block.values)
        done = 0
        for place in block.edges:
            if place > done:
                self._items.append(self._quantity.to_samples(start + done, values[done:place]))
            self._items.append(Edge(float(start + place), TIMESTAMP_LINE, rising=False))
            done = place
        if done < len(values):
            self._items.append(self._quantity.to_samples(start + done, values[done:]))
        self.notes.note_load(load_percent)
        for note, number in block.readings:
            note(number)
        block.clear()

    def _emit_gap(self, end: int) -> None:
        index = self._anchor[0]
        dropped = f"; {self._edges_dropped} edges in it dropped" if self._edges_dropped else ""
        if end > index:
            self._items.append(Gap(index, end - index, self._gap_reason + dropped))
        self._gap_reason, self._edges_dropped = "", 0
