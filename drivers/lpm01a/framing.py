"""Framing of the LPM01A's stream (UM2269 chapter 4), as far as both formats share it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from drivers.lpm01a.stamp_check import Quantity, StampCheck
from labd.core.model import StreamItem

_PROMPT = b"PowerShield > "
_COMPLETED = b"Acquisition completed"


class Framer(ABC):
    """Finds samples, time stamps and replies in the bytes after ``start``.

    Which samples count is decided by :class:`StampCheck`, which a framer reports them to.

    Args:
        rate_hz: samples per second.
        quantity: what the samples' numbers are.
        set_mv: the supply voltage set, if known.
    """

    stamp_wrap_ms: ClassVar[int]
    """Where the time of the stamps begins again."""

    def __init__(self, rate_hz: int, quantity: Quantity, set_mv: int | None = None) -> None:
        self.check = StampCheck(rate_hz, quantity, self.stamp_wrap_ms, set_mv)
        self._ceiling = quantity.largest_value
        self._buffer = b""
        self._stop_refused = False  # by the last refusal

    def feed(self, data: bytes) -> list[StreamItem]:
        """Take more bytes; return what they confirmed, in order."""
        self._buffer += data
        position = 0
        while not self.check.completed and (step := self._consume_item(position)):
            position += step
        self._buffer = self._buffer[position:]
        return self.check.take_items()

    @abstractmethod
    def _consume_item(self, position: int) -> int:
        """Take what stands at ``position``; return its length, 0 if it is not whole."""

    def _take_reply(self, line: bytes) -> bool:
        """Take a line if it belongs to a reply to a command; return whether it does."""
        reply = line.startswith(_PROMPT)
        while line.startswith(_PROMPT):
            line = line[len(_PROMPT) :]
        if line == _COMPLETED:
            self._on_completed()
        elif line.startswith(b"ack "):
            self.check.started |= line.startswith(b"ack start")
        elif line.startswith((b"error", b"err ")):
            text = line.removeprefix(b"error").removeprefix(b"err").strip(b" :")
            self._stop_refused = text.startswith(b"stop")
            self._take_error(text)
        elif line.startswith(b"Error detail"):
            self._take_error(line.removeprefix(b"Error detail").strip(b" :"))
        else:
            return reply and not line
        return True

    def _take_error(self, text: bytes) -> None:
        """A refused ``stop`` leaves the samples whole; everything else ends the measurement."""
        words = text.decode("ascii", "replace")
        if self._stop_refused:
            self.check.notes.note_text(f"refused: {words}")
        else:
            self.check.add_error(words)

    def _on_completed(self) -> None:
        self.check.mark_completed()
