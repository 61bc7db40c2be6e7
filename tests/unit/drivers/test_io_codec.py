"""The interface board's text: relayed replies and processing intervals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.protocol.duty_cycle import pair_intervals, parse_duty_cycle
from labd.protocol.lines import Line
from labd.protocol.relay import RelayedReply

WRAP = 1 << 32


def reply(*texts: str) -> RelayedReply:
    out = RelayedReply()
    for t_ns, text in enumerate(texts):
        out.feed(Line(text, t_ns))
    return out


def test_only_the_duts_own_ready_ends_a_command() -> None:
    taken = reply("m-dut-passthrough(name)", "m-ready")
    assert taken.accepted
    assert not taken.finished
    done = reply("m-dut-passthrough(name)", "m-ready", "[dut]: m-name-dut-[x]", "[dut]: m-ready")
    assert done.finished
    assert done.lines == [Line("m-name-dut-[x]", 2)]


def test_text_of_the_dut_may_precede_its_ready() -> None:
    done = reply("m-ready", "[dut]:", "[dut]:   last words m-ready")
    assert done.finished
    assert [line.text for line in done.lines] == ["last words"]


def test_ready_may_follow_the_numbers_on_their_line() -> None:
    lines = [
        "Duty cycle start times (s)",
        "6718, 9924, ",
        "Duty cycle stop times (s)",
        "7000, 9990,",
    ]
    assert parse_duty_cycle(lines) == ([6718, 9924], [7000, 9990])
    assert parse_duty_cycle(["Duty cycle start times (s)Duty cycle stop times (s)"]) == ([], [])


@pytest.mark.parametrize(
    "lines",
    [
        ["Duty cycle start times (s)", "1,"],
        ["Duty cycle stop times (s)", "1,"],
        ["Duty cycle start times (s)", "1, x", "Duty cycle stop times (s)", "2,"],
        ["Duty cycle start times (s)", "4294967296,", "Duty cycle stop times (s)", "2,"],
        ["Duty cycle start times (s)", "-1,", "Duty cycle stop times (s)", "2,"],
    ],
)
def test_a_damaged_record_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"missing|invalid"):
        parse_duty_cycle(lines)


@given(
    st.integers(0, WRAP - 1),
    st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 10**5)), max_size=100),
    st.integers(0, 1),
    st.integers(0, 1),
)
def test_pairs_survive_the_wrap_and_half_intervals_at_both_ends(
    begin: int, steps: list[tuple[int, int]], early_stops: int, late_starts: int
) -> None:
    now, truth = begin + 5, []
    for run, pause in steps:
        truth.append((now % WRAP, (now + run) % WRAP))
        now += run + pause
    starts = [start for start, _ in truth] + [now % WRAP] * late_starts
    stops = [begin % WRAP] * early_stops + [stop for _, stop in truth]
    assert pair_intervals(starts, stops) == truth


@given(st.integers(0, WRAP - 1), st.integers(3, 50), st.data())
def test_a_lost_edge_in_between_is_refused(begin: int, count: int, data: st.DataObject) -> None:
    starts = [(begin + 100 * i) % WRAP for i in range(count)]
    stops = [(begin + 100 * i + 60) % WRAP for i in range(count)]
    lost = data.draw(st.integers(1, count - 2))
    with pytest.raises(ValueError, match=r"alternate|starts but"):
        pair_intervals(starts[:lost] + starts[lost + 1 :], stops)
    with pytest.raises(ValueError, match=r"alternate|starts but"):
        pair_intervals(starts, stops[:lost] + stops[lost + 1 :])


@pytest.mark.parametrize(
    ("starts", "stops"), [([1, 2, 3], []), ([], [1, 2]), ([1, 2], []), ([1, 5, 9], [6])]
)
def test_edges_of_one_kind_alone_are_refused(starts: list[int], stops: list[int]) -> None:
    with pytest.raises(ValueError, match="starts but"):
        pair_intervals(starts, stops)


def test_half_an_interval_alone_is_no_interval() -> None:
    assert pair_intervals([7], []) == pair_intervals([], [7]) == pair_intervals([], []) == []
    assert pair_intervals([9], [7]) == []


def test_a_published_record_pairs() -> None:
    shared = os.environ.get("LABD_SHARED")
    if not shared:
        pytest.skip("LABD_SHARED does not name the folder with published session logs")
    log = Path(shared) / "real-logs" / "v1.3_syntiant_NDP9120_sww01_energy" / "log.txt"
    text = log.read_text(encoding="utf-8", errors="replace")
    record = text[text.index("RX:Duty cycle start times") :].partition("m-ready")[0]
    pairs = pair_intervals(*parse_duty_cycle(record.replace("RX:", "").splitlines()))
    assert len(pairs) >= 99
    assert all(0 < stop - start < 3300 for start, stop in pairs)
