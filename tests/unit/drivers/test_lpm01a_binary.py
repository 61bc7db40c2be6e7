"""The LPM01A's binary stream: samples are true, unconfirmed ones are a gap."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drivers.lpm01a.binary_framer import BinaryFramer
from drivers.lpm01a.byte_slip import MIN_STRETCH
from drivers.lpm01a.stamp_check import UNCONFIRMED, Quantity
from labd.core.model import Gap, Samples, StreamItem

CURRENT = Quantity(power_factor=2.0, is_current=True)
TAIL = 5000
PERIOD_MS = 10


def word(index: int) -> int:
    """Sample ``index``: every byte value occurs in it, the low byte F0 and FF too."""
    return (4 + index % 5) << 12 | (index * 37 + 11) % 4096


def truth(index: int) -> float:
    power, value = divmod(word(index), 4096)
    return value * 2.0 ** (-4 * power)


def stamp(ms: int, load: int = 0) -> bytes:
    return b"\xf0\xf3" + struct.pack(">IB", ms, load) + b"\xff\xff"


def reply(text: str) -> bytes:
    return b"\r\nPowerShield > " + text.encode() + b"\r\n\r\n"


VOLTAGE = b"\xf0\xf7" + struct.pack(">H", 3299) + b"\xff\xff"
COLD = b"\xf0\xf8" + struct.pack(">h", -1) + b"\xff\xff"  # its payload is FF FF
POWER_ON = b"\xf0\xf9\x01\xff\xff"  # an odd number of bytes
INFO = b"\xf0\xf2calibrated\r\n\xff\xff"
RESERVED = b"\xf0\xfe\x01\x02\xff\xff"
SUMMARY = b"\r\nsummary beg\r\nmin 1000-08\r\nmax 9999-08\r\nsummary end\r\n"
END = b"\xf0\xf4\xff\xff" + SUMMARY + reply("Acquisition completed")
METADATA = {
    5: POWER_ON,
    700: VOLTAGE,
    1500: INFO,
    1501: COLD,
    2999: RESERVED,
    4100: reply("ack lcd 1"),
    4300: reply("ack stop"),
}


def pieces(samples: int = TAIL, metadata: dict[int, bytes] | None = None) -> list[bytes]:
    """The stream as the instrument sends it, a sample or a record an item."""
    metadata = METADATA if metadata is None else metadata
    out = [reply("ack start"), stamp(0)]
    for index in range(samples):
        if index in metadata:
            out.append(metadata[index])
        out.append(word(index).to_bytes(2))
        if index % 1000 == 999:
            out.append(stamp((index + 1) // 1000 * PERIOD_MS))
    return out


STREAM = b"".join(pieces()) + END
LONGER = b"".join(pieces(TAIL + 600)) + END
"""It ends long after its last stamp."""


def decode(data: bytes, cuts: tuple[int, ...] = ()) -> tuple[BinaryFramer, list[StreamItem]]:
    decoder = BinaryFramer(100_000, CURRENT, 3300)
    items: list[StreamItem] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        items += decoder.feed(data[start:end])
    return decoder, items + decoder.check.finish("broken off")


def flat(items: list[StreamItem]) -> list[object]:
    return [(i.index, i.power_w.tolist()) if isinstance(i, Samples) else i for i in items]


def check_true(items: list[StreamItem], changed: int = 0) -> None:
    """Each index once and in order; each sample the right one, but for ``changed`` of them."""
    at = wrong = 0
    for item in items:
        assert isinstance(item, Samples | Gap)
        assert item.index == at
        assert item.end > at
        if isinstance(item, Samples):
            assert item.current_a is not None
            expected = [truth(i) for i in range(item.index, item.end)]
            wrong += int(np.sum(item.current_a != expected))
            assert (item.power_w == item.current_a * 2.0).all()
        at = item.end
    assert wrong <= changed


def gaps(items: list[StreamItem]) -> list[tuple[int, int]]:
    return [(item.index, item.end) for item in items if isinstance(item, Gap)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x52\xa0", 640.9e-6),
        (b"\x31\x45", 79.35e-3),
        (b"\x00\x00", 0.0),
        (b"\xe0\x01", 16.0**-14),
        (b"\x20\x40", 0.25),
    ],
)
def test_samples_of_the_manual(data: bytes, value: float) -> None:
    (samples,) = BinaryFramer(100_000, CURRENT).feed(
        reply("ack start") + stamp(0) + data * 1000 + stamp(10)
    )
    assert isinstance(samples, Samples)
    assert samples.current_a is not None
    assert samples.current_a[0] == pytest.approx(value, rel=2e-4)


def test_every_word_has_the_value_it_stands_for() -> None:
    most = CURRENT.largest_value
    words = [n for n in range(0xF000) if (n & 4095) * 2.0 ** (-4 * (n >> 12)) <= most]
    for start in (*range(0, len(words) - 999, 1000), len(words) - 1000):
        some = words[start : start + 1000]
        data = b"".join(n.to_bytes(2) for n in some)
        (samples,) = BinaryFramer(100_000, CURRENT).feed(stamp(0) + data + stamp(10))
        assert isinstance(samples, Samples)
        assert samples.current_a is not None
        assert samples.current_a.tolist() == [(n & 4095) * 2.0 ** (-4 * (n >> 12)) for n in some]


def test_an_intact_stream_comes_out_whole() -> None:
    decoder, items = decode(STREAM)
    check_true(items)
    assert not gaps(items)
    assert sum(len(item) for item in items if isinstance(item, Samples)) == TAIL
    assert (decoder.check.received_samples, decoder.check.edges_seen) == (TAIL, 0)
    assert decoder.check.started
    assert decoder.check.completed
    assert not decoder.check.fault


def test_metadata_is_kept() -> None:
    notes = decode(STREAM)[0].check.notes
    assert notes.voltage_mv == 3299
    assert notes.temperature_c == (-1, -1)
    assert notes.texts == ["calibrated", "record f0 fe 01 02 ff ff, which is unknown"]
    codes = [(finding.code, finding.serious) for finding in notes.to_findings()]
    assert codes == [("instrument-text", False)] * 2 + [("temperature", False)]


def test_a_supply_that_deviates_is_a_serious_finding() -> None:
    low = b"\xf0\xf7" + struct.pack(">H", 3200) + b"\xff\xff"
    decoder, _ = decode(b"".join(pieces(2000, {10: VOLTAGE, 20: low, 30: VOLTAGE})) + END)
    (finding,) = decoder.check.notes.to_findings()
    assert (finding.code, finding.serious) == ("supply-voltage", True)
    assert "3200 mV, 3300 mV are set" in finding.text


def test_a_rising_buffer_load_is_noted() -> None:
    data = b"".join(pieces(3000, {})).replace(stamp(20), stamp(20, 73)) + END
    (finding,) = decode(data)[0].check.notes.to_findings()
    assert "up to 73 % full" in finding.text
    assert not finding.serious


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40).map(tuple))
def test_any_chunking_gives_the_same(cuts: tuple[int, ...]) -> None:
    one, other = decode(STREAM, cuts), decode(STREAM)
    assert flat(one[1]) == flat(other[1])
    assert one[0].check.notes == other[0].check.notes


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


def test_bytes_one_at_a_time_give_the_same() -> None:
    assert flat(decode(STREAM, tuple(range(len(STREAM))))[1]) == flat(decode(STREAM)[1])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.lists(st.integers(0, len(STREAM)), max_size=3))
def test_a_lost_byte_never_makes_a_number(lost: int, cuts: list[int]) -> None:
    check_true(decode(STREAM[:lost] + STREAM[lost + 1 :], tuple(cuts))[1])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(STREAM) - 1))
def test_a_doubled_byte_never_makes_a_number(at: int) -> None:
    check_true(decode(STREAM[: at + 1] + STREAM[at:])[1])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(LONGER)), st.integers(0, len(LONGER)))
def test_a_lost_stretch_never_makes_a_number(one: int, other: int) -> None:
    start, end = sorted((one, other))
    check_true(decode(LONGER[:start] + LONGER[end:])[1])


def test_no_end_confirms_what_no_stamp_does() -> None:
    _, items = decode(LONGER)
    check_true(items)
    assert items[-1] == Gap(TAIL, 600, UNCONFIRMED)


@pytest.mark.parametrize("word", [b"\x20\x41", b"\x1f\xff", b"\x00\x01"])
def test_more_than_the_instrument_can_measure_is_a_gap(word: bytes) -> None:
    lines = pieces(4000, {})
    lines[2500] = word
    _, items = decode(b"".join(lines) + END)
    check_true(items)
    assert gaps(items) == [(2000, 3000)]
    assert "exceed the instrument's range" in next(i for i in items if isinstance(i, Gap)).reason


def steady(value_a: float, noise: float = 0.0, samples: int = 3000, seed: int = 1) -> bytes:
    """Words of a current that hardly varies."""
    values = np.random.default_rng(seed).normal(value_a, noise * value_a, samples)
    power = np.clip(np.floor(np.log2(4095 / values) / 4), 0, 14)
    return (power * 4096 + np.rint(values * 16.0**power)).astype(">u2").tobytes()


def stamped(words: bytes, samples: int = 3000) -> bytes:
    """A stream of so many samples, of whatever words."""
    assert len(words) == 2 * samples
    out = stamp(0)
    for start in range(0, 2 * samples, 2000):
        out += words[start : start + 2000] + stamp(start // 200 + PERIOD_MS)
    return out


@pytest.mark.parametrize("other", [0x4152, 0x5241, 0x61A0, 0xA05F, 0x9152, 0xA853])
def test_a_level_that_shares_a_byte_with_another_is_a_level(other: int) -> None:
    """Only bytes that both are the other's make a stretch that is one byte off."""
    words = b"\x52\xa0" * 1200 + other.to_bytes(2) * 600 + b"\x52\xa0" * 1200
    items = BinaryFramer(100_000, CURRENT).feed(stamped(words))
    assert [type(item) for item in items] == [Samples] * 3
    swapped = words.replace(other.to_bytes(2), b"\xa0\x52")
    items = BinaryFramer(100_000, CURRENT).feed(stamped(swapped))
    assert [type(item) for item in items] == [Samples, Gap, Samples]


