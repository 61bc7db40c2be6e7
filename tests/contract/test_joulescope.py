"""The Joulescope driver against a simulated library that loses and delays messages."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.joulescope import library
from drivers.joulescope.config import JoulescopeConfig
from drivers.joulescope.driver import Joulescope, JoulescopeAcquisition
from labd.core.errors import (
    ConfigError,
    DeadlineExceeded,
    InstrumentError,
    LabdBug,
    LabdError,
    TransportError,
)
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark
from labd.simulation import joulescope_library as fake_library
from labd.simulation.instruments.joulescope import (
    TICK_HZ,
    JoulescopeLoad,
    MessageDisorder,
    SimulatedJoulescope,
)
from labd.simulation.instruments.synthetic_load import synthetic_current_a
from labd.simulation.joulescope_library import USB, SimulatedDriver, UsbCable
from tests.contract.acquisition import all_of, by_index, only, progress_to

FAKE = "labd.simulation.joulescope_library:SimulatedDriver"
ALMOST_A_SECOND = 9500  # samples; an incomplete message at the end is never sent


@pytest.fixture(autouse=True)
def _no_library_is_left_by_a_driver_that_was_never_closed() -> None:
    library._shared.clear()
    if USB.host is not None:
        USB.host.finalize()


@pytest.fixture
async def plug() -> AsyncGenerator[Callable[..., SimulatedJoulescope]]:
    cables: list[UsbCable] = []

    def one(*args: Any, **keys: Any) -> SimulatedJoulescope:
        cables.append(UsbCable(SimulatedJoulescope(*args, **keys)))
        return cables[-1].device

    yield one
    for cable in cables:
        cable.unplug()


@pytest.fixture
def fake(plug: Callable[..., SimulatedJoulescope]) -> SimulatedJoulescope:
    return plug()


def made(limits: dict[str, Any] | None = None, **config: object) -> Joulescope:
    """A driver; its instrument is stepped by the test, so it may be silent for long."""
    values = {"answer_s": 1.0, "library": FAKE, **config}
    return Joulescope(
        JoulescopeConfig.model_validate(values), **{"silence_s": 20.0} | (limits or {})
    )


@asynccontextmanager
async def opened(
    limits: dict[str, Any] | None = None, **config: object
) -> AsyncGenerator[Joulescope]:
    monitor = made(limits, **config)
    await monitor.open()
    try:
        yield monitor
    finally:
        with suppress(TransportError):
            await monitor.close()


async def recorded(
    fake: SimulatedJoulescope, monitor: Joulescope, *steps: Callable[[], None]
) -> list[StreamItem]:
    """Run the steps within an acquisition, then one second without faults."""
    async with monitor.acquire() as acquisition:
        for step in steps:
            step()
        fake.measure_for(1.0)
        await asyncio.sleep(0.1)
    return await all_of(acquisition)


def power_of(items: list[StreamItem]) -> np.ndarray:
    """Power by index, NaN in gaps."""
    return by_index(items, lambda samples: samples.power_w)


def expected_power(count: int, rate_hz: int = 10_000, step: int = 2) -> np.ndarray:
    ticks = np.arange(0, count * TICK_HZ // rate_hz, step)
    power = synthetic_current_a(ticks / TICK_HZ).astype(np.float32).astype(float) * 3.0
    return power.reshape(count, -1).mean(axis=1)


# ---- what is measured ----------------------------------------------------------------------


@pytest.mark.parametrize(("model", "step"), [("js220", 2), ("js110", 1)])
async def test_power_and_edges_are_those_of_the_load(
    plug: Callable[..., SimulatedJoulescope], model: str, step: int
) -> None:
    fake = plug(model)
    async with opened() as monitor, monitor.acquire() as acquisition:
        fake.measure_for(1.8)
        await progress_to(acquisition, 17_000, 2)
        assert acquisition.edges_seen == 2
    items = await all_of(acquisition)
    power = power_of(items)
    assert only(Gap, items) == []
    np.testing.assert_allclose(power, expected_power(len(power), step=step), rtol=1e-6)
    assert only(Edge, items) == [
        Edge(5000.0, "gpi0", rising=False),
        Edge(5040.0, "gpi0", rising=True),
        Edge(15_000.0, "gpi0", rising=False),
        Edge(15_040.0, "gpi0", rising=True),
    ]
    assert acquisition.received_samples == len(power)
    samples = only(Samples, items)[0]
    np.testing.assert_allclose(samples.voltage_v, 3.0)
    np.testing.assert_allclose(samples.current_a * 3.0, samples.power_w, rtol=1e-6)


async def test_an_edge_comes_after_the_samples_before_it(fake: SimulatedJoulescope) -> None:
    async with opened() as monitor:
        items = await recorded(fake, monitor, lambda: fake.measure_for(1.0))
    at = 0
    for item in items:
        if isinstance(item, Edge):
            assert item.index <= at
        elif isinstance(item, Samples):
            at = item.end


class Pulses(JoulescopeLoad):
    """Two lines that change at odd ticks."""

    def line_levels(self, line: int, ticks: np.ndarray) -> np.ndarray:
        first = (ticks >= 1_000_001) & (ticks < 1_000_003)
        return ~first if line == 0 else first if line == 3 else np.zeros(len(ticks), np.bool_)


async def test_a_pulse_of_one_microsecond_is_seen_at_any_rate(
    plug: Callable[..., SimulatedJoulescope],
) -> None:
    fake = plug(load=Pulses())
    for rate_hz in (1000, 1_000_000):
        async with opened(rate_hz=rate_hz, lines=["gpi3"]) as monitor:
            fake.time_base = fake.tick
            items = await recorded(fake, monitor)
        begin = 0.5000005 * rate_hz
        assert [(e.line, e.rising, pytest.approx(e.index)) for e in only(Edge, items)] == [
            ("gpi0", False, begin),
            ("gpi3", True, begin),
            ("gpi0", True, begin + rate_hz / 1e6),
            ("gpi3", False, begin + rate_hz / 1e6),
        ]
        assert monitor.stream_format.edge_uncertainty_s == 0.5e-6


async def test_time_marks_give_the_utc_of_samples(fake: SimulatedJoulescope) -> None:
    async with opened() as monitor:
        items = await recorded(fake, monitor, lambda: fake.measure_for(2.2))
    marks: list[TimeMark] = only(TimeMark, items)
    assert [mark.index for mark in marks] == [0.0, 10_000.0, 20_000.0, 30_000.0]
    assert marks[0].t_ns == 1_700_000_000 * 10**9
    assert {mark.clock for mark in marks} == {"utc"}
    for before, after in itertools.pairwise(marks):
        elapsed = after.t_ns - before.t_ns
        assert elapsed == pytest.approx(1e9 / (1 + 12e-6), abs=3)


# ---- opened once, never switched -----------------------------------------------------------


async def test_several_acquisitions_do_not_interrupt_the_supply(fake: SimulatedJoulescope) -> None:
    async with opened() as monitor:
        set_up = len(fake.history)
        assert ("s/i/range/mode", "auto") in fake.history
        for _ in range(3):
            assert len(power_of(await recorded(fake, monitor))) > ALMOST_A_SECOND
            assert not fake.interrupts_supply
        assert await monitor.self_check() == []
        assert (fake.opened, fake.closed) == (1, 0)
        topics = {topic for topic, _ in fake.history[set_up:]}
        assert topics == {"s/gpi/0/ctrl", "s/i/ctrl", "s/v/ctrl", "s/gpi/+/!req"}
        assert not fake.is_streaming
    assert (fake.opened, fake.closed) == (1, 1)


async def test_a_js220_is_set_up_as_configured(fake: SimulatedJoulescope) -> None:
    async with opened(
        voltage_range="2 V", current_range="180 uA", gpio_voltage="external"
    ) as monitor:
        assert fake.values == {
            "c/fw/version": 0x01030002,
            "s/v/range/select": "2 V",
            "s/v/range/mode": "manual",
            "s/i/range/select": "180 µA",
            "s/i/range/mode": "manual",
            "c/gpio/vref": "external",
            "h/fs": 1_000_000,
        }
        assert not monitor.can_supply_dut
        assert monitor.stream_format.voltage_v is None
        assert monitor.stream_format.timestamp_line == "gpi0"


async def test_a_js110_streams_its_inputs_in_the_lowest_bits(
    plug: Callable[..., SimulatedJoulescope],
) -> None:
    fake = plug("js110", "004321")
    monitor = made(timestamp_line="gpi1", voltage_range="5 V", gpio_voltage="1.8 V")
    identity = await monitor.open()
    assert (identity.name, identity.serial, identity.firmware) == ("Joulescope JS110", "004321", "")
    assert fake.values == {
        "h/fs": 2_000_000,
        "s/extio/voltage": 1800,
        "s/i/lsb_src": "normal",
        "s/v/lsb_src": "gpi1",
        "s/i/range/select": "auto",
        "s/v/range/select": "5 V",
    }
    await monitor.close()


async def test_the_identity_names_model_serial_and_firmware(fake: SimulatedJoulescope) -> None:
    monitor = made()
    identity = await monitor.open()
    assert (identity.kind, identity.name) == ("joulescope", "Joulescope JS220")
    assert (identity.serial, identity.firmware, identity.simulated) == (
        "simulated-000123",
        "1.3.2",
        True,
    )
    await monitor.close()


# ---- loss and disorder -----------------------------------------------------------------------


async def test_reordered_delayed_and_doubled_messages_change_nothing(
    fake: SimulatedJoulescope,
) -> None:
    fake.tamper = disorder = MessageDisorder(7, double=0.2, hold=12)
    async with opened() as monitor:
        items = await recorded(
            fake, monitor, lambda: fake.measure_for(2.0), lambda: setattr(disorder, "hold", 0)
        )
    power = power_of(items)
    assert only(Gap, items) == []
    np.testing.assert_allclose(power, expected_power(len(power)), rtol=1e-6)
    assert [edge.index for edge in only(Edge, items)] == [
        5000.0, 5040.0, 15_000.0, 15_040.0, 25_000.0, 25_040.0
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
async def test_lost_messages_are_gaps_and_a_finding(fake: SimulatedJoulescope, seed: int) -> None:
    fake.tamper = MessageDisorder(seed, lose=0.03, hold=5)
    async with opened() as monitor:
        items = await recorded(fake, monitor, lambda: fake.measure_for(3.0))
        (finding,) = await monitor.self_check()
        fake.tamper = list
        await recorded(fake, monitor)
        assert await monitor.self_check() == []
    power = power_of(items)
    known = ~np.isnan(power)
    assert 0 < np.count_nonzero(~known) < len(power) / 2
    assert finding.code == "samples-lost"
    assert "limit 0.1%" in finding.text
    assert "root hub" in finding.remedy


async def test_a_lost_message_shifts_nothing(fake: SimulatedJoulescope) -> None:
    lost: list[str] = []

    def lose_one(messages: list[Any]) -> list[Any]:
        kept = []
        for topic, fields in messages:
            early = fields["sample_id"] - fake.time_base < 0.7 * TICK_HZ
            if topic.endswith("s/v/!data") and not early and not lost:
                lost.append(topic)
            else:
                kept.append((topic, fields))
        return kept

    fake.tamper = lose_one
    async with opened() as monitor:
        items = await recorded(fake, monitor, lambda: fake.measure_for(1.0))
    power = power_of(items)
    (gap,) = only(Gap, items)
    assert gap.reason == "voltage lost"
    assert 7000 <= gap.index < 7500
    known = ~np.isnan(power)
    np.testing.assert_allclose(power[known], expected_power(len(power))[known], rtol=1e-6)
    assert [edge.index for edge in only(Edge, items)] == [5000.0, 5040.0, 15_000.0, 15_040.0]


@pytest.mark.parametrize("model", ["js220", "js110"])
async def test_data_lost_on_usb_are_a_gap_without_an_edge(
    plug: Callable[..., SimulatedJoulescope], model: str
) -> None:
    fake = plug(model)
    async with opened() as monitor:
        items = await recorded(
            fake,
            monitor,
            lambda: fake.measure_for(0.6),
            lambda: fake.lose_usb_data(0.2),
            lambda: fake.measure_for(0.2),
        )
    (gap,) = only(Gap, items)
    assert (gap.index, gap.count) == (6000, 2000)
    assert [edge.index for edge in only(Edge, items)] == [5000.0, 5040.0, 15_000.0, 15_040.0]
    power = power_of(items)
    known = ~np.isnan(power)
    step = 1 if model == "js110" else 2
    np.testing.assert_allclose(
        power[known], expected_power(len(power), step=step)[known], rtol=1e-6
    )


async def test_samples_that_are_no_numbers_are_a_gap_without_edges(
    fake: SimulatedJoulescope,
) -> None:
    async with opened() as monitor:
        items = await recorded(
            fake,
            monitor,
            lambda: fake.measure_for(0.49),
            lambda: fake.measure_not_a_number("s/i", 0.02),
        )
    (gap,) = only(Gap, items)
    assert (gap.index, gap.count) == (4900, 200)
    assert gap.reason == "not a number; 2 edges in it dropped"
    assert [edge.index for edge in only(Edge, items)] == []


async def test_a_stalled_event_loop_gets_a_gap_and_a_finding(fake: SimulatedJoulescope) -> None:
    async with opened({"inbox_messages": 40}) as monitor:
        async with monitor.acquire() as acquisition:
            fake.measure_for(3.0)  # the loop is stalled meanwhile
            while USB.host is not None and not USB.host._queue.empty():
                time.sleep(0.01)  # noqa: ASYNC251 - that is the point
            await progress_to(acquisition, 1)
            fake.measure_for(1.0)
            await asyncio.sleep(0.1)
        items = await all_of(acquisition)
        (finding,) = await monitor.self_check()
    assert "this host was too slow for" in finding.text
    counts = acquisition.event_counts
    assert counts["dropped_messages"] > 0
    assert 0 < counts["lost_instrument_samples"] < counts["instrument_samples"]
    power = power_of(items)
    known = ~np.isnan(power)
    assert not known.all()
    np.testing.assert_allclose(power[known], expected_power(len(power))[known], rtol=1e-6)


async def test_a_signal_without_messages_ends_the_acquisition(fake: SimulatedJoulescope) -> None:
    fake.tamper = lambda messages: [one for one in messages if "/s/v/" not in one[0]]
    async with opened() as monitor:
        with pytest.raises(InstrumentError, match="no messages of voltage"):
            await recorded(fake, monitor, lambda: fake.measure_for(3.0))
        fake.tamper = list
        assert len(power_of(await recorded(fake, monitor))) > ALMOST_A_SECOND


# ---- ends ------------------------------------------------------------------------------------


async def watch(fake: SimulatedJoulescope, acquisition: JoulescopeAcquisition) -> None:
    """Acquire without end; the instrument sends for half a second."""
    async with acquisition:
        fake.measure_for(0.5)
        while True:
            await acquisition.wait_progress(10.0)


async def test_an_unplug_in_an_acquisition_is_seen_within_a_second(
    fake: SimulatedJoulescope,
) -> None:
    async with opened() as monitor:
        acquisition = monitor.acquire()
        waiting = asyncio.create_task(watch(fake, acquisition))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        USB.unplug(fake)
        with pytest.raises(TransportError) as caught:
            await waiting
        assert caught.value.code == "port-lost"
        assert "supply was cut" in caught.value.remedy
        await monitor.close()
        assert time.monotonic() - began < 1.0
    with pytest.raises(TransportError):
        await all_of(acquisition)


async def test_an_unplug_ends_a_call_that_blocks(fake: SimulatedJoulescope) -> None:
    async with opened(answer_s=4.0) as monitor:
        fake.mute = True
        asking = asyncio.create_task(monitor.self_check())
        await asyncio.sleep(0.1)
        began = time.monotonic()
        USB.unplug(fake)
        with pytest.raises(TransportError, match="went away"):
            await asking
        await monitor.close()
        assert time.monotonic() - began < 1.0


async def test_silence_ends_an_acquisition(fake: SimulatedJoulescope) -> None:
    async with opened({"silence_s": 0.3}) as monitor:
        with pytest.raises(TransportError) as caught:
            await watch(fake, monitor.acquire())
        assert caught.value.code == "stream-silent"
        async with monitor.acquire() as acquisition:
            fake.measure_for(0.5)
            await progress_to(acquisition, 2000)


async def test_an_instrument_that_came_back_can_be_opened_again(
    plug: Callable[..., SimulatedJoulescope], fake: SimulatedJoulescope
) -> None:
    old = made()
    await old.open()
    USB.unplug(fake)
    while not old._usb.is_removed:  # type: ignore[union-attr]
        await asyncio.sleep(0.001)
    again = plug()
    with pytest.raises(TransportError):
        await old.self_check()
    async with opened() as monitor:
        await old.close()
        assert len(power_of(await recorded(again, monitor))) > ALMOST_A_SECOND
        with pytest.raises(TransportError, match="open already"):
            await made().open()


async def test_a_call_that_fails_before_the_removal_is_announced_reports_the_removal(
    fake: SimulatedJoulescope,
) -> None:
    async with opened({"removal_s": 0.1}, answer_s=0.2) as monitor:
        del USB.devices[fake.path]  # gone, but the library has not announced it
        with pytest.raises(TransportError, match="went away"):
            await monitor.self_check()
        began = time.monotonic()
        await monitor.close()
        assert time.monotonic() - began < 0.5


async def test_a_removal_that_is_announced_after_a_failed_call_is_awaited(
    fake: SimulatedJoulescope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(driver: SimulatedDriver, *_: object, **__: object) -> None:
        text = "jsdrv_publish failed 7 IO | Input/output error"
        threading.Timer(0.05, driver.notify_subscribers, ("@/!remove", fake.path)).start()
        raise RuntimeError(text)

    async with opened({"removal_s": 5.0}) as monitor:
        monkeypatch.setattr(SimulatedDriver, "publish", fail)
        began = time.monotonic()
        with pytest.raises(TransportError, match="went away"):
            await monitor.self_check()
        assert time.monotonic() - began < 4.0


async def test_a_refused_call_of_a_connected_instrument_stays_a_refusal(
    fake: SimulatedJoulescope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("jsdrv_publish failed 5 PARAMETER_INVALID | no")

    async with opened({"removal_s": 0.1}) as monitor:
        with monkeypatch.context() as patch:
            patch.setattr(SimulatedDriver, "publish", fail)
            with pytest.raises(InstrumentError, match="PARAMETER_INVALID"):
                await monitor.self_check()
        assert await monitor.self_check() == []


async def test_the_next_acquisition_stops_an_abandoned_one(fake: SimulatedJoulescope) -> None:
    async with opened() as monitor:
        acquisition = monitor.acquire()
        await acquisition.__aenter__()
        fake.measure_for(0.5)
        await acquisition.abandon()
        assert fake.is_streaming
        fake.measure_for(0.3)
        before = len(fake.history)
        async with monitor.acquire() as again:
            switched = [value for topic, value in fake.history[before:] if topic == "s/i/ctrl"]
            assert switched == [0, 1]
            fake.measure_for(0.5)
            await progress_to(again, 2000)
        assert not fake.is_streaming
        assert only(Samples, await all_of(again))[0].index == 0


async def test_messages_that_arrive_during_the_stop_are_kept(
    fake: SimulatedJoulescope, monkeypatch: pytest.MonkeyPatch
) -> None:
    last: list[Any] = []

    async def publish(*_: object) -> None:
        for topic, fields in last:
            usb._on_publish(topic, fields)

    async with opened() as monitor:
        usb = monitor._usb
        assert usb is not None
        async with monitor.acquire() as acquisition:
            fake.measure_for(1.0)
            await progress_to(acquisition, 9500)
            fake.tamper = lambda messages: last.extend(messages) or []
            fake.measure_for(0.5)
            monkeypatch.setattr(usb, "publish_values", publish)
        assert acquisition.received_samples > 14_500


async def test_close_stops_the_streams_of_an_abandoned_acquisition(
    fake: SimulatedJoulescope,
) -> None:
    monitor = made()
    await monitor.open()
    acquisition = monitor.acquire()
    await acquisition.__aenter__()
    await monitor.close()
    assert not fake.is_streaming
    assert not fake.is_open
    assert USB.host is None


async def test_a_failing_stop_does_not_hide_the_exception_of_the_body(
    fake: SimulatedJoulescope,
) -> None:
    async def body(monitor: Joulescope) -> None:
        async with monitor.acquire():
            fake.mute = True
            raise ValueError("body")

    async with opened(answer_s=0.2) as monitor:
        with pytest.raises(ValueError, match="body") as caught:
            await body(monitor)
        assert "stopping the acquisition failed too" in caught.value.__notes__[0]
        fake.mute = False


async def test_only_one_acquisition_at_a_time_and_none_when_closed(
    fake: SimulatedJoulescope,
) -> None:
    async with opened() as monitor:
        async with monitor.acquire():
            with pytest.raises(LabdBug):
                monitor.acquire()
        with pytest.raises(LabdBug):
            await monitor.open()
        with pytest.raises(LabdBug):
            await monitor.set_dut_supply(3000)
    with pytest.raises(LabdBug):
        monitor.acquire()


# ---- which instrument ------------------------------------------------------------------------


async def refused(**config: object) -> LabdError:
    with pytest.raises(LabdError) as caught:
        await made(**config).open()
    assert USB.host is None
    return caught.value


async def test_the_error_of_a_missing_instrument_names_those_connected(
    plug: Callable[..., SimulatedJoulescope],
) -> None:
    error = await refused()
    assert (type(error), error.code) == (TransportError, "port-missing")
    plug(serial="000777")
    error = await refused(serial="000123")
    assert "no Joulescope 000123 on USB; there: u/js220/000777" in str(error)


async def test_one_of_several_must_be_named(
    plug: Callable[..., SimulatedJoulescope],
) -> None:
    first, second = plug(serial="000001"), plug("js110", "000002")
    error = await refused()
    assert (type(error), error.code) == (ConfigError, "serial-needed")
    assert "u/js110/000002, u/js220/000001" in str(error)
    async with opened(serial="000001") as one, opened(serial="000002") as other:
        assert first.is_open
        assert second.is_open
        with pytest.raises(TransportError) as caught:
            await made(serial="000001").open()
        assert caught.value.code == "port-busy"
        for fake, monitor in ((first, one), (second, other)):
            assert len(power_of(await recorded(fake, monitor))) > ALMOST_A_SECOND
        assert USB.host is not None
        subscribers = len(USB.host._subscribers)
        await one.close()
        assert len(USB.host._subscribers) == subscribers / 2
        assert second.is_open
        assert len(power_of(await recorded(second, other))) > ALMOST_A_SECOND
    assert USB.host is None


async def test_a_bootloader_is_refused(
    plug: Callable[..., SimulatedJoulescope],
) -> None:
    plug("&js220")
    error = await refused()
    assert (type(error), error.code) == (ConfigError, "bootloader")
    assert "update" in error.remedy


async def test_an_unknown_model_is_refused(plug: Callable[..., SimulatedJoulescope]) -> None:
    plug("js999")
    assert (await refused()).code == "unknown-model"


async def test_an_instrument_that_another_program_has_open_is_busy(
    fake: SimulatedJoulescope,
) -> None:
    fake.open()
    SimulatedDriver().finalize()
    fake.set_library_host = lambda host: setattr(fake, "_host", host)  # type: ignore[method-assign]
    fake.is_open = True
    error = await refused()
    assert (type(error), error.code) == (TransportError, "port-busy")
    assert "udev" in error.remedy


@pytest.mark.parametrize(
    ("model", "config", "text"),
    [
        ("js220", {"voltage_range": "5 V"}, "voltage_range = '5 V', but a JS220 has 15 V, 2 V"),
        ("js110", {"voltage_range": "2 V"}, "but a JS110 has 15 V, 5 V"),
        ("js220", {"current_range": "2 A"}, "current_range = '2 A'"),
        ("js110", {"timestamp_line": "gpi3"}, "line = 'gpi3', but a JS110 has gpi0, gpi1"),
        ("js110", {"gpio_voltage": "external"}, "gpio_voltage = 'external'"),
        ("js220", {"gpio_voltage": "1.8 V"}, "3.3 V, external"),
    ],
)
async def test_what_a_model_lacks_is_refused_before_its_supply_is_interrupted(
    plug: Callable[..., SimulatedJoulescope], model: str, config: dict[str, str], text: str
) -> None:
    fake = plug(model)
    error = await refused(**config)
    assert (type(error), error.code) == (ConfigError, "model-lacks")
    assert text in str(error)
    assert fake.opened == 0


async def test_a_refused_setting_closes_the_instrument(fake: SimulatedJoulescope) -> None:
    fake.refuses["h/fs"] = "5 PARAMETER_INVALID"
    error = await refused()
    assert (type(error), error.code) == (InstrumentError, "refused")
    assert "h/fs" in str(error)
    assert not fake.is_open


async def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    error = await refused(library=library.LIBRARY)
    assert (type(error), error.code) == (ConfigError, "library-missing")
    assert error.remedy == "pip install labd[joulescope]"


async def test_a_library_call_that_never_returns_ends_in_a_deadline(
    fake: SimulatedJoulescope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*_: Any, **__: Any) -> None:
        time.sleep(1.5)

    async with opened({"grace_s": 0.1}, answer_s=0.2) as monitor:
        with monkeypatch.context() as patch:
            patch.setattr(SimulatedDriver, "publish", stuck)
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await monitor.self_check()
            assert time.monotonic() - began < 1.0
        await asyncio.sleep(1.5)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"rate_hz": 44_100}, "none of 1000"),
        ({"voltage_range": "3 V"}, "15 V"),
        ({"current_range": "3 mA"}, "'3 mA' is none of"),
        ({"timestamp_line": "d7"}, "'d7' is none of gpi0"),
        ({"lines": ["gpi9"]}, "'gpi9' is none of gpi0"),
        ({"port": "/dev/ttyACM0"}, "Extra inputs"),
    ],
)
def test_a_wrong_table_is_refused(config: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        JoulescopeConfig.model_validate(config)


# ---- the simulated library is like the real one -------------------------------------------------


def test_the_simulated_library_has_the_methods_and_arguments_of_the_real_one() -> None:
    real = pytest.importorskip("pyjoulescope_driver").Driver
    names = {name for name in vars(real) if not name.startswith("_")}
    assert names <= set(dir(SimulatedDriver)) | {"log_level"}
    for name in names - {"log_level"}:
        of_real = inspect.signature(getattr(real, name)).parameters.values()
        of_fake = inspect.signature(getattr(SimulatedDriver, name)).parameters.values()
        assert [(p.name, p.default, p.kind) for p in of_fake] == [
            (p.name, p.default, p.kind) for p in of_real
        ], name


def test_the_simulated_library_fails_like_the_real_one() -> None:
    """As far as the real one can be tried without an instrument."""
    real = pytest.importorskip("pyjoulescope_driver").Driver
    path = "u/js220/999999"
    asks: list[Callable[[Any], object]] = [
        lambda one: type(one)(),
        lambda one: one.open(path, timeout=0.05),
        lambda one: one.close(path, timeout=0.05),
        lambda one: one.publish(f"{path}/h/fs", 1000, timeout=0.05),
        lambda one: one.publish(f"{path}/h/fs", [1]),
        lambda one: one.query(f"{path}/c/fw/version"),
        lambda one: one.device_paths(),
    ]
    outcomes = []
    for driver in (real, SimulatedDriver):
        with driver() as one:
            outcomes.append([outcome(one, ask) for ask in asks])
    assert outcomes[0] == outcomes[1]


def outcome(one: Any, ask: Callable[[Any], object]) -> tuple[str, str]:
    try:
        return "value", repr(ask(one))
    except Exception as exc:  # noqa: BLE001 - what it raises is the question
        return type(exc).__name__, str(exc).split("|")[0].strip()


async def test_the_real_library_starts_and_ends_without_instruments() -> None:
    pytest.importorskip("pyjoulescope_driver")
    for _ in range(2):
        with pytest.raises(TransportError) as caught:
            await made(library=library.LIBRARY, serial="no such").open()
        assert caught.value.code == "port-missing"


async def test_the_live_library_measures_in_real_time() -> None:
    async with opened(library="labd.simulation.joulescope_library:LiveDriver") as monitor:
        async with monitor.acquire() as acquisition:
            assert isinstance(acquisition, JoulescopeAcquisition)
            await progress_to(acquisition, 6000, 1)
        items = await all_of(acquisition)
    assert len(power_of(items)) >= 6000
    assert not fake_library.USB.devices
