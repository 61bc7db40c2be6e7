"""The PPK2's stream: samples are true, unconfirmed ones are a gap."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.ppk2.calibration import CODE_MASK, TYPICAL, SpikeFilter, current_table
from drivers.ppk2.converter import WordMeaning
from drivers.ppk2.stream import RULES, StreamDecoder
from labd.core.count_monitor import CountMonitor
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark

TABLE = current_table(TYPICAL, 3.0)
LINES = (0, 3)
COUNT = 6000
SETTLED = 2000  # before, a break makes everything since the start a gap

Words = NDArray[np.uint32]


def true_words(count: int = COUNT, seed: int = 1, first: int = 37) -> Words:
    """Words without a counter's break: ranges change, wired and floating lines too."""
    random = np.random.default_rng(seed)
    adc = random.integers(0, 1 << 14, count)
    stays = np.maximum.accumulate(np.where(random.random(count) < 0.01, np.arange(count), 0))
    ranges = random.integers(0, 5, count)[stays]
    wired = random.integers(0, 256, count)[stays] & 0x09
    floating = random.integers(0, 256, count) & 0xF6
    counters = (first + np.arange(count)) % 64
    return (adc | ranges << 14 | counters << 18 | (wired | floating) << 24).astype(np.uint32)


WORDS = true_words()
STREAM = WORDS.astype("<u4").tobytes()


def true_edges(words: Words) -> list[Edge]:
    edges: list[Edge] = []
    logic = (words >> 24).tolist()
    for index, (before, after) in enumerate(itertools.pairwise(logic), 1):
        edges += [
            Edge(float(index), f"d{line}", bool(after >> line & 1))
            for line in LINES
            if (before ^ after) >> line & 1
        ]
    return edges


EDGES = true_edges(WORDS)


def decoder(*, spikes: bool = True, clock: CountMonitor | None = None) -> StreamDecoder:
    return StreamDecoder(WordMeaning(TABLE, 3.0, spikes, LINES, 0), clock)


def decode(
    data: bytes, cuts: Sequence[int] = (), *, spikes: bool = True, orderly: bool = True
) -> tuple[StreamDecoder, list[StreamItem]]:
    made = decoder(spikes=spikes)
    items: list[StreamItem] = []
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(bounds):
        items += made.feed(data[start:end], 0)
    return made, items + made.finish("broken off", orderly=orderly)


def flat(items: list[StreamItem]) -> list[object]:
    """The stream without the bounds of its pieces: values to the bit, edges and gaps."""
    out: list[object] = []
    at = 0
    run: list[bytes] = []
    for item in items:
        if isinstance(item, Samples):
            assert item.index == at
            assert item.current_a is not None
            run.append(item.power_w.tobytes() + item.current_a.tobytes())
            at = item.end
        elif isinstance(item, Gap):
            assert item.index == at
            out += [_values(items, at), item]
            at = item.end
    out.append(_values(items, at))
    return [*out, [item for item in items if isinstance(item, Edge)]]


def _values(items: list[StreamItem], end: int) -> tuple[bytes, bytes]:
    parts = [item for item in items if isinstance(item, Samples) and item.end <= end]
    power = b"".join(part.power_w.tobytes() for part in parts)
    return power, b"".join(part.current_a.tobytes() for part in parts)  # type: ignore[union-attr]


def runs(items: list[StreamItem]) -> list[tuple[int, NDArray[np.float64]]]:
    """Consecutive samples: index of the first, currents."""
    found: list[tuple[int, list[NDArray[np.float64]]]] = []
    at = -1
    for item in items:
        if isinstance(item, Samples):
            assert item.current_a is not None
            if item.index != at:
                found.append((item.index, []))
            found[-1][1].append(item.current_a)
            at = item.end
    return [(start, np.concatenate(parts)) for start, parts in found]


def gaps(items: list[StreamItem]) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


