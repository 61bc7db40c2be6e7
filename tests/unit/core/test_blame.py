"""The same fault on two stations that pass their check is the firmware's; nothing less is."""

from __future__ import annotations

import pytest

from labd.core.blame import Fault, why_firmware_failed


def fault(attempt: int, station: str, dut_fault: str = "no-answer") -> Fault:
    return Fault(attempt, station, dut_fault, f"reason {attempt}")


def test_two_stations_convict_the_firmware_and_both_attempts_are_named() -> None:
    why = why_firmware_failed([fault(1, "s1"), fault(2, "s2")], alternative=True)
    assert why == (
        "the same fault on two stations, which passed the health check right after it: "
        "attempt 1 on s1: reason 1; attempt 2 on s2: reason 2"
    )


def test_twice_on_one_station_decides_only_without_another() -> None:
    twice = [fault(1, "s1"), fault(2, "s1")]
    assert why_firmware_failed(twice, alternative=True) == ""
    assert "on the only suitable station" in why_firmware_failed(twice, alternative=False)


def test_the_last_attempt_decides_wherever_it_ran() -> None:
    thrice = [fault(1, "s1"), fault(2, "s1"), fault(3, "s1")]
    assert why_firmware_failed(thrice, alternative=True)


@pytest.mark.parametrize(
    "faults",
    [
        [fault(1, "s1")],
        [fault(1, "s1"), fault(2, "s2", "")],
        [fault(1, "s1", ""), fault(2, "s2", "")],
        [fault(1, "s1", "dut-restarted"), fault(2, "s2", "no-answer")],
    ],
)
def test_less_leaves_it_open(faults: list[Fault]) -> None:
    assert why_firmware_failed(faults, alternative=False) == ""
