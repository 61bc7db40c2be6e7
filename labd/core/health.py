"""Health of a station, as a table of transitions.

``GOOD`` stations take jobs. After an infra fault a station is ``UNKNOWN`` until a health check
makes it ``GOOD`` or ``BAD``. A ``BAD`` station is not scheduled until it is checked again.
"""

from __future__ import annotations

from enum import StrEnum

from labd.core.errors import LabdBug


class Health(StrEnum):
    """Whether a station may run jobs."""

    GOOD = "good"
    UNKNOWN = "unknown"
    BAD = "bad"


class Activity(StrEnum):
    """Current activity of a station."""

    IDLE = "idle"
    LEASED = "leased"
    RUNNING = "running"
    CHECKING = "checking"


class HealthStep(StrEnum):
    """Event that changes a station's health."""

    CHECK_PASSED = "check-passed"
    CHECK_FAILED = "check-failed"
    FAULT = "fault"


HEALTH: dict[tuple[Health, HealthStep], Health] = {
    (Health.UNKNOWN, HealthStep.CHECK_PASSED): Health.GOOD,
    (Health.UNKNOWN, HealthStep.CHECK_FAILED): Health.BAD,
    (Health.BAD, HealthStep.CHECK_PASSED): Health.GOOD,
    (Health.BAD, HealthStep.CHECK_FAILED): Health.BAD,
    (Health.GOOD, HealthStep.CHECK_PASSED): Health.GOOD,
    (Health.GOOD, HealthStep.CHECK_FAILED): Health.BAD,
    (Health.GOOD, HealthStep.FAULT): Health.UNKNOWN,
    (Health.UNKNOWN, HealthStep.FAULT): Health.UNKNOWN,
}


def next_health(health: Health, step: HealthStep) -> Health:
    """Return the health after an event.

    Raises:
        LabdBug: the table has no such step from this health.
    """
    after = HEALTH.get((health, step))
    if after is None:
        raise LabdBug("health-step", f"a station of {health} health cannot {step}")
    return after
