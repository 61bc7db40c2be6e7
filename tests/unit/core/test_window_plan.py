"""Which windows are repeated, and which count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.errors import MeasurementInvalid
from labd.core.model import ClockCheck, Window
from labd.core.suite import MAX_INFERENCES
from labd.core.window_plan import (
    MAX_MODE_REPEATS,
    MAX_WINDOW_REPEATS,
    WindowPlan,
    is_rightly_left_out,
)
from labd.core.windows import Batch, performance_window

FILES = ["a", "b", "c", "d", "e"]
NO_CLOCK = ClockCheck("none", None, 0.0)

Speed = Callable[[Batch], float]
"""Returns the seconds per inference of a batch."""


def measure(plan: WindowPlan, speed: Speed, check: ClockCheck = NO_CLOCK) -> list[Window]:
    """Run the plan to its end; return the windows in their last reported form."""
    reported: dict[int, Window] = {}
    while (batch := plan.next_batch()) is not None:
        window = performance_window(batch, round(batch.inferences * speed(batch) * 1e6), check)
        reported |= {each.number: each for each in plan.add_window(window)}
    assert [each for each in plan.all_windows if each.number in reported] == list(reported.values())
    return plan.all_windows


def planned(inference_s: float) -> WindowPlan:
    plan = WindowPlan(FILES, 10.5)
    plan.choose_inferences(inference_s)
    return plan


def test_windows_that_are_long_enough_are_measured_once() -> None:
    plan = planned(0.1)
    windows = measure(plan, lambda _: 0.1)
    assert [window.input_file for window in windows] == FILES
    assert plan.counted_windows == windows
    assert {window.inferences for window in windows} == {105}
    assert plan.finished_inputs == 5


def test_a_window_that_is_too_short_is_kept_and_repeated_with_more() -> None:
    plan = planned(0.1)
    short, *rest = measure(plan, lambda batch: 0.1 if batch.inferences < 60 else 0.094)
    assert short.not_counted == "too short: repeated with 112 inferences"
    assert short.problems == ("lasts 9.870000 s, less than 10 s",)
    assert [window.input_file for window in rest] == FILES
    assert {window.inferences for window in rest} == {112}  # 10.5 s / 94 ms
    assert plan.counted_windows == rest
    assert all(window.valid for window in rest)


def test_all_counted_windows_have_one_n_in_the_end() -> None:
    """The third input is faster: windows 1 and 2 are measured again with its N."""
    plan = planned(0.1)
    windows = measure(plan, lambda batch: 0.09 if batch.input_file == "c" else 0.1)
    assert [(window.number, window.input_file, window.inferences) for window in windows] == [
        *((1, "a", 105), (2, "b", 105), (3, "c", 105)),
        *((4, "c", 117), (5, "d", 117), (6, "e", 117), (7, "a", 117), (8, "b", 117)),
    ]
    assert [window.number for window in plan.counted_windows] == [4, 5, 6, 7, 8]
    again = "measured again as window 7, for 117 inferences in every counted window"
    assert windows[0].not_counted == again
    assert windows[0].valid
    assert all(is_rightly_left_out(each, windows) for each in windows if not each.is_counted)


def test_each_input_faster_than_the_one_before_is_within_the_repeats_of_a_mode() -> None:
    plan = planned(0.1)
    windows = measure(plan, lambda batch: 0.1 * 0.93 ** FILES.index(batch.input_file))
    assert plan.problems == []
    assert len({window.inferences for window in plan.counted_windows}) == 1
    assert len(windows) <= 5 + MAX_MODE_REPEATS


def test_a_speed_that_never_settles_is_given_up_and_says_what_was_tried() -> None:
    plan = planned(0.1)
    windows = measure(plan, lambda batch: 9.9 / batch.inferences)
    assert [window.is_counted for window in windows] == [False] * MAX_WINDOW_REPEATS + [True]
    assert not windows[-1].valid
    [problem] = plan.problems
    assert problem.startswith("a gave no window that is long enough, after 3 repeats of it")
    assert "105 in 9.900 s, 112 in 9.900 s, 119 in 9.900 s, 127 in 9.900 s" in problem


def test_an_earlier_window_counts_if_its_repeat_for_one_n_stays_too_short() -> None:
    plan = planned(0.1)
    calls = {"c": 0.09, "a": 0.1}
    windows = measure(
        plan,
        lambda batch: (
            9.9 / batch.inferences
            if batch.input_file == "a" and batch.number > 5
            else calls.get(batch.input_file, 0.1)
        ),
    )
    assert plan.problems == []
    assert sorted(window.input_file for window in plan.counted_windows) == FILES
    assert all(window.valid for window in plan.counted_windows)
    assert plan.counted_windows[0].number == 1
    assert windows[-1].not_counted == "too short: window 1 counts instead"


def test_an_n_beyond_the_protocol_is_given_up_and_says_so() -> None:
    plan = planned(10.5 / MAX_INFERENCES)
    [window] = measure(plan, lambda batch: 9.9 / batch.inferences)
    assert window.is_counted
    assert "is too short for this protocol" in plan.problems[0]
    with pytest.raises(MeasurementInvalid, match=f"limit {MAX_INFERENCES}"):
        planned(1e-9)


def test_a_window_with_another_fault_counts_and_nothing_removes_it() -> None:
    plan = planned(0.1)
    off = ClockCheck("host", 20.0, 0.1)
    batch = plan.next_batch()
    assert batch is not None
    plan.add_window(performance_window(batch, 9_900_000, off))
    windows = measure(plan, lambda batch: 0.09 if batch.input_file == "c" else 0.1)
    assert [window.input_file for window in windows] == ["a", "b", "c", "c", "d", "e"]
    assert windows[0].is_counted
    assert not windows[0].valid
    assert [window.inferences for window in plan.counted_windows] == [105, 105, 117, 117, 117]


def test_a_window_that_is_known_late_is_repeated_late() -> None:
    plan = planned(0.1)
    first, second = plan.next_batch(), plan.next_batch()
    assert first is not None
    assert second is not None
    plan.add_window(performance_window(first, 9_900_000, NO_CLOCK))
    plan.add_window(performance_window(second, 9_900_000, NO_CLOCK))
    windows = measure(plan, lambda _: 0.095)
    assert [window.input_file for window in windows] == ["a", "b", "b", "c", "d", "e", "a"]
    assert [window.number for window in plan.counted_windows] == [3, 4, 5, 6, 7]
    assert plan.problems == []


def test_the_final_form_of_a_window_keeps_its_mark() -> None:
    plan = planned(0.1)
    first = plan.next_batch()
    assert first is not None
    preliminary = performance_window(first, 9_900_000, NO_CLOCK)
    [short] = plan.add_window(preliminary)
    final = replace(preliminary, energy_uj=1.0)
    assert plan.add_window(final) == [replace(final, not_counted=short.not_counted)]
    assert plan.all_windows[0].energy_uj == 1.0


def test_a_window_left_out_without_a_reason_is_recognised() -> None:
    window = performance_window(Batch(1, "a", 105), 10_500_000, NO_CLOCK)
    left_out = replace(window, not_counted="I did not like it")
    same_n = performance_window(Batch(2, "a", 105), 10_600_000, NO_CLOCK)
    other_input = performance_window(Batch(3, "b", 112), 10_600_000, NO_CLOCK)
    assert not is_rightly_left_out(left_out, [left_out, same_n, other_input])
    more = replace(same_n, inferences=106)
    assert is_rightly_left_out(left_out, [left_out, more])


@given(speeds=st.lists(st.floats(0.02, 0.2), min_size=15, max_size=15))
def test_however_the_speed_changes_the_plan_ends(speeds: list[float]) -> None:
    plan = planned(0.1)
    windows = measure(plan, lambda batch: speeds[batch.number - 1])
    assert len(windows) <= 5 + MAX_MODE_REPEATS
    counted = plan.counted_windows
    assert len({window.input_file for window in counted}) == len(counted)
    if not plan.problems:
        assert sorted(window.input_file for window in counted) == FILES
        assert all(window.valid for window in counted)
    for window in windows:
        assert window.is_counted or is_rightly_left_out(window, windows)
