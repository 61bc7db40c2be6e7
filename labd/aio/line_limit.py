"""Limit of a log line that others could make labd write without end."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 10.0


class LineLimit:
    """Counts what happened, and says when a line is due: at most one per interval.

    What happened after the last line is reported with the next one.

    Args:
        interval_s: least time between two lines.
        monotonic: seconds of a monotonic clock.
    """

    def __init__(
        self, interval_s: float = INTERVAL_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._next_s = float("-inf")
        self._unreported = 0

    def count(self) -> int:
        """Count one more; return the number since the last line if a line is due, else 0."""
        self._unreported += 1
        now_s = self._monotonic()
        if now_s < self._next_s:
            return 0
        self._next_s = now_s + self._interval_s
        number, self._unreported = self._unreported, 0
        return number
