"""What both formats of the LPM01A's stream share: blocks of samples between two time stamps.

The instrument stamps its stream after every 1000 samples. Samples, edges and notes since the
last stamp form a block, which waits for the next one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.lpm01a.status_messages import Notes
from labd.core.model import Edge, Gap, Samples, StreamItem

SAMPLES_PER_STAMP = 1000
STAMP_TOLERANCE_MS = 2
TIMESTAMP_LINE = "d7"
CEILING_A = 0.25
CEILING_V = 3.6
"""No reading exceeds these. UM2269: 50 mA while measuring a changing current, 200 mA a constant
one, at 3.3 V at most. What claims to be more was damaged on its way."""
PLAUSIBLE_LOSS_S = 60
"""What an unconfirmed last stamp may claim to be missing; a flipped bit can claim days."""
UNCONFIRMED = "no time stamp confirms what came last"
HARMLESS = "temp degc"
"""A question that may be asked while samples come; a refusal of it spoils nothing."""

_PROMPT = b"PowerShield > "
_COMPLETED = b"Acquisition completed"


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a sample's number is: joules a period, or amperes at a set voltage."""

    power_factor: float
    is_current: bool

    @property
    def ceiling(self) -> float:
        """The largest number a whole sample can be: amperes, or joules a period."""
        return CEILING_A if self.is_current else CEILING_A * CEILING_V / self.power_factor

    def samples(self, index: int, values: NDArray[np.float64]) -> Samples:
        """The values as power, and as current where they are current."""
        power = values * self.power_factor
        return Samples(index, power, values if self.is_current else None)


@dataclass(frozen=True, slots=True)
class Answer:
    """The stream at the place of an answer to :data:`HARMLESS`."""

    stamps: int
    received: int


