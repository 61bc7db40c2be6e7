"""What a PPK2's words mean, against the formulas worked out one sample at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.ppk2.calibration import (
    CODE_MASK,
    TYPICAL,
    Ppk2Metadata,
    SpikeFilter,
    current_table,
    parse_metadata,
)

OWN = {
    "R": (1003.3506, 101.5865, 10.3027, 0.9636, 0.0564),
    "GS": (0.0, 112.789, 17.2343, 2.321, 0.148),
    "GI": (1.0, 0.9776, 0.9896, 1.0012, 0.9805),
    "O": (98.413, 87.21, 91.506, 79.863, 84.035),
    "S": (4.8e-8, 5.96e-7, 5.281e-6, 6.2577e-5, 2.940743e-3),
    "I": (-1.04e-7, -1.443e-6, 3.6439e-5, -3.74119e-4, -9.388455e-3),
    "UG": (1.0, 1.01, 1.0, 0.99, 1.0),
}


class PlainPpk2:
    """One sample at a time, in plain Python."""

    def __init__(self, coefficients: dict[str, tuple[float, ...]], volt: float) -> None:
        self.of = coefficients
        self.volt = volt
        self.mean: float | None = None
        self.slow: float | None = None
        self.range: int | None = None
        self.after = 0
        self.consecutive = 0

    def current(self, word: int) -> float:
        r = min(word >> 14 & 7, 4)
        a = 4 * (word & 0x3FFF)
        of = {name: values[r] for name, values in self.of.items()}
        w = (a - of["O"]) * (1.8 / 163840 / of["R"])
        return of["UG"] * (w * (of["GS"] * w + of["GI"]) + (of["S"] * self.volt + of["I"]))

    def filtered(self, word: int) -> float:
        value, r = self.current(word), min(word >> 14 & 7, 4)
        before = self.mean, self.slow
        self.mean = value if self.mean is None else 0.18 * value + 0.82 * self.mean
        self.slow = value if self.slow is None else 0.06 * value + 0.94 * self.slow
        if self.range is not None and self.range != r:
            self.after, self.consecutive = 3, 0
        elif self.after:
            self.consecutive += 1
        if self.after:
            self.after -= 1
            if r == 4 and self.consecutive < 2:
                self.mean, self.slow = before
            chosen = self.slow if r == 4 else self.mean
            assert chosen is not None
            value = chosen
        self.range = r
        return value


def filtered(words: NDArray[np.uint32], cuts: list[int] | None = None) -> NDArray[np.float64]:
    values = current_table(OWN, 3.3)[words & CODE_MASK]
    spikes = SpikeFilter()
    bounds = [0, *sorted({cut % len(words) for cut in cuts or []} - {0}), len(words)]
    for start, end in itertools.pairwise(bounds):
        spikes.filter_in_place(words[start:end], values[start:end])
    return values


@st.composite
def streams(draw: st.DrawFn) -> NDArray[np.uint32]:
    """Words whose range changes now and then, or at every sample."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 1500))
    often = draw(st.sampled_from([0.0, 0.002, 0.03, 0.5, 1.0]))
    among = draw(st.sampled_from([[3, 4], [0, 1, 2, 3, 4], [2, 3, 4, 4, 5, 6, 7], [4]]))
    changes = random.random(count) < often
    drawn = random.choice(among, count)
    ranges = drawn[np.maximum.accumulate(np.where(changes, np.arange(count), 0))]
    adc = random.integers(0, 1 << 14, count)
    return (adc | ranges << 14).astype(np.uint32)


def test_the_conversion_by_hand() -> None:
    # range 2: w = (4·2000 - 91.506)·(1.8/163840)/10.3027 = 8.43302e-3 A
    # I = w·(17.2343·w + 0.9896) + 5.281e-6·3.3 + 3.6439e-5 = 9.62512e-3 A
    table = current_table(OWN, 3.3)
    assert table[2 << 14 | 2000] == pytest.approx(9.62512e-3, rel=1e-6)


def test_every_word_means_what_the_formula_says_and_ranges_beyond_are_the_top_one() -> None:
    table, plain = current_table(OWN, 1.8), PlainPpk2(OWN, 1.8)
    words = np.random.default_rng(1).integers(0, 1 << 17, 3000)
    expected = [plain.current(int(word)) for word in words]
    assert table[words].tolist() == pytest.approx(expected, rel=1e-13, abs=1e-18)
    assert table[7 << 14 | 99] == table[4 << 14 | 99]


@settings(max_examples=150, deadline=None)
@given(streams())
def test_the_spike_filter_is_the_recurrence(words: NDArray[np.uint32]) -> None:
    plain = PlainPpk2(OWN, 3.3)
    expected = np.array([plain.filtered(int(word)) for word in words])
    scale = np.maximum(np.abs(expected), 1e-9)
    assert np.max(np.abs(filtered(words) - expected) / scale) < 1e-11


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(0, 1500), max_size=60))
def test_the_spike_filter_is_the_same_to_the_bit_however_the_samples_come(
    words: NDArray[np.uint32], cuts: list[int]
) -> None:
    assert filtered(words, cuts).tobytes() == filtered(words).tobytes()


def test_without_a_change_of_range_nothing_is_filtered() -> None:
    words = np.arange(3000, dtype=np.uint32) | np.uint32(1 << 14)
    assert filtered(words).tobytes() == current_table(OWN, 3.3)[words].tobytes()


