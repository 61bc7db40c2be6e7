"""The sample stream of a Nordic PPK2: bytes in; samples, edges, gaps and time marks out.

Pure. 100 000 words of four bytes a second, little-endian: ADC value (bits 0-13), measuring
range (14-16), unused (17), a counter (18-23), the logic inputs D0…D7 (24-31). Nothing marks
the beginning of a word: a lost byte shifts all that follow, and only the counter tells.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivers.ppk2.calibration import CODE_MASK, SpikeFilter
from labd.core.count_monitor import CountMonitor, CountRules, Lost
from labd.core.host_clock import MinimumDelayFilter
from labd.core.model import Edge, Gap, Samples, StreamItem

RATE_HZ = 100_000
WORD_BYTES = 4
COUNTER_SHIFT = 18
LOGIC_SHIFT = 24
TURN = 64
"""The counter's turn. A word is confirmed by so many good ones after it: a wrong framing may
meet the right count once by chance, not 64 times in a row."""

STALE_WORDS = 2000
"""A break this early was the end of samples from before the start."""

SHADOW_WORDS = 8
"""The first words after a search are in doubt too: the counter is in a word's third byte, so
one whose first bytes are foreign looks good, and by chance the one before it."""

ODD_WORDS = 4
"""So few words with wrong counters, whose place is right, have damaged nothing but themselves."""

DOUBLED_WORDS = 16
"""By how many words a damaged stretch may be longer on the wire than it was in truth: a
packet of USB at full speed, 64 bytes."""

DISTINCT_WORDS = 3
"""A run with so many changes of the signal does not look like another by chance."""

BATCH = 8192
"""Words converted at a time."""

RULES = CountRules(
    rate_hz=RATE_HZ,
    step=TURN,
    on_time_ns=300_000,
    steady_ns=120_000,
    margin_ns=150_000,
    too_late_ns=50_000_000,
)
"""How the host's clock checks the count: one counter wrap lasts 640 µs."""

MARK_S = 1.0
"""One time mark per this interval."""

_COUNTER_MASK = np.uint32((TURN - 1) << COUNTER_SHIFT)
_RAMP_WORDS = 1 << 16
_RAMP = (np.arange(_RAMP_WORDS, dtype=np.uint32) % TURN) << np.uint32(COUNTER_SHIFT)

Words = NDArray[np.uint32]


# ---- framing -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resumed:
    """Framing was found again.

    Args:
        skipped: bytes between the last good word and the next one.
        advance: of the counter over them, modulo 64; ``None`` at the start.
        head: the first 64 of the good words that follow.
    """

    skipped: int
    advance: int | None
    head: Words


