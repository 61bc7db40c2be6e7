"""The SCPI meter driver against a simulated meter with many formats and faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from drivers.scpi_meter.config import ScpiMeterConfig
from drivers.scpi_meter.driver import ScpiMeter
from labd.aio.host_time import host_time_ns
from labd.core.errors import (
    DeadlineExceeded,
    InfraError,
    InstrumentError,
    JobError,
    LabdBug,
    TransportError,
)
from labd.core.model import Gap, StreamItem, TimeMark
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments import synthetic_load
from labd.simulation.instruments.scpi_meter import OVERLOAD, SimulatedScpiMeter
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

RATE_HZ = 1000
SMU: dict[str, object] = {
    "expect": "acme",
    "rate_hz": RATE_HZ,
    "setup": ["*RST", "SENS:FUNC 'CURR'", "SENS:RATE {rate_hz}"],
    "supply_on": ["SOUR:VOLT {volts:.3f}", "OUTP ON"],
    "supply_off": ["OUTP OFF"],
    "start": ["INIT"],
    "read": "FETC?",
    "stop": ["ABOR"],
    "answer_s": 0.5,
    "poll_s": 0.001,
}
METER = {**SMU, "supply_on": [], "supply_off": [], "voltage_mv": 3000}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def fake(clock: HandClock) -> SimulatedScpiMeter:
    return SimulatedScpiMeter(RATE_HZ, clock)


def meter_at(cable: TcpCable, *clock: Callable[[], int], **config: object) -> ScpiMeter:
    table = {"resource": cable.path, **SMU, **config}
    return ScpiMeter(ScpiMeterConfig.model_validate(table), *clock)


@asynccontextmanager
async def connected(
    fake: SimulatedScpiMeter, **config: object
) -> AsyncGenerator[tuple[ScpiMeter, HandClock, TcpCable]]:
    clock = fake.clock
    assert isinstance(clock, HandClock)
    opening = open_monitor(fake, TcpCable, lambda cable: meter_at(cable, clock.ns, **config))
    async with opening as (meter, cable):
        yield meter, clock, cable


def truth(count: int, start_s: float = 100.0) -> NDArray[np.float64]:
    return synthetic_load.synthetic_current_a(start_s + (np.arange(count) + 0.5) / RATE_HZ)


FORMATS = [
    ("ASC", {"format": "ascii"}, 1e-8),
    ("REAL,32", {"format": "real32"}, 1e-6),
    ("REAL,64", {"format": "real64"}, 0.0),
]


@pytest.mark.parametrize("framing", ["line", "block"])
@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("form", "config", "rtol"), FORMATS)
async def test_every_format_gives_the_current_and_the_power(
    fake: SimulatedScpiMeter,
    form: str,
    config: dict[str, object],
    rtol: float,
    order: str,
    framing: str,
) -> None:
    fake.framing = framing
    swap = "NORM" if order == "big" else "SWAP"
    setup = ["*RST", f"FORM {form}", f"FORM:BORD {swap}"]
    table = {**config, "byte_order": order, "setup": setup}
    async with connected(fake, **table) as (meter, clock, _):
        await meter.set_dut_supply(2500)
        assert meter.stream_format.voltage_v == 2.5
        async with meter.acquire() as acquisition:
            await pass_time(acquisition, clock, 3.0)
        samples = joined(await all_of(acquisition))
    assert samples.current_a is not None
    assert len(samples) == 3000
    np.testing.assert_allclose(samples.current_a, truth(3000), rtol=rtol, atol=0)
    np.testing.assert_array_equal(samples.power_w, samples.current_a * 2.5)


async def test_indefinite_length_blocks_end_after_the_readings_asked_for(
    fake: SimulatedScpiMeter,
) -> None:
    fake.framing, fake.fetch_waits = "indefinite", True
    table = {"setup": ["*RST", "FORM REAL,64"], "format": "real64", "readings": 125}
    async with connected(fake, read="FETC? {readings}", **table) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        async with meter.acquire() as acquisition:
            ticking = asyncio.create_task(tick(clock))
            while acquisition.received_samples < 2000:
                await acquisition.wait_progress(2.0)
        ticking.cancel()
        samples = joined(await all_of(acquisition))
    assert samples.current_a is not None
    assert len(samples) % 125 == 0
    np.testing.assert_array_equal(samples.current_a, truth(len(samples)))


async def tick(clock: HandClock) -> None:
    while True:
        clock.now_s += 0.01
        await asyncio.sleep(0.001)


async def test_a_stalled_host_gets_all_readings_in_the_memory(fake: SimulatedScpiMeter) -> None:
    table = {"read": "FETC? {readings}", "readings": 100, "buffer_s": 10.0}
    async with connected(fake, **table) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        async with meter.acquire() as acquisition:
            await pass_time(acquisition, clock, 1.0)
            clock.now_s += 5.0
            await pass_time(acquisition, clock, 2.0)
        samples = joined(await all_of(acquisition))
    assert samples.current_a is not None
    assert len(samples) == pytest.approx(8000, abs=151)
    np.testing.assert_allclose(samples.current_a, truth(len(samples)), rtol=1e-8)


@pytest.mark.parametrize("latency_s", [0.02, 0.05, 0.14])
@pytest.mark.parametrize("update_s", [0.0, 0.1, 0.25])
async def test_late_and_batched_readings_give_the_same_samples(
    fake: SimulatedScpiMeter, latency_s: float, update_s: float
) -> None:
    fake.latency_s, fake.update_s = latency_s, update_s
    async with connected(fake) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        async with meter.acquire() as acquisition:
            await let_pass(clock, 8.0)
        items = await all_of(acquisition)
    samples = joined(items)
    assert not any(isinstance(item, Gap) for item in items)
    assert len(samples) >= (7.9 - latency_s - update_s) * RATE_HZ
    assert samples.current_a is not None
    np.testing.assert_allclose(samples.current_a, truth(len(samples)), rtol=1e-8)
    for mark in only(TimeMark, items):
        assert abs(mark.t_ns - 100e9 - mark.index * 1e6) <= mark.uncertainty_ns + 1
        assert mark.uncertainty_ns >= latency_s * 0.49e9


@pytest.mark.parametrize("lost", [20, 60, 140])
async def test_lost_readings_end_the_acquisition(fake: SimulatedScpiMeter, lost: int) -> None:
    fake.latency_s = 0.05
    async with connected(fake) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        acquisition = meter.acquire()

        async def measure() -> None:
            async with acquisition:
                await let_pass(clock, 6.0)
                fake.lost_readings = lost
                await let_pass(clock, 4.0)

        with pytest.raises(InstrumentError, match="some were lost"):
            await measure()
        seen: list[StreamItem] = []
        with pytest.raises(InstrumentError):
            await all_of(acquisition, seen)
    samples = joined(seen)
    assert samples.current_a is not None
    assert len(samples) > 4000
    np.testing.assert_allclose(samples.current_a, truth(len(samples)), rtol=1e-8)


async def test_real_time() -> None:
    fake = SimulatedScpiMeter(RATE_HZ, lambda: host_time_ns() / 1e9)
    async with plugged(fake, TcpCable) as cable:
        meter = meter_at(cable, poll_s=0.07)
        await meter.open()
        await meter.set_dut_supply(3000)
        async with meter.acquire() as acquisition:
            start_s = fake.started_s
            assert start_s is not None
            while acquisition.received_samples < 1500:
                await acquisition.wait_progress(2.0)
        items = await all_of(acquisition)
        samples = joined(items)
        await meter.close()
    assert samples.current_a is not None
    np.testing.assert_allclose(samples.current_a, truth(len(samples), start_s), rtol=1e-7)
    marks = only(TimeMark, items)
    assert len(marks) >= 2
    for mark in marks:
        true_ns = start_s * 1e9 + mark.index / RATE_HZ * 1e9
        assert abs(mark.t_ns - true_ns) <= mark.uncertainty_ns + 1


# ---- invalid readings --------------------------------------------------------------------


@pytest.mark.parametrize("value", [OVERLOAD, -OVERLOAD, 9.91e37, float("nan")])
@pytest.mark.parametrize(("form", "config", "rtol"), FORMATS)
async def test_an_overload_is_a_gap(
    fake: SimulatedScpiMeter, form: str, config: dict[str, object], rtol: float, value: float
) -> None:
    def overloaded(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = (times_s >= 101.0) & (times_s < 101.05)
        return np.where(inside, value, synthetic_load.synthetic_current_a(times_s))

    fake.dut_current_a = overloaded
    async with connected(fake, setup=["*RST", f"FORM {form}"], **config) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        async with meter.acquire() as acquisition:
            await pass_time(acquisition, clock, 2.0)
        items = await all_of(acquisition)
    (gap,) = only(Gap, items)
    assert (gap.index, gap.count) == (1000, 50)
    assert "overload" in gap.reason
    samples = joined(items)
    assert samples.current_a is not None
    expected = np.delete(truth(2000), slice(1000, 1050))
    np.testing.assert_allclose(samples.current_a, expected, rtol=max(rtol, 1e-12))


@pytest.mark.parametrize(("pace", "cause"), [(0.5, "lost"), (0.9, "lost"), (1.5, "it logs")])
async def test_a_meter_at_another_rate_ends_the_acquisition(
    fake: SimulatedScpiMeter, pace: float, cause: str
) -> None:
    fake.rate_factor = pace
    async with connected(fake) as (meter, clock, _):
        await meter.set_dut_supply(3000)

        async def measure() -> None:
            async with meter.acquire() as acquisition:
                await pass_time(acquisition, clock, 5.0)

        with pytest.raises(InstrumentError, match=cause) as caught:
            await measure()
    assert caught.value.code == "record-rate"


async def test_readings_overwritten_in_the_memory_end_the_acquisition(
    fake: SimulatedScpiMeter,
) -> None:
    fake.memory_s = 1.0
    async with connected(fake) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        acquisition = meter.acquire()

        async def measure() -> None:
            async with acquisition:
                await pass_time(acquisition, clock, 3.0)
                clock.now_s += 3.0
                await pass_time(acquisition, clock, 3.0)

        with pytest.raises(InstrumentError, match="lost"):
            await measure()
        assert fake.overwritten >= 2000
        seen: list[StreamItem] = []
        with pytest.raises(InstrumentError):
            await all_of(acquisition, seen)
    samples = joined(seen)
    assert samples.current_a is not None
    np.testing.assert_allclose(samples.current_a, truth(len(samples)), rtol=1e-8)


async def test_a_slow_meter_that_only_answers_when_full_ends_the_acquisition(
    fake: SimulatedScpiMeter,
) -> None:
    fake.fetch_waits, fake.rate_factor = True, 0.8
    table = {"read": "FETC? {readings}", "readings": 50, "buffer_s": 0.5}
    async with connected(fake, **table) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        ticking = asyncio.create_task(tick(clock))

        async def measure() -> None:
            async with meter.acquire() as acquisition:
                while acquisition.received_samples < 8000:
                    await acquisition.wait_progress(2.0)

        with pytest.raises(InstrumentError, match="lost"):
            await measure()
        ticking.cancel()


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"format": "real64"}, "answered by no real64 numbers"),
        ({"read": "FETC? 60", "readings": 50}, "gave 60 readings, 50 at most"),
        ({"read": "FETC? 10", "readings": 50}, "lost"),
    ],
)
async def test_an_answer_of_another_shape_ends_the_acquisition(
    fake: SimulatedScpiMeter, table: dict[str, object], why: str
) -> None:
    async with connected(fake, **table) as (meter, clock, _):
        await meter.set_dut_supply(3000)

        async def measure() -> None:
            async with meter.acquire() as acquisition:
                await pass_time(acquisition, clock, 3.0, 0.3)

        with pytest.raises(InstrumentError, match=why):
            await measure()


async def test_an_error_while_measuring_is_quoted_and_ends_the_acquisition(
    fake: SimulatedScpiMeter,
) -> None:
    async with connected(fake) as (meter, clock, _):
        await meter.set_dut_supply(3000)

        async def measure() -> None:
            async with meter.acquire() as acquisition:
                await pass_time(acquisition, clock, 1.0)
                fake.errors.append('-363,"Input buffer overrun"')
                await pass_time(acquisition, clock, 1.0)

        with pytest.raises(InstrumentError, match="'FETC\\?' failed: -363"):
            await measure()
        before = len(fake.commands)
        async with meter.acquire() as again:
            await pass_time(again, clock, 1.0)
        assert len(joined(await all_of(again))) == 1000
    begun = [command for command in fake.commands[before:] if command in ("ABOR", "INIT")]
    assert begun[:2] == ["ABOR", "INIT"]


# ---- supply ------------------------------------------------------------------------------


async def test_it_supplies_with_the_commands_of_its_table(fake: SimulatedScpiMeter) -> None:
    async with connected(fake) as (meter, _, _):
        assert meter.can_supply_dut
        await meter.set_dut_supply(1850)
        assert (fake.is_powered, fake.volts) == (True, 1.85)
        assert "SOUR:VOLT 1.850" in fake.commands
        await meter.set_dut_supply(None)
        assert not fake.is_powered
        await meter.set_dut_supply(3300)
        for voltage_mv in (1799, 3601):
            with pytest.raises(JobError, match="1800 to 3600 mV"):
                await meter.set_dut_supply(voltage_mv)
    assert not fake.is_powered


async def test_a_meter_without_supply_measures_at_the_configured_voltage(
    fake: SimulatedScpiMeter,
) -> None:
    async with connected(fake, **METER) as (meter, clock, _):
        assert not meter.can_supply_dut
        assert meter.stream_format.voltage_v == 3.0
        assert meter.stream_format.timestamp_line == ""
        with pytest.raises(LabdBug, match="supplies nothing"):
            await meter.set_dut_supply(3000)
        fake.is_powered = True
        async with meter.acquire() as acquisition:
            await pass_time(acquisition, clock, 1.0)
        samples = joined(await all_of(acquisition))
        np.testing.assert_allclose(samples.power_w, truth(1000) * 3.0, rtol=1e-8)
    assert not any(command.startswith("OUTP") for command in fake.commands)


async def test_power_readings_are_scaled(fake: SimulatedScpiMeter) -> None:
    table = {**METER, "quantity": "power", "scale": -0.5}
    async with connected(fake, **table) as (meter, clock, _):
        fake.is_powered = True
        assert meter.stream_format.voltage_v is None
        async with meter.acquire() as acquisition:
            await pass_time(acquisition, clock, 1.0)
        samples = joined(await all_of(acquisition))
    assert samples.current_a is None
    np.testing.assert_allclose(samples.power_w, truth(1000) * -0.5, rtol=1e-8)


async def test_a_refused_supply_switches_nothing_on(fake: SimulatedScpiMeter) -> None:
    async with connected(fake) as (meter, _, _):
        fake.refuses = {"SOUR:VOLT": '-222,"Parameter data out of range"'}
        with pytest.raises(InstrumentError, match=r"'SOUR:VOLT 3\.000' refused: -222"):
            await meter.set_dut_supply(3000)
        assert not fake.is_powered


# ---- opening and closing -----------------------------------------------------------------


async def test_another_instrument_is_refused_and_gets_no_command(fake: SimulatedScpiMeter) -> None:
    fake.name = "OTHER,9000,1,1"
    async with plugged(fake, TcpCable) as cable:
        meter = meter_at(cable)
        with pytest.raises(InstrumentError, match="OTHER,9000"):
            await meter.open()
    assert fake.commands == ["*IDN?"]


async def test_a_wrong_command_in_the_table_fails_at_opening(fake: SimulatedScpiMeter) -> None:
    fake.refuses = {"SENS:RATE": '-113,"Undefined header"'}
    async with plugged(fake, TcpCable) as cable:
        meter = meter_at(cable)
        with pytest.raises(InstrumentError, match="'SENS:RATE 1000' refused: -113"):
            await meter.open()
    assert fake.commands[-4:] == ["OUTP OFF", "SYST:ERR?", "ABOR", "SYST:ERR?"]


@pytest.mark.parametrize("setup", [["*RST"], []])
async def test_open_stops_the_measurement_of_a_predecessor_that_died(
    fake: SimulatedScpiMeter, setup: list[str]
) -> None:
    fake.is_powered, fake.started_s = True, 90.0
    fake.errors.extend(['-410,"Query INTERRUPTED"'] * 5)
    async with connected(fake, setup=setup) as (meter, _, _):
        assert not fake.is_powered
        assert not fake.is_measuring
        assert await meter.self_check() == []


async def test_a_missing_error_queue_is_not_read(fake: SimulatedScpiMeter) -> None:
    async with connected(fake, check="") as (meter, clock, _):
        await meter.set_dut_supply(3000)
        async with meter.acquire() as acquisition:
            await pass_time(acquisition, clock, 1.0)
        assert len(joined(await all_of(acquisition))) == 1000
        assert await meter.self_check() == []
    assert "SYST:ERR?" not in fake.commands


@pytest.mark.parametrize("fault", ["lost", "doubled"])
@pytest.mark.parametrize("check", ["SYST:ERR?", ""])
async def test_a_byte_lost_or_doubled_in_a_block_never_gives_a_sample(
    fake: SimulatedScpiMeter, fault: str, check: str
) -> None:
    def damage(data: bytes) -> bytes:
        if not data.startswith(b"#"):
            return data
        return data[:301] + (data[302:] if fault == "lost" else data[300:])

    table = {"setup": ["*RST", "FORM REAL,64"], "format": "real64", "check": check}
    async with connected(fake, **table) as (meter, clock, cable):
        await meter.set_dut_supply(3000)
        acquisition = meter.acquire()

        async def measure() -> None:
            async with acquisition:
                await pass_time(acquisition, clock, 4.0)
                cable.tamper = damage
                await pass_time(acquisition, clock, 2.0)

        with pytest.raises(InfraError):
            await measure()
        cable.tamper = lambda data: data
        seen: list[StreamItem] = []
        with pytest.raises(InfraError):
            await all_of(acquisition, seen)
    samples = joined(seen)
    assert samples.current_a is not None
    np.testing.assert_array_equal(samples.current_a, truth(len(samples)))


@pytest.mark.parametrize("check", ["SYST:ERR?", ""])
async def test_an_unexpected_response_is_never_taken_for_an_answer(
    fake: SimulatedScpiMeter, check: str
) -> None:
    async with connected(fake, check=check) as (meter, _, _):
        for unexpected in (b'-1,"stale"\n', b"\n", b'0,"half'):
            fake.send(unexpected)
            await asyncio.sleep(0.05)
            with pytest.raises(InstrumentError, match="no query asked for"):
                await meter.set_dut_supply(3000)
            assert not fake.is_powered
            assert await meter.self_check() == []
        await meter.set_dut_supply(3000)
        assert fake.is_powered


async def test_an_answer_to_another_query_is_out_of_step(fake: SimulatedScpiMeter) -> None:
    async with connected(fake, check="") as (meter, _, cable):
        cable.tamper = lambda data: b"\n" + data
        with pytest.raises(InstrumentError, match="was answered by nothing"):
            await meter.set_dut_supply(3000)
        cable.tamper = lambda data: data
        await meter.set_dut_supply(3000)


async def test_errors_in_the_queue_are_findings(fake: SimulatedScpiMeter) -> None:
    async with connected(fake) as (meter, _, _):
        fake.errors.append('+601,"Self test failed"')
        (finding,) = await meter.self_check()
        assert "Self test failed" in finding.text
        assert await meter.self_check() == []


async def test_closing_during_an_acquisition_ends_it_and_switches_off(
    fake: SimulatedScpiMeter,
) -> None:
    async with connected(fake) as (meter, clock, _):
        await meter.set_dut_supply(3000)
        acquisition = meter.acquire()
        await acquisition.__aenter__()
        await pass_time(acquisition, clock, 1.0)
        await meter.close()
        assert not fake.is_powered
        assert not fake.is_measuring
        items = await all_of(acquisition)
        gap = items[-1]
        assert isinstance(gap, Gap)
        assert gap.end == 1000
        with pytest.raises(LabdBug, match="not open"):
            await meter.self_check()


async def test_close_reconnects_to_switch_the_dut_off(
    fake: SimulatedScpiMeter,
) -> None:
    async with connected(fake) as (meter, _, cable):
        await meter.set_dut_supply(3000)
        cable._disconnect_host()
        await asyncio.sleep(0.05)
        with pytest.raises(TransportError):
            await meter.set_dut_supply(3000)
        await meter.close()
        assert not fake.is_powered


async def test_a_meter_can_be_used_again_after_a_deadline(
    fake: SimulatedScpiMeter,
) -> None:
    async with connected(fake) as (meter, clock, cable):
        await meter.set_dut_supply(3000)

        async def measure() -> None:
            async with meter.acquire() as acquisition:
                await pass_time(acquisition, clock, 1.0)
                cable.mute = True
                await acquisition.wait_progress(5.0)

        with pytest.raises(DeadlineExceeded, match="FETC"):
            await measure()
        cable.mute = False
        async with meter.acquire() as again:
            await pass_time(again, clock, 1.0)
        assert len(joined(await all_of(again))) == 1000


async def test_one_acquisition_at_a_time_and_only_at_a_known_voltage(
    fake: SimulatedScpiMeter,
) -> None:
    async with connected(fake) as (meter, _, _):
        with pytest.raises(LabdBug, match="before supply"):
            meter.acquire()
        await meter.set_dut_supply(3000)
        async with meter.acquire():
            with pytest.raises(LabdBug, match="during an acquisition"):
                meter.acquire()
            with pytest.raises(LabdBug, match="another voltage"):
                await meter.set_dut_supply(2900)


# ---- its table in stations.toml ----------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"expect": ""}, "at least 1 character"),
        ({"rate_hz": 500}, "greater than or equal to 1000"),
        ({"supply_off": []}, "supply_on needs supply_off"),
        ({"voltage_mv": 3000}, "leave it out"),
        ({"supply_on": [], "supply_off": []}, "power needs a voltage"),
        ({"supply_mv": [3600, 1800]}, "lowest and the highest"),
        ({"scale": 0}, "other than 0"),
        ({"read": "FETC"}, "a query has a question mark"),
        ({"check": "SYST:ERR"}, "asks for nothing"),
        ({"setup": ["SENS:FUNC?"]}, "an answer that is never read"),
        ({"setup": ["A\nB"]}, "one line of plain characters"),
        ({"start": []}, "at least 1 item"),
        (
            {"supply_on": ["SOUR:VOLT {volt}", "OUTP ON"]},
            r"supply_on\.0\n.*unknown placeholder \{volt\}; known: rate_hz, period_s, volts",
        ),
        ({"start": ["SOUR:VOLT {volts}"]}, r"start\.0\n.*unknown placeholder \{volts\}"),
        ({"read": "FETC? {readings}"}, r"read: \{readings\} has no value"),
        ({"start": ["RATE {rate_hz:q}"]}, r"start\.0\n.*Unknown format code"),
        ({"start": ["RATE {rate_hz"]}, "expected '}'"),
        ({"start": ["RATE {rate_hz.real}"]}, "a placeholder is a name"),
        ({"start": ["RATE {}"]}, "a placeholder is a name"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_wrong_table_in_the_stations_file_is_explained(
    config: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        ScpiMeterConfig.model_validate({"resource": "socket://10.0.0.7:5025", **SMU, **config})


def test_a_question_mark_in_quotes_is_no_query() -> None:
    config = ScpiMeterConfig.model_validate(
        {"resource": "GPIB0::5::INSTR", **SMU, "setup": ['DISP:TEXT "ready?"', "A {{x}}"]}
    )
    assert config.setup[0] == 'DISP:TEXT "ready?"'