class StampedDecoder(ABC):
    """Turn the bytes after ``start`` into samples that can be vouched for, gaps and edges.

    Samples and edges since the last time stamp wait for the next one. It confirms them when
    exactly 1000 samples came, every one was whole, no event is missing and its time is one
    stamp period later. Otherwise they are dropped and the stretch becomes a gap whose length
    follows from the stamps' times; the first stamp after a doubt must be confirmed by the
    next one before anything counts again. The end of the acquisition carries no count, so it
    confirms nothing: what came after the last stamp is a gap. A driver lets a stamp come
    before it stops the instrument, and nothing it needs is in that tail. Once the instrument
    has reported an error or cut the DUT's power, nothing counts any more.

    Args:
        rate_hz: samples a second.
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
        self.received = 0
        self.edges_seen = 0
        self.stamps = 0
        self.answers: list[Answer] = []
        self.notes = Notes(set_mv)
        self._period_ms = SAMPLES_PER_STAMP * 1000 // rate_hz
        self._quantity = quantity
        self._wrap_ms = wrap_ms
        self._plausible_loss = PLAUSIBLE_LOSS_S * rate_hz
        self._buffer = b""
        self._anchor: tuple[int, int] = (
            0,
            0,
        )  # index and ms of the last confirmed stamp; time starts at zero
        self._base: tuple[int, int] = (0, 0)  # the same of the last stamp, where this block begins
        self._count = 0  # samples, whole or not, since then
        self._seen = 0  # the same since the anchor
        self._blocks: list[NDArray[np.float64]] = []
        self._edges: list[int] = []  # positions in this block
        self._doubt = ""  # why this block cannot be trusted
        self._refused = False  # whether it was a command that the last complaint was about
        self._dead = ""  # why no block ever can again
        self._gap_reason = ""  # why nothing since the anchor can be
        self._edges_dropped = 0
        self._out: list[StreamItem] = []

    @property
    def confirmed(self) -> int:
        """Index of the sample after the last one that a stamp has confirmed."""
        return self._anchor[0]

    @property
    def place(self) -> int | None:
        """Index of the next sample, as far as it is known; ``None`` while in doubt."""
        return None if self._doubt or self._gap_reason else self._base[0] + self._count

    def feed(self, data: bytes) -> list[StreamItem]:
        """Take more bytes; return what they confirmed, in order."""
        self._buffer += self._cleaned(data)
        position = 0
        while not self.completed and (step := self._step(position)):
            position += step
        self._buffer = self._buffer[position:]
        out, self._out = self._out, []
        return out

    def finish(self, reason: str) -> list[StreamItem]:
        """Give up on an acquisition that did not end by itself: its tail is a gap."""
        if not self.completed:
            self._distrust(reason)
            self._complete()
        out, self._out = self._out, []
        return out

    # ---- what a format says ---------------------------------------------------------------

    def _cleaned(self, data: bytes) -> bytes:
        """Bytes without what the format is known to sprinkle in."""
        return data

    @abstractmethod
    def _step(self, position: int) -> int:
        """Decode what stands at ``position``; how many bytes it was, 0 when it is not whole."""

    def _strange(self) -> str:
        """Why a whole block that is about to be confirmed cannot be what was measured."""
        return ""

    # ---- for a format's decoder -----------------------------------------------------------

    def _on_reply(self, line: bytes) -> bool:
        """Take a line of a reply to a command; whether it was one."""
        reply = line.startswith(_PROMPT)
        while line.startswith(_PROMPT):
            line = line[len(_PROMPT) :]
        if line == _COMPLETED:
            self._complete()
        elif line.startswith(b"ack "):
            self.started |= line.startswith(b"ack start")
            self._on_answer(line.removeprefix(b"ack "))
        elif line.startswith((b"error", b"err ")):
            text = line.removeprefix(b"error").removeprefix(b"err").strip(b" :")
            self._on_answer(text)
            self._refused = self.started and text.startswith((b"stop", HARMLESS.encode()))
            self._on_complaint(text)
        elif line.startswith(b"Error detail"):
            self._on_complaint(line.removeprefix(b"Error detail").strip(b" :"))
        else:
            return reply and not line
        return True

    def _on_answer(self, command: bytes) -> None:
        if self.started and command.startswith(HARMLESS.encode()):
            self.answers.append(Answer(self.stamps, self.received))

    def _on_complaint(self, text: bytes) -> None:
        if self._refused:
            self.notes.text(f"refused: {text.decode('ascii', 'replace')}")
        else:
            self._on_error(text)

    def _on_error(self, text: bytes) -> None:
        """The instrument reports that something went wrong: nothing counts from here on."""
        words = text.decode("ascii", "replace")
        self.fault = f"{self.fault}: {words}" if self.fault else words
        self._kill(f"the instrument reported: {self.fault}")

    def _on_power_lost(self, what: str) -> None:
        """The DUT is off: nothing that is measured from here on is what was asked for."""
        self.fault = self.fault or what
        self._kill(what)

    def _on_samples(self, values: NDArray[np.float64]) -> None:
        self._count += len(values)
        self._seen += len(values)
        self.received += len(values)
        if self._count > SAMPLES_PER_STAMP:
            self._distrust("a time stamp is missing")
        if not self._doubt:
            self._blocks.append(values)

    def _on_damage(self, reason: str) -> None:
        """Something that took the place of a sample."""
        self._count += 1
        self._seen += 1
        self._distrust(reason)

    def _on_edge(self) -> None:
        """An edge before the next sample."""
        self.edges_seen += 1
        if self._doubt:
            self._edges_dropped += 1
        else:
            self._edges.append(self._count)

    def _on_stamp(self, now_ms: int, load_percent: int) -> None:
        self.stamps += 1
        index, then_ms = self._base
        if self._count == 0 and now_ms == then_ms and not self._doubt:
            return  # the one before the first sample
        if self._count != SAMPLES_PER_STAMP:
            self._distrust(f"{self._count} samples between time stamps instead of 1000")
        if not self._is_one_period(then_ms, now_ms):
            self._distrust(f"time stamps {then_ms} ms and {now_ms} ms in succession")
        if not self._doubt and (strange := self._strange()):
            self._distrust(strange)
        self._count, doubt, self._doubt = 0, self._doubt, self._dead
        if not doubt:
            self._release()
            self._confirmed(load_percent)
            self._anchor = self._base = (index + SAMPLES_PER_STAMP, now_ms)
            self._seen = 0
            self.received = max(self.received, self._base[0])
            return
        self._gap_reason = self._gap_reason or doubt
        if self._is_past(now_ms):
            self._doubt = f"a time stamp of {now_ms} ms, long past"
        else:
            self._base = (self._index_at(now_ms), now_ms)

    def _confirmed(self, load_percent: int) -> None:
        """A block has just been vouched for, by a stamp with this transmit buffer load."""
        self.notes.load(load_percent)

    def _distrust(self, reason: str) -> None:
        """Drop the block that has not been confirmed yet."""
        self._doubt = self._doubt or reason
        self._edges_dropped += len(self._edges)
        self._blocks.clear()
        self._edges.clear()

    def _complete(self) -> None:
        """Nothing more comes, so nothing can confirm what came since the last stamp."""
        self.completed = True
        if self._count:
            self._distrust(UNCONFIRMED)
        self._gap_reason = self._gap_reason or self._doubt
        if self._gap_reason:
            self._emit_gap(self._last_index())

    # ---- inside ---------------------------------------------------------------------------

    def _kill(self, reason: str) -> None:
        self._dead = self._dead or reason
        self._distrust(reason)

    def _is_one_period(self, then_ms: int, now_ms: int) -> bool:
        error_ms = (now_ms - then_ms - self._period_ms) % self._wrap_ms
        return min(error_ms, self._wrap_ms - error_ms) <= STAMP_TOLERANCE_MS

    def _is_past(self, now_ms: int) -> bool:
        """Whether a stamp is older than the last confirmed one: a piece of stream came twice."""
        return (now_ms - self._anchor[1]) % self._wrap_ms > self._wrap_ms // 2

    def _index_at(self, now_ms: int) -> int:
        """The sample index at a stamp after a doubt, from the last confirmed one."""
        index, then_ms = self._anchor
        elapsed_ms = (now_ms - then_ms) % self._wrap_ms
        return index + round(elapsed_ms / self._period_ms) * SAMPLES_PER_STAMP

    def _last_index(self) -> int:
        """Where a stream in doubt ends: by its last stamp, if that is plausible."""
        by_count, by_stamp = self._anchor[0] + self._seen, self._base[0] + self._count
        return by_stamp if by_stamp - by_count <= self._plausible_loss else by_count

    def _release(self) -> None:
        """Give out this block, after the gap before it if there is one."""
        start = self._base[0]
        if self._gap_reason:
            self._emit_gap(start)
        if len(self._blocks) == 1:
            values = self._blocks[0]
        else:
            values = np.concatenate(self._blocks) if self._blocks else np.empty(0)
        done = 0
        for place in self._edges:
            if place > done:
                self._out.append(self._quantity.samples(start + done, values[done:place]))
            self._out.append(Edge(float(start + place), TIMESTAMP_LINE, rising=False))
            done = place
        if done < len(values):
            self._out.append(self._quantity.samples(start + done, values[done:]))
        self._blocks.clear()
        self._edges.clear()

    def _emit_gap(self, end: int) -> None:
        index = self._anchor[0]
        dropped = f"; {self._edges_dropped} edges in it dropped" if self._edges_dropped else ""
        if end > index:
            self._out.append(Gap(index, end - index, self._gap_reason + dropped))
        self._gap_reason, self._edges_dropped = "", 0