def test_three_samples_from_a_change_on_are_smoothed() -> None:
    words = np.full(40, 5000, np.uint32)
    words[20:] |= np.uint32(3 << 14)
    plain = current_table(OWN, 3.3)[words]
    assert np.flatnonzero(filtered(words) != plain).tolist() == [20, 21, 22]


def test_a_reset_forgets_the_samples_before() -> None:
    words = np.full(400, 9000, np.uint32)
    words[200:] = 100 | 2 << 14
    table = current_table(OWN, 3.3)
    spikes = SpikeFilter()
    values = table[words]
    spikes.filter_in_place(words[:200], values[:200])
    spikes.reset()
    spikes.filter_in_place(words[200:], values[200:])
    assert values.tobytes() == table[words].tobytes()


# ---- metadata ----------------------------------------------------------------------------


def answer(**changes: str) -> str:
    rows = {f"{name}{i}": str(v) for name, values in OWN.items() for i, v in enumerate(values)}
    rows = {"Calibrated": "0"} | rows | {"VDD": "3000", "HW": "9173", "mode": "2", "IA": "56"}
    rows |= changes
    return "".join(f"{key}: {value}\n" for key, value in rows.items() if value) + "END"


def test_metadata_as_it_is_reported() -> None:
    metadata = parse_metadata(answer())
    assert metadata is not None
    assert metadata.coefficients == OWN
    assert metadata.typical == ()
    assert metadata.facts == {
        "Calibrated": "0",
        "VDD": "3000",
        "HW": "9173",
        "mode": "2",
        "IA": "56",
    }


@pytest.mark.parametrize("value", ["-nan", "nan", "inf", "", "12..5"])
@pytest.mark.parametrize("name", ["R4", "GS0", "S2", "UG1"])
def test_a_coefficient_that_is_no_number_keeps_the_typical_one(name: str, value: str) -> None:
    metadata = parse_metadata(answer(**{name: value}))
    assert metadata is not None
    assert metadata.typical == (name,)
    assert metadata.missing == ((name,) if not value else ())
    row, index = name[:-1], int(name[-1])
    assert metadata.coefficients[row][index] == TYPICAL[row][index]
    others = [i for i in range(5) if i != index]
    assert [metadata.coefficients[row][i] for i in others] == [OWN[row][i] for i in others]


def test_a_zero_is_a_number_except_where_it_would_measure_nothing() -> None:
    metadata = parse_metadata(answer(R2="0.0000", UG3="0", GI1="0.0", O1="0", S0="0.000", GS1="0"))
    assert metadata is not None
    assert metadata.typical == ("R2", "GI1", "UG3")
    assert metadata.coefficients["R"][2] == 10.15
    assert metadata.coefficients["O"][1] == metadata.coefficients["GS"][1] == 0


def test_what_stands_in_front_is_skipped_and_the_last_answer_counts() -> None:
    noise = bytes(range(256)).decode("latin-1")
    metadata = parse_metadata(noise + answer(R0="77.5") + "\n" + answer())
    assert metadata is not None
    assert metadata.coefficients == OWN


def read(**changes: str) -> Ppk2Metadata:
    metadata = parse_metadata(answer(**changes))
    assert metadata is not None
    return metadata


def test_two_answers_differ_where_a_character_was_lost() -> None:
    whole = read()
    assert whole.differences_from(read(VDD="1800", mode="1")) == []
    assert whole.differences_from(read(R1="11.5865")) == ["R1 101.5865 and 11.5865"]
    assert whole.differences_from(read(R1="")) == ["R1 101.5865 and missing"]
    assert whole.differences_from(read(HW="913")) == ["HW 9173 and 913"]
    assert whole.differences_from(read(UG0="nan")) == ["UG0 1.0 and unusable"]


def test_calibrations_that_were_published_are_plausible() -> None:
    assert read().implausible_coefficients() == []
    assert Ppk2Metadata(TYPICAL, (), (), {}).implausible_coefficients() == []
    bare = read(GI1="0.9481", GI2="0.9340", GI3="0.9161", GI4="0.9300", O0="197.3432")
    assert bare.implausible_coefficients() == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("R1", "10.65", "R1 is 10.65, typical is 101.65"),
        ("R4", "0.564", "R4 is 0.564, typical is 0.043"),
        ("R2", "-10.3", "R2 is -10.3, typical is 10.15"),
        ("GI3", "10012", "GI3 is 10012, typical is 1"),
        ("UG0", "0.1", "UG0 is 0.1, typical is 1"),
        ("GS1", "1127890", "GS1 is 1.12789e+06, at most 2000 is plausible"),
    ],
)
def test_what_no_instrument_can_have_is_reported_by_key_and_value(
    key: str, value: str, said: str
) -> None:
    assert read(**{key: value}).implausible_coefficients() == [said]


def test_text_without_a_coefficient_is_no_metadata() -> None:
    assert parse_metadata("uart:~$ END") is None
    assert parse_metadata("") is None


@given(st.text(max_size=300))
def test_no_text_makes_a_coefficient_that_cannot_be_used(text: str) -> None:
    metadata = parse_metadata(answer() + text)
    assert metadata is not None
    values = [v for row in metadata.coefficients.values() for v in row]
    assert all(math.isfinite(value) for value in values)
    assert all(metadata.coefficients["R"])