def check_true(items: list[StreamItem], words: Words = WORDS) -> None:
    """Each index once and in order, each sample and edge the right one, no edge missing."""
    at = 0
    for item in items:
        if isinstance(item, (Samples, Gap)):
            assert item.index == at
            assert item.end > at
            at = item.end
    known = np.zeros(at + 1, np.bool_)
    for start, currents in runs(items):
        end = start + len(currents)
        assert end <= len(words)
        known[start:end] = True
        expected = TABLE[words[start:end] & CODE_MASK]
        SpikeFilter().filter_in_place(words[start:end], expected)
        assert np.allclose(currents, expected, rtol=1e-12, atol=0)
    both = np.flatnonzero(known[1:] & known[:-1]) + 1
    expected_edges = [edge for edge in true_edges(words) if edge.index in set(both.tolist())]
    assert [item for item in items if isinstance(item, Edge)] == expected_edges


def test_an_intact_stream_comes_out_whole() -> None:
    made, items = decode(STREAM)
    check_true(items)
    assert gaps(items) == []
    assert sum(len(item) for item in items if isinstance(item, Samples)) == COUNT
    assert made.received_samples == COUNT
    falls = [edge for edge in EDGES if edge.line == "d0" and not edge.rising]
    assert made.edges_seen == len(falls) > 5
    powers = [item.power_w / item.current_a for item in items if isinstance(item, Samples)]
    assert np.allclose(np.concatenate(powers), 3.0, rtol=1e-15)


def test_only_wired_lines_have_edges() -> None:
    _, items = decode(STREAM)
    assert {item.line for item in items if isinstance(item, Edge)} == {"d0", "d3"}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=60))
def test_any_chunking_gives_the_same(cuts: list[int]) -> None:
    assert flat(decode(STREAM, cuts)[1]) == flat(decode(STREAM)[1])


@pytest.mark.parametrize("damage", [None, 4001, 9000, 17_003])
def test_bytes_one_at_a_time_give_the_same(damage: int | None) -> None:
    data = STREAM if damage is None else STREAM[:damage] + STREAM[damage + 1 :]
    assert flat(decode(data, range(len(data)))[1]) == flat(decode(data)[1])


@settings(max_examples=200, deadline=None)
@given(
    cutouts=st.lists(st.tuples(st.integers(0, len(STREAM) - 1), st.integers(0, 40)), max_size=6),
    cuts=st.lists(st.integers(0, len(STREAM)), max_size=20),
    orderly=st.booleans(),
)
def test_any_chunking_of_a_damaged_stream_gives_the_same(
    cutouts: list[tuple[int, int]], cuts: list[int], *, orderly: bool
) -> None:
    data = bytearray(STREAM)
    for at, count in sorted(cutouts, reverse=True):
        del data[at : at + count]
    whole, cut = (flat(decode(bytes(data), c, orderly=orderly)[1]) for c in ((), cuts))
    assert cut == whole


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.lists(st.integers(0, len(STREAM)), max_size=3))
def test_a_lost_byte_never_makes_a_number(lost: int, cuts: list[int]) -> None:
    _, items = decode(STREAM[:lost] + STREAM[lost + 1 :], cuts)
    check_true(items)
    assert len(gaps(items)) == 1
    if 4 * SETTLED + 8 <= lost < len(STREAM) - 4 * (64 + 8 + 3):  # later the tail is lost with it
        assert gaps(items)[0].count <= 64 + 8 + 3


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(STREAM) - 1))
def test_a_doubled_byte_never_makes_a_number(at: int) -> None:
    _, items = decode(STREAM[: at + 1] + STREAM[at:])
    check_true(items)
    assert len(gaps(items)) == 1


