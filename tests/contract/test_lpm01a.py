"""The LPM01A driver against an instrument whose samples come when the test says so."""

from __future__ import annotations

import asyncio
import itertools
import re
import struct
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.base import acquisition as machinery
from drivers.base.interfaces import Acquisition
from drivers.base.serial_link import Link
from drivers.lpm01a import ascii_framer as lpm01a_ascii
from drivers.lpm01a import driver as lpm01a
from drivers.lpm01a.driver import Lpm01a, Lpm01aConfig
from drivers.lpm01a.stamp_check import UNCONFIRMED
from labd.core.errors import (
    DeadlineExceeded,
    InfraError,
    InstrumentError,
    JobError,
    LabdBug,
    TransportError,
)
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments.lpm01a.device import SimulatedLpm01a, serve_lpm01a_on_pty
from labd.simulation.instruments.synthetic_load import RUN_A, SLEEP_A
from tests.contract.acquisition import all_of, open_monitor, progress_to
from tests.contract.case import plugged


@pytest.fixture
def fake() -> SimulatedLpm01a:
    return SimulatedLpm01a()


def produce(fake: SimulatedLpm01a, count: int) -> None:
    """Stream this many samples; sample k reads k mod 9000 + 1000 times 1e-8.

    In binary it reads k mod 3840 + 256 times 16^-5, or 16^-7 where it is an energy.
    """
    if fake.stream is None:
        return
    plan, index = fake.stream.plan, fake.stream.taken + np.arange(count)
    power = 16.0 ** (-7 if plan.energy else -5)
    fake.stream_values(
        (256 + index % 3840) * power if plan.binary else (1000 + index % 9000) * 1e-8
    )


def skip(fake: SimulatedLpm01a, count: int) -> None:
    """Take samples that the cable loses."""
    fake.lose_samples(count)
    produce(fake, count)


def event(fake: SimulatedLpm01a) -> None:
    """Lower D7 here."""
    if fake.stream is not None:
        fake.stream.mark_event()


@asynccontextmanager
async def connected(
    fake: SimulatedLpm01a, limits: Mapping[str, float] | None = None, **config: object
) -> AsyncGenerator[tuple[Lpm01a, PtyCable]]:
    """The driver with its table in stations.toml and the limits of its waits."""
    table = {"answer_s": 3.0, **config}

    def driver(pty: PtyCable) -> Lpm01a:
        waits = {"stamp_s": 0.2, **(limits or {})}
        return Lpm01a(Lpm01aConfig.model_validate({"port": pty.path, **table}), **waits)

    async with open_monitor(fake, PtyCable, driver) as opened:
        yield opened


