"""Check that two channels have logged the same number of records. Pure."""

from __future__ import annotations

from collections import deque

from drivers.scpi.record_clock import Moment

LASTING_NS = 900_000_000
"""A difference of this duration is a loss; shorter than the delay before records are released."""

LASTING_POLLS = 5
SPARE_RECORDS = 2  # a record in progress in either channel


class ChannelCounts:
    """Compares the record counts of two channels, poll after poll.

    The channels are polled one after the other, so the second may be ahead by the records made
    in between, and an update in between shows on one alone; but no such difference lasts.

    Args:
        period_s: of the records.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._leads: deque[tuple[int, int, float]] = deque()  # time, lead, largest possible lead

    def fault(self, lead: int, first: Moment, last: Moment) -> str:
        """Return what is wrong with the counts; empty if nothing is.

        Args:
            lead: records by which the channel polled last is ahead; both had no more.
            first: when the other channel was polled.
            last: when this channel was.
        """
        most = (last.after_ns - first.before_ns) * 1e-9 / self._period_s + SPARE_RECORDS
        self._leads.append((last.after_ns, lead, most))
        if self._leads[0][0] > last.after_ns - LASTING_NS:
            return ""
        while self._leads[1][0] <= last.after_ns - LASTING_NS:
            self._leads.popleft()
        leads = [lead for _, lead, _ in self._leads]
        ahead = min(lead - most for _, lead, most in self._leads) > 0
        if len(leads) < LASTING_POLLS or not (ahead or max(leads) < -SPARE_RECORDS):
            return ""
        return f"its channels differ by {min(leads, key=abs)} records for good: some were lost"