def test_a_ramp_that_is_one_byte_off_is_found() -> None:
    words = b"".join((0x5240 + k // 4 % 256).to_bytes(2) for k in range(3000))
    bad = words[:2500] + words[2501:3100] + words[3099:]
    items = BinaryFramer(100_000, CURRENT).feed(stamped(bad))
    assert [type(item) for item in items] == [Samples, Gap, Samples]


STEADY = [(640.9e-6, 0.0), (640.9e-6, 3e-3), (5.1e-3, 1e-3), (5.1e-3, 3e-2), (2.3e-6, 5e-3)]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(STEADY),
    st.integers(2000, 3999),
    st.integers(2000, 3999),
    st.booleans(),
)
def test_a_lost_and_a_doubled_byte_that_cancel_are_found(
    load: tuple[float, float],
    one: int,
    other: int,
    lost_first: bool,  # noqa: FBT001
) -> None:
    """The count is right, and what lies between the two is one byte off."""
    at, end = sorted((one, other))
    assume(end - at > 2 * MIN_STRETCH + 8)
    words = steady(*load)
    if lost_first:
        bad = words[:at] + words[at + 1 : end] + words[end - 1 : end] + words[end:]
    else:
        bad = words[: at + 1] + words[at:end] + words[end + 1 :]
    expected = BinaryFramer(100_000, CURRENT).feed(stamped(words))
    found = BinaryFramer(100_000, CURRENT).feed(stamped(bad))
    assert [type(item) for item in expected] == [Samples] * 3
    assert [type(item) for item in found] == [Samples, Gap, Samples]


@pytest.mark.parametrize("noise", [0.0, 5e-4, 5e-3, 5e-2])
@pytest.mark.parametrize("sleep_a", [0.0, 3e-10, 120e-9, 2e-6, 41e-6])
@pytest.mark.parametrize("run_a", [0.8e-3, 5.1e-3, 20e-3, 47e-3])
def test_a_load_may_sleep_and_run_as_it_likes(noise: float, sleep_a: float, run_a: float) -> None:
    floor = 16.0**-14
    words = bytearray(steady(run_a, noise))
    for length, place in itertools.pairwise((40, 100, 300, 700, 1100, 1990, 2500, 2600)):
        asleep = steady(max(sleep_a, floor), min(noise, 0.05) * (sleep_a > 0), length)
        words[2 * place : 2 * (place + length)] = asleep
    words = words[:6000]
    items = BinaryFramer(100_000, CURRENT).feed(stamped(bytes(words)))
    assert [type(item) for item in items] == [Samples] * 3


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(STREAM) - 1), st.integers(0, 7))
def test_a_flipped_bit_changes_one_sample_at_most(at: int, bit: int) -> None:
    data = STREAM[:at] + bytes([STREAM[at] ^ 1 << bit]) + STREAM[at + 1 :]
    check_true(decode(data)[1], changed=1)


