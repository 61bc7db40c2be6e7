"""Errors by blame: who has to act decides what the lab does next.

A driver translates its library's exceptions into these at its boundary. Everything above it
decides by class alone: try elsewhere (:class:`InfraError`), score a real fail
(:class:`DutError`), refuse the number (:class:`MeasurementInvalid`), or answer the person who
asked (:class:`JobError`, :class:`ConfigError`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Where:
    """Place of an error; any part may be unknown."""

    station: str = ""
    device: str = ""
    job: str = ""

    def __str__(self) -> str:
        """Join the known parts, outermost first."""
        named = (("job", self.job), ("station", self.station), ("device", self.device))
        return ", ".join(f"{name} {value}" for name, value in named if value)


class LabdError(Exception):
    """Base of all errors that labd raises.

    Args:
        code: stable word for programs, for example ``port-missing``.
        what: what happened, in one sentence.
        remedy: what to do about it; empty if nothing can be done.
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
        """Format as one line: place, what happened, remedy."""
        place = str(self.where)
        head = f"{place}: {self.what}" if place else self.what
        return f"{head} ({self.remedy})" if self.remedy else head


class ConfigError(LabdError):
    """stations.toml or the command line is wrong."""

    blame = "operator"


class JobError(LabdError):
    """The submitted job cannot be done as asked."""

    blame = "submitter"


class DutError(LabdError):
    """The firmware under test misbehaved: a real fail."""

    blame = "firmware"


class InfraError(LabdError):
    """The bench failed; the same job may pass elsewhere or later.

    ``dut_suspected`` is set where the firmware under test may have caused it, see
    :mod:`labd.core.blame`.
    """

    blame = "bench"
    dut_suspected = False


class TransportError(InfraError):
    """A port is missing, busy, or went away."""


class InstrumentError(InfraError):
    """An instrument's answer violates its protocol."""


class DeadlineExceeded(InfraError):  # noqa: N818 - the usual term
    """No answer within the deadline."""


class MeasurementInvalid(LabdError):  # noqa: N818 - a verdict, not a malfunction
    """The number cannot be defended; the trace is kept, the verdict states why."""

    blame = "measurement"


class LabdBug(LabdError):  # noqa: N818 - a bug, not a condition
    """A defect of labd itself."""


QUOTED_COMMAND = 40
"""Characters of a command that an error quotes."""


@contextmanager
def quoting_command(command: str) -> Generator[None]:
    """Let every error of the body begin with the command that caused it."""
    try:
        yield
    except LabdError as error:
        quoted = command[:QUOTED_COMMAND]
        if not error.what.startswith((quoted, f"'{quoted}", f"'dut {quoted}")):
            error.what = f"{quoted}: {error.what}"
        raise


def first_fault(group: ExceptionGroup[Exception]) -> Exception:
    """Return the error to report: the first :class:`LabdError`, else the first of all."""
    faults = list(_flatten_group(group))
    return next((fault for fault in faults if isinstance(fault, LabdError)), faults[0])


def _flatten_group(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for part in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _flatten_group(part)
    else:
        yield error
