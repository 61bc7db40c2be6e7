"""The sample stream of a Nordic PPK2: bytes in; samples, edges, gaps and time marks out. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from drivers.ppk2.converter import LOGIC_SHIFT, Converter, WordMeaning
from drivers.ppk2.word_framer import (
    WORD_BYTES,
    WRAP,
    Resumed,
    WordFramer,
    Words,
    head_repeats_tail,
    is_distinct,
)
from labd.core.count_monitor import CountMonitor, CountRules, Lost
from labd.core.host_clock import MinimumDelayFilter
from labd.core.model import Gap, StreamItem

RATE_HZ = 100_000
STALE_WORDS = 2000
"""A break this early is the end of samples from before the start."""

SHADOW_WORDS = 8
"""The first words after a search are dropped: the counter is in a word's third byte, so a word
whose first bytes are foreign looks good, and by chance the one before it."""

ODD_WORDS = 4
"""At most this many words with wrong counters, in their right place, damaged nothing else."""

DOUBLED_WORDS = 16
"""A damaged stretch may be longer on the wire than in truth by this many words: one packet of
USB at full speed, 64 bytes."""

RULES = CountRules(
    rate_hz=RATE_HZ,
    step=WRAP,
    on_time_ns=300_000,
    steady_ns=120_000,
    margin_ns=150_000,
    too_late_ns=50_000_000,
)
"""How the host's clock checks the count: one counter wrap lasts 640 µs."""

MARK_S = 1.0
"""One time mark per this interval."""


@dataclass(slots=True)
class _Stretch:
    """Consecutive good words that wait for confirmation; a gap may precede them."""

    start: int
    gap_reason: str
    words_to_drop: int = 0
    """Words at its beginning that are dropped."""
    parts: deque[Words] = field(default_factory=deque[Words])
    count: int = 0

    @property
    def end_index(self) -> int:
        return self.start + self.count

    def append_words(self, words: Words) -> None:
        """Add the next words, without those to be dropped."""
        if self.words_to_drop:
            dropped = min(self.words_to_drop, len(words))
            self.words_to_drop -= dropped
            self.start += dropped
            words = words[dropped:]
        self.parts.append(words)
        self.count += len(words)

    def take_words_before(self, end: int) -> list[Words]:
        """Remove and return the words before ``end_index``."""
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

    def drop_from(self, end: int) -> None:
        """Drop the words from ``end_index`` on."""
        start = self.start
        self.replace_words(start, self.take_words_before(end))

    def replace_words(self, start: int, words: list[Words]) -> None:
        """Replace the words by these, which begin at ``start``."""
        self.start = start
        self.parts = deque(words)
        self.count = sum(map(len, words))


