"""A pseudo-terminal in raw mode, as seen by the device behind it."""

from __future__ import annotations

import os
import tty

READ_BYTES = 65_536


class PseudoTerminal:
    """The device's end of a pseudo-terminal.

    The host's end stays open here too, so that a host may close and open it without an error at
    the device's end.

    Attributes:
        path: what a host opens.
        fileno: non-blocking descriptor of the device's end.
    """

    def __init__(self) -> None:
        self.fileno, self._host_end = os.openpty()
        tty.setraw(self._host_end)
        os.set_blocking(self.fileno, False)
        self.path = os.ttyname(self._host_end)

    def read_available(self) -> bytes:
        """Return what the host has sent; empty if nothing."""
        try:
            return os.read(self.fileno, READ_BYTES)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Remove it: a host that has it open gets an error."""
        os.close(self._host_end)
        os.close(self.fileno)
