"""Check of a log's record count by the host's clock, and time marks of its records. Pure.

An instrument without time stamps reports only how many records there are; the host's clock limits
how many there can be. Too few: some were lost, or the log runs slower than its period. Too many:
several functions share the log (eembc/energyrunner#24, where a log of two functions was read as
one, which stretched every trace). A record is confirmed when the count has been right for a while
after it.

A count is delayed by a constant (the log starts late, or records appear late) and by the time
since the instrument last updated it. Both are learned in the first seconds; from then on the delay
has a minimum, which lost records raise permanently. The uncertainty of a time mark includes both:
it is unknown which part of the constant precedes the measurement and which follows it.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

from labd.core.host_clock import COUNT_PPM, mark_between, samples_in_interval
from labd.core.model import TimeMark

SLACK_S = 0.15
"""Allowed deviation of the count from its delay so far."""

MOST_DELAY_S = 0.65
"""Longest inherent delay of a count: 0.15 s of latency, and updates every 0.5 s."""

LEARN_NS = 3_000_000_000
"""Duration over which the delay is learned; nothing is confirmed before."""

WINDOW_NS = 10_000_000_000
"""The count is checked since the start and, against small losses, over this duration."""

LATE_UPDATES = 2
"""Late updates per second that are tolerated before a loss is assumed."""

CONFIRM_NS = 1_000_000_000
MARK_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """A time known to lie between two readings of the host's clock, ns."""

    before_ns: int
    after_ns: int


