"""Wake words found and missed, by both rules; duty cycle."""

from __future__ import annotations

import pytest

from labd.core.wakeword import DOCUMENTED_GRACE_S, compute_duty_cycle, score_wakewords

WORDS = [(10.0, 10.5), (20.0, 20.5)]


@pytest.mark.parametrize(
    ("pulse_ms", "official", "documented"),
    [
        (9_999, 0, 0),
        (10_000, 1, 1),
        (11_500, 1, 1),
        (11_501, 1, 0),
        (12_500, 1, 0),
        (12_501, 0, 0),
    ],
)
def test_a_word_is_found_up_to_its_grace(pulse_ms: int, official: int, documented: int) -> None:
    detections = [70, pulse_ms + 70]
    assert score_wakewords(detections, WORDS).tp == official
    assert score_wakewords(detections, WORDS, DOCUMENTED_GRACE_S).tp == documented


def test_every_pulse_of_a_found_word_is_used_up() -> None:
    score = score_wakewords([0, 10_100, 10_132, 12_400, 20_001], WORDS)
    assert (score.tp, score.fn, score.fp) == (2, 0, 0)


def test_unmatched_pulses_make_runs_anchored_at_their_first() -> None:
    score = score_wakewords([0, 30_000, 30_900, 31_000, 31_001, 32_001], WORDS)
    assert score.false_s == (30.0, 31.001)
    assert score.missed_s == (10.0, 20.0)
    assert score.within_limits


def test_more_than_eight_errors_of_a_kind_break_the_limits() -> None:
    pulses = [0, *(30_000 + 2_000 * n for n in range(9))]
    assert score_wakewords(pulses, WORDS).fp == 9
    assert not score_wakewords(pulses, WORDS).within_limits


def test_without_any_pulse_there_is_no_start() -> None:
    with pytest.raises(ValueError, match="time zero"):
        score_wakewords([], WORDS)


def test_duty_cycle_is_processing_time_over_period() -> None:
    found = compute_duty_cycle([0.0, 0.032, 0.064], [0.008, 0.040, 0.072])
    assert found.duty_cycle == pytest.approx(0.25)
    assert found.throughput_ips == pytest.approx(125.0)


@pytest.mark.parametrize(
    ("starts", "stops"), [([0.0, 1.0], [0.5]), ([0.0], [0.5]), ([1.0, 2.0], [0.5, 1.5]), ([], [])]
)
def test_edges_that_cannot_be_paired_make_no_number(
    starts: list[float], stops: list[float]
) -> None:
    with pytest.raises(ValueError, match=r"paired|period|times"):
        compute_duty_cycle(starts, stops)
