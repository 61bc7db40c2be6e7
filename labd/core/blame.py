"""Whether the firmware or the bench caused the faults of a job.

A DUT that does not answer may have hung by itself, or its bench failed. The health check that
follows the fault distinguishes them: it runs other firmware, or the same from the start. The same
fault on two stations that pass it is the firmware's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_FAULTS = 3
"""Attempts that may end with a fault; the last one becomes the verdict."""

SAME_FAULTS = 2
"""Faults of one kind, each followed by a passed health check, that convict the firmware."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt that ended with a fault.

    Args:
        attempt: its number.
        station: where it ran.
        dut_fault: code of a fault that the firmware may have caused, if the station passed its
            health check right after it; else empty.
        reason: for people.
    """

    attempt: int
    station: str
    dut_fault: str
    reason: str


def why_firmware_failed(faults: Sequence[Fault], *, alternative: bool) -> str:
    """Return why the firmware caused the faults of a job; empty if that is not certain.

    Args:
        faults: of all attempts, the newest last.
        alternative: another station could still run the job, so that the same fault twice on one
            station does not decide.
    """
    newest = faults[-1]
    alike = [fault for fault in faults if fault.dut_fault == newest.dut_fault]
    if not newest.dut_fault or len(alike) < SAME_FAULTS:
        return ""
    stations = {fault.station for fault in alike}
    if len(stations) == 1 and alternative and len(faults) < MAX_FAULTS:
        return ""
    where = "two stations" if len(stations) > 1 else "the only suitable station"
    attempts = "; ".join(f"attempt {f.attempt} on {f.station}: {f.reason}" for f in alike)
    return f"the same fault on {where}, which passed the health check right after it: {attempts}"