@pytest.mark.parametrize(
    ("lost", "until"),
    [(1, 4000), (2, 4000), (3, 4000), (2000, 5000), (2009, 5000), (4018, 6000)],
)
def test_a_loss_costs_its_blocks_and_no_more(lost: int, until: int) -> None:
    data = b"".join(pieces(9000, {})) + END
    at = data.index(stamp(30)) + 9 + 500
    _, items = decode(data[:at] + data[at + lost :])
    check_true(items)
    assert gaps(items) == [(3000, until)]
    assert items[-1].end == 9000  # type: ignore[union-attr]


def test_a_lost_beginning_is_seen_by_the_clock() -> None:
    _, items = decode(STREAM[STREAM.index(stamp(20)) :])
    check_true(items)
    assert gaps(items) == [(0, 2000)]


def test_a_first_stamp_that_lost_its_head_costs_one_block() -> None:
    lines = pieces(3000, {})
    _, items = decode(lines[0] + lines[1][1:] + b"".join(lines[2:]) + END)
    check_true(items)
    assert gaps(items) == [(0, 1000)]


def test_a_wrong_bit_in_a_stamps_time_costs_its_neighbours_only() -> None:
    data = b"".join(pieces(9000, {})).replace(stamp(30), stamp(30 ^ 1 << 20)) + END
    decoder, items = decode(data)
    check_true(items)
    assert gaps(items) == [(2000, 4000)]
    assert decoder.check.received_samples == 9000