@settings(max_examples=300, deadline=None)
@given(st.integers(SETTLED + 1, COUNT - 200), st.integers(1, 63))
def test_lost_samples_are_a_gap_of_their_number(at: int, lost: int) -> None:
    _, items = decode(STREAM[: 4 * at] + STREAM[4 * (at + lost) :])
    check_true(items)
    assert [(gap.index, gap.end) for gap in gaps(items)] == [(at - 64, at + lost + 8)]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(4 * SETTLED + 8, 4 * (COUNT - 200)),
    st.sampled_from([*range(4, 17), 32, 48]),
    st.lists(st.integers(0, len(STREAM)), max_size=5),
)
def test_a_run_that_comes_twice_is_dropped(at: int, words: int, cuts: list[int]) -> None:
    end = at + 4 * words
    made, items = decode(STREAM[:end] + STREAM[at:], cuts)
    check_true(items)
    (gap,) = gaps(items)
    assert gap.count == 64 + 8
    assert gap.index <= end // 4 <= gap.end
    assert (made.received_samples, made.possibly_missing) == (COUNT, 0)
    falls = [edge.index for edge in EDGES if edge.line == "d0" and not edge.rising]
    assert abs(made.edges_seen - len(falls)) <= 1  # one may lie in the word that is made of two


@pytest.mark.parametrize("words", [1, 2, 3])
def test_a_run_as_short_as_a_loss_is_possibly_missing(words: int) -> None:
    at = 4 * 3000
    made, items = decode(STREAM[: at + 4 * words] + STREAM[at:])
    assert made.possibly_missing == 64
    assert gaps(items)[0].count == 64 + (64 - words) + 8


