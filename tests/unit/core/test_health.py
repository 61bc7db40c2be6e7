"""Station health: a fault is never lost, and only a check makes a station good."""

import itertools

import pytest

from labd.core.errors import LabdBug
from labd.core.health import HEALTH, Health, HealthStep, next_health


@pytest.mark.parametrize(("health", "step"), list(itertools.product(Health, HealthStep)))
def test_a_step_is_in_the_table_or_raises(health: Health, step: HealthStep) -> None:
    if (health, step) in HEALTH:
        assert next_health(health, step) is HEALTH[health, step]
    else:
        with pytest.raises(LabdBug):
            next_health(health, step)


def test_only_a_passed_check_makes_a_station_good() -> None:
    assert {step for (_, step), after in HEALTH.items() if after is Health.GOOD} == {
        HealthStep.CHECK_PASSED
    }


def test_a_fault_takes_the_station_out() -> None:
    assert next_health(Health.GOOD, HealthStep.FAULT) is Health.UNKNOWN