def test_a_wrong_bit_in_the_last_stamps_time_does_not_make_days() -> None:
    data = b"".join(pieces(3100, {})).replace(stamp(30), stamp(30 ^ 1 << 29)) + END
    _, items = decode(data)
    check_true(items)
    assert gaps(items) == [(2000, 3100)]


def test_time_overflows_after_bit_30() -> None:
    """Bit 31 says that the time began again."""
    base = (1 << 31) - 2 * PERIOD_MS
    samples = b"".join(word(i).to_bytes(2) for i in range(1000))
    times = [(base + n * PERIOD_MS) % (1 << 31) | (n >= 2) << 31 for n in range(6)]
    decoder = BinaryFramer(100_000, CURRENT)
    decoder.check._anchor = decoder.check._base = (0, base)  # after 24 days without a fault
    items = decoder.feed(b"".join(stamp(ms) + samples for ms in times))
    assert [(type(item), item.index) for item in items] == [(Samples, n * 1000) for n in range(5)]


def test_a_piece_of_stream_that_came_twice_does_not_make_days() -> None:
    data = b"".join(pieces(9000, {})) + END
    first, last = data.index(stamp(20)), data.index(stamp(50))
    _, items = decode(data[:last] + data[first:])
    check_true(items)
    assert not gaps(items)
    assert items[-1].end == 9000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"\xf0\xf5\xff\xff", "overcurrent"),
        (b"\xf0\xf6\xff\xff", "power was switched off"),
        (b"\xf0\xf9\x00\xff\xff", "power was switched off"),
        (b"\xf0\xf1Transmit buffer overrun\r\n\xff\xff", "Transmit buffer overrun"),
        (reply("error target\r\nError detail: not now"), "reported: target"),
    ],
)
def test_after_a_fault_nothing_counts(record: bytes, why: str) -> None:
    decoder, items = decode(b"".join(pieces(5500, {2345: record})) + END)
    check_true(items)
    assert gaps(items) == [(2000, 5500)]
    assert why in items[-1].reason  # type: ignore[union-attr]
    assert decoder.check.fault


