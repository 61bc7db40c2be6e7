"""Messages and channels of the Otii: samples are true, anything uncertain is a gap."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.otii.channels import HeldVoltage, RecordingLengthCheck
from drivers.otii.messages import (
    AnalogData,
    InvalidLine,
    LevelChange,
    MessageSplitter,
    encode_request,
    parse_analog_data,
    parse_digital_changes,
)
from drivers.otii.stream import OtiiStream
from labd.core.model import Edge, Gap, Samples, StreamItem

RATE = 1000
SLOW = 250
SECOND_NS = 1_000_000_000

MESSAGES = [
    b'{"type": "information", "info": "connected", "data": {}}\r\n',
    b'{"type": "progress", "cmd": "x", "progress_value": 0.5}\r\n',
    b'{"type": "response", "cmd": "x", "trans_id": "1", "data": {"values": [1.5e-3, null]}}\n',
    b"\r\n",
    b"[1, 2]\r\n",
    b'{"type": "err\xc3\xb6r"}\r\n',
    b"nonsense\r\n",
]


@given(st.lists(st.sampled_from(MESSAGES), max_size=8), st.lists(st.integers(0, 600), max_size=9))
def test_any_chunking_gives_the_same_messages(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(parts)
    splitter = MessageSplitter()
    places = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(places)]
    received = [message for piece in pieces for message in splitter.feed(piece)]
    assert received == MessageSplitter().feed(whole)
    assert len(received) == sum(bool(part.strip()) for part in parts)


def test_a_text_that_utf8_cannot_carry_is_no_message() -> None:
    line = rb'{"type": "response", "data": {"name": "\ud800"}}'
    [received] = MessageSplitter().feed(line + b"\n")
    assert received == InvalidLine(line.decode())
    [received] = MessageSplitter().feed(line.replace(rb"\ud800", rb"\ud83d\ude00") + b"\n")
    assert received["data"] == {"name": "\U0001f600"}  # type: ignore[index]


def test_a_line_that_is_no_object_ends_at_its_line_feed() -> None:
    received = MessageSplitter().feed(b"nonsense\r\n[1]\r\n" + MESSAGES[0])
    assert received[:2] == [InvalidLine("nonsense"), InvalidLine("[1]")]
    assert isinstance(received[2], dict)


def test_a_request_is_one_line_of_json() -> None:
    line = encode_request("arc_get_gpi", "7", {"pin": 1})
    assert line.endswith(b"\r\n")
    wanted = {"type": "request", "cmd": "arc_get_gpi", "trans_id": "7", "data": {"pin": 1}}
    assert json.loads(line) == wanted
    assert "data" not in json.loads(encode_request("otii_logout", "8", None))


@pytest.mark.parametrize(
    "changed",
    [
        {"values": [1.0]},
        {"values": [1.0, 2.0, 3.0]},
        {"values": [1.0, "2.0"]},
        {"values": [1.0, True]},
        {"values": "12"},
        {"data_type": "digital"},
        {"timestamp": None},
        {"timestamp": float("inf")},
        {"interval": 0},
        {"interval": -0.001},
    ],
)
def test_a_damaged_analog_reply_is_refused(changed: dict[str, object]) -> None:
    sound = {"data_type": "analog", "timestamp": 0.5, "interval": 0.001, "values": [1.0, 2.0]}
    assert parse_analog_data(sound, 2).t_s == 0.5
    with pytest.raises(ValueError, match=r"samples|number|interval"):
        parse_analog_data(sound | changed, 2)


@pytest.mark.parametrize(
    "values", [[], [1], [{"timestamp": 1.0}], [{"timestamp": "x", "value": True}]]
)
def test_a_damaged_digital_reply_is_refused(values: list[object]) -> None:
    sound = {"data_type": "digital", "values": [{"timestamp": 1.0, "value": False}]}
    assert parse_digital_changes(sound, 1) == [LevelChange(1.0, high=False)]
    with pytest.raises(ValueError, match=r"change|level|number"):
        parse_digital_changes(sound | {"values": values}, 1)


# ---- a recording, read in pieces ---------------------------------------------------------


class GrowingRecording:
    """Data of a server, and the stream that reading them in pieces gives.

    Args:
        seconds: its length.
        lost: positions of the samples of current that are missing.
        changes: times at which the line changed.
    """

    def __init__(
        self, seconds: int, lost: Sequence[int] = (), changes: Sequence[float] = ()
    ) -> None:
        every = np.arange(seconds * RATE)
        self.positions = np.delete(every, list(lost))
        self.amps = (1.0 + every) * 1e-6
        self.volts = 3.0 + np.arange(seconds * SLOW) * 1e-4
        self.changes = [LevelChange(at, high=bool(n % 2)) for n, at in enumerate(changes)]

    def stream(self, cuts: Sequence[int]) -> list[StreamItem]:
        """Read the data at these counts of samples of current."""
        stream = OtiiStream(RATE, SLOW, "i1", 0.002)
        items = stream.note_start(0, 1000, high=True)
        total, volts, changes = len(self.positions), 0, 0
        done = 0
        for cut in [*sorted(cuts), total]:
            if cut > done:
                where = self.positions[done:cut]
                stream.add_current(AnalogData(where[0] / RATE, 1 / RATE, self.amps[where]))
                now_s, done = (where[-1] + 1) / RATE, cut
                until = round(now_s * SLOW)
                if until > volts:
                    stream.add_voltage(AnalogData(volts / SLOW, 1 / SLOW, self.volts[volts:until]))
                    volts = until
                new = [c for c in self.changes[changes:] if c.t_s <= now_s]
                stream.add_changes(new)
                changes += len(new)
                now_ns = round(now_s * SECOND_NS)
                items += stream.check_length(now_ns, now_ns)
            items += stream.release_confirmed()
        last_ns = round(self.positions[-1] / RATE * SECOND_NS)
        items += stream.finish(self.positions[-1] / RATE, (volts - 1) / SLOW, last_ns)
        items += stream.rest_as_gap("the end")
        assert stream.received_samples >= self.positions[-1] + 1
        return items


def summary(items: list[StreamItem]) -> tuple[list[float], list[Edge], set[int]]:
    """Return power by index (NaN in gaps), edges, and the indices in gaps."""
    watts: list[float] = []
    lost: set[int] = set()
    edges: list[Edge] = []
    for item in items:
        if isinstance(item, Samples):
            assert item.index == len(watts)
            watts += item.power_w.tolist()
        elif isinstance(item, Gap):
            assert item.index == len(watts)
            watts += [float("nan")] * item.count
            lost |= set(range(item.index, item.end))
        elif isinstance(item, Edge):
            assert item.index <= len(watts)
            edges.append(item)
    return watts, edges, lost


cuts_of = st.lists(st.integers(1, 4000), min_size=3, max_size=30)


@given(cuts_of, st.lists(st.floats(0.01, 3.9), max_size=6, unique=True))
def test_any_pieces_of_a_complete_recording_give_the_same_stream(
    cuts: list[int], changes: list[float]
) -> None:
    recording = GrowingRecording(4, changes=sorted(changes))
    watts, edges, lost = summary(recording.stream(cuts))
    assert not lost
    truth = recording.amps * np.repeat(recording.volts, RATE // SLOW)
    np.testing.assert_allclose(watts, truth, rtol=1e-12)
    assert [(e.index, e.rising) for e in edges] == [
        (c.t_s * RATE, c.high) for c in recording.changes
    ]


@given(cuts_of, st.integers(1, 3900), st.integers(1, 60), st.floats(0.01, 3.9))
def test_lost_samples_are_in_gaps_and_shift_nothing(
    cuts: list[int], at: int, count: int, change: float
) -> None:
    lost = range(at, min(at + count, 3990))
    recording = GrowingRecording(4, lost, [change])
    watts, edges, gaps = summary(recording.stream([cut for cut in cuts if cut < 4000 - len(lost)]))
    assert len(watts) == 4000
    assert set(lost) <= gaps
    truth = recording.amps * np.repeat(recording.volts, RATE // SLOW)
    sound = [i for i in range(4000) if i not in gaps]
    np.testing.assert_allclose(np.array(watts)[sound], truth[sound], rtol=1e-12)
    for edge in edges:
        near = range(int(edge.index - 2), int(edge.index + 2) + 1)
        assert not gaps & set(near)


@given(cuts_of, st.integers(1, 3900))
def test_a_doubled_sample_is_a_gap_up_to_the_next_time(cuts: list[int], at: int) -> None:
    stream = OtiiStream(RATE, SLOW, "i1", 0.002)
    stream.note_start(0, 1000, high=True)
    truth = (1.0 + np.arange(4000)) * 1e-6
    ends = sorted({*cuts, 4000} - {at})
    items: list[StreamItem] = []
    begin = 0
    for end in ends:
        values = truth[begin:end]
        if begin <= at < end:
            values = np.insert(values, at - begin, values[at - begin])
        stream.add_current(AnalogData(begin / RATE, 1 / RATE, values))
        stream.add_voltage(AnalogData(begin / SLOW, 1 / SLOW, np.ones(1))) if not begin else None
        begin = end
    stream._volts.mark_complete()
    items += stream.finish(3999 / RATE, 0.0, 4 * SECOND_NS)
    amps = {i.index: i.current_a for i in items if isinstance(i, Samples)}
    for index, values in amps.items():
        np.testing.assert_array_equal(values, truth[index : index + len(values)])


def test_times_off_the_grid_or_backwards_are_refused() -> None:
    block = np.ones(10)
    for second, problem in ((0.0105, "between two"), (0.0, "backwards"), (-1.0, "backwards")):
        stream = OtiiStream(RATE, SLOW, "i1", 0.002)
        stream.add_current(AnalogData(0.0, 1 / RATE, block))
        with pytest.raises(ValueError, match=problem):
            stream.add_current(AnalogData(second, 1 / RATE, block))
    with pytest.raises(ValueError, match="a sample every"):
        OtiiStream(RATE, SLOW, "i1", 0.002).add_current(AnalogData(0.0, 1 / 900, block))


def test_a_repeated_level_is_no_edge_and_an_unknown_one_gives_none() -> None:
    for high, changes, falls in (
        (True, [(0.0, True), (0.5, False), (0.6, False), (0.7, True)], 1),
        (True, [(0.5, False), (0.7, True), (0.8, False)], 2),
        (None, [(0.5, False), (0.7, True), (0.8, False)], 1),
        (False, [(0.0, False), (0.7, True)], 0),
    ):
        stream = OtiiStream(RATE, SLOW, "i1", 0.002)
        stream.note_start(0, 0, high=high)
        stream.add_changes([LevelChange(at, level) for at, level in changes])
        assert stream.edges_seen == falls


def second_by_second(stream: OtiiStream, seconds: range, lost: int = 0) -> list[StreamItem]:
    """Seconds of both channels, read as they grow; ``lost`` samples are missing without a sign."""
    items: list[StreamItem] = []
    for second in seconds:
        amps = np.ones(RATE - (lost if second == seconds[0] else 0))
        missing = 0 if second == seconds[0] else lost
        stream.add_current(AnalogData(second - missing / RATE, 1 / RATE, amps))
        stream.add_voltage(AnalogData(float(second), 1 / SLOW, np.ones(SLOW)))
        now_ns = (second + 1) * SECOND_NS
        items += [*stream.check_length(now_ns, now_ns), *stream.release_confirmed()]
    return items


def released(items: list[StreamItem]) -> int:
    return max((item.end for item in items if isinstance(item, Samples)), default=0)


def test_the_newest_samples_wait_for_the_slower_channels() -> None:
    stream = OtiiStream(RATE, SLOW, "i1", 0.002)
    stream.note_start(0, 0, high=True)
    items = second_by_second(stream, range(5))
    stream.add_current(AnalogData(5.0, 1 / RATE, np.ones(100)))
    stream.add_voltage(AnalogData(5.0, 1 / SLOW, np.ones(300)))
    stream.check_length(5_100_000_000, 5_100_000_000)
    items += stream.release_confirmed()
    assert released(items) == 4800


def test_nothing_is_released_before_the_host_clock_confirms_it() -> None:
    stream = OtiiStream(RATE, SLOW, "i1", 0.002)
    stream.note_start(0, 0, high=True)
    assert released(second_by_second(stream, range(1))) == 0
    items = second_by_second(stream, range(1, 6))
    assert released(items) == 5000
    items = second_by_second(stream, range(6, 8), lost=300)
    assert released(items) <= 6000


def test_a_tail_that_the_host_clock_does_not_confirm_is_a_gap() -> None:
    stream = OtiiStream(RATE, SLOW, "i1", 0.002)
    stream.note_start(0, 0, high=True)
    second_by_second(stream, range(6))
    second_by_second(stream, range(6, 8), lost=300)
    stream.finish(7.699, 7.996, 8 * SECOND_NS)
    (gap,) = stream.rest_as_gap("the end")
    assert isinstance(gap, Gap)
    assert (gap.index, gap.end) == (6000, 7700)


# ---- the host's clock --------------------------------------------------------------------


def polls(check: RecordingLengthCheck, seconds: float, lost: int = 0, late_s: float = 0.0) -> str:
    for tenth in range(1, round(seconds * 10)):
        now_ns = tenth * SECOND_NS // 10
        total = round((tenth / 10 - late_s) * RATE) - lost * (tenth > 50)
        if problem := check.check_total(max(0, total), now_ns, now_ns):
            return problem
    return ""


def test_a_length_that_keeps_up_is_confirmed() -> None:
    check = RecordingLengthCheck(RATE, 0)
    assert polls(check, 60.0, late_s=0.2) == ""
    assert check.confirmed == 59_700


@pytest.mark.parametrize("lost", [150, 1000])
def test_a_length_that_stays_behind_is_a_loss(lost: int) -> None:
    check = RecordingLengthCheck(RATE, 0)
    assert f"about {lost} samples are missing" in polls(check, 60.0, lost)
    assert check.confirmed <= 5000


def test_a_stalled_server_that_catches_up_loses_nothing() -> None:
    check = RecordingLengthCheck(RATE, 0)
    for tenth in range(1, 200):
        now_ns = tenth * SECOND_NS // 10
        held = 60 if 60 <= tenth < 125 else tenth
        assert check.check_total(held * 100, now_ns, now_ns) == ""
    assert check.confirmed == 19_900


def test_a_tail_that_is_behind_is_not_confirmed() -> None:
    check = RecordingLengthCheck(RATE, 0)
    polls(check, 6.5, lost=400)
    check.accept_final_total(6_100, 7 * SECOND_NS)
    assert check.confirmed <= 5000
    complete = RecordingLengthCheck(RATE, 0)
    polls(complete, 6.5)
    complete.accept_final_total(6_500, 7 * SECOND_NS)
    assert complete.confirmed == 6_500


def test_too_many_samples_are_a_fault() -> None:
    assert "more than 1000 per second" in RecordingLengthCheck(RATE, 0).check_total(
        3000, 0, SECOND_NS
    )


# ---- voltage -----------------------------------------------------------------------------


def test_a_voltage_is_valid_for_two_intervals() -> None:
    line = HeldVoltage()
    line.add_samples(0.0, 0.004, np.array([3.0, 3.1]))
    line.add_samples(0.020, 0.004, np.array([3.2]))
    volts = line.voltages_at(np.array([0.0, 0.003, 0.004, 0.012, 0.0125, 0.019, 0.020, 0.027]))
    np.testing.assert_array_equal(volts, [3.0, 3.0, 3.1, 3.1, np.nan, np.nan, 3.2, 3.2])
