"""Check of a recording's length by the host's clock. Pure."""

from __future__ import annotations

from labd.core.host_clock import COUNT_PPM, samples_in

CELL_NS = 2_000_000_000
LATE_CELLS = 3
LOST_S = 0.1
"""A loss is detected from this length on."""

EARLY_S = 0.5
"""More samples than the time allows, by this duration, are impossible."""


class RecordingLengthCheck:
    """Compares the number of samples in a recording with the time since its start.

    Samples reach the recording with a delay by USB and the server, which has a minimum; lost
    samples raise that minimum for good. A poll whose delay is within :data:`LOST_S` of the minimum
    confirms the samples it saw; if three cells of 2 s have no such poll, samples are lost. A loss
    shorter than :data:`LOST_S` is not detected here.

    Args:
        rate_hz: samples per second.
        before_ns: host time before the recording was started.

    Attributes:
        confirmed: samples confirmed.
    """

    def __init__(self, rate_hz: float, before_ns: int) -> None:
        self.confirmed = 0
        self._rate_hz = rate_hz
        self._start_ns = before_ns
        self._cell_end_ns = before_ns + CELL_NS
        self._last: tuple[float, int] | None = None  # delay and total of the last poll
        self._quickest: tuple[float, int] | None = None  # of the quickest poll in this cell
        self._minimum: tuple[float, int] | None = None  # delay, and when it was measured
        self._late_cells = 0

    def observe(self, total: int, before_ns: int, after_ns: int) -> str:
        """Take a poll; return what is wrong with the number of samples, if anything.

        Args:
            total: samples in the recording.
            before_ns: host time before the poll.
            after_ns: host time after it.
        """
        elapsed_ns = after_ns - self._start_ns
        _, most = samples_in(self._rate_hz, 0, elapsed_ns)
        if total > most + EARLY_S * self._rate_hz:
            elapsed_s = elapsed_ns / 1e9
            return (
                f"{total} samples in {elapsed_s:.2f} s are more than {self._rate_hz:g} per second"
            )
        delay_s = (before_ns - self._start_ns) / 1e9 - total / self._rate_hz
        self._last = (delay_s, total)
        if self._minimum is not None and not self._is_late(delay_s, after_ns):
            self.confirmed = max(self.confirmed, total)
        if self._quickest is None or delay_s < self._quickest[0]:
            self._quickest = self._last
        return self._close_cell(after_ns) if after_ns >= self._cell_end_ns else ""

    def finish(self, total: int, now_ns: int) -> None:
        """Confirm the total of a recording that has ended, if its last poll was not late."""
        if self._last is not None and not self._is_late(self._last[0], now_ns):
            self.confirmed = total

    def _close_cell(self, now_ns: int) -> str:
        if self._quickest is None:
            return ""
        delay_s, total = self._quickest
        self._quickest, self._cell_end_ns = None, now_ns + CELL_NS
        if not self._is_late(delay_s, now_ns):
            if self._minimum is None or delay_s < self._minimum[0]:
                self._minimum = (delay_s, now_ns)
            self.confirmed, self._late_cells = max(self.confirmed, total), 0
            return ""
        self._late_cells += 1
        if self._late_cells < LATE_CELLS:
            return ""
        count = round((delay_s - (self._minimum or (0.0, 0))[0]) * self._rate_hz)
        return f"about {count} samples are missing by the host's clock"

    def _is_late(self, delay_s: float, now_ns: int) -> bool:
        """Whether a poll is later than the minimum delay and the clocks' rates allow."""
        if self._minimum is None:
            return False
        minimum_s, since_ns = self._minimum
        drift_s = COUNT_PPM * 1e-6 * (now_ns - since_ns) / 1e9
        return delay_s - minimum_s - drift_s > LOST_S