class StreamDecoder:
    """Turns the bytes after the start into confirmed samples, edges, gaps and time marks.

    A word is delivered after 64 more with consecutive counters, and, in host time, once the host's
    clock confirms that no samples are missing before it. Where the counter breaks, the 64 words
    before the break become a gap, together with the missing ones; where the host's clock finds a
    loss, all words since its last confirmation do. The counter, the bytes in between and the
    host's clock give the number of missing samples.

    Where the counter goes back and the words before the break come again, they were delivered
    twice and are dropped. With a steady signal the loss of almost a counter wrap looks the same:
    then the host's clock decides; without it that loss is assumed.

    Args:
        meaning: of the words.
        clock: checks the count by the host's clock; ``None`` in virtual time.

    Attributes:
        edges_seen: timestamps of the DUT on the wire so far, confirmed or not.
    """

    def __init__(self, meaning: WordMeaning, clock: CountMonitor | None) -> None:
        self.edges_seen = 0
        self._framer = WordFramer()
        self._clock = clock
        self._arrivals = MinimumDelayFilter(RATE_HZ, MARK_S)
        self._converter = Converter(meaning)
        self._timestamp = np.uint32(1 << (LOGIC_SHIFT + meaning.timestamp_line))
        self._last_word: Words | None = None
        self._tail = np.empty(0, np.uint32)  # the last words, one counter wrap at most
        self._repeated = 0  # words still to come that were delivered before
        self._possibly_missing = 0
        self._waiting: list[_Stretch] = []
        self._end = 0  # index after the last good word
        self._received = 0
        self._released = 0

    @property
    def received_samples(self) -> int:
        """Sample periods on the wire so far; never falls."""
        return self._received

    @property
    def confirmed_samples(self) -> int:
        """The index up to which the host's clock confirms the count; all of it in virtual time."""
        return self._end if self._clock is None else self._clock.confirmed

    @property
    def possibly_missing(self) -> int:
        """Upper limit of undetected lost samples, a multiple of the counter wrap."""
        return self._possibly_missing + (0 if self._clock is None else self._clock.possibly_missing)

    def feed(self, data: bytes, t_ns: int) -> list[StreamItem]:
        """Take more bytes and the host's time of their arrival; return what they confirm."""
        for event in self._framer.feed(data):
            if isinstance(event, Resumed):
                self._place_after_break(event)
            else:
                self._append_words(event)
        if self._clock is not None and not self._framer.is_searching:
            self._apply_clock_loss(self._clock.observe_delivery(self._end, t_ns), self._clock)
            self._arrivals.add_observation(self._end, t_ns)
        self._received = max(self._received, self._end)
        if self._end < STALE_WORDS:
            return []
        items = self._release_confirmed(self._end - WRAP)
        return (
            items
            if self._clock is None
            else [*items, *self._arrivals.finished_marks(self._released)]
        )

    def finish(self, reason: str, *, orderly: bool) -> list[StreamItem]:
        """Confirm the tail or make it a gap, once nothing more comes.

        Args:
            reason: why nothing more comes, for the gap.
            orderly: the instrument was stopped and became silent. Then a whole last word
                confirms the ones before it.
        """
        broken_bytes = self._framer.pending_bytes
        if orderly and not broken_bytes:
            reason = "the host read the last samples too late to confirm them"
        else:
            self._drop_last_words(WRAP)
            reason = "it ended in a damaged stretch" if orderly else reason
        if self._clock is not None:
            self._apply_clock_loss(self._clock.settle_at_end(self._end), self._clock)
        items = self._release_confirmed(self._end)
        items += self._converter.convert_pending()
        end = self._end + -(-broken_bytes // WORD_BYTES)
        if end > self._released:
            items.append(Gap(self._released, end - self._released, reason))
        return items

    # ---- words ---------------------------------------------------------------------------

    def _append_words(self, words: Words) -> None:
        again = min(self._repeated, len(words))
        self._repeated -= again
        words = words[again:]
        if not len(words):
            return
        self._waiting[-1].append_words(words)
        self._end += len(words)
        last, self._last_word = self._last_word, words[-1:]
        if last is not None:
            self._count_timestamps(last, words[:1])
        self._count_timestamps(words[:-1], words[1:])
        last = words if len(words) >= WRAP else np.concatenate([self._tail, words])
        self._tail = last[-WRAP:]

    def _count_timestamps(self, before: Words, after: Words) -> None:
        changed = before ^ after
        if np.bitwise_or.reduce(changed, initial=0) & self._timestamp:
            self.edges_seen += int(np.count_nonzero(changed & before & self._timestamp))

    def _place_after_break(self, found: Resumed) -> None:
        """Place the next word after a break."""
        if found.advance is None:
            self._place_first_words(found.skipped)
            return
        words, odd_bytes = divmod(found.skipped, WORD_BYTES)
        in_place = not odd_bytes and words <= ODD_WORDS and words == found.advance
        self._drop_last_words(SHADOW_WORDS if in_place else WRAP)
        least = max(0, words - DOUBLED_WORDS)
        step = least + (found.advance - least) % WRAP
        self._repeated = self._words_repeated(found.head, WRAP - step)
        self._end += 0 if self._repeated else step
        shadow = 0 if in_place else SHADOW_WORDS
        self._waiting.append(_Stretch(self._end, "the samples' counter broke", shadow))
        self._last_word, self._tail = None, self._tail[:0]
        if self._clock is not None:
            self._clock.on_counter_break(self._end)

    def _words_repeated(self, head: Words, back: int) -> int:
        """Return how many of the next words repeat those before the break.

        Args:
            head: the next words.
            back: by how many the counter went back, unless it advanced by the rest of a wrap.
        """
        packets = back <= DOUBLED_WORDS or back % DOUBLED_WORDS == 0
        if not packets or not 0 < back <= min(len(self._tail), WRAP - 1):
            return 0
        again = self._tail[-back:]
        if not head_repeats_tail(again, head[:back]):
            return 0
        if self._clock is None and not is_distinct(again):
            self._possibly_missing += WRAP
            return 0
        return back

    def _place_first_words(self, skipped: int) -> None:
        """Place the first good words; how many bad ones were before them is unknown."""
        self._end = round(skipped / WORD_BYTES)
        shadow = SHADOW_WORDS if skipped else 0
        self._waiting.append(_Stretch(self._end, "the stream began with a damaged one", shadow))

    def _drop_last_words(self, words: int) -> None:
        """Drop the last words, after which too few good ones came; all before an early break."""
        if self._waiting:
            first = self._end - words if self._end >= STALE_WORDS else 0
            self._waiting[-1].drop_from(first)

    def _apply_clock_loss(self, lost: Lost | None, clock: CountMonitor) -> None:
        """Make a gap of all words since the last confirmation if the host's clock finds a loss."""
        if lost is None:
            return
        last = self._waiting[-1]
        since = last.start if lost.since is None else lost.since
        why = f"{last.gap_reason}, {lost.why}" if lost.since is None else lost.why
        after = _Stretch(since + lost.count, why)
        for stretch in self._waiting:
            start = stretch.start
            confirmed = stretch.take_words_before(clock.confirmed)
            stretch.take_words_before(since)
            for words in stretch.take_words_before(stretch.end_index):
                after.append_words(words)
            stretch.replace_words(start, confirmed)
        self._waiting = [stretch for stretch in self._waiting if stretch.count]
        self._waiting.append(after)
        self._end += lost.count
        clock.restart_at(self._end)
        self._arrivals.restart_filter()

    # ---- what is confirmed ---------------------------------------------------------------

    def _release_confirmed(self, end: int) -> list[StreamItem]:
        """Deliver the words before ``end_index`` that the host's clock confirms."""
        end = min(end, self.confirmed_samples)
        items: list[StreamItem] = []
        while self._waiting:
            first = self._waiting[0]
            if not first.count and len(self._waiting) > 1:
                self._drop_empty_stretch()
                continue
            if first.start > self._released and end > first.start:
                items += self._converter.convert_pending()
                items.append(Gap(self._released, first.start - self._released, first.gap_reason))
                self._converter.reset()
                self._released = first.start
            if first.start == self._released:
                for words in first.take_words_before(end):
                    items += self._converter.add_words(self._released, words)
                    self._released += len(words)
            if first.count or len(self._waiting) == 1:
                break
        return items

    def _drop_empty_stretch(self) -> None:
        """Drop the first stretch; if it never had a word, its gap grows into the next."""
        empty = self._waiting.pop(0)
        if empty.start > self._released:
            self._waiting[0].gap_reason = empty.gap_reason
