"""Records polled from an instrument that logs by its own clock: checked, timed, released.

An instrument without time stamps says only how many records there are. The host's clock says
how many there should be: too few means that some were lost or that the log runs slower than
its period tells, too many that several functions share the stream (eembc/energyrunner#24,
where a log of two functions was taken for one and every trace came out stretched). Records
are released only when the count has been right for a while after them.

A count is late by a constant (the instrument starts late, or tells late) and by how long ago
the instrument last updated it. Both are learned in the first seconds. From then on its
lateness has a floor, which lost records lift for good; and the marks that tie the records to
the host's clock are as vague as both together, for nobody says which part of the constant
comes before the measuring and which after.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

from labd.core.model import TimeMark

SLACK_S = 0.15
"""How much later or earlier than it has been a count may look."""

MOST_LATE_S = 0.65
"""How late a count may be by nature: 0.15 s of latency, and updated every 0.5 s."""

LEARN_NS = 3_000_000_000
"""So long it is watched before anything is released."""

HOST_PPM = 600.0
"""A host clock slewed by NTP (500 ppm) against the instrument's crystal (100 ppm)."""

WINDOW_NS = 10_000_000_000
"""Beside the whole acquisition the count is checked over this long, against small losses."""

HICCUPS = 2
"""So many late updates in a second are no sign of a loss; one more is."""

CONFIRM_NS = 1_000_000_000
MARK_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of the host's clock known to lie between two readings of it, ns."""

    before_ns: int
    after_ns: int