async def test_samples_and_edges_come_in_order(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            produce(fake, 1500)
            event(fake)
            produce(fake, 700)
            event(fake)
            produce(fake, 800)
            await progress_to(acquisition, 3000, 2)
        items = await all_of(acquisition)
    assert [(type(i), i.index) for i in items] == [
        (Samples, 0),
        (Samples, 1000),
        (Edge, 1500.0),
        (Samples, 1500),
        (Samples, 2000),
        (Edge, 2200.0),
        (Samples, 2200),
    ]
    assert sum(len(i) for i in items if isinstance(i, Samples)) == 3000
    assert items[0].power_w[1] == pytest.approx(1001e-8 * 1000)  # type: ignore[union-attr]


async def test_the_official_settings_are_sent_and_all_is_switched_off_at_the_end(
    fake: SimulatedLpm01a,
) -> None:
    async with connected(fake) as (monitor, _):
        await monitor.set_dut_supply(1800)
        assert fake.is_powered
        await monitor.set_dut_supply(1800)
        assert monitor.stream_format.voltage_v == 1.8
    assert {"acqtime inf", "trigsrc sw", "trigdelay 0", "output energy"} <= set(fake.commands)
    assert {"format ascii_dec", "freq 1k", "eventsrc d7 fal"} <= set(fake.commands)
    assert fake.commands.count("volt 1800m") == 1
    assert fake.commands[-2:] == ["pwr off", "hrc"]
    assert not fake.is_powered


async def test_a_predecessor_that_died_in_an_acquisition_is_survived(fake: SimulatedLpm01a) -> None:
    async with plugged(fake) as pty:
        predecessor = Link(pty.path, lpm01a.BAUD, "predecessor")
        await predecessor.open()
        await predecessor.write(b"htc\r\nacqtime inf\r\nstart\r\n")
        await asyncio.sleep(0.02)
        produce(fake, 2500)
        await predecessor.write(b"vol")
        await predecessor.close()
        streaming = asyncio.create_task(_stream(fake))
        monitor = Lpm01a(Lpm01aConfig(port=pty.path, answer_s=0.5))
        assert (await monitor.open()).serial.startswith("540619864")
        await streaming
        assert not fake.is_acquiring
        async with monitor.acquire() as acquisition:
            produce(fake, 1000)
            await progress_to(acquisition, 1000)
        assert [len(i) for i in await all_of(acquisition) if isinstance(i, Samples)] == [1000]
        await monitor.close()


async def _stream(fake: SimulatedLpm01a) -> None:
    while fake.is_acquiring:
        produce(fake, 10)
        await asyncio.sleep(0.01)


async def test_lost_samples_are_a_gap_on_the_instruments_time(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):
        async with monitor.acquire() as acquisition:
            produce(fake, 1200)
            event(fake)
            skip(fake, 90)
            produce(fake, 2710)
        items = await all_of(acquisition)
    gaps = [item for item in items if isinstance(item, Gap)]
    assert [(gap.index, gap.count) for gap in gaps] == [(1000, 1000)]
    assert "910 samples between time stamps" in gaps[0].reason
    assert "1 edges in it dropped" in gaps[0].reason
    after = next(i for i in items if isinstance(i, Samples) and i.index == 2000)
    assert after.power_w[0] == pytest.approx(3000e-8 * 1000)
    assert acquisition.edges_seen == 1


async def test_an_overrun_is_a_gap_and_an_error(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):
        acquisition = monitor.acquire()

        async def overrun() -> None:
            async with acquisition:
                produce(fake, 1100)
                fake.on_overrun()
                await progress_to(acquisition, 9999)

        with pytest.raises(InstrumentError, match="overrun"):
            await overrun()
        seen: list[StreamItem] = []
        with pytest.raises(InstrumentError, match="overrun"):
            await all_of(acquisition, seen)
        assert isinstance(seen[-1], Gap)
        assert (seen[-1].index, seen[-1].count) == (1000, 100)


async def test_an_unplug_while_acquiring_is_raised_everywhere_within_a_second(
    fake: SimulatedLpm01a,
) -> None:
    async with connected(fake) as (monitor, pty):
        acquisition = monitor.acquire()
        began = time.monotonic()

        async def unplugged() -> None:
            async with acquisition:
                produce(fake, 1100)
                await progress_to(acquisition, 1100)
                pty.unplug()
                await progress_to(acquisition, 9999)

        with pytest.raises(TransportError):
            await unplugged()
        with pytest.raises(TransportError):
            await all_of(acquisition)
        with pytest.raises(TransportError):
            await monitor.close()
        assert time.monotonic() - began < 1.0


async def test_an_exception_in_the_body_still_stops_the_instrument(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):
        with pytest.raises(ZeroDivisionError):
            async with monitor.acquire():
                raise ZeroDivisionError
        assert not fake.is_acquiring
        await monitor.set_dut_supply(None)


async def test_a_cancelled_body_still_stops_the_instrument(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):

        async def acquire() -> None:
            async with monitor.acquire() as acquisition:
                await all_of(acquisition)

        task = asyncio.create_task(acquire())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not fake.is_acquiring


async def test_a_refused_stop_is_noted_and_does_not_hide_the_bodys_exception(
    fake: SimulatedLpm01a,
) -> None:
    async with connected(fake, {"stop_s": 0.2}) as (monitor, _):
        fake.refuses = {"stop"}
        with pytest.raises(ZeroDivisionError) as caught:
            async with monitor.acquire():
                raise ZeroDivisionError
        assert "Acquisition completed" in caught.value.__notes__[0]
        fake.refuses = set()


async def test_closing_during_an_acquisition_ends_it(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):
        acquisition = monitor.acquire()
        await acquisition.__aenter__()
        produce(fake, 1050)
        await progress_to(acquisition, 1050)
        await monitor.close()
        assert not fake.is_acquiring
        assert not fake.is_powered
        items = await all_of(acquisition)
        assert [(type(i), i.end) for i in items] == [(Samples, 1000), (Gap, 1050)]  # type: ignore[union-attr]


async def test_closing_switches_the_dut_off_before_it_stops(fake: SimulatedLpm01a) -> None:
    """A caller's deadline may cut the rest of closing short; the DUT must be dark by then."""
    async with connected(fake) as (monitor, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()
        await acquisition.__aenter__()
        streaming = asyncio.create_task(_stream(fake))
        await asyncio.sleep(0.03)
        await monitor.close()
        await streaming
    assert fake.commands[-3:] == ["pwr off", "stop", "hrc"]
    assert not fake.is_powered
    assert not fake.is_acquiring


async def test_an_acquisition_broken_off_while_starting_is_stopped_by_close(
    fake: SimulatedLpm01a,
) -> None:
    async with connected(fake) as (monitor, pty):
        pty.mute = True  # the ack of ``start`` does not come

        async def acquire() -> None:
            async with monitor.acquire():
                pytest.fail("it was not acknowledged")

        task = asyncio.create_task(acquire())
        while not fake.is_acquiring:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pty.mute = False
        with pytest.raises(InstrumentError, match="may still stream"):
            monitor.acquire()
        await monitor.close()
        assert not fake.is_powered
        assert not fake.is_acquiring


async def test_an_acquisition_cancelled_twice_is_stopped_by_close(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):
        fake.refuses = {"stop"}

        async def acquire() -> None:
            async with monitor.acquire() as acquisition:
                await all_of(acquisition)

        task = asyncio.create_task(acquire())
        while not fake.is_acquiring:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.03)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.03)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.is_acquiring
        fake.refuses = set()
        await monitor.close()
        assert not fake.is_acquiring


