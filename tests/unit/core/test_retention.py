from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labd.core.retention import DAY_NS, RetentionLimits, RunFiles, plan_removals

NOW = 100 * DAY_NS


def run(job: str, days: float, size: int = 10, protected: str = "", attempt: int = 1) -> RunFiles:
    return RunFiles(job, attempt, size, NOW - int(days * DAY_NS), protected)


def gone(runs: list[RunFiles], limits: RetentionLimits) -> list[str]:
    return [removed.job for removed, _ in plan_removals(runs, limits, NOW)]


def test_without_limits_nothing_is_removed() -> None:
    assert gone([run("a", 90, 10**15)], RetentionLimits()) == []


def test_runs_that_are_too_old_are_removed_oldest_first() -> None:
    runs = [run("young", 29.9), run("old", 31), run("oldest", 50), run("limit", 30)]
    found = plan_removals(runs, RetentionLimits(days=30), NOW)
    assert [(each.job, reason) for each, reason in found] == [
        ("oldest", "older than 30 days"),
        ("old", "older than 30 days"),
    ]


def test_the_oldest_are_removed_until_the_rest_fits() -> None:
    runs = [run("c", 1, 40), run("a", 3, 40), run("b", 2, 40)]
    assert gone(runs, RetentionLimits(size_bytes=120)) == []
    assert gone(runs, RetentionLimits(size_bytes=119)) == ["a"]
    assert gone(runs, RetentionLimits(size_bytes=80)) == ["a"]
    assert gone(runs, RetentionLimits(size_bytes=79)) == ["a", "b"]
    assert gone(runs, RetentionLimits(size_bytes=0)) == ["a", "b", "c"]
    [(_, reason)] = plan_removals(runs, RetentionLimits(size_bytes=100), NOW)
    assert reason == "traces take up more than 1e-07 GB"


def test_runs_removed_by_age_count_towards_the_size_limit() -> None:
    runs = [run("a", 40, 50), run("b", 20, 50), run("c", 10, 50)]
    assert gone(runs, RetentionLimits(days=30, size_bytes=100)) == ["a"]


def test_protected_runs_stay_and_count() -> None:
    runs = [run("pinned", 90, 100, "pinned"), run("a", 2, 10), run("b", 1, 10)]
    assert gone(runs, RetentionLimits(days=30)) == []
    assert gone(runs, RetentionLimits(size_bytes=110)) == ["a"]
    assert gone(runs, RetentionLimits(size_bytes=50)) == ["a", "b"]


def test_a_clock_that_went_back_removes_nothing() -> None:
    assert gone([run("future", -5)], RetentionLimits(days=1)) == []


runs_ = st.lists(
    st.builds(
        RunFiles,
        st.sampled_from("abcdef"),
        st.integers(1, 3),
        st.integers(0, 1000),
        st.integers(0, 120 * DAY_NS),
        st.sampled_from(["", "", "pinned", "in progress"]),
    ),
    max_size=20,
)
limits_ = st.builds(
    RetentionLimits, st.none() | st.floats(0.1, 150), st.none() | st.integers(0, 10_000)
)


@given(runs=runs_, limits=limits_)
def test_every_removal_is_needed_and_none_is_protected(
    runs: list[RunFiles], limits: RetentionLimits
) -> None:
    removed = [each for each, _ in plan_removals(runs, limits, NOW)]
    kept = list(runs)
    for each in removed:
        kept.remove(each)
    may_go = [each for each in kept if not each.protected]
    assert not any(each.protected for each in removed)
    assert removed == sorted(removed, key=lambda each: each.ended_ns)
    if removed and may_go:
        assert max(e.ended_ns for e in removed) <= min(e.ended_ns for e in may_go)
    if limits.days is not None:
        assert all((NOW - each.ended_ns) / DAY_NS <= limits.days for each in may_go)
    total = sum(each.size_bytes for each in kept)
    if limits.size_bytes is not None:
        assert total <= limits.size_bytes or not may_go
    for each in removed:  # none of them could have stayed
        too_old = limits.days is not None and (NOW - each.ended_ns) / DAY_NS > limits.days
        after = total + sum(r.size_bytes for r in removed[removed.index(each) :])
        assert too_old or (limits.size_bytes is not None and after > limits.size_bytes)


@given(runs=runs_, limits=limits_)
def test_a_second_sweep_finds_nothing(runs: list[RunFiles], limits: RetentionLimits) -> None:
    kept = list(runs)
    for removed, _ in plan_removals(runs, limits, NOW):
        kept.remove(removed)
    assert plan_removals(kept, limits, NOW) == []
