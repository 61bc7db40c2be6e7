"""The LPM01A's stream decoder: samples are true, unconfirmed ones are a gap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.lpm01a.ascii_framer import AsciiFramer
from drivers.lpm01a.commands import find_reply, format_number, format_rate, parse_number
from drivers.lpm01a.stamp_check import UNCONFIRMED, Quantity
from labd.core.model import Edge, Gap, Samples, StreamItem

ENERGY_1K = Quantity(power_factor=1000.0, is_current=False)
EVENTS = (0, 700, 1500, 1501, 2999, 3100)
TAIL = 4000


def truth(index: int) -> float:
    return float(f"{1000 + index * 7 % 9000:04d}e-08") * 1000.0


def stamp(ms: int) -> bytes:
    return b"\r\nTimeStamp: %03ds %03dms, buff 00%%\r\n" % (ms // 1000 % 1000, ms % 1000)


def record(index: int) -> bytes:
    return b"%04d-08\r\n" % (1000 + index * 7 % 9000)


def pieces(samples: int = TAIL, *, events: tuple[int, ...] = EVENTS) -> list[bytes]:
    """The stream as the instrument sends it, one line an item."""
    out = [b"\r\nPowerShield > ack start\r\n\r\n", stamp(0)]
    number = 96
    for index in range(samples):
        out += [b"event %02d ris\r\n" % ((number + n) % 100) for n in range(events.count(index))]
        number += events.count(index)
        nul = b"\0" if index % 1000 == 0 else b""
        out.append(nul + record(index))
        if index % 1000 == 999:
            out.append(stamp(index + 1))
    return out


END = (
    b"\r\nPowerShield > ack stop\r\n\r\n\r\nend\r\n\r\nsummary beg\r\nmin 1000-08\r\n"
    b"max 9999-08\r\nsummary end\r\n\r\nPowerShield > Acquisition completed\r\n\r\n"
)
STREAM = b"".join(pieces()) + END
LONGER = b"".join(pieces(TAIL + 600, events=(*EVENTS, 4300))) + END
"""It ends long after its last stamp."""


def decode(data: bytes, cuts: tuple[int, ...] = ()) -> tuple[AsciiFramer, list[StreamItem]]:
    decoder = AsciiFramer(1000, ENERGY_1K)
    items: list[StreamItem] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        items += decoder.feed(data[start:end])
    return decoder, items + decoder.check.finish("broken off")


def flat(items: list[StreamItem]) -> list[object]:
    """Items as comparable values."""
    return [(i.index, i.power_w.tolist()) if isinstance(i, Samples) else i for i in items]


def check_true(items: list[StreamItem]) -> None:
    """Each index once and in order; each sample the right one; each edge where it was."""
    at = 0
    for item in items:
        if isinstance(item, Edge):
            assert item.index == at
            assert int(item.index) in EVENTS
            continue
        assert item.index == at
        assert item.end > at
        if isinstance(item, Samples):
            assert item.power_w.tolist() == [truth(i) for i in range(item.index, item.end)]
        at = item.end


def test_an_intact_stream_comes_out_whole() -> None:
    decoder, items = decode(STREAM)
    check_true(items)
    assert not any(isinstance(item, Gap) for item in items)
    assert [item.index for item in items if isinstance(item, Edge)] == list(EVENTS)
    assert sum(len(item) for item in items if isinstance(item, Samples)) == TAIL
    assert (decoder.check.received_samples, decoder.check.edges_seen) == (TAIL, len(EVENTS))
    assert decoder.check.started
    assert decoder.check.completed
    assert not decoder.check.fault


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40).map(tuple))
def test_any_chunking_gives_the_same(cuts: tuple[int, ...]) -> None:
    assert flat(decode(STREAM, cuts)[1]) == flat(decode(STREAM)[1])


def test_bytes_one_at_a_time_give_the_same() -> None:
    assert flat(decode(STREAM, tuple(range(len(STREAM))))[1]) == flat(decode(STREAM)[1])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.lists(st.integers(0, len(STREAM)), max_size=3))
def test_a_lost_byte_never_makes_a_number(lost: int, cuts: list[int]) -> None:
    _, items = decode(STREAM[:lost] + STREAM[lost + 1 :], tuple(cuts))
    check_true(items)
    edges = sum(isinstance(item, Edge) for item in items)
    assert edges == len(EVENTS) or any(isinstance(item, Gap) for item in items)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(STREAM) - 1))
def test_a_doubled_byte_never_makes_a_number(at: int) -> None:
    _, items = decode(STREAM[: at + 1] + STREAM[at:])
    check_true(items)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LONGER)), st.integers(0, len(LONGER)))
def test_a_lost_stretch_never_makes_a_number(one: int, other: int) -> None:
    start, end = sorted((one, other))
    _, items = decode(LONGER[:start] + LONGER[end:])
    check_true(items)


def test_no_end_confirms_what_no_stamp_does() -> None:
    """Ten samples are lost before an edge: nothing after it would tell."""
    lines = pieces(1500, events=(1400,))
    lost = lines.index(record(1200))
    decoder, items = decode(b"".join(lines[:lost] + lines[lost + 10 :]) + END)
    check_true(items)
    assert items[-1] == Gap(1000, 490, f"{UNCONFIRMED}; 1 edges in it dropped")
    assert (decoder.check.received_samples, decoder.check.edges_seen) == (1490, 1)


@pytest.mark.parametrize("line", [b"1500-00\r\n", b"9001-07\r\n", b"1500+08\r\n"])
def test_more_than_the_instrument_can_measure_is_a_gap(line: bytes) -> None:
    """One bit makes 15 µJ a sample 1500 J."""
    lines = pieces(4000, events=())
    lines[lines.index(record(2500))] = line
    _, items = decode(b"".join(lines) + END)
    check_true(items)
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert (gap.index, gap.end) == (2000, 3000)
    assert line.strip().decode() in gap.reason


@pytest.mark.parametrize(
    ("quantity", "most"),
    [(Quantity(3.0, is_current=True), 0.25), (ENERGY_1K, 0.9e-3), (Quantity(1e4, False), 0.9e-4)],  # noqa: FBT003
)
def test_the_ceiling_is_beyond_every_range(quantity: Quantity, most: float) -> None:
    assert quantity.largest_value == pytest.approx(most)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.integers(0, 7))
def test_a_flipped_bit_changes_one_sample_at_most(at: int, bit: int) -> None:
    data = STREAM[:at] + bytes([STREAM[at] ^ 1 << bit]) + STREAM[at + 1 :]
    index = wrong = 0
    for item in decode(data)[1]:
        assert item.index == index
        if isinstance(item, Edge):
            assert int(item.index) in EVENTS
            continue
        if isinstance(item, Samples):
            expected = [truth(i) for i in range(item.index, item.end)]
            wrong += int(np.sum(item.power_w != expected))
        index = item.end
    assert wrong <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, len(STREAM) - 1),
    st.integers(0, 40),
    st.lists(st.integers(0, len(STREAM)), max_size=40).map(tuple),
)
def test_any_chunking_of_a_damaged_stream_gives_the_same(
    at: int, lost: int, cuts: tuple[int, ...]
) -> None:
    data = STREAM[:at] + STREAM[at + lost :]
    assert flat(decode(data, cuts)[1]) == flat(decode(data)[1])


def test_whole_lost_periods_are_seen_by_the_clock() -> None:
    lines = pieces(6000, events=())
    lost = len(b"".join(lines[:1502])), len(b"".join(lines[: 1502 + 2002]))
    data = b"".join(lines)
    _, items = decode(data[: lost[0]] + data[lost[1] :] + END)
    check_true(items)
    gap = next(item for item in items if isinstance(item, Gap))
    assert (gap.index, gap.end) == (1000, 4000)
    assert "time stamps" in gap.reason


@pytest.mark.parametrize("lost", [1, 2, 999])
def test_lost_samples_are_counted_at_the_next_stamp(lost: int) -> None:
    lines = pieces(4000, events=())
    first = next(i for i, line in enumerate(lines) if line == record(1200))
    _, items = decode(b"".join(lines[:first] + lines[first + min(lost, 790) :]) + END)
    check_true(items)
    gaps = [item for item in items if isinstance(item, Gap)]
    assert [(gap.index, gap.count) for gap in gaps] == [(1000, 1000)]
    assert "instead of 1000" in gaps[0].reason


def test_a_lost_event_is_never_silent() -> None:
    lines = pieces()
    lost = next(i for i, line in enumerate(lines) if line.startswith(b"event 97"))
    decoder, items = decode(b"".join(lines[:lost] + lines[lost + 1 :]) + END)
    gap = next(item for item in items if isinstance(item, Gap))
    assert "event 98 after 96" in gap.reason
    assert "2 edges in it dropped" in gap.reason
    assert (gap.index, gap.end) == (1000, 2000)
    assert decoder.check.edges_seen == len(EVENTS) - 1


@pytest.mark.parametrize(("rate_hz", "period_ms"), [(5000, 200), (2, 500_000), (1, 1_000_000)])
def test_stamps_come_every_thousand_samples_and_their_seconds_wrap(
    rate_hz: int, period_ms: int
) -> None:
    data = b"".join(
        stamp(index * period_ms) + b"".join(map(record, range(index * 1000, index * 1000 + 1000)))
        for index in range(7)
    )
    decoder = AsciiFramer(rate_hz, ENERGY_1K)
    items = decoder.feed(data + END)
    check_true(items)
    assert [type(item) for item in items] == [Samples] * 6 + [Gap]


def test_a_lost_beginning_is_seen_by_the_clock() -> None:
    _, items = decode(STREAM[STREAM.index(stamp(2000)) :])
    assert isinstance(items[0], Gap)
    assert items[0].index == 0
    assert items[0].count >= 2000
    check_true(items)


@pytest.mark.parametrize("blank", [b">", b"<"])
def test_a_mark_in_place_of_the_blank_is_a_stamp(blank: bytes) -> None:
    data = STREAM.replace(b"TimeStamp: ", b"TimeStamp:" + blank)
    assert flat(decode(data)[1]) == flat(decode(STREAM)[1])


def test_a_wrong_digit_in_a_stamp_costs_its_neighbours_only() -> None:
    data = b"".join(pieces(6000, events=())).replace(b"002s 000ms", b"072s 000ms") + END
    decoder, items = decode(data)
    check_true(items)
    gaps = [(item.index, item.end) for item in items if isinstance(item, Gap)]
    assert gaps == [(1000, 3000)]
    assert decoder.check.received_samples == 6000


def test_a_reported_error_drops_its_block() -> None:
    lines = pieces(2300, events=())
    data = b"".join(lines) + b"\r\nerror Transmit buffer overrun\r\n" + END
    decoder, items = decode(data)
    check_true(items)
    assert decoder.check.fault == "Transmit buffer overrun"
    gap = items[-1]
    assert isinstance(gap, Gap)
    assert (gap.index, gap.count) == (2000, 300)
    assert "overrun" in gap.reason


def test_after_a_reported_error_nothing_counts() -> None:
    lines = pieces(6000, events=())
    lines.insert(2500, b"\r\nerror Static acquisition: current not constant\r\n")
    decoder, items = decode(b"".join(lines) + END)
    check_true(items)
    assert [(i.index, i.end) for i in items if isinstance(i, Gap)] == [(2000, 6000)]
    assert decoder.check.fault == "Static acquisition: current not constant"


def test_after_the_power_was_cut_nothing_counts() -> None:
    lines = pieces(3000, events=())
    lines.insert(1500, b"\r\npwr off\r\n")
    decoder, items = decode(b"".join(lines) + END)
    check_true(items)
    assert [(i.index, i.end) for i in items if isinstance(i, Gap)] == [(1000, 3000)]
    assert "power was switched off" in decoder.check.fault


def test_a_refused_stop_drops_nothing_and_hides_nothing() -> None:
    lines = pieces(3000, events=())
    refused = b"\r\nPowerShield > error stop\r\nError detail: not now\r\n\r\n"
    lines.insert(1500, refused)
    decoder, items = decode(b"".join(lines) + END)
    check_true(items)
    assert not any(isinstance(item, Gap) for item in items)
    assert not decoder.check.fault
    assert decoder.check.notes.texts == ["refused: stop", "refused: not now"]
    lines.insert(1600, b"\r\nerror Overrun\r\n")
    assert decode(b"".join(lines) + END)[0].check.fault == "Overrun"


@pytest.mark.parametrize(("load", "noted"), [(49, False), (50, True), (100, True)])
def test_a_full_transmit_buffer_is_noted(load: int, *, noted: bool) -> None:
    data = b"".join(pieces(3000, events=())).replace(
        b"002s 000ms, buff 00", b"002s 000ms, buff %02d" % load
    )
    findings = decode(data + END)[0].check.notes.to_findings()
    assert [finding.code for finding in findings] == ["transmit-buffer"] * noted


def test_without_an_end_the_tail_is_a_gap() -> None:
    decoder, items = decode(b"".join(pieces(1250, events=(1100,))))
    assert decoder.check.completed
    assert items[-1] == Gap(1000, 250, "broken off; 1 edges in it dropped")


def test_samples_after_a_missing_stamp_stay_out_even_at_the_end() -> None:
    data = b"".join(pieces(1300, events=())).replace(stamp(1000), b"") + END
    (gap,) = decode(data)[1]
    assert gap == Gap(0, 1300, "a time stamp is missing")


def test_nothing_is_given_out_before_its_stamp() -> None:
    decoder = AsciiFramer(1000, ENERGY_1K)
    lines = pieces(1000, events=(10,))
    assert decoder.feed(b"".join(lines[:-1])) == []
    assert (decoder.check.received_samples, decoder.check.edges_seen) == (1000, 1)
    assert [type(item) for item in decoder.feed(lines[-1])] == [Samples, Edge, Samples]


def test_current_gives_power_at_the_set_voltage() -> None:
    decoder = AsciiFramer(1000, Quantity(power_factor=3.0, is_current=True))
    (samples,) = decoder.feed(stamp(0) + b"6409-07\r\n2000-04\r\n" * 500 + stamp(1000))
    assert isinstance(samples, Samples)
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, [640.9e-6, 0.2] * 500)
    np.testing.assert_array_equal(samples.power_w, samples.current_a * 3.0)


def test_a_sign_that_is_none_makes_no_number() -> None:
    (gap,) = decode(b"1000-07\r\n6409*07\r\n" + END)[1]
    assert isinstance(gap, Gap)
    assert "'6409*07'" in gap.reason


@settings(max_examples=200)
@given(st.binary(max_size=3000))
def test_garbage_is_never_a_sample_and_never_crashes(data: bytes) -> None:
    decoder = AsciiFramer(1000, ENERGY_1K)
    items = decoder.feed(data) + decoder.check.finish("garbage")
    assert all(isinstance(item, Gap) for item in items if b"-" not in data and b"+" not in data)


def test_answers_are_found_behind_prompts_and_colons() -> None:
    assert find_reply("PowerShield > ack version: 1.0.6", "version").data == "1.0.6"  # type: ignore[union-attr]
    assert find_reply("PowerShield > ack volt get 3292-03", "volt get").data == "3292-03"  # type: ignore[union-attr]
    assert find_reply("PowerShield > error pwr off", "pwr off").accepted is False  # type: ignore[union-attr]
    assert find_reply("PowerShield > ack pwr offline", "pwr off") is None
    assert find_reply("PowerShield > ack stop", "start") is None


def test_numbers_and_frequencies_are_written_as_the_instrument_does() -> None:
    assert parse_number("3292-03") == 3.292
    with pytest.raises(ValueError, match="off"):
        parse_number("off")
    assert [format_rate(hz) for hz in (1000, 5000, 100_000)] == ["1k", "5k", "100k"]
    assert [format_number(a) for a in (1e-3, 100e-9, 50e-3)] == ["1000-6", "1000-10", "5000-5"]