class RecordClock:
    """Compares a count of records with the host's clock.

    Args:
        rate_hz: records per second, by the instrument's own period.
        buffer_s: seconds of records that the instrument keeps for a host that polls late.

    Attributes:
        fault: what is wrong with the count; empty if nothing is.
        on_time: whether the last count agreed with the host's clock.
        confirmed: number of records confirmed.
    """

    def __init__(self, rate_hz: float, buffer_s: float) -> None:
        self.fault = ""
        self.on_time = False
        self.confirmed = 0
        self._rate_hz = rate_hz
        self._buffer_s = buffer_s
        self._origin: tuple[int, Moment] | None = None
        self._anchors: deque[tuple[int, Moment]] = deque()  # of the last WINDOW_NS
        self._right: deque[tuple[int, int]] = deque()  # counts that were right, and when
        self._candidates: list[_Candidate] = []  # for the next mark
        self._last_delays_ns: list[float] = []  # of the candidates for the last mark
        self._mark_due_ns = 0
        self._drained: tuple[int, Moment] | None = None  # the last count, if there was no more
        self._start_marked = False
        self._learned_s: tuple[float, float] | None = None  # constant delay, update interval
        self._least_delay_ns = math.inf
        self._most_delay_ns = -math.inf
        self._first_ns = math.inf  # latest time at which record 0 can have begun
        self._recent: deque[_CountDelay] = deque()  # of the last CONFIRM_NS
        self._earlier: deque[_CountDelay] = deque()  # of WINDOW_NS before that

    def note_start(self, when: Moment) -> None:
        """Note when the log was started; record 0 begins then or soon after."""
        self._origin = (0, when)
        self._mark_due_ns = when.after_ns + MARK_NS

    def add_count(self, total: int, when: Moment, *, drained: bool) -> list[TimeMark]:
        """Take a count since the start; return a time mark about once per second.

        ``when`` lies between query and answer; ``drained`` if the instrument had no more records.
        """
        if self._origin is None:
            raise ValueError("records before the start")
        self.on_time = True
        most_s = MOST_DELAY_S - SLACK_S
        constant_s, update_s = self._learned_s or (0.0, most_s if drained else 0.0)
        self._check_count(self._origin, total, when, (constant_s + update_s, 0.0), drained=drained)
        if self._anchors:
            spread_s = (update_s, update_s if self._learned_s else most_s)
            self._check_count(self._anchors[0], total, when, spread_s, drained=drained)
        if self.fault or not self.on_time or not total:  # no delay before the first record
            return []
        self._learn_delay(total, when, self._origin[1], drained=drained)
        if self.fault:
            return []
        self._confirm_count(total, when, self._origin[1])
        self._add_candidate(total, when, drained=drained)
        if when.after_ns < self._mark_due_ns:
            return []
        self._mark_due_ns = when.after_ns + MARK_NS
        return self._take_time_marks()

    def confirm_all(self) -> list[TimeMark]:
        """Confirm all records of a log that has ended, if the last count was right.

        In a log too short to learn from, the count has to be within :data:`SLACK_S`.
        """
        unproven = self._learned_s is None and self._most_delay_ns > SLACK_S * 1e9
        if self.fault or not self._right or unproven:
            return []
        self.confirmed = self._right[-1][0]
        return self._take_time_marks()

    # ---- the count -----------------------------------------------------------------------

    def _check_count(
        self,
        anchor: tuple[int, Moment],
        total: int,
        when: Moment,
        inherent_s: tuple[float, float],
        *,
        drained: bool,
    ) -> None:
        """Check that the records since an earlier count are neither too few nor too many.

        ``inherent_s`` is the delay and the lead that the instrument's updates can cause.
        """
        count, then = anchor
        new = total - count
        fewest, most = samples_in_interval(
            self._rate_hz, when.before_ns - then.after_ns, when.after_ns - then.before_ns
        )
        late_s, early_s = inherent_s[0] + SLACK_S, inherent_s[1] + SLACK_S
        if new < fewest - late_s * self._rate_hz:
            self.on_time = False
        held_s = max(late_s, 0.0 if drained else self._buffer_s)
        few = new < fewest - held_s * self._rate_hz
        many = new > most + early_s * self._rate_hz + 1
        if few or many:
            self._set_fault(new, (fewest + most) / 2, few=few)

    def _set_fault(self, new: int, expected: float, *, few: bool) -> None:
        if self.fault:
            return
        share = new / max(1.0, expected)
        cause = "some were lost, or it logs" if few else "it logs"
        self.fault = (
            f"{new} records in {expected / self._rate_hz:.2f} s at {self._rate_hz:.5g} per second "
            f"are {share:.2f} times the expected number: {cause} another number of values"
        )

    def _learn_delay(self, total: int, when: Moment, start: Moment, *, drained: bool) -> None:
        """Learn the inherent delay of a count; find a rise of its minimum."""
        due_ns = total * 1e9 / self._rate_hz
        delay = _CountDelay(
            total,
            when,
            when.before_ns - start.after_ns - due_ns,
            when.after_ns - start.before_ns - due_ns,
            self._last_poll_with_fewer_ns(total) - start.after_ns - due_ns,
        )
        self._first_ns = min(
            self._first_ns, start.before_ns + delay.most_ns + due_ns * COUNT_PPM * 1e-6
        )
        if self._learned_s is None:
            self._least_delay_ns = min(self._least_delay_ns, delay.most_ns)
            if drained:  # else a host that catches up would look like slow updates
                self._most_delay_ns = max(self._most_delay_ns, delay.least_ns)
        if not drained:
            return
        self._recent.append(delay)
        while self._recent[0].when.after_ns <= when.after_ns - CONFIRM_NS:
            self._earlier.append(self._recent.popleft())
        while self._earlier and (
            self._earlier[0].when.after_ns < when.after_ns - CONFIRM_NS - WINDOW_NS
        ):
            self._earlier.popleft()
        seen_ns = when.after_ns - self._earlier[0].when.after_ns if self._earlier else 0
        if seen_ns >= 2 * CONFIRM_NS:  # the minimum may not have shown in less
            self._find_delay_rise()

    def _last_poll_with_fewer_ns(self, total: int) -> float:
        """Return when the instrument was last polled and had fewer records than this."""
        if self._drained is None or self._drained[0] >= total:
            return -math.inf
        return float(self._drained[1].before_ns)

    def _find_delay_rise(self) -> None:
        """Set the fault if the minimum of the delay has risen: lost records, or too slow a log.

        The minimum of one second is known to within the update interval and the poll interval.
        But an update came after the poll before it; if more than :data:`LATE_UPDATES` updates are
        later than any before, records are lost.
        """
        before = min(self._earlier, key=lambda delay: delay.most_ns)
        now = min(self._recent, key=lambda delay: delay.least_ns)
        last = self._earlier[-1].when
        update_ns = max(each.least_ns for each in self._earlier) - before.most_ns
        polls = [last, *(each.when for each in self._recent)]
        poll_ns = max(b.after_ns - a.before_ns for a, b in itertools.pairwise(polls))
        margin_ns = 1e9 / self._rate_hz + (CONFIRM_NS + WINDOW_NS) * COUNT_PPM * 1e-6
        rise_ns = now.least_ns - before.most_ns
        updates_ns = sorted((each.updated_ns for each in self._recent), reverse=True)
        untolerated_ns = updates_ns[LATE_UPDATES] if len(updates_ns) > LATE_UPDATES else -math.inf
        late = untolerated_ns - before.most_ns > margin_ns
        if late or rise_ns > max(0.0, min(update_ns, poll_ns)) + margin_ns:
            elapsed_s = (now.when.after_ns - before.when.after_ns) * 1e-9
            self._set_fault(now.total - before.total, elapsed_s * self._rate_hz, few=True)

    def _confirm_count(self, total: int, when: Moment, start: Moment) -> None:
        self._right.append((total, when.after_ns))
        self._anchors.append((total, when))
        while self._anchors[0][1].after_ns < when.after_ns - WINDOW_NS:
            self._anchors.popleft()
        if when.after_ns < start.after_ns + LEARN_NS:
            return
        if self._learned_s is None:
            constant_ns = max(0.0, self._least_delay_ns)
            update_ns = max(0, self._most_delay_ns - constant_ns)
            self._learned_s = constant_ns * 1e-9, update_ns * 1e-9
        while self._right[0][1] <= when.after_ns - CONFIRM_NS:
            self.confirmed = self._right.popleft()[0]

    # ---- time marks ----------------------------------------------------------------------

    def _add_candidate(self, total: int, when: Moment, *, drained: bool) -> None:
        """Bound the time at which this count was reached.

        At the latest at the answer. At the earliest one period and the instrument's latency before
        the query if there were no more records; if there may have been more, as early as a count
        on time can be.
        """
        period_ns = 1e9 / self._rate_hz
        latency_ns = max(0.0, self._least_delay_ns)
        earliest_ns = when.before_ns - period_ns - latency_ns
        fewer_ns = -math.inf
        if not drained:
            earliest_ns = when.after_ns - SLACK_S * 1e9 - max(latency_ns, self._most_delay_ns)
        else:
            fewer_ns = self._last_poll_with_fewer_ns(total) - period_ns - latency_ns
        self._drained = (total, when) if drained else None
        delay_ns = when.after_ns - total * period_ns
        self._candidates.append(_Candidate(total, earliest_ns, fewer_ns, when.after_ns, delay_ns))

    def _take_time_marks(self) -> list[TimeMark]:
        """Return the mark of the count with the smallest delay since the last mark.

        The first one is preceded by the mark of the start. The spread of the delays shows the
        update interval; the instrument had fewer records at the poll before; and it cannot have
        counted faster since the start than the clocks allow.
        """
        if not self._candidates or self._origin is None:
            return []
        best = min(self._candidates, key=lambda candidate: candidate.delay_ns)
        delays_ns = [candidate.delay_ns for candidate in self._candidates]
        known_ns = [*delays_ns, *self._last_delays_ns]  # the last mark may have few candidates
        self._last_delays_ns = delays_ns
        fastest_ns = best.total * 1e9 / self._rate_hz * (1 - COUNT_PPM * 1e-6)
        start = self._origin[1]
        earliest_ns = max(
            best.earliest_ns - (max(known_ns) - min(known_ns)),
            best.fewer_ns,
            start.before_ns + fastest_ns,
        )
        self._candidates = []
        marks: list[TimeMark] = []
        if not self._start_marked:
            self._start_marked = True
            first_ns = max(start.after_ns, math.ceil(self._first_ns))
            marks.append(mark_between(0, start.before_ns, first_ns))
        earliest_ns = math.floor(min(earliest_ns, best.latest_ns))
        return [*marks, mark_between(best.total, earliest_ns, best.latest_ns)]


@dataclass(frozen=True, slots=True)
class _CountDelay:
    """Delay of a count behind the start and the rate, ns.

    Between ``least_ns`` and ``most_ns`` when it was polled; it was reached later than
    ``updated_ns``.
    """

    total: int
    when: Moment
    least_ns: float
    most_ns: float
    updated_ns: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    total: int
    earliest_ns: float
    fewer_ns: float
    latest_ns: int
    delay_ns: float