def test_a_record_is_taken_by_its_length_whatever_it_holds() -> None:
    """A stamp at 0x30F0F4FF ms, a temperature of -1 and a voltage of 0xF0F3 mV."""
    strange = b"\xf0\xf7\xf0\xf3\xff\xff"
    _, items = decode(b"".join(pieces(2000, {10: COLD, 1200: strange})) + END)
    check_true(items)
    assert not gaps(items)
    decoder = BinaryFramer(100_000, CURRENT)
    samples = b"".join(word(i).to_bytes(2) for i in range(1000))
    data = b"".join(stamp(ms) + samples for ms in (0x30F0F4FF, 0x30F0F509, 0x30F0F513, 0x30F0F51D))
    out = decoder.feed(data + END)
    assert [type(item) for item in out] == [Gap] + [Samples] * 3 + [Gap]


def test_the_text_of_a_record_is_bounded() -> None:
    endless = b"\xf0\xf2" + b"x" * 600 + b"\xff\xff"
    decoder, items = decode(b"".join(pieces(5000, {1500: endless})) + END)
    check_true(items)
    assert gaps(items) == [(1000, 2000)]
    assert not decoder.check.notes.texts


@pytest.mark.parametrize(
    "record",
    [
        b"\xf0\xf2ab\x80cd\r\n\xff\xff",  # no text
        b"\xf0\xf2abcd\xff\x12\x34\x12\x34",  # half a terminator
        b"\xf0\xf7\x0c\xe4\xff\xfe",
        b"\xf0\xf4\xff\x30",
        b"\xf0\xf5\xfe\xff",
        b"\xf0\xfd" + b"x" * 20 + b"\xff\xff",
        b"\r\nPowerShield > ack \x80lcd 1\r\n\r\n",
    ],
)
def test_a_damaged_record_costs_its_block(record: bytes) -> None:
    decoder, items = decode(b"".join(pieces(4000, {1500: record})) + END)
    check_true(items)
    assert gaps(items) == [(1000, 2000)]
    assert not decoder.check.notes.texts
    assert not decoder.check.fault


@pytest.mark.parametrize("damaged", [stamp(20, 101), stamp(20)[:-1] + b"\xfe"])
def test_a_damaged_stamp_costs_both_its_blocks(damaged: bytes) -> None:
    data = b"".join(pieces(5000, {})).replace(stamp(20), damaged) + END
    _, items = decode(data)
    check_true(items)
    assert gaps(items) == [(1000, 3000)]


def test_a_record_cut_after_its_first_byte_is_found_behind_an_odd_byte() -> None:
    data = b"".join(pieces(4000, {})) + END
    at = data.index(stamp(20))
    odd = data[: at - 101] + data[at - 100 :]
    assert flat(decode(odd, (at,))[1]) == flat(decode(odd)[1])
    assert gaps(decode(odd)[1]) == [(1000, 2000)]


def test_a_note_in_a_block_that_is_dropped_is_not_kept() -> None:
    """What is left of a stamp may look like a voltage."""
    stump = b"\xf0\xf7" + struct.pack(">H", 12) + b"\xff\xff"
    data = b"".join(pieces(3000, {500: stump}))
    at = data.index(stamp(10)) - 200
    decoder, items = decode(data[:at] + data[at + 1 :] + END)
    check_true(items)
    assert decoder.check.notes.voltage_mv is None


def test_without_an_end_mark_the_tail_is_a_gap() -> None:
    data = b"".join(pieces(1250, {}))
    assert decode(data)[1][-1] == Gap(1000, 250, "broken off")
    _, items = decode(data + reply("Acquisition completed"))
    assert items[-1] == Gap(1000, 250, "the end of the stream is missing")


def test_nothing_is_given_out_before_its_stamp() -> None:
    decoder = BinaryFramer(100_000, CURRENT)
    lines = pieces(1000, {})
    assert decoder.feed(b"".join(lines[:-1])) == []
    assert decoder.check.received_samples == 1000
    assert [type(item) for item in decoder.feed(lines[-1])] == [Samples]


def test_a_refused_start_says_why() -> None:
    decoder = BinaryFramer(100_000, CURRENT)
    assert decoder.feed(reply("error start\r\nError detail: no target")) == []
    assert not decoder.check.started
    assert decoder.check.fault == "start: no target"


@settings(max_examples=200)
@given(st.binary(max_size=3000))
def test_garbage_is_never_a_sample_and_never_crashes(data: bytes) -> None:
    decoder = BinaryFramer(100_000, CURRENT)
    items = decoder.feed(data) + decoder.check.finish("garbage")
    assert all(isinstance(item, Gap) for item in items)