async def test_an_acquisition_that_nobody_reads_is_stopped_by_close(
    fake: SimulatedLpm01a, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "MAX_WAITING_SAMPLES", 1000)
    async with connected(fake) as (monitor, _):

        async def sleep_on() -> None:
            async with monitor.acquire() as acquisition:
                produce(fake, 2000)
                await progress_to(acquisition, 9999)

        with pytest.raises(InfraError, match="wait to be taken"):
            await sleep_on()
        await monitor.close()
        assert not fake.is_acquiring


async def test_closing_is_bounded_whatever_the_answer_time(fake: SimulatedLpm01a) -> None:
    async with connected(fake, {"close_step_s": 0.3}, answer_s=60) as (monitor, pty):
        pty.mute = True
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="switching the DUT off"):
            await monitor.close()
        assert time.monotonic() - began < 1.5
        assert fake.commands[-2:] == ["pwr off", "hrc"]


async def test_a_defect_while_decoding_is_raised_not_taken_for_the_end(
    fake: SimulatedLpm01a, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(fake) as (monitor, _):
        acquisition = monitor.acquire()

        async def decode() -> None:
            async with acquisition:
                monkeypatch.setattr(lpm01a_ascii, "parse_samples", lambda _: 1 // 0)
                produce(fake, 5)
                await progress_to(acquisition, 5)

        with pytest.raises(LabdBug, match="ZeroDivisionError") as caught:
            await decode()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(LabdBug):
            await all_of(acquisition)


async def test_a_failed_open_leaves_a_predecessors_dut_dark(fake: SimulatedLpm01a) -> None:
    fake.load.power_on(3300)
    fake.refuses = {"acqtime inf"}
    async with plugged(fake) as pty:
        monitor = Lpm01a(Lpm01aConfig(port=pty.path, answer_s=0.5))
        with pytest.raises(InstrumentError, match="acqtime"):
            await monitor.open()
        assert fake.commands[-2:] == ["pwr off", "hrc"]
        assert not fake.is_powered
        fake.refuses = set()
        await monitor.open()
        await monitor.close()


async def test_a_refused_start_and_no_progress_are_different_errors(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _):
        fake.refuses = {"start"}
        with pytest.raises(InstrumentError, match="did not start"):
            async with monitor.acquire():
                pytest.fail("it did not start")
        fake.refuses = set()
        async with monitor.acquire() as acquisition:
            with pytest.raises(DeadlineExceeded, match="no sample"):
                await acquisition.wait_progress(0.05)


async def test_nobody_else_speaks_while_it_streams(fake: SimulatedLpm01a) -> None:
    async with connected(fake) as (monitor, _), monitor.acquire() as acquisition:
        with pytest.raises(LabdBug):
            await monitor.set_dut_supply(None)
        with pytest.raises(LabdBug):
            monitor.acquire()
        assert acquisition.received_samples == 0


async def test_a_consumer_that_sleeps_costs_no_sample_until_the_stated_limit(
    fake: SimulatedLpm01a, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "MAX_WAITING_SAMPLES", 3000)
    async with connected(fake) as (monitor, _):

        async def sleep_on() -> None:
            async with monitor.acquire() as acquisition:
                produce(fake, 3000)
                await progress_to(acquisition, 3000)
                produce(fake, 1000)
                await progress_to(acquisition, 9999)

        with pytest.raises(InfraError, match="wait to be taken"):
            await sleep_on()


async def test_old_firmware_is_a_finding_not_a_failure(fake: SimulatedLpm01a) -> None:
    fake.version = "1.0.0"
    fake.refuses = {"eventsrc d7 fal", "pwr off"}
    async with connected(fake) as (monitor, _):
        findings = await monitor.self_check()
        assert [finding.code for finding in findings] == ["no-edge-marks", "no-power-off"]
        assert "1.0.6" in findings[0].remedy
        with pytest.raises(InstrumentError, match="pwr off"):
            await monitor.set_dut_supply(None)


async def test_current_becomes_power_at_the_set_voltage(fake: SimulatedLpm01a) -> None:
    async with connected(fake, output="current") as (monitor, _):
        await monitor.set_dut_supply(2000)
        async with monitor.acquire() as acquisition:
            produce(fake, 1000)
            await progress_to(acquisition, 1000)
        (samples,) = await all_of(acquisition)
    assert isinstance(samples, Samples)
    assert samples.current_a is not None
    assert samples.power_w.tolist() == [2 * current for current in samples.current_a]


@pytest.mark.parametrize("voltage_mv", [1799, 3301, 0])
async def test_a_voltage_it_cannot_supply_is_refused(
    fake: SimulatedLpm01a,
    voltage_mv: int,
) -> None:
    async with connected(fake) as (monitor, _):
        with pytest.raises(JobError, match="1800 to 3300"):
            await monitor.set_dut_supply(voltage_mv)
        assert not fake.is_powered


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"rate_hz": 10_000}, "lasts one second"),
        ({"rate_hz": 20_000}, 'half a second at most; use format = "binary"'),
        ({"rate_hz": 100_000}, 'does not exist; use format = "binary"'),
        ({"rate_hz": 1234}, "none of 1000, 2000, 5000"),
        ({"rate_hz": 1234, "format": "binary"}, "none of 1000, 2000, 5000"),
        ({"rate_hz": 500, "format": "binary"}, "at 500 Hz a window's edges"),
        ({"rate_hz": 20_000, "format": "binary"}, 'use output = "current", or 10000 Hz'),
        ({"format": "hexa"}, "'ascii' or 'binary'"),
        ({"function_mode": "high"}, "50000 and 100000 Hz, not at 1000 Hz; use 'optim'"),
        ({"threshold_a": 0.06}, "0.06 A is not within 1e-07 to 0.05 A"),
        ({"threshold_a": -1e-3}, "0 is off"),
        ({"restart_s": -1}, "greater than or equal to 0"),
        ({"rate_hz": 500}, "at 500 Hz a window's edges"),
        ({"rate_hz": 0}, "at 0 Hz"),
        ({"output": "power"}, "'energy' or 'current'"),
        ({"colour": "red"}, "Extra inputs"),
        ({"port": ""}, "at least 1 character"),
    ],
)
def test_a_wrong_table_in_the_stations_file_is_explained(
    config: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        Lpm01aConfig.model_validate({"port": "/dev/null", **config})


# ---- binary ------------------------------------------------------------------------------

BINARY = {"format": "binary", "rate_hz": 100_000, "output": "current"}


def amperes(index: int) -> float:
    return (256 + index % 3840) * 16.0**-5


def indices(items: list[StreamItem]) -> list[tuple[type, float, float]]:
    return [(type(i), i.index, i.end) for i in items if isinstance(i, Samples | Gap)]


async def test_binary_reaches_100_khz_and_has_no_edges(fake: SimulatedLpm01a) -> None:
    config = {**BINARY, "function_mode": "high", "threshold_a": 1e-3}
    async with connected(fake, **config) as (monitor, _):
        await monitor.set_dut_supply(2000)
        assert monitor.stream_format.sample_rate_hz == 100_000
        assert monitor.stream_format.timestamp_line == ""
        async with monitor.acquire() as acquisition:
            produce(fake, 2300)
            event(fake)
            produce(fake, 700)
            await progress_to(acquisition, 3000)
        items = await all_of(acquisition)
        assert acquisition.edges_seen == 0
        assert await monitor.self_check() == []
    assert indices(items) == [(Samples, 0, 1000), (Samples, 1000, 2000), (Samples, 2000, 3000)]
    for item in items:
        assert isinstance(item, Samples)
        assert item.current_a is not None
        assert item.current_a.tolist() == [amperes(i) for i in range(item.index, item.end)]
        assert item.power_w.tolist() == [2 * current for current in item.current_a]
    assert "format bin_hexa" in fake.commands
    assert fake.commands.index("freq 100k") < fake.commands.index("funcmode high")
    assert "currthres 1000-6" in fake.commands
    assert not any(command.startswith("eventsrc") for command in fake.commands)


async def test_binary_energy_is_power_too(fake: SimulatedLpm01a) -> None:
    config = {"format": "binary", "rate_hz": 10_000}
    async with connected(fake, **config) as (monitor, _):
        async with monitor.acquire() as acquisition:
            produce(fake, 1000)
            await progress_to(acquisition, 1000)
        (samples,) = await all_of(acquisition)
    assert isinstance(samples, Samples)
    assert samples.power_w.tolist() == [amperes(i) / 256 * 10_000 for i in range(1000)]


async def test_a_predecessor_that_died_in_a_binary_acquisition_is_survived(
    fake: SimulatedLpm01a,
) -> None:
    async with plugged(fake) as pty:
        predecessor = Link(pty.path, lpm01a.BAUD, "predecessor")
        await predecessor.open()
        await predecessor.write(
            b"htc\r\nacqtime inf\r\nformat bin_hexa\r\nfreq 100k\r\npwr on\r\nstart\r\n"
        )
        await asyncio.sleep(0.02)
        produce(fake, 2500)
        await predecessor.write(b"vol")
        await predecessor.close()
        assert fake.is_powered
        streaming = asyncio.create_task(_stream(fake))
        monitor = Lpm01a(Lpm01aConfig(port=pty.path, answer_s=0.5))
        assert (await monitor.open()).serial.startswith("540619864")
        await streaming
        assert not fake.is_acquiring
        assert not fake.is_powered
        async with monitor.acquire() as acquisition:
            produce(fake, 1000)
            await progress_to(acquisition, 1000)
        assert [len(i) for i in await all_of(acquisition) if isinstance(i, Samples)] == [1000]
        await monitor.close()


@pytest.mark.parametrize("config", [{}, BINARY])
@pytest.mark.parametrize("what", ["overcurrent", "power_down"])
async def test_a_dut_without_power_is_a_fault_at_once_and_a_gap_to_the_end(
    fake: SimulatedLpm01a, config: dict[str, object], what: str
) -> None:
    async with connected(fake, **config) as (monitor, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()

        async def measure() -> None:
            async with acquisition:
                produce(fake, 1100)
                await progress_to(acquisition, 1100)
                if what == "power_down":
                    fake.power_down_target()
                elif fake.stream is not None:  # an instrument that streams on
                    fake.send(fake.stream.format.encode_overcurrent("Overcurrent"))
                produce(fake, 2000)
                await progress_to(acquisition, 9999)

        with pytest.raises(InstrumentError, match=r"is corrupted: .*([Oo]vercurrent|switched off)"):
            await measure()
        seen: list[StreamItem] = []
        with pytest.raises(InstrumentError, match="is corrupted"):
            await all_of(acquisition, seen)
        assert indices(seen)[0] == (Samples, 0, 1000)
        assert isinstance(seen[-1], Gap)
        assert len(seen) == 2
        assert re.search(r"[Oo]vercurrent|switched off", seen[-1].reason)
    assert not fake.is_acquiring


async def test_a_binary_overrun_says_how_full_the_buffer_was(fake: SimulatedLpm01a) -> None:
    async with connected(fake, **BINARY) as (monitor, _):
        await monitor.set_dut_supply(3000)
        acquisition = monitor.acquire()

        async def overrun() -> None:
            async with acquisition:
                assert fake.stream is not None
                for fake.stream.load_percent in (10, 60, 97):
                    produce(fake, 1000)
                fake.on_overrun()
                await progress_to(acquisition, 9999)

        with pytest.raises(
            InstrumentError, match="overrun; its transmit buffer was up to 97 % full"
        ):
            await overrun()
        counts = acquisition.event_counts
        assert (counts["worst_buffer_percent"], counts["messages"]) == (97, 0)
        assert counts["time_stamps"] >= 3
        fake.error = ""
        found = [finding.code for finding in await monitor.self_check()]
        assert found == ["transmit-buffer"]


async def test_what_the_instrument_says_of_itself_is_kept(fake: SimulatedLpm01a) -> None:
    async with connected(fake, **BINARY) as (monitor, _):
        await monitor.set_dut_supply(3000)
        for temperature in (27, 31):
            async with monitor.acquire() as acquisition:
                fake.send_record(0xF2, b"Calibration done\r\n")
                fake.send_record(0xF8, struct.pack(">h", temperature))
                fake.send_record(0xF7, struct.pack(">H", 2900))
                produce(fake, 1000)
                await progress_to(acquisition, 1000)
        assert [finding.code for finding in acquisition.findings] == [
            *("instrument-text", "temperature", "supply-voltage"),
        ]
        found = {finding.text: finding.serious for finding in await monitor.self_check()}
        assert found == {
            "it reports: Calibration done": False,
            "its temperature was 27 to 27 °C": False,
            "its temperature was 31 to 31 °C": False,
            "it supplies 2900 mV, 3000 mV are set: power is wrong by this ratio": True,
        }


async def test_lost_samples_of_a_binary_stream_are_a_gap(fake: SimulatedLpm01a) -> None:
    async with connected(fake, **BINARY) as (monitor, pty):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            produce(fake, 1200)
            skip(fake, 90)
            produce(fake, 2000)
            pty.tamper = lambda data: data[1:]
            produce(fake, 1)
            pty.tamper = lambda data: data
            produce(fake, 3709)
            await progress_to(acquisition, 7000)
        items = await all_of(acquisition)
    gaps = [(item.index, item.end) for item in items if isinstance(item, Gap)]
    assert gaps == [(1000, 2000), (3000, 4000)]
    for item in items:
        if isinstance(item, Samples) and item.current_a is not None:
            assert item.current_a.tolist() == [amperes(i) for i in range(item.index, item.end)]


# ---- old firmware ------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["err", "error"])
async def test_old_firmware_does_not_measure_in_ascii_and_says_what_would(
    fake: SimulatedLpm01a, word: str
) -> None:
    fake.refusal, fake.refuses = word, {"eventsrc d7 fal", "pwr off"}
    fake.version = "1.0.0"
    async with connected(fake) as (monitor, _):
        await monitor.set_dut_supply(3000)
        with pytest.raises(InstrumentError, match="cannot mark edges") as caught:
            monitor.acquire()
        assert caught.value.code == "firmware-too-old"
        assert "1.0.0 to 1.0.6" in caught.value.remedy
        assert 'format = "binary"' in caught.value.remedy
        assert fake.is_powered
    assert not fake.is_powered
    assert fake.commands[-2:] == ["targrst 0", "hrc"]


async def test_old_firmware_measures_current_in_binary(fake: SimulatedLpm01a) -> None:
    fake.refuses = {"eventsrc d7 fal", "pwr off", "output energy"}
    async with connected(fake, **BINARY) as (monitor, _):
        await monitor.set_dut_supply(3000)
        async with monitor.acquire() as acquisition:
            produce(fake, 1000)
            await progress_to(acquisition, 1000)
        assert [finding.code for finding in await monitor.self_check()] == ["no-power-off"]


async def test_old_firmware_without_fast_energy_points_at_current(fake: SimulatedLpm01a) -> None:
    fake.refuses = {"output energy"}
    async with connected(fake) as (monitor, _):
        assert [finding.code for finding in await monitor.self_check()] == ["no-energy-output"]
        with pytest.raises(InstrumentError, match="integrates no energy") as caught:
            monitor.acquire()
        assert 'output = "current"' in caught.value.remedy


# ---- restarting --------------------------------------------------------------------------


class Replug:
    """A USB device under a name that lasts, as udev makes it: gone while it restarts."""

    def __init__(self, fake: SimulatedLpm01a, name: Path, away_s: float) -> None:
        self.fake, self.name = fake, name
        self._away_s = away_s
        self.cables: list[PtyCable] = []
        self._appear()
        fake.on_restart = self._restart

    def _appear(self) -> None:
        self.cables.append(PtyCable(self.fake))
        self.name.symlink_to(self.cables[-1].path)

    def _restart(self) -> None:
        asyncio.get_running_loop().call_soon(self.unplug)
        asyncio.get_running_loop().call_later(self._away_s, self._appear)

    def unplug(self) -> None:
        self.name.unlink(missing_ok=True)
        self.cables[-1].unplug()


async def test_an_instrument_that_does_not_answer_is_restarted(
    fake: SimulatedLpm01a, tmp_path: Path
) -> None:
    fake.load.power_on(3300)
    fake.ignores_commands = True
    usb = Replug(fake, tmp_path / "by-id", 0.5)
    monitor = Lpm01a(Lpm01aConfig(port=str(usb.name), answer_s=0.3, restart_s=10))
    began = time.monotonic()
    identity = await monitor.open()
    assert time.monotonic() - began < 5.0
    assert identity.serial.startswith("540619864")
    assert identity.simulated
    assert len(usb.cables) == 2
    assert fake.commands.count("psrst") == 1
    assert not fake.is_powered
    (finding,) = await monitor.self_check()
    assert (finding.code, finding.serious) == ("restarted", False)
    assert "'htc'" in finding.text
    async with monitor.acquire() as acquisition:
        produce(fake, 5)
        await progress_to(acquisition, 5)
    await monitor.close()
    usb.unplug()


async def test_an_instrument_that_babbles_is_restarted(
    fake: SimulatedLpm01a,
    tmp_path: Path,
) -> None:
    """A predecessor's binary stream that no ``stop`` ends."""
    fake.receive(b"htc\r\nformat bin_hexa\r\nacqtime inf\r\nstart\r\n")
    fake.ignores_commands = True
    usb = Replug(fake, tmp_path / "by-id", 0.3)
    streaming = asyncio.create_task(_stream(fake))
    monitor = Lpm01a(Lpm01aConfig(port=str(usb.name), answer_s=0.3, restart_s=10))
    await monitor.open()
    await streaming
    await monitor.close()
    usb.unplug()


async def test_an_instrument_that_does_not_come_back_is_a_missing_port(
    fake: SimulatedLpm01a, tmp_path: Path
) -> None:
    fake.ignores_commands = True
    usb = Replug(fake, tmp_path / "by-id", 60)
    monitor = Lpm01a(Lpm01aConfig(port=str(usb.name), answer_s=0.2, restart_s=0.5))
    with pytest.raises(TransportError) as caught:
        await monitor.open()
    assert caught.value.code == "port-missing"
    await monitor.close()


async def test_restarting_can_be_forbidden(fake: SimulatedLpm01a) -> None:
    fake.ignores_commands = True
    async with plugged(fake) as pty:
        monitor = Lpm01a(Lpm01aConfig(port=pty.path, answer_s=0.2, restart_s=0))
        with pytest.raises(DeadlineExceeded, match="htc"):
            await monitor.open()
    assert "psrst" not in fake.commands


# ---- in real time ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [{"rate_hz": 5000}, BINARY, {"format": "binary", "rate_hz": 10_000, "output": "energy"}],
)
async def test_the_live_fake_streams_at_full_rate(config: dict[str, object]) -> None:
    cable = serve_lpm01a_on_pty()
    living = asyncio.create_task(cable.device.stream_by_wall_clock())  # type: ignore[attr-defined]
    monitor = Lpm01a(Lpm01aConfig.model_validate({"port": cable.path, **config}))
    await monitor.open()
    await monitor.set_dut_supply(3000)
    rate_hz = monitor.config.rate_hz
    async with monitor.acquire() as acquisition:
        await progress_to(acquisition, 2 * rate_hz)
    items = await all_of(acquisition)
    await monitor.close()
    living.cancel()
    await asyncio.wait([living])
    cable.unplug()
    assert [item for item in items[:-1] if isinstance(item, Gap)] == []
    if isinstance(items[-1], Gap):
        assert items[-1].reason == UNCONFIRMED
    power = np.concatenate([item.power_w for item in items if isinstance(item, Samples)])
    assert len(power) >= 2 * rate_hz
    mean = power[: 2 * rate_hz].mean()
    assert mean == pytest.approx(3.0 * (RUN_A + SLEEP_A) / 2, rel=1e-3)
    marks = [item for item in items if isinstance(item, TimeMark)]
    assert len(marks) >= (3 if config.get("format") == "binary" else 0)
    for one, other in itertools.pairwise(marks):
        seconds = (other.index - one.index) / rate_hz
        uncertainty_s = (one.uncertainty_ns + other.uncertainty_ns) * 1e-9
        assert (other.t_ns - one.t_ns) * 1e-9 == pytest.approx(seconds, abs=uncertainty_s)
    edges = [item.index / rate_hz for item in items if isinstance(item, Edge)]
    assert edges[:2] == ([0.5, 1.5] if config.get("format") != "binary" else [])


async def test_what_came_before_the_end_is_confirmed_by_a_stamp(fake: SimulatedLpm01a) -> None:
    """The end mark carries no count: samples lost just before it would go unseen."""
    async with connected(fake, {"stamp_s": 3.0}) as (monitor, _):
        streaming = False

        async def stream() -> None:
            while streaming:
                produce(fake, 20)
                await asyncio.sleep(0.01)

        async with monitor.acquire() as acquisition:
            produce(fake, 1500)
            skip(fake, 3)
            await progress_to(acquisition, 1500)
            streaming = True
            producing = asyncio.create_task(stream())
        streaming = False
        await producing
        items = await all_of(acquisition)
    gap = next(item for item in items if isinstance(item, Gap))
    assert gap.index == 1000
    assert "997 samples between time stamps" in gap.reason


async def test_the_tail_of_a_stream_that_has_stalled_is_a_gap(fake: SimulatedLpm01a) -> None:
    """The instrument answers but streams no more: nothing can confirm it."""
    async with connected(fake, {"stamp_s": 0.2}) as (monitor, _):
        async with monitor.acquire() as acquisition:
            produce(fake, 1200)
            skip(fake, 10)
            produce(fake, 190)
            event(fake)
            produce(fake, 100)
            await progress_to(acquisition, 1490, 1)
        items = await all_of(acquisition)
    assert indices(items) == [(Samples, 0, 1000), (Gap, 1000, 1490)]
    assert items[-1] == Gap(1000, 490, f"{UNCONFIRMED}; 1 edges in it dropped")


async def test_who_reads_along_sees_the_tail_of_an_acquisition_that_is_broken_off(
    fake: SimulatedLpm01a,
) -> None:
    """The last gap must reach a consumer that was waiting for more when it was let go."""
    taken: list[StreamItem] = []

    async def read(acquisition: Acquisition) -> None:
        taken.extend([item async for item in acquisition])

    async with connected(fake) as (monitor, _):
        acquisition = monitor.acquire()
        await acquisition.__aenter__()
        reading = asyncio.create_task(read(acquisition))
        produce(fake, 300)
        await progress_to(acquisition, 300)
        await acquisition.abandon()
        await reading
    assert taken == [Gap(0, 300, "the acquisition was broken off")]
