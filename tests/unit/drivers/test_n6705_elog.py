"""Records of the N6705's logger to the byte, and the functions that have to be on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.n6705.elog import (
    ChannelCounts,
    ElogPlan,
    channel_list,
    format_functions,
    parse_records,
)
from drivers.scpi.codec import ScpiBlock, ScpiDecoder, ScpiText
from drivers.scpi.record_clock import Moment, RecordClock
from drivers.scpi.record_stream import CurrentStepLine, RecordStream
from labd.core.model import Edge, Gap, Samples, StreamItem

PLAN = ElogPlan({1: "N6781A", 2: "N6731B", 4: "N6762A"}, (1, 2), (1, 2), with_voltage=True)
PERIOD_S = 49 * 20.48e-6
RECORDS = np.column_stack(
    [np.linspace(0.001, 0.02, 4000), np.where(np.arange(4000) % 1000 < 5, 1.5e-3, 0.5e-3)]
).astype(">f4")
RECORDS[2500, 0] = np.nan


def test_records_are_float32_big_endian_to_the_byte() -> None:
    rows = parse_records(bytes.fromhex("3f800000 40000000 3f000000 40400000"), 2)
    np.testing.assert_array_equal(rows, [[1.0, 2.0], [0.5, 3.0]])
    assert parse_records(b"", 2).shape == (0, 2)


def test_incomplete_records_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values are no whole number of records of 2"):
        parse_records(bytes(12), 2)
    with pytest.raises(ValueError, match="multiple"):
        parse_records(bytes(7), 1)


def test_channels_and_functions_are_written_in_scpi_notation() -> None:
    assert channel_list((1, 3)) == "(@1,3)"
    assert (PLAN.slot_list, PLAN.output_list, PLAN.logged_channels) == (
        "(@1,2,4)",
        "(@1,2)",
        "(@1,2)",
    )
    assert format_functions(PLAN.wanted_functions) == "CURR on (@1,2), VOLT on (@1)"
    assert format_functions({"CURR": set()}) == "none"


def test_only_the_planned_functions_have_to_be_on() -> None:
    one = ElogPlan({1: "N6781A", 2: "N6731B"}, (1, 2), (1,), with_voltage=False)
    assert one.wanted_functions == {
        "CURR": {1},
        "CURR:MINM": set(),
        "VOLT": set(),
        "VOLT:MINM": set(),
    }


def wire(polls: list[int]) -> bytes:
    """Alternating answers to ``FETC:ELOG?`` and ``SYST:ERR?``, with the records up to each poll."""
    out = b""
    for start, end in itertools.pairwise([0, *polls, len(RECORDS)]):
        data = RECORDS[start:end].tobytes()
        size = str(len(data))
        out += f"#{len(size)}{size}".encode() + data + b'\n+0,"No error"\n'
    return out


def decoded(data: bytes, cuts: list[int]) -> list[StreamItem]:
    """The stream of these bytes, polled at the end of the last record in each."""
    decoder = ScpiDecoder()
    stream = RecordStream(
        RecordClock(1 / PERIOD_S, 15.0),
        lambda index, rows: Samples(index, rows[:, 0] * 3.0, rows[:, 0]),
        CurrentStepLine("io", 1e-3, 1e-4),
    )
    stream.clock.note_start(Moment(0, 0))
    items: list[StreamItem] = []
    block = b""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        for reply in decoder.feed(data[start:end]):
            if isinstance(reply, ScpiBlock):
                block = reply.data
                continue
            assert reply == ScpiText('+0,"No error"')
            rows = parse_records(block, 2)
            now = round((stream.received_samples + len(rows)) * PERIOD_S * 1e9) + 100_000
            items += stream.add_records(rows, Moment(now - 100_000, now), drained=True)
    assert stream.clock.fault == ""
    return items + stream.release_tail()


def flat(items: list[StreamItem]) -> list[object]:
    out: list[object] = []
    for item in items:
        if isinstance(item, Samples):
            out += zip(itertools.count(item.index), item.power_w.tolist())
        elif isinstance(item, Gap):
            out += [("gap", index) for index in range(item.index, item.end)]
        elif isinstance(item, Edge):
            out.append(item)
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 3999), max_size=12, unique=True).map(sorted),
    st.lists(st.integers(0, 40_000), max_size=30),
)
def test_any_polling_and_any_chunking_give_the_same_samples_edges_and_gaps(
    polls: list[int], cuts: list[int]
) -> None:
    reference = decoded(wire([]), [])
    assert flat(decoded(wire(polls), cuts)) == flat(reference)
    assert sum(isinstance(item, Edge) for item in reference) == 7
    assert [item.index for item in reference if isinstance(item, Gap)] == [2500]


def leads(lost: tuple[int, int], update_ms: int, *, seconds: float = 4.0) -> str:
    """Two channels polled 6 ms apart every 75 ms, updated 30 ms apart; a loss after 2 s."""
    check, now_ms = ChannelCounts(0.001), 5.0
    while now_ms < seconds * 1000:
        counts: list[int] = []
        for channel, asked_ms in enumerate((now_ms, now_ms + 6)):
            made_ms = asked_ms
            if update_ms:
                made_ms = (asked_ms + 30 * channel) // update_ms * update_ms - 30 * channel
            counts.append(int(made_ms) - lost[channel] * (now_ms > 2000))
        first, last = (Moment(int(at * 1e6), int((at + 2) * 1e6)) for at in (now_ms, now_ms + 6))
        if fault := check.find_difference(counts[1] - counts[0], first, last):
            return fault
        now_ms += 75.3
    return ""


@pytest.mark.parametrize("update_ms", [0, 100, 250])
def test_channels_without_loss_have_no_fault(update_ms: int) -> None:
    assert leads((0, 0), update_ms, seconds=60) == ""


@pytest.mark.parametrize("lost", [(20, 0), (0, 20), (140, 0), (0, 140)])
def test_a_difference_that_lasts_is_a_fault_within_a_second(lost: tuple[int, int]) -> None:
    assert leads(lost, 0, seconds=1.9) == ""
    assert "some were lost" in leads(lost, 0, seconds=3.1)
