"""The Joulescope aligner against a plain model that looks up every tick."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.joulescope.aligner import EPOCH_NS, TICK_HZ, JoulescopeTimeMap, MessageAligner
from drivers.joulescope.sample_blocks import AnalogBlock, LineBlock, SignalTrack, line_block
from labd.core.errors import InstrumentError, Where
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark

MAX_DELAY = 800
NO_TIME = {"offset_time": 0, "offset_counter": 0, "counter_rate": 0.0}
Message = tuple[str, dict[str, Any]]


def message(sample_id: int, step: int, data: Any, **changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "sample_id": sample_id,
        "decimate_factor": step,
        "sample_rate": TICK_HZ,
        "time_map": NO_TIME,
        "data": data,
    }
    return fields | changed


def made(
    period: int = 2, lines: tuple[str, ...] = ("gpi0",), max_delay: int = MAX_DELAY, **limits: int
) -> MessageAligner:
    where = Where(device="js220")
    return MessageAligner(TICK_HZ // period, lines, "gpi0", 1_000_000, where, max_delay, **limits)


def packed(levels: np.ndarray) -> np.ndarray:
    return np.packbits(levels, bitorder="little")


@dataclass
class Whole:
    power_w: np.ndarray
    gaps: list[Gap]
    edges: list[Edge]


def assemble(items: list[StreamItem]) -> Whole:
    """Join a stream; every index must come once and in order."""
    whole = Whole(np.empty(0), [], [])
    parts = [np.empty(0)]
    at = 0
    for item in items:
        if isinstance(item, Edge):
            assert item.index < at
            whole.edges.append(item)
        elif isinstance(item, Samples | Gap):
            assert item.index == at
            at = item.end
            known = isinstance(item, Samples)
            parts.append(item.power_w if known else np.full(item.count, np.nan))
            if not known:
                whole.gaps.append(item)
    whole.power_w = np.concatenate(parts)
    return whole


@dataclass
class Signals:
    """What an instrument measured in ticks [start, start + 2n), and the cuts into messages."""

    start: int
    current: np.ndarray  # one value per two ticks
    voltage: np.ndarray
    lines: dict[str, np.ndarray]  # one level per tick
    cuts: dict[str, list[int]]  # message lengths in ticks, repeated
    lost: set[tuple[str, int]] = field(default_factory=set)  # signal, message number

    def messages(self) -> list[Message]:
        """Return the messages that were not lost, in the order in which they are sent."""
        out: list[tuple[int, Message]] = []
        for name, values in {"i": self.current, "v": self.voltage, **self.lines}.items():
            step = 2 if name in "iv" else 1
            at, total = 0, len(self.current) * 2
            for number, length in enumerate(itertools.cycle(self.cuts[name])):
                stop = min(at + length, total)
                if at == stop:
                    break
                part = values[at // step : stop // step]
                data = part if step == 2 else packed(part)
                if (name, number) not in self.lost:
                    out.append((stop, (name, message(self.start + at, step, data))))
                at = stop
        return [one for _, one in sorted(out, key=lambda pair: pair[0])]


@st.composite
def signals(draw: st.DrawFn, *, losses: bool = True) -> Signals:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    count = 4 * draw(st.integers(300, 900))
    current = rng.normal(0.01, 0.002, count).astype(np.float32)
    voltage = rng.normal(3.0, 0.01, count).astype(np.float32)
    if losses:
        for values in (current, voltage):
            for _ in range(draw(st.integers(0, 2))):
                at, length = int(rng.integers(count)), int(rng.integers(1, 60))
                values[at : at + length] = np.nan
    lines = {}
    for line in ("gpi0", "gpi3"):
        toggles = np.zeros(2 * count, np.uint8)
        toggles[rng.integers(1, 2 * count, draw(st.integers(0, 30)))] = 1
        lines[line] = (np.cumsum(toggles) + draw(st.integers(0, 1))) % 2
        lines[line] = lines[line].astype(np.uint8)
    lengths = st.lists(st.integers(1, 40).map(lambda k: 8 * k), min_size=1, max_size=4)
    cuts = {name: draw(lengths) for name in ("i", "v", "gpi0", "gpi3")}
    lost: set[tuple[str, int]] = set()
    if losses:
        keys = st.tuples(st.sampled_from(["i", "v", "gpi0", "gpi3"]), st.integers(1, 30))
        lost = set(draw(st.lists(keys, max_size=4)))
    return Signals(draw(st.integers(0, 2**50)) * 2, current, voltage, lines, cuts, lost)


def run(messages: list[Message], period: int = 4) -> tuple[MessageAligner, list[StreamItem]]:
    one = made(period, ("gpi0", "gpi3"))
    items = [item for name, fields in messages for item in one.feed(name, fields)]
    return one, [*items, *one.finish()]


def plain(items: list[StreamItem]) -> tuple[Any, ...]:
    """Return the content of a stream, however it is grouped."""
    whole = assemble(items)
    parts = [item for item in items if isinstance(item, Samples)]
    current = np.concatenate([part.current_a for part in parts]) if parts else np.empty(0)
    voltage = np.concatenate([part.voltage_v for part in parts]) if parts else np.empty(0)
    gaps = [(gap.index, gap.count) for gap in whole.gaps]
    return whole.power_w.tobytes(), current.tobytes(), voltage.tobytes(), gaps, whole.edges


def model(source: Signals, period: int = 4) -> tuple[np.ndarray, list[Edge]]:
    """Return the power of each period (NaN where anything is missing) and the known edges.

    From the first tick with all signals to the last tick of the shortest one.
    """
    total = 2 * len(source.current)
    tracks = {name: np.full(total, np.nan) for name in ("i", "v", *source.lines)}
    firsts, lasts = {}, {}
    for name, fields in source.messages():
        at, data = fields["sample_id"] - source.start, fields["data"]
        ticks = (
            np.repeat(data.astype(np.float64), 2)
            if name in "iv"
            else np.unpackbits(data, bitorder="little").astype(np.float64)
        )
        tracks[name][at : at + len(ticks)] = ticks
        firsts[name] = min(firsts.get(name, at), at)
        lasts[name] = max(lasts.get(name, 0), at + len(ticks))
    reach = max(lasts.values())
    first, last = max(firsts.values()), max(min(lasts.values()), reach - MAX_DELAY)
    count = (last - first) // period
    known = np.zeros(count, bool)
    power = np.full(count, np.nan)
    for k in range(count):
        part = slice(first + k * period, first + (k + 1) * period)
        known[k] = not any(np.isnan(track[part]).any() for track in tracks.values())
        if known[k]:
            power[k] = (tracks["i"][part] * tracks["v"][part]).mean()
    edges = []
    for tick in range(first + 1, first + count * period):
        for line in source.lines:
            before, after = tracks[line][tick - 1], tracks[line][tick]
            inside = known[(tick - 1 - first) // period] and known[(tick - first) // period]
            if inside and before != after:
                edges.append(Edge((tick - first) / period, line, rising=bool(after)))
    return power, edges


@settings(deadline=None, max_examples=60)
@given(signals())
def test_every_tick_is_at_the_index_of_its_sample_id(source: Signals) -> None:
    one, items = run(source.messages())
    recording = assemble(items)
    power, edges = model(source)
    np.testing.assert_allclose(recording.power_w, power, rtol=1e-12)
    assert list(recording.edges) == edges
    assert one.received_samples == len(power)


@settings(deadline=None, max_examples=60)
@given(signals(), st.integers(0, 2**32 - 1))
def test_splitting_reordering_delaying_and_repeating_messages_changes_nothing(
    source: Signals, seed: int
) -> None:
    _, expected = run(source.messages())
    rng = random.Random(seed)
    shuffled: list[tuple[float, Message]] = []
    late = {name: rng.random() * MAX_DELAY / 4 for name in ("i", "v", "gpi0", "gpi3")}
    for name, fields in source.messages():
        for part in split(name, fields, rng):
            sent = part["sample_id"] + late[name] + rng.random() * MAX_DELAY / 4
            shuffled.append((sent, (name, part)))
            if rng.random() < 0.1:
                shuffled.append((sent + rng.random() * MAX_DELAY / 8, (name, part)))
    order = [one for _, one in sorted(shuffled, key=lambda pair: pair[0])]
    _, items = run(order)
    assert plain(items) == plain(expected)


def split(name: str, fields: dict[str, Any], rng: random.Random) -> list[dict[str, Any]]:
    """Split a message at whole bytes of the lines."""
    step, data = fields["decimate_factor"], fields["data"]
    unit = 1 if name in "iv" else 8
    parts, at = [], 0
    while at < len(data):
        count = rng.randint(1, 160 // (step * unit))
        sample_id = fields["sample_id"] + at * step * unit
        parts.append(message(sample_id, step, data[at : at + count]))
        at += count
    return parts


@settings(deadline=None, max_examples=40)
@given(signals(losses=False), st.integers(0, 40), st.sampled_from(["i", "v", "gpi0", "gpi3"]))
def test_a_lost_message_is_a_gap_and_shifts_nothing(
    source: Signals, number: int, name: str
) -> None:
    whole, _ = model(source)
    source.lost = {(name, number + 1)}
    _, items = run(source.messages())
    recording = assemble(items)
    _, edges = model(source)
    known = ~np.isnan(recording.power_w)
    common = min(len(whole), len(known))
    np.testing.assert_allclose(
        recording.power_w[:common][known[:common]], whole[:common][known[:common]], rtol=1e-12
    )
    assert list(recording.edges) == edges


@settings(deadline=None, max_examples=30)
@given(signals())
def test_falling_edges_are_counted_on_arrival(source: Signals) -> None:
    source.lost = set()
    one, _ = run(source.messages())
    levels = source.lines["gpi0"].astype(int)
    assert one.edges_seen == int((np.diff(levels) < 0).sum())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_falling_edges_between_messages_are_counted_once_in_any_order(
    order: tuple[int, ...],
) -> None:
    one = made()
    parts = [np.full(10, 255, np.uint8), np.zeros(10, np.uint8), np.full(10, 255, np.uint8)]
    for number in order:
        one.feed("gpi0", message(80 * number, 1, parts[number]))
    one.feed("gpi0", message(240, 1, np.zeros(10, np.uint8)))
    one.feed("gpi0", message(240, 1, np.zeros(10, np.uint8)))
    assert one.edges_seen == 2


# ---- examples ------------------------------------------------------------------------------


def constant(
    start: int, ticks: int, *, current: float = 0.01, voltage: float = 3.0, level: int = 1
) -> list[Message]:
    values = np.ones(ticks // 2, np.float32)
    return [
        ("i", message(start, 2, values * np.float32(current))),
        ("v", message(start, 2, values * np.float32(voltage))),
        ("gpi0", message(start, 1, np.full(ticks // 8, 255 * level, np.uint8))),
    ]


def feed(one: MessageAligner, messages: list[Message]) -> list[StreamItem]:
    return [item for name, fields in messages for item in one.feed(name, fields)]


def test_an_edge_can_lie_between_two_samples_of_current() -> None:
    one = made()
    levels = np.ones(1600, np.uint8)
    levels[801:1000] = 0
    messages = constant(5_000_000, 1600)
    messages[2] = ("gpi0", message(5_000_000, 1, packed(levels)))
    items = [*feed(one, messages), *one.finish()]
    edges = [item for item in items if isinstance(item, Edge)]
    assert edges == [Edge(400.5, "gpi0", rising=False), Edge(500.0, "gpi0", rising=True)]
    first_edge = items.index(edges[0])
    assert isinstance(items[first_edge - 1], Samples)
    assert one.edges_seen == 1


def test_power_is_the_mean_of_products_not_the_product_of_means() -> None:
    one = made(period=8)
    messages = constant(0, 1600)
    messages[0][1]["data"][::2] = 0.0
    messages[1][1]["data"][::2] = 1.0
    (samples,) = [x for x in [*feed(one, messages), *one.finish()] if isinstance(x, Samples)]
    assert samples.power_w[0] == pytest.approx(0.015)
    assert samples.current_a is not None
    assert samples.current_a[0] == pytest.approx(0.005)
    assert samples.voltage_v is not None
    assert samples.voltage_v[0] == pytest.approx(2.0)


def test_zeros_on_a_line_within_lost_data_make_no_edge() -> None:
    """A JS110 fills lost samples with NaN and its inputs with zeros."""
    one = made()
    levels = np.ones(1600, np.uint8)
    levels[400:600] = 0
    messages = constant(0, 1600)
    messages[0][1]["data"][200:300] = np.nan
    messages[2] = ("gpi0", message(0, 1, packed(levels)))
    items = [*feed(one, messages), *one.finish()]
    assert [(type(x).__name__, x.index) for x in items] == [
        ("Samples", 0),
        ("Gap", 200),
        ("Samples", 300),
    ]
    assert items[1] == Gap(200, 100, "not a number; 2 edges in it dropped")
    assert one.lost_share == pytest.approx(100 / 800)


def test_an_unknown_line_is_a_gap_though_power_is_known() -> None:
    one = made()
    messages = constant(0, 1600)
    del messages[2]
    messages += [
        ("gpi0", message(0, 1, np.full(50, 255, np.uint8))),
        ("gpi0", message(800, 1, np.full(100, 0, np.uint8))),
    ]
    items = [*feed(one, messages), *one.finish()]
    assert [item for item in items if not isinstance(item, Samples)] == [Gap(200, 200, "gpi0 lost")]


def test_nothing_is_released_before_every_signal_has_arrived() -> None:
    one = made()
    messages = constant(0, 1600)
    assert feed(one, messages[:2]) == []
    assert one.received_samples == 0
    (samples,) = one.feed(*messages[2])
    assert (samples.index, one.received_samples) == (0, 800)
    assert feed(one, constant(1600, 160)[:1]) == []
    assert one.received_samples == 800


def test_received_grows_before_the_first_release() -> None:
    """Waiting for progress must not take as long as the longest delay of a message."""
    one = made(max_delay=TICK_HZ)
    seen = [one.received_samples]
    for start in range(0, 6400, 800):
        assert feed(one, constant(start, 800)) == []
        seen.append(one.received_samples)
    assert seen == [400 * number for number in range(9)]
    one.finish()
    assert one.received_samples == 3200


def test_a_missing_signal_is_lost_after_the_longest_delay() -> None:
    one = made()
    items = feed(one, constant(0, 1600))
    for start in range(1600, 6400, 800):
        items += feed(one, [m for m in constant(start, 800) if m[0] != "v"])
    assert one.received_samples == (6400 - MAX_DELAY) // 2
    items += feed(one, constant(6400, 800))
    items += one.finish()
    assert [(x.index, x.count) for x in items if isinstance(x, Gap)] == [(800, 2400)]
    assert "voltage lost" in next(x.reason for x in items if isinstance(x, Gap))


def test_an_overdue_message_is_dropped_and_shifts_nothing() -> None:
    one = made()
    late = constant(1600, 160, current=5.0)[0]
    items = feed(one, constant(0, 1600))
    items += feed(one, constant(1600, 160)[1:])
    items += feed(one, constant(1760, 1600))
    items += one.feed(*late)
    items += feed(one, constant(3360, 1600))
    items += one.finish()
    power = assemble(items).power_w
    assert np.isnan(power[800:880]).all()
    assert power[~np.isnan(power)] == pytest.approx(0.03)
    assert len(power) == (3360 + 1600) // 2


def test_index_0_is_the_first_tick_with_all_signals() -> None:
    one = made()
    messages = constant(1000, 2400, level=0)
    messages[1] = ("v", message(1800, 2, np.full(800, 3.0, np.float32)))
    items = [*feed(one, messages), *one.finish()]
    assert [(x.index, len(x)) for x in items if isinstance(x, Samples)] == [(0, 800)]


def test_index_0_is_on_the_grid_of_current_and_voltage() -> None:
    one = made()
    messages = constant(1000, 1600)
    levels = np.ones(1584, np.uint8)
    levels[100:] = 0
    messages[2] = ("gpi0", message(1003, 1, packed(levels)))
    items = [*feed(one, messages), *one.finish()]
    assert [item for item in items if isinstance(item, Edge)] == [
        Edge((1103 - 1004) / 2, "gpi0", rising=False)
    ]
    assert one.received_samples == (1003 + 1584 - 1004) // 2


def test_an_edge_at_the_end_of_a_gap_released_before_is_dropped() -> None:
    one = made()
    first, second = constant(0, 1600), constant(1600, 800, level=0)
    first[0][1]["data"][790:] = np.nan
    items = feed(one, first)
    assert one.received_samples == 800
    items += [*feed(one, second), *one.finish()]
    assert [item for item in items if not isinstance(item, Samples)] == [
        Gap(790, 10, "not a number; 1 edges in it dropped")
    ]


def test_a_long_loss_is_aligned_in_pieces() -> None:
    one = made(piece=1000)
    items = [*feed(one, constant(0, 1600)), *feed(one, constant(101_600, 800)), *one.finish()]
    gaps = [x for x in items if isinstance(x, Gap)]
    assert [(gap.index, gap.count) for gap in gaps] == [(800, 50_000)]
    assert gaps[0].reason == "current lost, gpi0 lost, voltage lost"
    assert one.lost_share == pytest.approx(50_000 / 51_200)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (("i", message(1601, 2, np.ones(8, np.float32))), "current changed its grid"),
        (("i", message(1600, 1, np.ones(8, np.float32))), "current changed its grid"),
        (("gpi0", message(1600, 3, np.ones(8, np.uint8))), "one value per 3 ticks"),
        (("v", message(1600 + 2**40, 2, np.ones(8, np.float32))), "voltage jumped"),
        (("v", message(100, 2, np.ones(8, np.float32), sample_rate=1_000_000)), "counts 1000000"),
    ],
)
def test_impossible_sample_numbers_are_a_fault(wrong: Message, text: str) -> None:
    one = made()
    feed(one, constant(0, 1600))
    with pytest.raises(InstrumentError, match=text) as caught:
        one.feed(*wrong)
    assert caught.value.code == "sample-numbers"


def test_restarted_sample_numbers_are_a_fault() -> None:
    one = made()
    feed(one, constant(10**9, 1600))
    with pytest.raises(InstrumentError, match="jumped from sample 1000001600 to 0"):
        feed(one, constant(0, 1600))


def test_current_and_voltage_at_different_instants_are_a_fault() -> None:
    one = made()
    one.feed("i", message(0, 2, np.ones(8, np.float32)))
    with pytest.raises(InstrumentError, match="same instants"):
        one.feed("v", message(1, 2, np.ones(8, np.float32)))


def test_a_signal_without_messages_is_named() -> None:
    one = made()
    values = np.ones(TICK_HZ, np.float32)
    one.feed("i", message(0, 2, values))
    with pytest.raises(InstrumentError, match=r"no messages of voltage, gpi0") as caught:
        one.feed("i", message(2 * TICK_HZ, 2, values))
    assert caught.value.code == "signal-missing"


def test_an_empty_message_is_ignored() -> None:
    one = made()
    assert one.feed("i", message(0, 2, np.empty(0, np.float32))) == []
    assert one.feed("gpi0", message(0, 1, None)) == []
    assert one.finish() == []


# ---- time ----------------------------------------------------------------------------------


def test_time_is_exact_over_years() -> None:
    seconds = 8 * 366 * 86400 + 5
    counter = 2**55 + 12_345
    made = JoulescopeTimeMap((seconds << 30) + (1 << 29), counter, 2_000_000.0)
    epoch = datetime(2018, 1, 1, tzinfo=UTC)
    expected = epoch + timedelta(seconds=seconds, milliseconds=500)
    nanoseconds = int(expected.timestamp()) * 10**9 + 500_000_000
    assert made.utc_ns(counter) == nanoseconds
    assert made.utc_ns(counter + 1) == nanoseconds + 500
    assert made.utc_ns(counter - 2_000_000) == nanoseconds - 10**9


def test_a_new_time_map_does_not_move_earlier_marks() -> None:
    one = made(max_delay=0)
    items: list[StreamItem] = []
    second = 1 << 30
    for number in range(4):
        start = number * 2 * TICK_HZ
        messages = constant(start, 2 * TICK_HZ)
        for _, fields in messages:
            fields["time_map"] = {
                "offset_time": (100 + 2 * number) * second + number * 1000,
                "offset_counter": max(start, 1),
                "counter_rate": 2e6 + number,
            }
        items += feed(one, messages)
    marks = [item for item in items if isinstance(item, TimeMark)]
    assert [mark.index for mark in marks] == [0.5, 2e6, 4e6, 6e6]
    assert [mark.t_ns - EPOCH_NS for mark in marks] == [
        (100 + 2 * number) * 10**9 + round(number * 1000 * 10**9 / 2**30) for number in range(4)
    ]
    assert {(mark.clock, mark.uncertainty_ns) for mark in marks} == {("utc", 1_000_000)}


def test_a_time_map_from_before_index_0_marks_index_0() -> None:
    one = made()
    messages = constant(5000, 1600)
    for _, fields in messages:
        fields["time_map"] = {
            "offset_time": 100 << 30,
            "offset_counter": 3000,
            "counter_rate": 2e6,
        }
    marks = [item for item in feed(one, messages) if isinstance(item, TimeMark)]
    epoch_ns = EPOCH_NS
    assert marks == [TimeMark(0.0, epoch_ns + 100 * 10**9 + 1_000_000, 1_000_000, "utc")]


# ---- blocks --------------------------------------------------------------------------------


def test_levels_are_packed_from_the_lowest_bit() -> None:
    block = line_block(100, 1, np.array([0b11110000, 0xFF, 0b00000111], np.uint8))
    assert (block.start, block.end_tick, block.level) == (100, 124, False)
    assert block.changes.tolist() == [104, 119]
    assert not block.last_level
    assert block.falling_edges == 1
    slow = line_block(0, 10, np.array([0b1], np.uint8))
    assert (slow.end_tick, slow.changes.tolist()) == (80, [10])


@given(st.binary(min_size=1, max_size=12), st.integers(0, 90), st.integers(1, 90))
def test_a_part_of_a_line_has_the_same_levels(data: bytes, start: int, length: int) -> None:
    raw = np.frombuffer(data, np.uint8)
    levels = np.unpackbits(raw, bitorder="little")
    start = min(start, len(levels) - 1)
    stop = min(start + length, len(levels))
    block = line_block(0, 1, raw).part_between(start, stop)
    seen, level = [], block.level
    for tick in range(start, stop):
        level ^= tick in block.changes
        seen.append(level)
    assert seen == levels[start:stop].tolist()


def test_a_tick_is_kept_once_with_its_first_value() -> None:
    track: SignalTrack[AnalogBlock] = SignalTrack()
    track.step = 2
    ones, twos = np.full(4, 1, np.float32), np.full(8, 2, np.float32)
    track.insert_block(AnalogBlock(8, 2, ones))
    pieces = track.insert_block(AnalogBlock(4, 2, twos))
    assert [(piece.start, piece.end_tick) for piece in pieces] == [(4, 8), (16, 20)]
    assert track.insert_block(AnalogBlock(6, 2, ones)) == []
    assert track.settled_until(0) == 0
    assert track.settled_until(4) == 20
    taken = track.take_before(10)
    assert [block.values.tolist() for block in taken] == [[2, 2], [1]]
    assert track.insert_block(AnalogBlock(0, 2, ones)) == []
    assert track.late == 8
    assert [block.values.tolist() for block in track.take_before(40)] == [[1, 1, 1], [2, 2]]


def test_part_of_a_line_block_can_be_taken() -> None:
    track: SignalTrack[LineBlock] = SignalTrack()
    track.insert_block(line_block(0, 1, np.array([0b00001111], np.uint8)))
    (head,) = track.take_before(6)
    (tail,) = track.take_before(8)
    assert (head.level, head.changes.tolist(), tail.level) == (True, [4], False)
