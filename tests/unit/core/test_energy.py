"""Windows: exact energy between edges, and a reason wherever there is no number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.energy import (
    Recording,
    assemble,
    energy_window,
    inferences_for_window,
    performance_window,
)
from labd.core.errors import MeasurementInvalid
from labd.core.model import ClockCheck, Edge, Gap, Samples, StreamFormat

FORMAT = StreamFormat(1000.0, 0.001, 50.0, "energy", 3.0)
SPAN = (0, 20_000)
NONE = ClockCheck("none", None, 0.0)


def recording(power: np.ndarray, *gaps: Gap) -> Recording:
    return Recording(FORMAT, power, (), gaps)


def edges(first: float, second: float) -> list[Edge]:
    return [Edge(first, "d7", rising=False), Edge(second, "d7", rising=False)]


def test_constant_power_gives_power_times_time() -> None:
    window = energy_window(
        1, "a.bin", 100, recording(np.full(20_000, 0.012)), edges(500, 10_900), SPAN, NONE
    )
    assert window.valid
    assert window.runtime_s == pytest.approx(10.4)
    assert window.energy_uj == pytest.approx(0.012 * 10.4 * 1e6)
    assert window.power_uw == pytest.approx(12_000)
    assert window.energy_per_inference_uj == pytest.approx(0.012 * 10.4 * 1e4)


def test_only_the_samples_between_the_edges_count() -> None:
    power = np.zeros(12_000)
    power[1000:11_500] = 0.02
    power[999] = power[11_500] = 9.0
    window = energy_window(1, "a", 10, recording(power), edges(1000, 11_500), SPAN, NONE)
    assert window.energy_uj == pytest.approx(0.02 * 10.5 * 1e6)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_other_than_two_edges_is_no_window(count: int) -> None:
    some = [Edge(1000.0 * i, "d7", rising=False) for i in range(count)]
    window = energy_window(1, "a", 10, recording(np.ones(20_000)), some, SPAN, NONE)
    assert window.problems == (f"{count} timestamp edges came during the command instead of 2",)
    assert window.energy_uj is None


def test_a_gap_that_took_an_edge_is_named() -> None:
    some = [Edge(100, "d7", rising=False)]
    lost = recording(np.ones(20_000), Gap(9_000, 2_000, "998 samples"), Gap(15_000, 9, "later"))
    window = energy_window(1, "a", 10, lost, some, (50, 12_000), NONE)
    assert window.problems[1:] == ("samples 9000 to 10999 are lost: 998 samples",)


def test_a_gap_inside_refuses_the_number() -> None:
    window = energy_window(
        1, "a", 10, recording(np.ones(20_000), Gap(5000, 3)), edges(100, 11_000), SPAN, NONE
    )
    assert window.energy_uj is None
    assert "samples were lost inside the window" in window.problems


@pytest.mark.parametrize("gap", [Gap(90, 10), Gap(101, 4), Gap(10_990, 10)])
def test_an_edge_that_touches_a_gap_is_not_an_edge(gap: Gap) -> None:
    window = energy_window(
        1, "a", 10, recording(np.ones(20_000), gap), edges(100, 11_000), SPAN, NONE
    )
    assert "an edge lies in or beside a gap" in window.problems
    assert window.energy_uj is None


def test_a_gap_elsewhere_does_no_harm() -> None:
    window = energy_window(
        1, "a", 10, recording(np.ones(20_000), Gap(15_000, 99)), edges(100, 11_000), SPAN, NONE
    )
    assert window.valid


def test_short_and_small_windows_say_so() -> None:
    window = performance_window(1, "a", 9, 9_999_999, NONE)
    assert window.problems == (
        "lasts 9.999999 s, less than 10 s",
        "holds 9 inferences, less than 10",
    )
    assert performance_window(1, "a", 10, 10_000_000, NONE).valid


def test_a_second_clock_that_disagrees_refuses_the_window() -> None:
    check = ClockCheck("host", 10.8, 0.2)
    window = performance_window(1, "a", 50, 10_500_000, check)
    assert "the host clock measured 10.800000 s, +0.300000 s off" in window.problems[0]
    assert performance_window(1, "a", 50, 10_700_000, check).valid


def test_a_second_clock_that_saw_nothing_refuses_the_window() -> None:
    check = ClockCheck("io-manager", None, 0.0, "0 pulses")
    assert performance_window(1, "a", 50, 10_500_000, check).problems == (
        "the io-manager saw no window: 0 pulses",
    )


def test_no_energy_at_all_is_refused() -> None:
    window = energy_window(1, "a", 10, recording(np.zeros(20_000)), edges(0, 10_500), SPAN, NONE)
    assert "the monitor did not see the board" in window.problems[0]


def test_a_window_beyond_the_recording_is_refused() -> None:
    window = energy_window(1, "a", 10, recording(np.ones(10_400)), edges(0, 10_500), SPAN, NONE)
    assert "are not in the recording" in window.problems[0]


def test_items_assemble_with_lost_samples_as_nan() -> None:
    whole = assemble(
        FORMAT,
        [
            Samples(0, np.array([1.0, 2.0])),
            Edge(2, "d7", rising=False),
            Gap(2, 2, "lost"),
            Samples(4, np.array([5.0])),
        ],
    )
    np.testing.assert_array_equal(whole.power_w, [1.0, 2.0, np.nan, np.nan, 5.0])
    assert whole.edges == (Edge(2, "d7", rising=False),)
    assert whole.mean_power_uw(0, 2) == pytest.approx(1.5e6)
    assert whole.mean_power_uw(1, 3) is None


@pytest.mark.parametrize("index", [1, 3])
def test_a_skipped_or_repeated_index_is_refused(index: int) -> None:
    with pytest.raises(MeasurementInvalid, match="expected 2"):
        assemble(FORMAT, [Samples(0, np.ones(2)), Samples(index, np.ones(1))])


@given(
    st.lists(st.floats(0, 0.1), min_size=60, max_size=60),
    st.integers(0, 58),
    st.integers(1, 59),
    st.integers(1, 58),
)
def test_energy_is_additive(power: list[float], start: int, length: int, split: int) -> None:
    stop = min(60, start + length + 1)
    middle = min(max(start + split, start + 1), stop - 1)
    whole = recording(np.array(power))
    parts = whole.energy_uj(start, middle) + whole.energy_uj(middle, stop)
    assert whole.energy_uj(start, stop) == pytest.approx(parts, rel=1e-12, abs=1e-9)


def test_inference_counts_round_up_and_keep_the_minimum() -> None:
    assert inferences_for_window(10, 1.0, 10.5) == 105
    assert inferences_for_window(10, 20.0, 10.5) == 10
    assert inferences_for_window(3, 1.0, 10.1) == 31
