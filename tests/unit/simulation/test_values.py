"""The bench's pure rules: charge, number forms, serial framing, event order."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.simulation.instruments.lpm01a.formats import AsciiDecimal, format_decimal
from labd.simulation.instruments.lpm01a.settings import (
    SETTERS,
    Lpm01aSettings,
    RefusedError,
    parse_number,
    plan_acquisition,
)
from labd.simulation.mcu.currents import Ledger, core_current_na
from labd.simulation.uart_waveform import character_as_received
from labd.simulation.virtual_time import Agenda

segments = st.lists(
    st.tuples(st.integers(0, 10**12), st.integers(0, 50_000_000), st.sampled_from([0, 1800, 3300])),
    max_size=30,
)


@given(segments, st.integers(0, 10**12))
def test_the_ledger_is_the_sum_of_current_times_time(
    steps: list[tuple[int, int, int]], tail: int
) -> None:
    ledger, now, current, voltage = Ledger(), 0, 0, 0
    charge = energy = 0
    for duration, next_current, next_voltage in steps:
        now += duration
        charge += current * duration
        energy += current * voltage * duration
        current, voltage = next_current, next_voltage
        ledger.set_supply(now, current, voltage)
    total = ledger.total_until(now + tail)
    assert total.charge_na_ps == charge + current * tail
    assert total.energy_na_mv_ps == energy + current * voltage * tail


def test_the_ledger_forgets_but_does_not_lose() -> None:
    ledger = Ledger()
    for step in range(20_000):
        ledger.set_supply(step, 1 + step % 2, 3300)
    assert ledger.total_until(20_000).charge_na_ps == 30_000
    with pytest.raises(ValueError, match="older"):
        ledger.total_until(ledger.oldest_ps - 1)


def test_currents_follow_frequency_and_core_voltage() -> None:
    assert core_current_na(120_000_000, "boost", asleep=False) == 13_200_000
    assert core_current_na(120_000_000, "boost", asleep=True) == 4_440_000
    assert core_current_na(16_000_000, "normal", asleep=False) == 1_650_000
    assert core_current_na(16_000_000, "low", asleep=False) == 1_375_000


@given(st.floats(1e-12, 1.0))
def test_four_digits_are_kept(value: float) -> None:
    text = format_decimal(value).decode()
    assert len(text) == 7
    assert 1000 <= int(text[:4]) <= 9999
    assert float(f"{text[:4]}e{text[4:]}") == pytest.approx(value, rel=5.1e-4)


def test_ascii_forms_to_the_byte() -> None:
    form = AsciiDecimal()
    assert form.encode_sample(640.9e-6) == b"6409-07\r\n"
    assert form.encode_sample(0.0) == b"0000-09\r\n"
    assert form.encode_time_stamp(1000, 0) == b"\r\nTimeStamp: 001s 000ms, buff 00%\r\n"
    assert len(form.encode_time_stamp(999_000, 99)) == 35
    assert form.encode_sample(15e-6) == b"\x001500-08\r\n"
    assert form.encode_sample(15e-6) == b"1500-08\r\n"
    assert form.encode_time_stamp(1_000_000, 0) == b"\r\nTimeStamp:>000s 000ms, buff 00%\r\n"
    assert form.encode_event(3) == b"event 03 ris\r\n"
    assert form.encode_event(103) == b"event 03 ris\r\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3300m", 3.3),
        ("3300-3", 3.3),
        ("5k", 5000),
        ("2", 2),
        ("100u", 1e-4),
        ("0", 0),
        ("2+1", 20),
    ],
)
def test_number_notations(text: str, value: float) -> None:
    assert float(parse_number(text)) == pytest.approx(value)


@given(st.text(max_size=8))
def test_a_bad_number_is_refused_never_a_crash(text: str) -> None:
    for setter in SETTERS.values():
        try:
            assert isinstance(setter(Lpm01aSettings(), text), Lpm01aSettings)
        except RefusedError:
            continue


def test_static_mode_is_one_sample_whatever_the_time() -> None:
    plan = plan_acquisition(Lpm01aSettings(static=True, acqtime_s=None, hz=100_000))
    assert plan.samples == 1


def test_the_shortest_acquisition_has_a_sample() -> None:
    assert plan_acquisition(Lpm01aSettings(acqtime_s=Fraction(1, 10_000), hz=1)).samples == 1


@given(st.integers(0, 255), st.sampled_from([9600, 115_200, 921_600]), st.floats(0.97, 1.03))
def test_a_speed_within_three_percent_is_the_same(byte: int, baud: int, error: float) -> None:
    assert character_as_received(byte, baud, round(baud * error)) == bytes((byte,))


@given(st.integers(0, 255))
def test_another_speed_garbles_repeatably(byte: int) -> None:
    slow, fast = character_as_received(byte, 9600, 4800), character_as_received(byte, 9600, 115_200)
    assert slow == character_as_received(byte, 9600, 4800)
    assert len(slow) <= 1
    assert bytes((byte,)) != fast or byte in (0x00, 0xFF)
    assert character_as_received(byte, 0, 9600) == b""


def test_events_run_in_time_order_those_they_add_included() -> None:
    agenda, seen = Agenda(lambda: 0), list[int]()

    def chain(at_ps: int) -> None:
        seen.append(at_ps)
        if at_ps < 3:
            agenda.schedule(at_ps + 1, chain)

    agenda.schedule(5, seen.append, waits=True)
    agenda.schedule(1, chain)
    assert (agenda.next_ps, agenda.next_waits) == (1, False)
    agenda.run_due(4)
    assert seen == [1, 2, 3]
    assert (agenda.next_ps, agenda.next_waits) == (5, True)