class RecordClock:
    """Compares a count of records with the host's clock and ties the two by time marks.

    Args:
        rate_hz: records a second, by the instrument's own period.
        buffer_s: how much the instrument keeps for a host that comes late.

    Attributes:
        fault: what is wrong with the count; empty while nothing is.
        on_time: whether the last count was what the host's clock says.
        confirmed: records that a later count has vouched for.
    """

    def __init__(self, rate_hz: float, buffer_s: float) -> None:
        self.fault = ""
        self.on_time = False
        self.confirmed = 0
        self._rate_hz = rate_hz
        self._buffer_s = buffer_s
        self._origin: tuple[int, Moment] | None = None
        self._anchors: deque[tuple[int, Moment]] = deque()  # of the last WINDOW_NS
        self._passed: deque[tuple[int, int]] = deque()  # counts that were right, and when
        self._candidates: list[_Candidate] = []  # for the next mark
        self._lags_before_ns: list[float] = []
        self._mark_due_ns = 0
        self._asked: tuple[int, Moment] | None = None  # the last count without more behind it
        self._started = False  # whether the start has its mark
        self._learned_s: tuple[float, float] | None = None  # the constant, and what comes on top
        self._least_late_ns = math.inf
        self._most_late_ns = -math.inf
        self._first_ns = math.inf  # latest moment at which record 0 can have begun
        self._recent: deque[_Lateness] = deque()  # of the last CONFIRM_NS
        self._earlier: deque[_Lateness] = deque()  # of WINDOW_NS before that

    def start(self, when: Moment) -> None:
        """The log was started at this moment; record 0 begins there or soon after."""
        self._origin = (0, when)
        self._mark_due_ns = when.after_ns + MARK_NS

    def count(self, total: int, when: Moment, *, drained: bool) -> list[TimeMark]:
        """So many records had come when the instrument was asked at this moment.

        Args:
            total: records since the start.
            when: between asking and the answer.
            drained: whether the instrument had no more than it gave.

        Returns:
            A time mark, once in a while.
        """
        if self._origin is None:
            raise ValueError("records before the start")
        self.on_time = True
        most_s = MOST_LATE_S - SLACK_S
        constant_s, update_s = self._learned_s or (0.0, most_s if drained else 0.0)
        self._compare(self._origin, total, when, (constant_s + update_s, 0.0), drained=drained)
        if self._anchors:
            spread_s = (update_s, update_s if self._learned_s else most_s)
            self._compare(self._anchors[0], total, when, spread_s, drained=drained)
        if self.fault or not self.on_time or not total:  # before the first it is late by no means
            return []
        self._watch(total, when, self._origin[1], drained=drained)
        if self.fault:
            return []
        self._confirm(total, when, self._origin[1])
        self._propose(total, when, drained=drained)
        if when.after_ns < self._mark_due_ns:
            return []
        self._mark_due_ns = when.after_ns + MARK_NS
        return self._take_mark()

    def finish(self) -> list[TimeMark]:
        """Nothing more comes, and the last count was right.

        In a log too short to learn from, a count has to be on time without that.
        """
        unproven = self._learned_s is None and self._most_late_ns > SLACK_S * 1e9
        if self.fault or not self._passed or unproven:
            return []
        self.confirmed = self._passed[-1][0]
        return self._take_mark()

    def _compare(
        self,
        anchor: tuple[int, Moment],
        total: int,
        when: Moment,
        nature_s: tuple[float, float],
        *,
        drained: bool,
    ) -> None:
        """See whether the records since an anchor are too few or too many.

        Args:
            anchor: an earlier count.
            total: the count.
            when: its moment.
            nature_s: how late and how early it may look by the instrument's nature.
            drained: whether the instrument had no more.
        """
        count, then = anchor
        new = total - count
        least_s = (when.before_ns - then.after_ns) * 1e-9 * (1 - HOST_PPM * 1e-6)
        most_s = (when.after_ns - then.before_ns) * 1e-9 * (1 + HOST_PPM * 1e-6)
        late_s, early_s = nature_s[0] + SLACK_S, nature_s[1] + SLACK_S
        if new < (least_s - late_s) * self._rate_hz:
            self.on_time = False
        few = new < (least_s - max(late_s, 0.0 if drained else self._buffer_s)) * self._rate_hz
        many = new > (most_s + early_s) * self._rate_hz + 1
        if few or many:
            self._blame(new, (least_s + most_s) / 2, few=few)

    def _blame(self, new: int, passed_s: float, *, few: bool) -> None:
        if self.fault:
            return
        share = new / max(1.0, passed_s * self._rate_hz)
        cause = "some were lost, or it logs" if few else "it logs"
        self.fault = (
            f"{new} records in {passed_s:.2f} s at {self._rate_hz:.5g} a second are {share:.2f} "
            f"times the expected number: {cause} another number of values"
        )

    def _watch(self, total: int, when: Moment, start: Moment, *, drained: bool) -> None:
        """Learn how late a count is by nature, and see whether that has stepped up."""
        due_ns = total * 1e9 / self._rate_hz
        late = _Lateness(
            total,
            when,
            when.before_ns - start.after_ns - due_ns,
            when.after_ns - start.before_ns - due_ns,
            self._fewer_until_ns(total) - start.after_ns - due_ns,
        )
        self._first_ns = min(
            self._first_ns, start.before_ns + late.most_ns + due_ns * HOST_PPM * 1e-6
        )
        if self._learned_s is None:
            self._least_late_ns = min(self._least_late_ns, late.most_ns)
            if drained:  # else a host that catches up would be taken for slow updates
                self._most_late_ns = max(self._most_late_ns, late.least_ns)
        if not drained:
            return
        self._recent.append(late)
        while self._recent[0].when.after_ns <= when.after_ns - CONFIRM_NS:
            self._earlier.append(self._recent.popleft())
        while self._earlier and (
            self._earlier[0].when.after_ns < when.after_ns - CONFIRM_NS - WINDOW_NS
        ):
            self._earlier.popleft()
        seen_ns = when.after_ns - self._earlier[0].when.after_ns if self._earlier else 0
        if seen_ns >= 2 * CONFIRM_NS:  # shorter, the floor need not have shown
            self._judge_step()

    def _fewer_until_ns(self, total: int) -> float:
        """When the instrument was last asked and had fewer records than this."""
        if self._asked is None or self._asked[0] >= total:
            return -math.inf
        return float(self._asked[1].before_ns)

    def _judge_step(self) -> None:
        """Lost records, or a log too slow, lift the floor of the lateness.

        The floor of a second is not known better than how often the count is updated, nor
        than how often it is asked for. But an update came after the question before it, and
        if several are later than any was before, that is no hiccup.
        """
        before = min(self._earlier, key=_most_late)
        now = min(self._recent, key=_least_late)
        last = self._earlier[-1].when
        update_ns = max(each.least_ns for each in self._earlier) - before.most_ns
        asked = [last, *(each.when for each in self._recent)]
        poll_ns = max(b.after_ns - a.before_ns for a, b in itertools.pairwise(asked))
        margin_ns = 1e9 / self._rate_hz + (CONFIRM_NS + WINDOW_NS) * HOST_PPM * 1e-6
        step_ns = now.least_ns - before.most_ns
        updates_ns = sorted((each.updated_ns for each in self._recent), reverse=True)
        third_ns = updates_ns[HICCUPS] if len(updates_ns) > HICCUPS else -math.inf
        lifted = third_ns - before.most_ns > margin_ns
        if lifted or step_ns > max(0.0, min(update_ns, poll_ns)) + margin_ns:
            passed_s = (now.when.after_ns - before.when.after_ns) * 1e-9
            self._blame(now.total - before.total, passed_s, few=True)

    def _confirm(self, total: int, when: Moment, start: Moment) -> None:
        self._passed.append((total, when.after_ns))
        self._anchors.append((total, when))
        while self._anchors[0][1].after_ns < when.after_ns - WINDOW_NS:
            self._anchors.popleft()
        if when.after_ns < start.after_ns + LEARN_NS:
            return
        if self._learned_s is None:
            constant_ns = max(0.0, self._least_late_ns)
            self._learned_s = constant_ns * 1e-9, max(0, self._most_late_ns - constant_ns) * 1e-9
        while self._passed[0][1] <= when.after_ns - CONFIRM_NS:
            self.confirmed = self._passed.popleft()[0]

    def _propose(self, total: int, when: Moment, *, drained: bool) -> None:
        """Bound the time at which this count was reached.

        It was not later than the answer. It was a period and the instrument's latency before
        the question at the earliest if there were no more records; if there may have been, no
        earlier than a count on time can be.
        """
        period_ns = 1e9 / self._rate_hz
        latency_ns = max(0.0, self._least_late_ns)
        earliest_ns = when.before_ns - period_ns - latency_ns
        fewer_ns = -math.inf
        if not drained:
            earliest_ns = when.after_ns - SLACK_S * 1e9 - max(latency_ns, self._most_late_ns)
        else:
            fewer_ns = self._fewer_until_ns(total) - period_ns - latency_ns
        self._asked = (total, when) if drained else None
        lag_ns = when.after_ns - total * period_ns
        self._candidates.append(_Candidate(total, earliest_ns, fewer_ns, when.after_ns, lag_ns))

    def _take_mark(self) -> list[TimeMark]:
        """The mark of the count that lagged least since the last one; at first the start's.

        How seldom the instrument updates its count shows as a spread of the lags; it told of
        fewer records when it was asked before; and it cannot have counted faster since the
        start than the clocks' tolerance allows.
        """
        if not self._candidates or self._origin is None:
            return []
        lags_ns = [candidate.lag_ns for candidate in self._candidates]
        best = self._candidates[lags_ns.index(min(lags_ns))]
        fastest_ns = best.total * 1e9 / self._rate_hz * (1 - HOST_PPM * 1e-6)
        known_ns = [*lags_ns, *self._lags_before_ns]  # the last mark may stand on a few alone
        self._lags_before_ns = lags_ns
        earliest_ns = max(
            best.earliest_ns - (max(known_ns) - min(known_ns)),
            best.fewer_ns,
            self._origin[1].before_ns + fastest_ns,
        )
        self._candidates = []
        marks = [] if self._started else [self._mark_start(self._origin[1])]
        self._started = True
        return [
            *marks,
            _mark(best.total, math.floor(min(earliest_ns, best.latest_ns)), best.latest_ns),
        ]

    def _mark_start(self, start: Moment) -> TimeMark:
        """Record 0 began with the command, or as late as the quickest count allows."""
        return _mark(0, start.before_ns, max(start.after_ns, math.ceil(self._first_ns)))


@dataclass(frozen=True, slots=True)
class _Lateness:
    """By how much a count came later than the start and the rate tell, ns.

    Between ``least_ns`` and ``most_ns`` when it was asked for; and it was reached later than
    ``updated_ns``.
    """

    total: int
    when: Moment
    least_ns: float
    most_ns: float
    updated_ns: float


def _least_late(late: _Lateness) -> float:
    return late.least_ns


def _most_late(late: _Lateness) -> float:
    return late.most_ns


@dataclass(frozen=True, slots=True)
class _Candidate:
    total: int
    earliest_ns: float
    fewer_ns: float
    latest_ns: int
    lag_ns: float


def _mark(index: int, earliest_ns: int, latest_ns: int) -> TimeMark:
    middle_ns = (earliest_ns + latest_ns) // 2
    return TimeMark(float(index), middle_ns, latest_ns - middle_ns, "host")