@settings(max_examples=300, deadline=None)
@given(st.integers(SETTLED * 32, (COUNT - 70) * 32 - 1))
def test_a_flipped_bit_changes_nothing_after_it(bit: int) -> None:
    data = bytearray(STREAM)
    data[bit // 8] ^= 1 << bit % 8
    _, items = decode(bytes(data), spikes=False)
    changed = bit // 32
    for start, currents in runs(items):
        expected = TABLE[WORDS[start : start + len(currents)] & CODE_MASK]
        wrong = (np.flatnonzero(currents != expected) + start).tolist()
        assert wrong in ([], [changed])
    for gap in gaps(items):  # it was in the counter
        assert (gap.index, gap.end) == (changed - 8, changed + 1)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_many_damages_never_make_a_number(data: st.DataObject) -> None:
    """Bytes lost and doubled in several places, at least 200 samples apart, then intact."""
    damaged = bytearray(STREAM)
    for start in range(len(STREAM) - 1600, 400, -1000):
        at = start + data.draw(st.integers(0, 199))
        match data.draw(st.sampled_from(["lose", "double", "leave"])):
            case "lose":
                del damaged[at : at + data.draw(st.integers(1, 30))]
            case "double":
                damaged[at:at] = damaged[at : at + data.draw(st.integers(1, 3))]
            case _:
                pass
    _, items = decode(bytes(damaged))
    check_true(items)


def test_a_break_soon_after_the_start_makes_all_since_then_stale() -> None:
    stale = true_words(500, seed=3, first=11).astype("<u4").tobytes()
    _, items = decode(stale + STREAM)
    (gap,) = gaps(items)
    assert gap.index == 0
    assert 508 <= gap.count <= 571
    ((start, currents),) = runs(items)
    assert start == gap.end
    assert len(currents) == COUNT - 8


def test_half_a_word_before_the_first_is_skipped() -> None:
    _, items = decode(b"\x12" + STREAM)
    check_true(items)
    assert [(gap.index, gap.end) for gap in gaps(items)] == [(0, 8)]


def test_the_spike_filter_does_not_bridge_a_gap() -> None:
    at = 3000
    _, items = decode(STREAM[: 4 * at] + STREAM[4 * (at + 10) :])
    start, currents = runs(items)[1]
    assert start == at + 18
    assert currents[0] == TABLE[WORDS[start] & CODE_MASK]


def test_no_edge_is_made_across_a_gap() -> None:
    words = true_words()
    words[3000:] ^= np.uint32(1 << 24)  # the level differs on both sides of what is lost
    data = words.astype("<u4").tobytes()
    _, items = decode(data[: 4 * 3000] + data[4 * 3001 :])
    assert not any(isinstance(i, Edge) and 2936 <= i.index <= 3009 for i in items)
    check_true(items, words)


def test_a_fall_that_lies_in_a_gap_is_not_seen() -> None:
    high = (np.arange(6000) % 64 << 18 | 1 << 24).astype(np.uint32)
    high[3000:] &= np.uint32(0x00FFFFFF)
    data = high.astype("<u4").tobytes()
    made, items = decode(data[: 4 * 2990] + data[4 * 3010 :])
    assert made.edges_seen == 0
    assert not any(isinstance(item, Edge) for item in items)
    assert decode(data)[0].edges_seen == 1


def test_a_stream_that_ends_within_a_word_does_not_confirm_its_last_samples() -> None:
    _, items = decode(STREAM[:-1])
    (gap,) = gaps(items)
    assert (gap.index, gap.end) == (COUNT - 1 - 64, COUNT)
    assert "damaged" in gap.reason
    check_true(items)


def test_an_acquisition_broken_off_says_so_for_its_last_samples() -> None:
    _, items = decode(STREAM, orderly=False)
    (gap,) = gaps(items)
    assert (gap.index, gap.end, gap.reason) == (COUNT - 64, COUNT, "broken off")


@pytest.mark.parametrize("noise", [b"", b"\0" * 30_000, np.random.default_rng(4).bytes(30_001)])
def test_what_is_no_stream_is_no_sample(noise: bytes) -> None:
    made, items = decode(noise)
    assert runs(items) == []
    assert sum(gap.count for gap in gaps(items)) == -(-len(noise) // 4)
    assert made.edges_seen == 0


# ---- with the host's clock ---------------------------------------------------------------


def timed(
    stream: bytes, lost: Sequence[tuple[int, int]] = (), late_ms: Sequence[tuple[int, int]] = ()
) -> list[StreamItem]:
    """Decode by 10 ms chunks as a host that reads on time reads them.

    Args:
        stream: intact.
        lost: at which word how many are left out of the wire.
        late_ms: at which word and for how many words nothing is read.
    """
    made, items = decoder(clock=CountMonitor(RULES)), list[StreamItem]()
    random = np.random.default_rng(5)
    words = len(stream) // 4
    missing = np.zeros(words, np.bool_)
    for at, count in lost:
        missing[at : at + count] = True
    kept = np.frombuffer(stream, "<u4")[~missing]
    upto = np.concatenate([[0], np.cumsum(~missing)])
    held = 0
    for end in range(1000, words + 1, 1000):
        if any(at < end <= at + count for at, count in late_ms):
            continue
        t_ns = end * 10_000 + int(random.exponential(60_000))
        items += made.feed(kept[held : upto[end]].tobytes(), t_ns)
        held = upto[end]
    return items + made.finish("broken off", orderly=True)


LONG = true_words(700_000, seed=9)
LONG_STREAM = LONG.astype("<u4").tobytes()


def true_at(items: list[StreamItem]) -> None:
    """Every run of samples is the truth at its own index (spike filter apart)."""
    for start, currents in runs(items):
        expected = TABLE[LONG[start : start + len(currents)] & CODE_MASK]
        SpikeFilter().filter_in_place(LONG[start : start + len(currents)], expected)
        assert np.allclose(currents, expected, rtol=1e-12, atol=0)


def test_a_host_on_time_confirms_everything_and_makes_time_marks() -> None:
    items = timed(LONG_STREAM)
    assert gaps(items) == []
    true_at(items)
    assert sum(len(item) for item in items if isinstance(item, Samples)) == len(LONG)
    marks = [item for item in items if isinstance(item, TimeMark)]
    assert 5 <= len(marks) <= 8
    for mark in marks:
        assert abs(mark.t_ns - mark.index * 10_000) <= mark.uncertainty_ns
        assert mark.clock == "host"


@pytest.mark.parametrize("lost", [64, 128, 640, 6400])
def test_a_loss_that_the_counter_cannot_see_is_a_gap_by_the_hosts_clock(lost: int) -> None:
    items = timed(LONG_STREAM, lost=[(250_500, lost)])
    (gap,) = gaps(items)
    assert gap.index <= 250_500
    assert gap.end >= 250_500 + lost
    assert gap.count <= 110_000 + lost
    assert f"about {lost} samples are missing by the host's clock" in gap.reason
    true_at(items)
    assert sum(gap.count for gap in gaps(items)) + sum(len(c) for _, c in runs(items)) == len(LONG)


@pytest.mark.parametrize("lost", [65, 1000, 5003])
def test_the_hosts_clock_gives_the_counter_wraps_that_a_break_hides(lost: int) -> None:
    items = timed(LONG_STREAM, lost=[(250_500, lost)])
    (gap,) = gaps(items)
    assert gap.end == 250_508 + lost
    assert gap.index <= 250_500 - 64
    true_at(items)


def test_a_loss_of_less_than_a_turn_needs_no_clock() -> None:
    items = timed(LONG_STREAM, lost=[(250_500, 17)])
    assert [(gap.index, gap.end) for gap in gaps(items)] == [(250_436, 250_525)]
    true_at(items)


@pytest.mark.parametrize("stall", [20_000, 90_000, 180_000])
def test_a_host_that_stalls_and_catches_up_has_lost_nothing(stall: int) -> None:
    items = timed(LONG_STREAM, late_ms=[(200_000, stall)])
    assert gaps(items) == []
    true_at(items)


def test_a_stall_hides_no_loss() -> None:
    items = timed(LONG_STREAM, lost=[(220_000, 64)], late_ms=[(200_000, 50_000)])
    (gap,) = gaps(items)
    assert gap.index <= 220_000
    assert gap.end >= 220_064
    true_at(items)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4000), st.integers(0, 3))
