"""The N6705 driver against a simulated instrument that logs by a clock and has faults."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from drivers.base.serial_link import Link
from drivers.n6705.config import N6705Config
from drivers.n6705.driver import N6705
from labd.aio.host_time import host_time_ns
from labd.core.errors import (
    DeadlineExceeded,
    InfraError,
    InstrumentError,
    JobError,
    LabdBug,
    TransportError,
)
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments import synthetic_load
from labd.simulation.instruments.n6705 import IO_IDLE_A, PULL_UP_A, TICK_S, SimulatedN6705
from tests.contract.acquisition import (
    HandClock,
    all_of,
    joined,
    let_pass,
    only,
    open_monitor,
    pass_time,
)
from tests.contract.case import plugged

PERIOD_S = 49 * TICK_S  # to which the instrument rounds 1 ms
ON_IO = {"io_channel": 2, "io_threshold_a": IO_IDLE_A + PULL_UP_A / 2, "io_hysteresis_a": 5e-5}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def fake(clock: HandClock) -> SimulatedN6705:
    return SimulatedN6705(clock=clock)


def driver_for(cable: TcpCable, clock: HandClock | None = None, **config: object) -> N6705:
    values = {"resource": cable.path, "answer_s": 3.0, **config}
    table = N6705Config.model_validate(values)
    return N6705(table, clock.ns, poll_s=0.001, arm_s=0.0) if clock else N6705(table)


@asynccontextmanager
async def connected(
    fake: SimulatedN6705, **config: object
) -> AsyncGenerator[tuple[N6705, HandClock, TcpCable]]:
    clock = fake.clock
    assert isinstance(clock, HandClock)
    opening = open_monitor(fake, TcpCable, lambda cable: driver_for(cable, clock, **config))
    async with opening as (monitor, cable):
        yield monitor, clock, cable


def truth(start_s: float, count: int) -> NDArray[np.float64]:
    times = start_s + (np.arange(count) + 0.5) * PERIOD_S
    return synthetic_load.synthetic_current_a(times).astype(np.float32).astype(np.float64)


# ---- what it does ------------------------------------------------------------------------


async def test_the_log_is_the_current_and_the_power_at_the_set_voltage(
    fake: SimulatedN6705,
) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        assert monitor.stream_format.voltage_v == 3.0
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 5.0)
        samples = joined(await all_of(acquisition))
    assert len(samples) == int(5.0 / PERIOD_S)
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))
    np.testing.assert_array_equal(samples.power_w, samples.current_a * 3.0)


async def test_the_rate_is_that_of_the_rounded_integration_period(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, _):
        assert monitor.stream_format.sample_rate_hz == pytest.approx(1 / PERIOD_S, rel=1e-6)
        assert monitor.stream_format.sample_rate_hz != pytest.approx(1000.0, rel=1e-3)
        assert monitor.stream_format.timestamp_line == ""


async def test_setup_follows_the_guide_and_close_switches_all_off(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, _):
        await monitor.set_dut_supply(1800)
        assert fake.channels[1].output
        assert not fake.channels[2].output
        assert fake.channels[1].volts == 1.8
        assert fake.channels[1].limit_a == 0.2
        assert fake.channels[1].emulation == "PS2Q"
        await monitor.set_dut_supply(None)
        assert not fake.is_powered
        await monitor.set_dut_supply(3300)
    assert not fake.is_powered
    order = ["*RST", "FUNC VOLT,(@1)", "VOLT 1.800,(@1)", "OUTP ON,(@1)", "OUTP OFF,(@1)"]
    assert [fake.commands.index(command) for command in order] == sorted(
        fake.commands.index(command) for command in order
    )
    assert "SENS:ELOG:CURR:RANG:AUTO ON,(@1)" in fake.commands
    assert fake.errors == type(fake.errors)()


async def test_a_module_that_is_no_smu_gets_other_commands(clock: HandClock) -> None:
    fake = SimulatedN6705({3: "N6762A"}, clock)
    async with connected(fake, channel=3, current_limit_a=0.5) as (monitor, _, _):
        await monitor.set_dut_supply(3000)
        assert fake.channels[3].output
        assert fake.channels[3].limit_a == 0.5
    assert not any(c.startswith(("EMUL", "FUNC VOLT", "CURR:LIM")) for c in fake.commands)


async def test_only_the_planned_functions_log_on_every_slot(fake: SimulatedN6705) -> None:
    fake.channels[2].functions = {"CURR", "VOLT", "VOLT:MINM"}
    async with connected(fake) as (monitor, _, _):
        assert fake.channels[1].functions == {"CURR"}
        assert fake.channels[2].functions == set()
        assert await monitor.self_check() == []


async def test_voltage_is_logged_beside_the_current_when_asked(fake: SimulatedN6705) -> None:
    async with connected(fake, measure_voltage=True) as (monitor, clock, _):
        await monitor.set_dut_supply(2000)
        assert monitor.stream_format.voltage_v is None
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 2.0)
        samples = joined(await all_of(acquisition))
    assert samples.current_a is not None
    assert samples.voltage_v is not None
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))
    assert set(samples.voltage_v.tolist()) == {2.0}
    np.testing.assert_array_equal(samples.power_w, samples.current_a * 2.0)


async def test_the_second_slot_shows_the_timestamps(fake: SimulatedN6705) -> None:
    async with connected(fake, **ON_IO) as (monitor, clock, _):
        assert monitor.stream_format.timestamp_line == "io"
        assert monitor.stream_format.edge_uncertainty_s == pytest.approx(PERIOD_S, rel=1e-6)
        await monitor.set_dut_supply(3000)
        assert fake.channels[2].volts == 3.0
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 7.0)
            assert acquisition.edges_seen == 7
        items = await all_of(acquisition)
        await monitor.set_dut_supply(None)
        assert not fake.is_powered
    samples = joined(items)
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))
    edges = only(Edge, items)
    falls = [100.0 + edge.index * PERIOD_S for edge in edges if not edge.rising]
    rises = [100.0 + edge.index * PERIOD_S for edge in edges if edge.rising]
    true_falls = synthetic_load.timestamp_falls_between(100.0, 107.0)
    np.testing.assert_allclose(falls, true_falls, atol=PERIOD_S)
    np.testing.assert_allclose(rises, np.add(true_falls, synthetic_load.PULSE_S), atol=PERIOD_S)
    assert {edge.line for edge in edges} == {"io"}
    for before, after in itertools.pairwise(items):
        if isinstance(before, Samples) and isinstance(after, Edge):
            assert after.index == before.end


async def test_time_marks_at_both_ends_and_every_second_bound_the_host_time(
    fake: SimulatedN6705,
) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 6.0)
        marks = only(TimeMark, await all_of(acquisition))
    assert marks[0].index == 0
    assert marks[-1].index >= 6.0 / PERIOD_S - 1
    assert len(marks) >= 6
    for mark in marks:
        true_ns = 100.0e9 + mark.index * PERIOD_S * 1e9
        assert abs(mark.t_ns - true_ns) <= mark.uncertainty_ns + 1
        assert mark.uncertainty_ns < 3 * PERIOD_S * 1e9
        assert mark.clock == "host"


@pytest.mark.parametrize("latency_s", [0.02, 0.05, 0.14])
@pytest.mark.parametrize("update_s", [0.0, 0.1, 0.25])
async def test_late_and_batched_records_give_the_same_samples(
    fake: SimulatedN6705, latency_s: float, update_s: float
) -> None:
    fake.latency_s, fake.update_s = latency_s, update_s
    async with connected(fake, **ON_IO) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            await let_pass(clock, 8.0)
        items = await all_of(acquisition)
    samples = joined(items)
    assert not any(isinstance(item, Gap) for item in items)
    assert len(samples) >= (7.9 - latency_s - update_s) / PERIOD_S
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))
    marks = only(TimeMark, items)
    assert len(marks) > 5
    for mark in marks:
        true_ns = 100.0e9 + mark.index * PERIOD_S * 1e9
        assert abs(mark.t_ns - true_ns) <= mark.uncertainty_ns + 1
        assert mark.uncertainty_ns >= latency_s * 0.49e9


@pytest.mark.parametrize("lost", [{1: 20, 2: 20}, {1: 140, 2: 140}, {1: 20}, {2: 20}, {2: 140}])
async def test_lost_records_end_the_acquisition(fake: SimulatedN6705, lost: dict[int, int]) -> None:
    """From both channels, or from one of them."""
    fake.latency_s = 0.05
    async with connected(fake, **ON_IO) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()

        async def measure() -> None:
            async with acquisition:
                await let_pass(clock, 6.0)
                assert acquisition.received_samples > 5500
                fake.lost_records = lost
                await let_pass(clock, 4.0)

        with pytest.raises(InstrumentError, match="lost") as caught:
            await measure()
        assert caught.value.code == "elog-records"
        seen: list[StreamItem] = []
        with pytest.raises(InstrumentError):
            await all_of(acquisition, seen)
    samples = joined(seen)
    assert samples.current_a is not None
    assert len(samples) > 4000
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))


@pytest.mark.parametrize("delay_s", [0.0, 0.03])
async def test_real_time(delay_s: float) -> None:
    fake = SimulatedN6705(clock=lambda: host_time_ns() / 1e9)
    async with plugged(fake, TcpCable) as cable:
        monitor = driver_for(cable)
        await monitor.open()
        await monitor.set_dut_supply(3000)
        fake.delay_s = delay_s
        async with monitor.acquire() as acquisition:
            start_s = fake.channels[1].triggered_s
            assert start_s is not None
            while acquisition.received_samples < 1500:
                await acquisition.wait_progress(2.0)
        items = await all_of(acquisition)
        samples = joined(items)
        await monitor.close()
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(start_s, len(samples)))
    for mark in only(TimeMark, items):
        true_ns = start_s * 1e9 + mark.index * PERIOD_S * 1e9
        assert abs(mark.t_ns - true_ns) <= mark.uncertainty_ns + 1


async def test_a_stalled_host_gets_all_records_in_the_buffer(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 2.0)
            clock.now_s += 12.0
            await pass_time(acquisition, clock, 1.0)
        samples = joined(await all_of(acquisition))
    assert len(samples) == int(15.0 / PERIOD_S)
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))


# ---- a wrong number of records -----------------------------------------------------------


@pytest.mark.parametrize(("pace", "share"), [(0.5, "0.5"), (0.75, "0.7"), (2.0, "2.0")])
async def test_a_log_at_another_rate_ends_the_acquisition(
    fake: SimulatedN6705, pace: float, share: str
) -> None:
    fake.rate_factor = pace
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()

        async def measure() -> None:
            async with acquisition:
                await pass_time(acquisition, clock, 3.0)

        with pytest.raises(InstrumentError) as caught:
            await measure()
        assert caught.value.code == "elog-records"
        assert f"{share}" in caught.value.what
        assert "functions that log: CURR on (@1)" in caught.value.what
        seen: list[StreamItem] = []
        with pytest.raises(InstrumentError):
            await all_of(acquisition, seen)
    assert not any(isinstance(item, Samples) for item in seen)


async def test_an_unreported_function_is_detected_by_the_rate(fake: SimulatedN6705) -> None:
    fake.hidden_functions = {"VOLT"}
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        with pytest.raises(InstrumentError, match=r"2\.00 times the expected number"):
            async with monitor.acquire() as acquisition:
                await pass_time(acquisition, clock, 3.0)


async def test_a_function_that_cannot_be_switched_off_is_refused(fake: SimulatedN6705) -> None:
    fake.stuck_functions = {"VOLT"}
    async with plugged(fake, TcpCable) as cable:
        with pytest.raises(InstrumentError) as caught:
            await driver_for(cable).open()
    assert caught.value.code in ("elog-functions", "module-unfit")
    assert "VOLT" in caught.value.what


async def test_a_function_switched_on_by_another_program_is_refused_before_the_log(
    fake: SimulatedN6705,
) -> None:
    async with connected(fake) as (monitor, _, _):
        await monitor.set_dut_supply(3000)
        fake.channels[2].functions = {"VOLT"}
        with pytest.raises(InstrumentError, match=r"VOLT on \(@2\); wanted: CURR on \(@1\)"):
            async with monitor.acquire():
                pass
        (finding,) = await monitor.self_check()
        assert finding.code == "elog-functions"


async def test_records_overwritten_in_the_buffer_end_the_acquisition(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()

        async def measure() -> None:
            async with acquisition:
                await pass_time(acquisition, clock, 3.0)
                clock.now_s += 25.0
                await pass_time(acquisition, clock, 3.0)

        with pytest.raises(InstrumentError, match="some were lost"):
            await measure()
        assert fake.overwritten > 0
        seen: list[StreamItem] = []
        with pytest.raises(InstrumentError):
            await all_of(acquisition, seen)
    samples = joined(seen)
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))
    gap = next(item for item in seen if isinstance(item, Gap))
    assert gap.index <= int(3.0 / PERIOD_S)


async def test_an_error_of_the_log_ends_the_acquisition(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)

        async def measure() -> None:
            async with monitor.acquire() as acquisition:
                await pass_time(acquisition, clock, 1.0)
                fake.errors.append('-321,"Out of memory"')
                await pass_time(acquisition, clock, 1.0)

        with pytest.raises(InstrumentError, match="the log failed: -321"):
            await measure()


async def test_current_at_its_limit_is_a_gap_as_the_voltage_is_not_the_set_one(
    fake: SimulatedN6705,
) -> None:
    def inrush(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where((times_s >= 101.0) & (times_s < 101.1), 0.5, 0.01)

    fake.dut_current_a = inrush
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 2.0)
        items = await all_of(acquisition)
    (gap,) = only(Gap, items)
    assert gap.index == pytest.approx(1.0 / PERIOD_S, abs=1)
    assert gap.count == pytest.approx(0.1 / PERIOD_S, abs=1)
    assert "limit" in gap.reason
    assert set(joined(items).power_w.tolist()) == {float(np.float32(0.01)) * 3.0}


@pytest.mark.parametrize("fault", ["lost", "doubled"])
async def test_a_byte_lost_or_doubled_in_a_block_never_gives_a_sample(
    fake: SimulatedN6705, fault: str
) -> None:
    async with connected(fake) as (monitor, clock, cable):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()

        def damage(data: bytes) -> bytes:
            if not data.startswith(b"#") or len(data) < 500:
                return data
            return data[:301] + (data[302:] if fault == "lost" else data[300:])

        async def measure() -> None:
            async with acquisition:
                await pass_time(acquisition, clock, 3.0)
                cable.tamper = damage
                await pass_time(acquisition, clock, 3.0)

        with pytest.raises(InfraError):
            await measure()
        cable.tamper = lambda data: data
        seen: list[StreamItem] = []
        with pytest.raises(InfraError):
            await all_of(acquisition, seen)
    samples = joined(seen)
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(100.0, len(samples)))


# ---- a wrong instrument ------------------------------------------------------------------


async def test_another_instrument_is_refused_and_gets_no_command(fake: SimulatedN6705) -> None:
    fake.name = "E36312A"
    async with plugged(fake, TcpCable) as cable:
        with pytest.raises(InstrumentError, match="E36312A"):
            await driver_for(cable).open()
    assert fake.commands == ["*IDN?"]


@pytest.mark.parametrize(
    ("modules", "config", "why"),
    [
        ({2: "N6781A"}, {}, "slot 1 has no module; there is 2: N6781A"),
        ({1: "N6791A"}, {}, "slot 1 has N6791A"),
        ({1: "N6781A"}, {"io_channel": 2}, "slot 2 has no module"),
        ({1: "N6731B"}, {"measure_voltage": True}, "N6731B, cannot log VOLT"),
    ],
)
async def test_an_unfit_module_is_refused(
    clock: HandClock, modules: dict[int, str], config: dict[str, object], why: str
) -> None:
    async with plugged(SimulatedN6705(modules, clock), TcpCable) as cable:
        with pytest.raises(InstrumentError) as caught:
            await driver_for(cable, **config).open()
    assert caught.value.code == "module-unfit"
    assert why in caught.value.what


async def test_a_module_without_current_logging_is_refused(fake: SimulatedN6705) -> None:
    fake.refuses = {"SENS:ELOG:FUNC:CURR ON": '+302,"Option not installed"'}
    async with plugged(fake, TcpCable) as cable:
        with pytest.raises(InstrumentError, match=r"N6781A, cannot log CURR.*Option not installed"):
            await driver_for(cable).open()
    assert not fake.is_powered


async def test_an_output_that_stays_on_after_a_reset_is_refused(fake: SimulatedN6705) -> None:
    fake.channels[2].reset = lambda: None  # type: ignore[method-assign]
    fake.channels[2].output = True
    async with plugged(fake, TcpCable) as cable:
        with pytest.raises(InstrumentError, match="all outputs off"):
            await driver_for(cable).open()


async def test_a_refused_command_quotes_the_error_and_switches_nothing_on(
    fake: SimulatedN6705,
) -> None:
    async with connected(fake) as (monitor, _, _):
        fake.refuses = {"VOLT 3": '-222,"Data out of range"'}
        with pytest.raises(InstrumentError, match=r"'VOLT 3.000,\(@1\)' refused: -222"):
            await monitor.set_dut_supply(3000)
        assert not fake.is_powered


@pytest.mark.parametrize(
    ("deaf", "voltage_mv", "why"),
    [
        ("VOLT", 3100, r"wanted 3\.1 V, it has \[3\.0\] V"),
        ("OUTP", None, "wanted the outputs off, it has one that is on"),
    ],
)
async def test_an_ignored_command_is_a_fault(
    fake: SimulatedN6705, deaf: str, voltage_mv: int | None, why: str
) -> None:
    async with connected(fake) as (monitor, _, _):
        await monitor.set_dut_supply(3000)
        fake.ignored_headers = {deaf}
        with pytest.raises(InstrumentError, match=why):
            await monitor.set_dut_supply(voltage_mv)
        fake.ignored_headers = set()


async def test_an_output_that_stays_off_is_a_fault(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, _):
        fake.ignored_headers = {"OUTP"}
        with pytest.raises(InstrumentError, match="wanted the outputs on"):
            await monitor.set_dut_supply(3000)


async def test_an_output_that_stays_on_is_reported_by_close(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, _):
        await monitor.set_dut_supply(3000)
        fake.ignored_headers = {"OUTP"}
        with pytest.raises(InstrumentError, match="wanted the outputs off"):
            await monitor.close()


@pytest.mark.parametrize("curt", [False, True])
async def test_an_empty_slot_before_the_duts_is_skipped(clock: HandClock, *, curt: bool) -> None:
    fake = SimulatedN6705({2: "N6731B", 4: "N6781A"}, clock)
    fake.error_ends_message = curt
    async with connected(fake, channel=4, answer_s=0.2) as (monitor, _, _):
        await monitor.set_dut_supply(3000)
        assert fake.channels[4].output
        assert fake.channels[2].functions == set()


async def test_an_instrument_that_falls_silent_while_opening_is_no_empty_slot(
    fake: SimulatedN6705,
) -> None:
    async with plugged(fake, TcpCable) as cable:
        whole = cable.send
        cable.device.send = lambda data: whole(data) if b"+2" not in data else die(data)

        def die(data: bytes) -> None:
            whole(data)
            cable.mute = True

        with pytest.raises(DeadlineExceeded):
            await driver_for(cable, answer_s=0.2).open()


@pytest.mark.parametrize("voltage_mv", [0, -5, 3601])
async def test_a_voltage_the_station_does_not_allow_is_refused(
    fake: SimulatedN6705, voltage_mv: int
) -> None:
    async with connected(fake) as (monitor, _, _):
        with pytest.raises(JobError, match="up to 3600 mV"):
            await monitor.set_dut_supply(voltage_mv)
        assert not fake.is_powered


async def test_the_highest_voltage_of_the_module_limits_the_supply(clock: HandClock) -> None:
    fake = SimulatedN6705({1: "N6731B"}, clock)
    async with connected(fake, max_mv=12_000) as (monitor, _, _):
        with pytest.raises(JobError, match="up to 5000 mV"):
            await monitor.set_dut_supply(5500)


async def test_a_protection_that_tripped_is_a_finding(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, _):
        fake.tripped_slots = {1}
        (finding,) = await monitor.self_check()
    assert finding.code == "n6705-status"
    assert "slot 1, N6781A" in finding.text


# ---- interrupted -------------------------------------------------------------------------


async def test_open_stops_the_log_of_a_predecessor_that_died(fake: SimulatedN6705) -> None:
    async with plugged(fake, TcpCable) as cable:
        predecessor = Link(cable.path, 0, "predecessor")
        await predecessor.open()
        await predecessor.write(
            b"SENS:ELOG:FUNC:CURR ON,(@1)\nVOLT 3,(@1)\nOUTP ON,(@1)\nINIT:ELOG (@1)\n"
            b"TRIG:ELOG (@1)\nNONSENSE\nFETC:ELOG? 10,(@1)\nOUTP?"
        )
        await asyncio.sleep(0.05)
        assert fake.is_powered
        await predecessor.close()
        await asyncio.sleep(0.05)
        clock = fake.clock
        assert isinstance(clock, HandClock)
        monitor = driver_for(cable, clock)
        assert (await monitor.open()).serial == "SIMULATED"
        assert not fake.is_powered
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 2.0)
        assert len(joined(await all_of(acquisition))) == int(2.0 / PERIOD_S)
        await monitor.close()


async def test_closing_during_an_acquisition_ends_it_and_switches_off(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()
        await acquisition.__aenter__()
        await pass_time(acquisition, clock, 3.0)
        await monitor.close()
        assert not fake.is_powered
        assert fake.channels[1].triggered_s is None
        items = await all_of(acquisition)
        joined(items)
        gap = items[-1]
        assert isinstance(gap, Gap)
        assert gap.end == int(3.0 / PERIOD_S)
        assert "broken off" in gap.reason


async def test_the_dut_is_switched_off_before_the_log_is_stopped(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()
        await acquisition.__aenter__()
        await pass_time(acquisition, clock, 0.5)
        before = len(fake.commands)
        await monitor.close()
    ending = [c for c in fake.commands[before:] if c.startswith(("OUTP OFF", "ABOR"))]
    assert ending == ["OUTP OFF,(@1)", "ABOR:ELOG (@1)"]


async def test_close_reconnects_to_switch_the_dut_off(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, cable):
        await monitor.set_dut_supply(3000)
        cable._disconnect_host()
        await asyncio.sleep(0.05)
        with pytest.raises(TransportError):
            await monitor.set_dut_supply(3100)
        with pytest.raises(TransportError):
            await monitor.set_dut_supply(3100)
        assert fake.is_powered
        await monitor.close()
        assert not fake.is_powered


async def test_a_lost_connection_stays_lost_until_it_is_opened_again(
    fake: SimulatedN6705,
) -> None:
    """The instrument may have restarted and lost its settings."""
    async with connected(fake) as (monitor, _, cable):
        cable.mute = True
        supplying = asyncio.create_task(monitor.set_dut_supply(3000))
        await asyncio.sleep(0.05)
        cable._disconnect_host()
        with pytest.raises(TransportError):
            await supplying
        cable.mute = False
        before = len(fake.commands)
        with pytest.raises(TransportError):
            await monitor.self_check()
        assert len(fake.commands) == before
        await monitor.close()
        await monitor.open()
        await monitor.set_dut_supply(3000)


async def test_an_instrument_slow_to_notice_a_disconnect_is_connected_again(
    fake: SimulatedN6705,
) -> None:
    async with connected(fake) as (monitor, _, cable):
        cable.mute = True
        with pytest.raises(DeadlineExceeded):
            await monitor.self_check()
        cable.mute = False
        turned_away: list[int] = []

        def turn_away() -> None:
            peer, _ = cable._server.accept()
            peer.close()
            turned_away.append(1)
            if len(turned_away) == 3:
                cable._loop.add_reader(cable._server, cable._accept_host)

        cable._loop.add_reader(cable._server, turn_away)
        await monitor.set_dut_supply(3000)
        assert len(turned_away) == 3
        assert fake.is_powered


async def test_an_instrument_that_closes_every_connection_is_a_fault(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, cable):
        cable.mute = True
        with pytest.raises(DeadlineExceeded):
            await monitor.self_check()

        def turn_away() -> None:
            peer, _ = cable._server.accept()
            peer.close()

        cable._loop.add_reader(cable._server, turn_away)
        with pytest.raises(TransportError, match="closes every new connection"):
            await monitor.set_dut_supply(3000)
        cable.mute = False
        cable._loop.add_reader(cable._server, cable._accept_host)


async def test_an_unplug_while_acquiring_is_raised_by_every_call_within_a_second(
    fake: SimulatedN6705,
) -> None:
    async with connected(fake) as (monitor, clock, cable):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()
        began = time.monotonic()

        async def unplugged() -> None:
            async with acquisition:
                await pass_time(acquisition, clock, 1.0)
                cable.unplug()
                await acquisition.wait_progress(1.0)

        with pytest.raises(TransportError):
            await unplugged()
        with pytest.raises(TransportError):
            await all_of(acquisition)
        with pytest.raises(TransportError):
            await monitor.close()
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("how", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_body_that_raises_still_stops_the_log(
    fake: SimulatedN6705, how: type[BaseException]
) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)

        async def measure() -> None:
            async with monitor.acquire() as acquisition:
                await pass_time(acquisition, clock, 0.5)
                raise how

        with pytest.raises(how):
            await measure()
        assert fake.channels[1].triggered_s is None
        await monitor.set_dut_supply(None)
        assert not fake.is_powered


async def test_an_instrument_can_be_used_again_after_a_deadline(
    fake: SimulatedN6705,
) -> None:
    async with connected(fake) as (monitor, clock, cable):
        await monitor.set_dut_supply(3000)

        async def measure() -> None:
            async with monitor.acquire() as acquisition:
                await pass_time(acquisition, clock, 1.0)
                cable.mute = True
                await acquisition.wait_progress(5.0)

        with pytest.raises(DeadlineExceeded, match="FETC:ELOG"):
            await measure()
        cable.mute = False
        async with monitor.acquire() as again:
            await pass_time(again, clock, 2.0)
        assert len(joined(await all_of(again))) == int(2.0 / PERIOD_S)


async def test_a_late_answer_is_not_taken_for_the_next_one(fake: SimulatedN6705) -> None:
    async with connected(fake, answer_s=0.5) as (monitor, _, _):
        fake.delay_s = 0.7
        with pytest.raises(DeadlineExceeded):
            await monitor.set_dut_supply(3000)
        fake.delay_s = 0.0
        await asyncio.sleep(0.5)
        await monitor.set_dut_supply(2500)
        assert fake.channels[1].volts == 2.5
        assert await monitor.self_check() == []


async def test_supply_and_checks_work_during_an_acquisition(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, clock, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            await pass_time(acquisition, clock, 1.0)
            await monitor.set_dut_supply(None)
            assert not fake.is_powered
            assert await monitor.self_check() == []
            with pytest.raises(LabdBug, match="another voltage"):
                await monitor.set_dut_supply(2900)
            await monitor.set_dut_supply(3000)
            await pass_time(acquisition, clock, 1.0)
        assert len(joined(await all_of(acquisition))) == int(2.0 / PERIOD_S)


async def test_misuse_is_a_labd_bug(fake: SimulatedN6705) -> None:
    async with connected(fake) as (monitor, _, _):
        with pytest.raises(LabdBug, match="before supply"):
            monitor.acquire()
        await monitor.set_dut_supply(3000)
        async with monitor.acquire():
            with pytest.raises(LabdBug, match="during an acquisition"):
                monitor.acquire()
    with pytest.raises(LabdBug, match="not open"):
        await monitor.set_dut_supply(3000)


async def test_nothing_at_the_address_is_a_missing_port() -> None:
    monitor = N6705(N6705Config(resource="TCPIP::127.0.0.1::1::SOCKET", answer_s=0.5))
    with pytest.raises(TransportError) as caught:
        await monitor.open()
    assert caught.value.code == "port-missing"
    assert "firewall" in caught.value.remedy


# ---- its table in stations.toml ----------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"resource": "10.0.0.7"}, "is no instrument's address; examples"),
        ({"resource": "socket://10.0.0.7"}, "is no instrument's address"),
        ({"visa": "py"}, "match pattern"),
        ({"channel": 5}, "less than or equal to 4"),
        ({"period_s": 0.002}, "less than or equal to 0.001"),
        ({"period_s": 0.00015, "measure_voltage": True}, "with 2 values per record the shortest"),
        ({"io_channel": 1}, "must be another"),
        ({"io_threshold_a": 0.001}, "needs io_channel"),
        ({"io_channel": 2, "io_hysteresis_a": 0.001}, "needs io_threshold_a"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_wrong_table_in_the_stations_file_is_explained(
    config: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        N6705Config.model_validate({"resource": "socket://10.0.0.7:5025", **config})


@pytest.mark.parametrize(
    "resource",
    [
        "TCPIP::10.0.0.7::5025::SOCKET",
        "TCPIP0::n6705.lab::inst0::INSTR",
        "USB0::0x0957::0x0F07::MY50000001::INSTR",
        "GPIB0::5::INSTR",
    ],
)
def test_every_kind_of_resource_is_accepted(resource: str) -> None:
    assert N6705Config(resource=resource).resource == resource
