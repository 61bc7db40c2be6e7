"""A digital line between two boards, and one that loses pulses on command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

EdgeWatcher = Callable[[int, bool], None]
"""Called with (time in ps, new level) on every change."""


class Wire:
    """A digital line with a pull-up: high unless it is driven low."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.level = True
        self._watchers: list[EdgeWatcher] = []

    def add_watcher(self, watcher: EdgeWatcher) -> None:
        """Call ``watcher`` on every edge from now on."""
        self._watchers.append(watcher)

    def drive(self, at_ps: int, level: bool | None) -> None:  # noqa: FBT001 - a level is a bool
        """Drive the line to a level; None releases it."""
        new = True if level is None else level
        if new != self.level:
            self.level = new
            for watcher in self._watchers:
                watcher(at_ps, new)


@dataclass
class LossyWire:
    """Passes a wire's edges on, except as many pulses as ``falls_to_lose`` counts.

    A pulse is a falling edge and the rising edge after it.
    """

    watcher: EdgeWatcher
    falls_to_lose: int = 0
    _losing: bool = field(default=False, init=False)

    def pass_edge(self, at_ps: int, level: bool) -> None:  # noqa: FBT001 - a wire's watcher
        """Pass an edge on, unless it is to be lost."""
        if not level and self.falls_to_lose:
            self.falls_to_lose -= 1
            self._losing = True
        elif self._losing:
            self._losing = False
        else:
            self.watcher(at_ps, level)
