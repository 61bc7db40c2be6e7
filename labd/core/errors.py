"""Errors sorted by blame: who has to act decides what the lab does next.

A driver translates its library's exceptions into these at its own boundary, so everything
above it can decide by class alone: try elsewhere (:class:`InfraError`), score a real fail
(:class:`DutError`), refuse the number (:class:`MeasurementInvalid`), or tell the person who
asked (:class:`JobError`, :class:`ConfigError`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Where:
    """What an error is about; every part may be unknown."""

    station: str = ""
    device: str = ""
    job: str = ""

    def __str__(self) -> str:
        """Name the known parts, outermost first."""
        parts = [
            f"{name} {value}"
            for name, value in (
                ("job", self.job),
                ("station", self.station),
                ("device", self.device),
            )
            if value
        ]
        return ", ".join(parts)


class LabdError(Exception):
    """Any fault labd names.

    Args:
        code: short stable word for programs, e.g. ``port-missing``.
        what: what happened, in one sentence.
        remedy: what to do about it; empty when nothing can be done.
        where: station, device and job, as far as known.
    """

    blame = "labd"

    def __init__(self, code: str, what: str, remedy: str = "", where: Where | None = None) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.remedy = remedy
        self.where = where or Where()

    def __str__(self) -> str:
        """One line a person can act on."""
        place = str(self.where)
        head = f"{place}: {self.what}" if place else self.what
        return f"{head} ({self.remedy})" if self.remedy else head


class ConfigError(LabdError):
    """The operator's stations.toml or command line is wrong."""

    blame = "operator"


class JobError(LabdError):
    """The person who submitted asked for something that cannot be done."""

    blame = "submitter"


class DutError(LabdError):
    """The firmware under test did the wrong thing: a real fail."""

    blame = "firmware"


class InfraError(LabdError):
    """The bench failed; the same job may well pass elsewhere or later."""

    blame = "bench"


class TransportError(InfraError):
    """A port is missing, busy, or went away."""


class InstrumentError(InfraError):
    """An instrument answered, but not as its protocol says."""


class DeadlineExceeded(InfraError):  # noqa: N818 - the field's own word
    """Something did not answer in time."""


class MeasurementInvalid(LabdError):  # noqa: N818 - a verdict, not a malfunction
    """The number cannot be defended; the trace is kept, the verdict says why."""

    blame = "measurement"


class LabdBug(LabdError):  # noqa: N818 - says whose fault it is
    """Something labd itself got wrong."""


def first_fault(group: ExceptionGroup[Exception]) -> Exception:
    """The fault to tell a person of: the first that labd names, else the first."""
    faults = list(_leaves(group))
    return next((fault for fault in faults if isinstance(fault, LabdError)), faults[0])


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for part in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaves(part)
    else:
        yield error
