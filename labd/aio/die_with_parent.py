"""Run a command that ends with its parent: ``python die_with_parent.py PARENT_PID COMMAND...``.

The kernel is asked to send SIGTERM to this process when its parent dies (``prctl(2)``,
PR_SET_PDEATHSIG), then the command replaces it and keeps that setting. A daemon killed with
-9 cannot end its children; the kernel can. Done here, in the child after its exec, this needs
no Python code between fork and exec (``preexec_fn``), which deadlocks a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def run_command_until_parent_dies(arguments: list[str]) -> None:
    """Replace this process by the command, unless the parent is dead already."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() == int(parent):  # else it died before the kernel was asked
        os.execv(command[0], command)  # noqa: S606 - the purpose of this file


if __name__ == "__main__":
    run_command_until_parent_dies(sys.argv[1:])
