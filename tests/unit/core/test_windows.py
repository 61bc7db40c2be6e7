"""Windows: exact energy between edges, and a reason wherever there is no number."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.core.errors import MeasurementInvalid
from labd.core.model import ClockCheck, Edge, EnergyMethod, Gap, Samples, StreamFormat
from labd.core.recording import Recording, assemble_recording
from labd.core.runner_arithmetic import eembc_energy
from labd.core.windows import (
    Batch,
    energy_window,
    inferences_for_window,
    performance_window,
)

FORMAT = StreamFormat(1000.0, 0.001, 50.0, "energy", 3.0)
SPAN = (0, 20_000)
NONE = ClockCheck("none", None, 0.0)


def recording(power: np.ndarray, *gaps: Gap) -> Recording:
    return Recording(FORMAT, power, (), gaps)


def edges(first: float, second: float) -> list[Edge]:
    return [Edge(first, "d7", rising=False), Edge(second, "d7", rising=False)]


def test_constant_power_gives_power_times_time() -> None:
    window = energy_window(
        Batch(1, "a.bin", 100), recording(np.full(20_000, 0.012)), edges(500, 10_900), SPAN, NONE
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
    window = energy_window(Batch(1, "a", 10), recording(power), edges(1000, 11_500), SPAN, NONE)
    assert window.energy_uj == pytest.approx(0.02 * 10.5 * 1e6)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_other_than_two_edges_is_no_window(count: int) -> None:
    some = [Edge(1000.0 * i, "d7", rising=False) for i in range(count)]
    window = energy_window(Batch(1, "a", 10), recording(np.ones(20_000)), some, SPAN, NONE)
    assert window.problems == (f"{count} timestamp edges came during the command instead of 2",)
    assert window.energy_uj is None


def test_a_gap_that_hides_an_edge_is_named() -> None:
    some = [Edge(100, "d7", rising=False)]
    lost = recording(np.ones(20_000), Gap(9_000, 2_000, "998 samples"), Gap(15_000, 9, "later"))
    window = energy_window(Batch(1, "a", 10), lost, some, (50, 12_000), NONE)
    assert window.problems[1:] == ("samples 9000 to 10999 are lost: 998 samples",)


def test_a_gap_inside_makes_the_window_invalid() -> None:
    window = energy_window(
        Batch(1, "a", 10), recording(np.ones(20_000), Gap(5000, 3)), edges(100, 11_000), SPAN, NONE
    )
    assert window.energy_uj is None
    assert "samples were lost inside the window" in window.problems


@pytest.mark.parametrize("gap", [Gap(90, 10), Gap(101, 4), Gap(10_990, 10)])
def test_an_edge_that_touches_a_gap_is_not_an_edge(gap: Gap) -> None:
    window = energy_window(
        Batch(1, "a", 10), recording(np.ones(20_000), gap), edges(100, 11_000), SPAN, NONE
    )
    assert "an edge lies in or beside a gap" in window.problems
    assert window.energy_uj is None


def test_a_gap_elsewhere_does_not_matter() -> None:
    window = energy_window(
        Batch(1, "a", 10),
        recording(np.ones(20_000), Gap(15_000, 99)),
        edges(100, 11_000),
        SPAN,
        NONE,
    )
    assert window.valid


def test_short_and_small_windows_are_invalid() -> None:
    window = performance_window(Batch(1, "a", 9), 9_999_999, NONE)
    assert window.problems == (
        "lasts 9.999999 s, less than 10 s",
        "holds 9 inferences, less than 10",
    )
    assert performance_window(Batch(1, "a", 10), 10_000_000, NONE).valid


def test_a_second_clock_that_disagrees_makes_the_window_invalid() -> None:
    check = ClockCheck("host", 10.8, 0.2)
    window = performance_window(Batch(1, "a", 50), 10_500_000, check)
    assert "the host clock measured 10.800000 s, +0.300000 s off" in window.problems[0]
    assert performance_window(Batch(1, "a", 50), 10_700_000, check).valid


def test_a_second_clock_that_saw_nothing_makes_the_window_invalid() -> None:
    check = ClockCheck("io-manager", None, 0.0, "0 pulses")
    assert performance_window(Batch(1, "a", 50), 10_500_000, check).problems == (
        "the io-manager saw no window: 0 pulses",
    )


def test_no_energy_at_all_is_invalid() -> None:
    window = energy_window(
        Batch(1, "a", 10), recording(np.zeros(20_000)), edges(0, 10_500), SPAN, NONE
    )
    assert "the power monitor did not measure the board" in window.problems[0]


def test_a_window_beyond_the_recording_is_invalid() -> None:
    window = energy_window(
        Batch(1, "a", 10), recording(np.ones(10_400)), edges(0, 10_500), SPAN, NONE
    )
    assert "are not in the recording" in window.problems[0]


def test_items_assemble_with_lost_samples_as_nan() -> None:
    whole = assemble_recording(
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
        assemble_recording(FORMAT, [Samples(0, np.ones(2)), Samples(index, np.ones(1))])


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


def test_a_sample_cut_by_an_edge_counts_in_proportion() -> None:
    power = np.array([8.0, 1.0, 2.0, 4.0, 16.0])
    found = recording(power).energy_uj(1.25, 3.5)
    assert found == pytest.approx((0.75 * 1 + 2 + 0.5 * 4) * 1e3, rel=1e-15)
    assert recording(power).energy_uj(2.25, 2.75) == pytest.approx(0.5 * 2 * 1e3, rel=1e-15)


@given(st.floats(0.0, 999.0), st.floats(0.0, 999.0))
def test_energy_between_any_positions_is_the_difference_of_the_running_total(
    one: float, other: float
) -> None:
    first, second = sorted((one, other))
    if second - first < 1e-6:
        return
    power = 0.01 + 0.004 * np.sin(np.arange(1000) / 7)
    total = np.concatenate([[0.0], np.cumsum(power)])
    exact = np.interp(second, np.arange(1001), total) - np.interp(first, np.arange(1001), total)
    assert recording(power).energy_uj(first, second) == pytest.approx(exact * 1e3, rel=1e-9)


def test_a_stretch_from_the_middle_keeps_the_acquisitions_positions() -> None:
    items = [Samples(700, np.arange(700.0, 800.0)), Gap(800, 5, "x"), Samples(805, np.ones(95))]
    part = assemble_recording(FORMAT, items)
    assert (part.start, part.end) == (700, 900)
    assert part.energy_uj(710, 712) == pytest.approx((710 + 711) * 1e3)
    with pytest.raises(MeasurementInvalid, match="lost inside"):
        part.energy_uj(790, 806)
    with pytest.raises(MeasurementInvalid, match="not in the recording"):
        part.energy_uj(690, 710)


def test_charge_comes_from_current_where_it_is_measured_else_from_the_set_voltage() -> None:
    power, current = np.full(100, 0.03), np.full(100, 0.011)
    measured = assemble_recording(
        FORMAT, [Samples(0, power, current), Gap(100, 3), Samples(103, power)]
    )
    assert measured.charge_uc(0, 50) == pytest.approx(0.03 * 0.05 / 3.0 * 1e6)
    measured = assemble_recording(FORMAT, [Samples(0, power, current), Gap(100, 3)])
    assert measured.charge_uc(0, 50) == pytest.approx(0.011 * 0.05 * 1e6)
    unknown = Recording(replace(FORMAT, voltage_v=None), power, (), ())
    assert unknown.charge_uc(0, 50) is None


def test_samples_that_are_no_numbers_are_refused() -> None:
    power = np.full(12_000, 0.01)
    power[5_000] = np.nan
    window = energy_window(Batch(1, "a", 10), recording(power), edges(0, 10_500), SPAN, NONE)
    assert window.problems == ("the power monitor delivered NaN samples",)
    assert window.energy_uj is None


@given(
    first=st.integers(100, 3_000),
    length=st.integers(10_000, 12_000),
    start=st.integers(0, 100),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_the_published_methods_agree_with_their_runners(
    first: int, length: int, start: int, seed: int
) -> None:
    power = np.random.default_rng(seed).uniform(0.01, 0.02, 16_000)
    part = Recording(FORMAT, power[start:], (), (), start)
    window = energy_window(
        Batch(1, "a", 50),
        part,
        edges(first, first + length),
        SPAN,
        NONE,
        method=EnergyMethod.EEMBC,
    )
    eembc = eembc_energy(power * 1e3, 1000.0, first / 1e3, (first + length) / 1e3)
    assert window.energy_uj == pytest.approx(eembc.energy_uj, rel=1e-12)
    assert window.power_uw == pytest.approx(eembc.power_uw, rel=1e-12)
    assert window.methods["eembc"] == window.energy_per_inference_uj
    mlcommons = power[first : first + length].sum() * 1e3 / 50
    assert window.methods["mlcommons"] == pytest.approx(mlcommons, rel=1e-12)
    assert window.methods["labd"] == pytest.approx(mlcommons, rel=1e-12)


def test_a_published_method_uses_milliseconds_of_a_faster_instrument() -> None:
    fast = replace(FORMAT, sample_rate_hz=5000.0)
    power = np.random.default_rng(5).uniform(0.01, 0.02, 60_000)
    window = energy_window(
        Batch(1, "a", 50), Recording(fast, power, (), ()), edges(1003, 52_003), SPAN, NONE
    )
    assert window.methods["mlcommons"] == pytest.approx(power[1000:52_000].sum() * 200 / 50)
    assert window.methods["labd"] == pytest.approx(power[1003:52_003].sum() * 200 / 50)


def test_a_method_that_does_not_apply_is_named() -> None:
    slow = replace(FORMAT, sample_rate_hz=300.0, edge_uncertainty_s=0.0)
    whole = Recording(slow, np.full(4_000, 0.01), (), ())
    window = energy_window(
        Batch(1, "a", 50), whole, edges(10, 3_500), SPAN, NONE, method=EnergyMethod.MLCOMMONS
    )
    assert window.problems == ("method mlcommons needs a multiple of 1000 samples per second",)
    window = energy_window(Batch(1, "a", 50), whole, edges(10, 3_500), SPAN, NONE)
    assert window.valid
    assert set(window.methods) == {"labd"}


def test_edges_with_a_large_uncertainty_make_the_window_invalid() -> None:
    whole = recording(np.full(20_000, 0.012))
    window = energy_window(
        Batch(1, "a", 10), whole, edges(500, 10_900), SPAN, NONE, edge_uncertainty_s=0.03
    )
    assert window.energy_uncertainty_uj == pytest.approx(2 * 0.03 * 0.012 * 1e6)
    assert window.problems == ("edge uncertainty contributes 0.58 % of the energy (limit 0.5 %)",)


def test_a_gap_just_after_a_window_affects_only_the_methods_that_read_beyond_it() -> None:
    power = np.full(60_000, 0.012)
    fast = replace(FORMAT, sample_rate_hz=5000.0, edge_uncertainty_s=2e-4)
    lost = Recording(fast, power, (), (Gap(55_003, 5, "x"),))
    window = energy_window(Batch(1, "a", 10), lost, edges(1000, 55_001), SPAN, NONE)
    assert window.valid
    assert set(window.methods) == {"labd"}
    asked = energy_window(
        Batch(1, "a", 10), lost, edges(1000, 55_001), SPAN, NONE, method=EnergyMethod.EEMBC
    )
    assert asked.problems == ("samples beside the window are missing that method eembc needs",)


def test_an_edge_that_may_lie_in_a_gap_is_not_an_edge() -> None:
    whole = recording(np.full(30_000, 0.012), Gap(20_915, 5, "x"))
    window = energy_window(
        Batch(1, "a", 10), whole, edges(500, 20_900), SPAN, NONE, edge_uncertainty_s=0.02
    )
    assert window.problems == ("an edge lies in or beside a gap",)
    assert window.energy_uj is None


def test_the_idle_baseline_is_per_inference() -> None:
    window = energy_window(
        Batch(1, "a", 100),
        recording(np.full(20_000, 0.012)),
        edges(500, 10_900),
        SPAN,
        NONE,
        idle_power_uw=3_000.0,
    )
    assert window.baseline_per_inference_uj == pytest.approx(3_000 * 10.4 / 100)