def test_chunks_of_any_size_that_come_at_once_give_the_same(size: int, odd: int) -> None:
    stream = LONG_STREAM[:240_000]
    made, items = decoder(clock=CountMonitor(RULES)), list[StreamItem]()
    step = 4 * size + odd
    for at in range(0, len(stream), step):
        end = min(at + step, len(stream))
        items += made.feed(stream[at:end], end // 4 * 10_000)
    items += made.finish("broken off", orderly=True)
    assert flat(items)[:-1] == flat(decode(stream)[1])[:-1]
    assert flat(items)[-1] == flat(decode(stream)[1])[-1]


STEADY = ((np.arange(500_000) % 64 << 18) | 1 << 24 | 777).astype(np.uint32)
STEADY[450_000:] &= np.uint32(0x00FFFFFF)
"""The same current all the time: words that come twice look like ones that are lost."""


@pytest.mark.parametrize("change", [-16, -3, -1, 48, 61, 63], ids=lambda n: f"{n} words more")
def test_the_hosts_clock_decides_whether_a_steady_signal_was_lost_or_doubled(change: int) -> None:
    """The counter says the same of 16 words doubled and of 48 lost."""
    at, made, items = 303_000, decoder(clock=CountMonitor(RULES)), list[StreamItem]()
    parts = (STEADY[:at], STEADY[at + change :])
    sent = np.concatenate(parts)
    random = np.random.default_rng(6)
    held = 0
    for end in range(500, len(STEADY) + 1, 500):
        upto = end if end <= at else max(held, end - change)
        t_ns = end * 10_000 + int(random.exponential(60_000))
        items += made.feed(sent[held:upto].astype("<u4").tobytes(), t_ns)
        held = upto
    items += made.finish("broken off", orderly=True)
    (gap,) = gaps(items)
    assert (gap.index, gap.end) == (at - 64, at + (72 if change > 0 else 8))
    assert [item for item in items if isinstance(item, Edge)] == [
        Edge(450_000.0, "d0", rising=False)
    ]
    assert made.possibly_missing == 0


def test_a_steady_signal_without_the_hosts_clock_is_possibly_missing() -> None:
    data = STEADY[:5000].astype("<u4").tobytes()
    made, items = decode(data[: 4 * 3016] + data[4 * 3000 :])
    assert made.possibly_missing == 64
    assert [(gap.index, gap.end) for gap in gaps(items)] == [(2952, 3072)]
