"""Lost timestamps: named only if the runner's clock allows one choice."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.rescore import find_tasks, rescore_folder
from labd.rescore.lost_stamps import find_lost, pair_stamps
from tests.unit.rescore import made_folders as made

SEEN = [100.0, *(t for k in range(5) for t in (110.0 + 21 * k, 122.0 + 21 * k))]


def late(times: list[float], seed: int, most_s: float = 0.15) -> list[float]:
    delay = random.Random(seed)
    return [time + delay.uniform(0, most_s) for time in times]


@given(st.integers(0, 10), st.integers())
def test_one_lost_stamp_of_eleven_is_reported(lost: int, seed: int) -> None:
    stamps = [time - 99 for position, time in enumerate(SEEN) if position != lost]
    found = find_lost(stamps, late(SEEN, seed))
    assert found is not None
    assert found.positions == (lost,)
    assert found.off_s <= 0.075 + 1e-9
    assert found.next_off_s > 1


@given(st.sets(st.integers(0, 10), min_size=2, max_size=3), st.integers())
@settings(deadline=None)
def test_several_lost_stamps_are_found_or_none(lost: set[int], seed: int) -> None:
    stamps = [time - 99 for position, time in enumerate(SEEN) if position not in lost]
    found = find_lost(stamps, late(SEEN, seed))
    assert found is None or found.positions == tuple(sorted(lost))


def test_none_is_named_where_two_choices_fit() -> None:
    short = [0.0, *(t for k in range(5) for t in (10.0 + 10 * k, 10.1 + 10 * k))]
    assert find_lost([t for i, t in enumerate(short) if i != 4], short) is None
    even = [12.0 * k for k in range(11)]
    assert find_lost(even[:4] + even[5:], even) is not None
    assert find_lost(even[1:], even) is None


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [([], SEEN), (SEEN, SEEN), (SEEN, []), (SEEN, SEEN[:10]), (SEEN[:3], SEEN), (SEEN[:1], SEEN)],
)
def test_none_is_named_without_data(stamps: list[float], expected: list[float]) -> None:
    assert find_lost(stamps, expected) is None


def test_none_is_named_where_the_clocks_do_not_fit() -> None:
    assert find_lost([t * 1.05 for t in SEEN[1:]], SEEN) is None


def test_stamps_that_belong_together_are_paired() -> None:
    assert pair_stamps([0, 1, 2, 3, 4]) == [(1, 2), (3, 4)]
    assert pair_stamps([0, 1, 2, 3]) == [(1, 2)]
    assert pair_stamps([0, 2, 3, 4], [1]) == [None, (3, 4)]
    assert pair_stamps([1, 2, 3, 4], [0]) == [(1, 2), (3, 4)]
    assert pair_stamps([], []) == []


# ---- in a session ------------------------------------------------------------------------


@pytest.mark.parametrize("lost", range(1, 11))
def test_a_stamp_lost_after_publishing_costs_its_window_only(tmp_path: Path, lost: int) -> None:
    folder = made.write_energy(tmp_path)
    remove_stamp(folder, lost)
    [found] = rescore_folder(next(iter(find_tasks([folder]))))
    number = 2 * ((lost + 1) // 2)
    assert [w.number for w in found.windows] == [n for n in (2, 4, 6, 8, 10) if n != number]
    texts = {finding.code: finding.text for finding in found.findings}
    assert (
        f"stamp {lost + 1}, the {'start' if lost % 2 else 'stop'} of window {number},"
        in texts["lost-stamp"]
    )
    assert "median 48000.000 uJ/inf" in texts["lost-stamp"]
    assert "not-recomputed" in texts
    assert "window-differs" not in texts
    assert found.agrees is None


def test_a_lost_sync_mark_costs_nothing(tmp_path: Path) -> None:
    folder = made.write_energy(tmp_path)
    remove_stamp(folder, 0)
    [found] = rescore_folder(next(iter(find_tasks([folder]))))
    assert found.agrees is True
    assert [finding.code for finding in found.findings] == ["lost-stamp"]


def remove_stamp(folder: Path, position: int) -> None:
    path = folder / "trace1-timestamps.json"
    times = json.loads(path.read_text())
    del times[position]
    path.write_text(json.dumps(times))
