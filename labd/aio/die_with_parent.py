"""Ties a child process to this one: ``python tether.py PARENT_PID COMMAND...``.

The kernel is told to end this process when its parent dies, then the command takes its
place, keeping that order. A daemon killed with -9 cannot end its children; the kernel can.
Asking for it here, in the child after its own exec, needs no Python code between fork and
exec (``preexec_fn``), which deadlocks a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the command, tied to the parent."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() == int(parent):  # else it died before the kernel knew
        os.execv(command[0], command)  # noqa: S606 - the point of this file


if __name__ == "__main__":
    main(sys.argv[1:])