class Framer:
    """Cut bytes into words whose counters run on.

    Where a counter does not run on, everything is searched for the first place from which
    64 do, in any of the four framings. Each call yields arrays of good words, and a
    :class:`Resumed` before the first word after a search.
    """

    def __init__(self) -> None:
        self._rest: bytes = b""
        self._expected: int | None = None  # counter of the next word, as far as is known
        self._searching = True
        self._skipped = 0

    @property
    def searching(self) -> bool:
        """Whether the framing is not known at present."""
        return self._searching

    @property
    def pending_bytes(self) -> int:
        """Bytes that are no word yet, those given up while searching included."""
        return self._skipped + len(self._rest)

    def feed(self, data: bytes) -> list[Words | Resumed]:
        """Take more bytes."""
        data = self._rest + data if self._rest else data
        out: list[Words | Resumed] = []
        at = 0
        while True:
            if self._searching:
                found = _find_framing(data, at)
                if found is None:
                    keep = max(at, len(data) - (TURN * WORD_BYTES - 1))
                    self._skipped += keep - at
                    at = keep
                    break
                out.append(self._resume(data, found, found - at))
                at = found
            words = np.frombuffer(data, np.dtype("<u4"), (len(data) - at) // WORD_BYTES, at)
            good = self._good(words[:_RAMP_WORDS])
            if good:
                out.append(words[:good])
                at += good * WORD_BYTES
            self._searching = good < min(len(words), _RAMP_WORDS)
            if good == len(words):
                break
        self._rest = data[at:]
        return out

    def _resume(self, data: bytes, at: int, passed: int) -> Resumed:
        """Believe in the framing found at ``at``."""
        counter = (data[at + 2] >> 2) & (TURN - 1)
        advance = None if self._expected is None else (counter - self._expected) % TURN
        head = np.frombuffer(data, np.dtype("<u4"), TURN, at)
        resumed = Resumed(self._skipped + passed, advance, head)
        self._skipped, self._expected, self._searching = 0, counter, False
        return resumed

    def _good(self, words: Words) -> int:
        """How many words begin ``words`` whose counters run on."""
        assert self._expected is not None  # noqa: S101 - only asked once the framing is known
        level = np.uint32(self._expected << COUNTER_SHIFT)
        wrong = ((words - _RAMP[: len(words)]) & _COUNTER_MASK) != level
        good = int(np.argmax(wrong)) if wrong.any() else len(words)
        self._expected = (self._expected + good) % TURN
        return good


def _find_framing(data: bytes, at: int) -> int | None:
    """The first place from ``at`` on where 64 words with ascending counters begin."""
    best: int | None = None
    for phase in range(at, at + WORD_BYTES):
        count = (len(data) - phase) // WORD_BYTES
        if count < TURN:
            continue
        words = np.frombuffer(data, np.dtype("<u4"), count, phase)
        counters = (words >> np.uint32(COUNTER_SHIFT)) & np.uint32(TURN - 1)
        breaks = np.flatnonzero((counters[1:] - counters[:-1]) % TURN != 1)
        bounds = np.concatenate([[-1], breaks, [count - 1]])
        runs = np.flatnonzero(np.diff(bounds) >= TURN)
        if len(runs):
            place = phase + WORD_BYTES * (int(bounds[runs[0]]) + 1)
            best = place if best is None else min(best, place)
    return best


def repeats(tail: Words, head: Words) -> bool:
    """Whether ``head`` is what ``tail`` ended with, once more.

    A run of bytes that begins or ends within a word, delivered twice, has one word at an end
    made of two.

    Args:
        tail: the words before a break, shape (n,).
        head: as many words after it.
    """
    same = tail == head
    if len(same) > 2:  # noqa: PLR2004 - of one word or two nothing would be left to compare
        return bool(same[1:-1].all() and (same[0] or same[-1]))
    return bool(same.all())


def is_distinct(words: Words) -> bool:
    """Whether the signal changes so often in these words that no others look the same."""
    signal = words & ~_COUNTER_MASK
    return int(np.count_nonzero(signal[1:] != signal[:-1])) >= DISTINCT_WORDS


# ---- what may be given out ---------------------------------------------------------------


@dataclass(slots=True)
class _Stretch:
    """Consecutive good words that wait to be confirmed; a gap may be before them."""

    start: int
    why: str
    shadow: int = 0
    """Words still to be dropped at the beginning."""
    parts: deque[Words] = field(default_factory=deque[Words])
    count: int = 0

    @property
    def end(self) -> int:
        return self.start + self.count

    def append(self, words: Words) -> None:
        """Add the next words; the first ones may be in doubt."""
        if self.shadow:
            dropped = min(self.shadow, len(words))
            self.shadow -= dropped
            self.start += dropped
            words = words[dropped:]
        self.parts.append(words)
        self.count += len(words)

    def take_until(self, end: int) -> list[Words]:
        """Remove the words before ``end``."""
        count = min(max(0, end - self.start), self.count)
        self.start += count
        self.count -= count
        taken: list[Words] = []
        while count:
            first = self.parts.popleft()
            if len(first) > count:
                self.parts.appendleft(first[count:])
                first = first[:count]
            taken.append(first)
            count -= len(first)
        return taken

    def cut(self, end: int) -> None:
        """Drop the words from ``end`` on."""
        start = self.start
        self.hold(start, self.take_until(end))

    def hold(self, start: int, words: list[Words]) -> None:
        """Hold just these words, from ``start`` on."""
        self.start = start
        self.parts = deque(words)
        self.count = sum(map(len, words))


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the words of one acquisition mean.

    Args:
        table: current of every possible word, see ``current_table``.
        voltage_v: at which the DUT runs.
        spike_filter: whether samples beside a change of range are smoothed.
        lines: numbers of the logic inputs that are wired.
        timestamp_line: number of the one with the DUT's timestamp.
    """

    table: NDArray[np.float64]
    voltage_v: float
    spike_filter: bool
    lines: tuple[int, ...]
    timestamp_line: int


class StreamDecoder:
    """Turn the bytes after the start into samples that can be vouched for, edges and gaps.

    A word is given out once 64 more have come whose counters run on, and, with the host's
    clock, once a chunk has come so promptly that no samples can be missing before it. Where
    the counter breaks, the 64 words before it are in doubt, and become a gap with whatever
    is missing; where the host's clock misses samples, all since it last agreed are. How many
    are missing is told by the counter, the bytes in between, and the host's clock.

    Where the counter goes back and the words before the break come once more, they were
    delivered twice, and are dropped. A steady signal looks like that too after a loss of
    almost a turn: then the host's clock decides, and without it that loss is assumed.

    Args:
        meaning: of the words.
        clock: checks the count by the host's clock; ``None`` in virtual time.
    """

    def __init__(self, meaning: Meaning, clock: CountMonitor | None) -> None:
        self.edges_seen = 0
        self._framer = Framer()
        self._clock = clock
        self._arrivals = MinimumDelayFilter(RATE_HZ, MARK_S)
        self._converter = _Converter(meaning)
        self._timestamp = np.uint32(1 << (LOGIC_SHIFT + meaning.timestamp_line))
        self._last_word: Words | None = None
        self._tail = np.empty(0, np.uint32)  # the last words, a turn of the counter at most
        self._repeated = 0  # words still to come that came before
        self._unsure = 0
        self._waiting: list[_Stretch] = []
        self._end = 0  # index after the last good word
        self._received = 0
        self._released = 0

    @property
    def received(self) -> int:
        """Sample periods seen on the wire so far; never falls."""
        return self._received

    @property
    def vouched(self) -> int:
        """The index up to which the host's clock agrees, if it is asked at all."""
        return self._end if self._clock is None else self._clock.confirmed

    @property
    def unsure(self) -> int:
        """By how many samples, in turns of the counter, indices may be off unseen."""
        return self._unsure + (0 if self._clock is None else self._clock.possibly_missing)

    def feed(self, data: bytes, t_ns: int) -> list[StreamItem]:
        """Take more bytes and the host's time of their arrival; return what is confirmed."""
        for event in self._framer.feed(data):
            if isinstance(event, Resumed):
                self._resume(event)
            else:
                self._take(event)
        if self._clock is not None and not self._framer.searching:
            self._account(self._clock.observe(self._end, t_ns), self._clock)
            self._arrivals.add(self._end, t_ns)
        self._received = max(self._received, self._end)
        if self._end < STALE_WORDS:
            return []
        items = self._confirm(self._end - TURN)
        return items if self._clock is None else [*items, *self._arrivals.marks(self._released)]

    def finish(self, reason: str, *, orderly: bool) -> list[StreamItem]:
        """Settle the tail once nothing more comes.

        Args:
            reason: why there is nothing more, for the gap that the tail may become.
            orderly: the instrument was told to stop and became silent. Then a last word
                that is whole confirms the ones before it.
        """
        broken_bytes = self._framer.pending_bytes
        if orderly and not broken_bytes:
            reason = "the host read the last samples too late to confirm them"
        else:
            self._doubt_last(TURN)
            reason = "it ended in a damaged stretch" if orderly else reason
        if self._clock is not None:
            self._account(self._clock.finish(self._end), self._clock)
        items = self._confirm(self._end)
        items += self._converter.flush()
        end = self._end + -(-broken_bytes // WORD_BYTES)
        if end > self._released:
            items.append(Gap(self._released, end - self._released, reason))
        return items

    # ---- words ---------------------------------------------------------------------------

    def _take(self, words: Words) -> None:
        again = min(self._repeated, len(words))
        self._repeated -= again
        words = words[again:]
        if not len(words):
            return
        self._waiting[-1].append(words)
        self._end += len(words)
        last, self._last_word = self._last_word, words[-1:]
        if last is not None:
            self._count_timestamps(last, words[:1])
        self._count_timestamps(words[:-1], words[1:])
        last = words if len(words) >= TURN else np.concatenate([self._tail, words])
        self._tail = last[-TURN:]

    def _count_timestamps(self, before: Words, after: Words) -> None:
        changed = before ^ after
        if np.bitwise_or.reduce(changed, initial=0) & self._timestamp:
            self.edges_seen += int(np.count_nonzero(changed & before & self._timestamp))

    def _resume(self, found: Resumed) -> None:
        """The framing is known (again): place the next word."""
        if found.advance is None:
            self._begin(found.skipped)
            return
        words, odd_bytes = divmod(found.skipped, WORD_BYTES)
        in_place = not odd_bytes and words <= ODD_WORDS and words == found.advance
        self._doubt_last(SHADOW_WORDS if in_place else TURN)
        least = max(0, words - DOUBLED_WORDS)
        step = least + (found.advance - least) % TURN
        self._repeated = self._words_repeated(found.head, TURN - step)
        self._end += 0 if self._repeated else step
        shadow = 0 if in_place else SHADOW_WORDS
        self._waiting.append(_Stretch(self._end, "the samples' counter broke", shadow))
        self._last_word, self._tail = None, self._tail[:0]
        if self._clock is not None:
            self._clock.counter_broke(self._end)

    def _words_repeated(self, head: Words, back: int) -> int:
        """How many of the words to come are those before the break once more.

        Args:
            head: the words to come.
            back: by how many the counter went back, unless it went on by the rest of a turn.
        """
        packets = back <= DOUBLED_WORDS or back % DOUBLED_WORDS == 0
        if not packets or not 0 < back <= min(len(self._tail), TURN - 1):
            return 0
        again = self._tail[-back:]
        if not repeats(again, head[:back]):
            return 0
        if self._clock is None and not is_distinct(again):
            self._unsure += TURN
            return 0
        return back

    def _begin(self, skipped: int) -> None:
        """The first good words; how many bad ones were before them is as good as unknown."""
        self._end = round(skipped / WORD_BYTES)
        shadow = SHADOW_WORDS if skipped else 0
        self._waiting.append(_Stretch(self._end, "the stream began with a damaged one", shadow))

    def _doubt_last(self, words: int) -> None:
        """Drop the last words, which too few good ones follow, or all before an early break."""
        if self._waiting:
            first = self._end - words if self._end >= STALE_WORDS else 0
            self._waiting[-1].cut(first)

    def _account(self, missing: Lost | None, clock: CountMonitor) -> None:
        """If the host's clock misses samples, all since it agreed are in doubt."""
        if missing is None:
            return
        last = self._waiting[-1]
        since = last.start if missing.since is None else missing.since
        why = f"{last.why}, {missing.why}" if missing.since is None else missing.why
        after = _Stretch(since + missing.count, why)
        for stretch in self._waiting:
            start = stretch.start
            trusted = stretch.take_until(clock.confirmed)
            stretch.take_until(since)  # in doubt
            for words in stretch.take_until(stretch.end):
                after.append(words)
            stretch.hold(start, trusted)
        self._waiting = [stretch for stretch in self._waiting if stretch.count]
        self._waiting.append(after)
        self._end += missing.count
        clock.restart(self._end)
        self._arrivals.restart()

    # ---- what is confirmed ---------------------------------------------------------------

    def _confirm(self, end: int) -> list[StreamItem]:
        """Give out the words before ``end`` that the host's clock agrees with."""
        end = min(end, self.vouched)
        items: list[StreamItem] = []
        while self._waiting:
            first = self._waiting[0]
            if not first.count and len(self._waiting) > 1:
                self._drop_empty()
                continue
            if first.start > self._released and end > first.start:
                items += self._converter.flush()
                items.append(Gap(self._released, first.start - self._released, first.why))
                self._converter.reset()
                self._released = first.start
            if first.start == self._released:
                for words in first.take_until(end):
                    items += self._converter.take(self._released, words)
                    self._released += len(words)
            if first.count or len(self._waiting) == 1:
                break
        return items

    def _drop_empty(self) -> None:
        """The first stretch has nothing left; if it never had, its gap grows into the next."""
        empty = self._waiting.pop(0)
        if empty.start > self._released:
            self._waiting[0].why = empty.why


class _Converter:
    """Make samples and edges of confirmed words, a batch at a time.

    The batches' bounds do not show in the values.
    """

    def __init__(self, meaning: Meaning) -> None:
        self._meaning = meaning
        self._filter = SpikeFilter() if meaning.spike_filter else None
        self._wired = np.uint32(sum(1 << (LOGIC_SHIFT + line) for line in meaning.lines))
        self._parts: list[Words] = []
        self._count = 0
        self._index = 0  # of the first word in the parts
        self._last_word: int | None = None

    def reset(self) -> None:
        """Forget the signal before a gap."""
        self._last_word = None
        if self._filter is not None:
            self._filter.reset()

    def take(self, index: int, words: Words) -> list[StreamItem]:
        """Take the words from ``index`` on."""
        if not self._parts:
            self._index = index
        self._parts.append(words)
        self._count += len(words)
        return self.flush() if self._count >= BATCH else []

    def flush(self) -> list[StreamItem]:
        """Convert all words there are."""
        if not self._parts:
            return []
        words = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        self._parts.clear()
        self._count = 0
        items: list[StreamItem] = []
        for at in range(0, len(words), 2 * BATCH):
            items += self._convert(self._index + at, words[at : at + 2 * BATCH])
        return items

    def _convert(self, index: int, words: Words) -> list[StreamItem]:
        currents = self._meaning.table[(words & np.uint32(CODE_MASK)).astype(np.intp)]
        if self._filter is not None:
            self._filter.apply(words, currents)
        return [
            Samples(index, currents * self._meaning.voltage_v, currents),
            *self._edges(index, words),
        ]

    def _edges(self, index: int, words: Words) -> list[Edge]:
        changed = (words[1:] ^ words[:-1]) & self._wired
        places = (np.flatnonzero(changed) + 1).tolist()
        before = self._last_word
        self._last_word = int(words[-1])
        if before is not None and (before ^ int(words[0])) & int(self._wired):
            places.insert(0, 0)
        edges: list[Edge] = []
        for place in places:
            after = int(words[place])
            flipped = after ^ (int(words[place - 1]) if place else before or 0)
            edges += [
                Edge(float(index + place), f"d{line}", bool(after >> (LOGIC_SHIFT + line) & 1))
                for line in self._meaning.lines
                if flipped >> (LOGIC_SHIFT + line) & 1
            ]
        return edges
