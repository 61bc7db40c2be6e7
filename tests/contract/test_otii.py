"""The Otii driver against a simulated server whose time the test advances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.base.interfaces import Acquisition
from drivers.base.serial_link import Link
from drivers.otii.acquisition import OtiiAcquisition
from drivers.otii.config import OtiiConfig
from drivers.otii.driver import Otii
from labd.core.errors import (
    ConfigError,
    DeadlineExceeded,
    InstrumentError,
    JobError,
    LabdBug,
    TransportError,
)
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeMark
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments.otii import Loss, SimulatedOtii, make_ace, make_arc
from labd.simulation.instruments.synthetic_load import synthetic_current_a, timestamp_falls_between
from tests.contract.acquisition import all_of, by_index, only, open_monitor
from tests.contract.case import plugged


@pytest.fixture
def fake() -> SimulatedOtii:
    return SimulatedOtii()


def made(fake: SimulatedOtii, cable: TcpCable, **config: object) -> Otii:
    values = {"port": cable.port, "answer_s": 3.0, **config}
    return Otii(OtiiConfig.model_validate(values), fake.clock_ns, poll_s=0.005)


@asynccontextmanager
async def connected(fake: SimulatedOtii, **config: object) -> AsyncGenerator[tuple[Otii, TcpCable]]:
    async with open_monitor(fake, TcpCable, lambda cable: made(fake, cable, **config)) as opened:
        yield opened


async def pass_time(fake: SimulatedOtii, acquisition: Acquisition, seconds: float) -> None:
    """Advance in steps, each of which the driver polls."""
    for _ in range(round(seconds * 20)):
        fake.advance_clock(0.05)
        before, begun = acquisition.received_samples, time.monotonic()
        while acquisition.received_samples == before and time.monotonic() < begun + 0.05:
            await asyncio.sleep(0.002)


async def recorded(fake: SimulatedOtii, instrument: Otii, seconds: float) -> list[StreamItem]:
    await instrument.set_dut_supply(3000)
    async with instrument.acquire() as acquisition:
        await pass_time(fake, acquisition, seconds)
    return await all_of(acquisition)


async def run(acquisition: OtiiAcquisition, body: Callable[[], Awaitable[None]]) -> None:
    """Run the body in the acquisition, then wait for progress that does not come."""
    async with acquisition:
        await body()
        await acquisition.wait_progress(5.0)


def amps_of(items: list[StreamItem]) -> np.ndarray:
    """Current by index, NaN in gaps."""
    return by_index(items, lambda samples: samples.current_a)


async def test_a_recording_becomes_a_stream_while_it_grows(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _):
        await instrument.set_dut_supply(3000)
        async with instrument.acquire() as acquisition:
            await pass_time(fake, acquisition, 5.0)
            stream = aiter(acquisition)
            early = [await anext(stream) for _ in range(5)]
            assert acquisition.received_samples == 20_000
            assert acquisition.edges_seen == 5
            await pass_time(fake, acquisition, 1.0)
        items = early + [item async for item in stream]
    amps = amps_of(items)
    assert len(amps) == 24_000
    np.testing.assert_allclose(amps, synthetic_current_a(np.arange(24_000) / 4000), atol=1e-9)
    power = np.concatenate([item.power_w for item in items if isinstance(item, Samples)])
    np.testing.assert_allclose(power, 3.0 * amps, rtol=1e-9)
    falls = [edge.index for edge in only(Edge, items) if not edge.rising]
    assert falls == pytest.approx([at * 4000 for at in timestamp_falls_between(0.0, 6.0)])
    assert (
        {edge.line for edge in only(Edge, items)}
        == {instrument.stream_format.timestamp_line}
        == {"i1"}
    )
    assert "recording_delete" in fake.commands


async def test_time_marks_bound_the_host_time_of_samples(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _):
        items = await recorded(fake, instrument, 4.0)
    marks = only(TimeMark, items)
    assert len(marks) >= 3
    began_ns = round(fake.recordings[0].began_s * 1e9)
    for mark in marks:
        truth_ns = began_ns + round(mark.index / 4000 * 1e9)
        assert abs(mark.t_ns - truth_ns) <= mark.uncertainty_ns
        assert mark.clock == "host"


async def test_the_power_uses_the_last_measured_voltage(fake: SimulatedOtii) -> None:
    fake.resistance_ohm = 10.0
    async with connected(fake) as (instrument, _):
        items = await recorded(fake, instrument, 3.0)
    volts = np.concatenate([i.voltage_v for i in items if isinstance(i, Samples)])  # type: ignore[misc]
    held = np.arange(len(volts)) // 4 * 4 / 4000
    np.testing.assert_allclose(volts, 3.0 - 10.0 * synthetic_current_a(held), atol=1e-8)


async def test_an_ace_samples_at_the_configured_rate_and_an_arc_at_its_own() -> None:
    fast = SimulatedOtii(make_ace())
    async with connected(fast, rate_hz=50_000) as (instrument, _):
        assert instrument.stream_format.sample_rate_hz == 50_000
        amps = amps_of(await recorded(fast, instrument, 3.0))
        np.testing.assert_allclose(
            amps, synthetic_current_a(np.arange(150_000) / 50_000), atol=1e-9
        )
    async with connected(SimulatedOtii(make_arc()), rate_hz=4000) as (instrument, _):
        assert instrument.stream_format.sample_rate_hz == 4000
    with pytest.raises(ConfigError, match="Arc samples at 4000 Hz"):
        async with connected(SimulatedOtii(make_arc()), rate_hz=50_000):
            pytest.fail("an Arc took 50 kHz")
    with pytest.raises(ConfigError, match="1000 to 50000 Hz"):
        async with connected(SimulatedOtii(make_ace()), rate_hz=100_000):
            pytest.fail("an Ace took 100 kHz")


async def test_a_loss_that_the_times_show_is_a_gap(fake: SimulatedOtii) -> None:
    fake.losses = [Loss("mc", at_s=2.033, count=17)]
    async with connected(fake) as (instrument, _):
        items = await recorded(fake, instrument, 5.0)
    gaps = only(Gap, items)
    assert len(gaps) == 1
    assert gaps[0].index <= 2.033 * 4000
    assert gaps[0].end >= 2.033 * 4000 + 17
    assert "samples of mc received where its times have" in gaps[0].reason
    amps = amps_of(items)
    assert len(amps) == 20_000
    sound = ~np.isnan(amps)
    np.testing.assert_allclose(
        amps[sound], synthetic_current_a(np.arange(20_000) / 4000)[sound], atol=1e-9
    )


async def test_an_edge_in_a_gap_is_dropped(fake: SimulatedOtii) -> None:
    fake.losses = [Loss("mc", at_s=1.5, count=40)]
    async with connected(fake) as (instrument, _):
        items = await recorded(fake, instrument, 4.0)
    falls = [edge.index / 4000 for edge in only(Edge, items) if not edge.rising]
    assert falls == pytest.approx([0.5, 2.5, 3.5])


async def test_a_loss_of_voltage_is_a_gap_too(fake: SimulatedOtii) -> None:
    fake.losses = [Loss("mv", at_s=2.0, count=200)]
    async with connected(fake) as (instrument, _):
        items = await recorded(fake, instrument, 5.0)
    gaps = only(Gap, items)
    assert gaps
    assert {gap.reason for gap in gaps} == {"no voltage was measured"}
    assert gaps[0].index <= 8004
    assert gaps[-1].end >= 8800
    assert len(amps_of(items)) == 20_000


async def test_a_loss_that_only_the_host_clock_shows_ends_the_acquisition(
    fake: SimulatedOtii,
) -> None:
    fake.losses = [Loss("mc", at_s=3.0, count=1000, visible=False)]
    async with connected(fake) as (instrument, _):
        acquisition = instrument.acquire()
        with pytest.raises(InstrumentError, match=r"about 1\d\d\d samples are missing"):
            await run(acquisition, lambda: pass_time(fake, acquisition, 16.0))
        items: list[StreamItem] = []
        with pytest.raises(InstrumentError, match="missing by the host's clock"):
            await all_of(acquisition, items)
        confirmed = only(Samples, items)
        assert not confirmed or confirmed[-1].end <= 12_000
        await instrument.set_dut_supply(None)


async def test_a_stalled_recording_ends_the_acquisition(fake: SimulatedOtii) -> None:
    fake.stalled_s = 3.0
    async with connected(fake) as (instrument, _):
        acquisition = instrument.acquire()
        with pytest.raises(InstrumentError, match="missing by the host's clock"):
            await run(acquisition, lambda: pass_time(fake, acquisition, 14.0))


async def test_more_samples_than_the_time_allows_end_the_acquisition(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _):
        real = fake.clock_ns
        instrument.clock = lambda: real() // 2
        acquisition = instrument.acquire()
        with pytest.raises(InstrumentError, match="are more than 4000 per second"):
            await run(acquisition, lambda: pass_time(fake, acquisition, 4.0))


async def test_a_value_missing_in_the_reply_is_a_gap(fake: SimulatedOtii) -> None:
    fake.null_at = {5000, 5001}
    async with connected(fake) as (instrument, _):
        items = await recorded(fake, instrument, 3.0)
    gaps = only(Gap, items)
    assert [(gap.index, gap.count) for gap in gaps] == [(5000, 2)]


async def test_channels_with_different_delays_lose_nothing(fake: SimulatedOtii) -> None:
    fake.lag_s = {"mc": 0.0, "mv": 0.25, "i1": 0.2, "i2": 0.0}
    async with connected(fake) as (instrument, _):
        items = await recorded(fake, instrument, 4.0)
    assert not any(isinstance(item, Gap) for item in items)
    assert len(amps_of(items)) == 16_000
    assert len([edge for edge in only(Edge, items) if not edge.rising]) == 4
    end = 0
    for item in items:
        if isinstance(item, Samples):
            end = item.end
        elif isinstance(item, Edge):
            assert item.index <= end


async def test_progress_messages_and_split_lines_are_ignored(fake: SimulatedOtii) -> None:
    fake.progress = True
    async with connected(fake) as (instrument, cable):
        whole_send, waiting = cable.send, bytearray()
        fake.send = waiting.extend

        async def trickle() -> None:
            while True:
                whole_send(bytes(waiting[:13]))
                del waiting[:13]
                await asyncio.sleep(0.001)

        trickling = asyncio.create_task(trickle())
        await instrument.set_dut_supply(3000)
        assert await instrument.self_check() == []
        fake.send = whole_send
        trickling.cancel()
        await asyncio.wait([trickling])


async def test_a_late_answer_is_dropped(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _):
        fake.unanswered = {"arc_is_connected"}
        with pytest.raises(DeadlineExceeded, match="arc_is_connected"):
            await instrument.self_check()
        fake.unanswered = set()
        fake.send_delayed_answers()
        assert await instrument.self_check() == []
        await instrument.set_dut_supply(1800)
        assert fake.volts[fake.devices[0]["device_id"]] == 1.8


async def test_a_damaged_message_is_an_error(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, cable):
        cable.tamper = lambda data: data.replace(b"{", b"", 1)
        with pytest.raises(InstrumentError, match="no JSON object"):
            await instrument.set_dut_supply(3000)
        cable.tamper = lambda data: data


async def test_the_dut_is_off_after_open_and_after_close(fake: SimulatedOtii) -> None:
    device = fake.devices[0]["device_id"]
    fake.main[device] = True
    async with connected(fake) as (instrument, _):
        assert fake.main[device] is False
        await instrument.set_dut_supply(3000)
        assert fake.main[device] is True
        assert fake.volts[device] == 3.0
        await instrument.set_dut_supply(None)
        assert fake.main[device] is False
        await instrument.set_dut_supply(3000)
    assert fake.main[device] is False


async def test_a_voltage_out_of_the_stations_range_is_a_job_error(fake: SimulatedOtii) -> None:
    async with connected(fake, max_voltage_mv=3300) as (instrument, _):
        for voltage in (400, 5000):
            with pytest.raises(JobError, match="500 to 3300 mV"):
                await instrument.set_dut_supply(voltage)
        assert not fake.volts


async def test_a_supply_that_cut_off_fails_the_acquisition(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _):
        await instrument.set_dut_supply(3000)
        acquisition = instrument.acquire()

        async def short_circuit() -> None:
            async with acquisition:
                await pass_time(fake, acquisition, 2.0)
                fake.main[fake.devices[0]["device_id"]] = False

        with pytest.raises(InstrumentError, match="switched itself off"):
            await short_circuit()
        assert not acquisition.was_left_running


async def test_a_licence_is_reserved_and_returned(
    fake: SimulatedOtii, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTII_USERNAME", "lab")
    monkeypatch.setenv("OTII_PASSWORD", "secret")
    fake.logged_in, fake.account = False, ("lab", "secret")
    async with connected(fake):
        assert fake.logged_in
        assert fake.licences[0]["reserved_to"] == "me"
    assert fake.licences[0]["reserved_to"] == ""
    assert not fake.logged_in


async def test_a_licence_reserved_by_hand_is_kept(fake: SimulatedOtii) -> None:
    fake.licences[0]["reserved_to"] = "me"
    async with connected(fake):
        pass
    assert fake.licences[0]["reserved_to"] == "me"
    assert "otii_login" not in fake.commands
    assert "otii_logout" not in fake.commands


@pytest.mark.parametrize(
    ("licences", "said"),
    [
        ([], "the account has none"),
        ([{"id": 1, "type": "Pro", "available": True, "reserved_to": ""}], "Pro"),
        ([{"id": 1, "type": "Automation", "available": True, "reserved_to": "eve"}], "eve"),
        ([{"id": 1, "type": "Automation", "available": False, "reserved_to": ""}], "not usable"),
    ],
)
async def test_the_error_without_licence_lists_those_of_the_account(
    fake: SimulatedOtii, licences: list[dict[str, object]], said: str
) -> None:
    fake.licences = licences
    with pytest.raises(InstrumentError, match=said) as caught:
        async with connected(fake):
            pytest.fail("it opened without a licence")
    assert caught.value.code == "no-licence"
    assert "OTII_USERNAME" in caught.value.remedy


async def test_an_addon_licence_is_accepted(fake: SimulatedOtii) -> None:
    addon = [{"id": "Automation", "attributes": None}]
    fake.licences = [
        {"id": 7, "type": "Pro", "available": True, "reserved_to": "", "addons": addon}
    ]
    async with connected(fake):
        assert fake.licences[0]["reserved_to"] == "me"


async def test_a_wrong_password_is_refused(
    fake: SimulatedOtii, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTII_USERNAME", "lab")
    monkeypatch.setenv("OTII_PASSWORD", "wrong")
    fake.logged_in = False
    with pytest.raises(InstrumentError, match="Invalid username or password") as caught:
        async with connected(fake):
            pytest.fail("it opened with a wrong password")
    assert "environment" in caught.value.remedy
    assert "wrong" not in str(caught.value)


async def test_a_server_without_licences_needs_none(fake: SimulatedOtii) -> None:
    fake.refuses = dict.fromkeys(("otii_is_logged_in", "arc_set_range"), "Invalid command")
    fake.refuses["arc_get_channel_samplerate"] = "Invalid command"
    async with connected(fake) as (instrument, _):
        assert instrument.stream_format.sample_rate_hz == 4000


async def test_one_of_several_devices_must_be_named() -> None:
    fake = SimulatedOtii(make_arc(1), make_ace(2))
    with pytest.raises(ConfigError, match=r"2 devices: arc-1 .*, ace-2"):
        async with connected(fake):
            pytest.fail("it chose one by itself")
    async with plugged(fake, TcpCable) as cable:
        for wanted, model in (("ace-2", "Ace"), (make_arc(1)["device_id"], "Arc")):
            instrument = made(fake, cable, device=wanted)
            identity = await instrument.open()
            assert identity.name == f"Otii {model}"
            await instrument.close()
    with pytest.raises(InstrumentError, match="no device 'arc-9'; it has arc-1"):
        async with connected(SimulatedOtii(make_arc(1)), device="arc-9"):
            pytest.fail("it took another device")


async def test_a_server_without_devices_is_refused(fake: SimulatedOtii) -> None:
    fake.devices = []
    with pytest.raises(InstrumentError, match="it has none"):
        async with connected(fake):
            pytest.fail("there was nothing to open")


async def test_a_busy_server_is_refused(fake: SimulatedOtii) -> None:
    fake.busy = True
    with pytest.raises(InstrumentError, match="Too many connections"):
        async with connected(fake):
            pytest.fail("it was let in")


async def test_a_failed_setup_leaves_the_dut_off_and_the_licence_free(
    fake: SimulatedOtii,
) -> None:
    fake.refuses = {"arc_set_max_current": "Invalid key value"}
    fake.main[fake.devices[0]["device_id"]] = True
    with pytest.raises(InstrumentError, match="arc_set_max_current"):
        async with connected(fake):
            pytest.fail("it opened all the same")
    assert fake.main[fake.devices[0]["device_id"]] is False
    assert fake.licences[0]["reserved_to"] == ""


async def test_open_stops_the_recording_of_a_predecessor_that_died(fake: SimulatedOtii) -> None:
    async with plugged(fake, TcpCable) as cable:
        predecessor = made(fake, cable)
        await predecessor.open()
        await predecessor.set_dut_supply(3000)
        await predecessor.acquire().__aenter__()
        await predecessor._acquisition.abandon()  # type: ignore[union-attr]
        await predecessor._link.close()  # its process died
        await asyncio.sleep(0.05)
        assert fake.running is not None
        successor = made(fake, cable)
        await successor.open()
        assert fake.running is None
        assert fake.main[fake.devices[0]["device_id"]] is False
        assert len(amps_of(await recorded(fake, successor, 3.0))) == 12_000
        await successor.close()


async def test_an_exception_in_the_body_still_stops_the_recording(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _):
        with pytest.raises(ZeroDivisionError):
            async with instrument.acquire():
                raise ZeroDivisionError
        assert fake.running is None
        await instrument.set_dut_supply(None)


async def test_closing_during_a_recording_switches_off_first_and_ends_it(
    fake: SimulatedOtii,
) -> None:
    async with connected(fake) as (instrument, _):
        await instrument.set_dut_supply(3000)
        acquisition = instrument.acquire()
        await acquisition.__aenter__()
        await pass_time(fake, acquisition, 1.0)
        await instrument.close()
        assert fake.running is None
        ends = [
            cmd for cmd in fake.commands[-4:] if cmd in {"arc_set_main", "project_stop_recording"}
        ]
        assert ends == ["arc_set_main", "project_stop_recording"]
        gap = (await all_of(acquisition))[-1]
        assert isinstance(gap, Gap)
        assert gap.end == 4000


async def test_a_cancelled_acquisition_stops_and_the_next_one_starts(
    fake: SimulatedOtii,
) -> None:
    async with connected(fake) as (instrument, _):

        async def acquire() -> None:
            async with instrument.acquire() as acquisition:
                async for _ in acquisition:
                    pass

        task = asyncio.create_task(acquire())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fake.running is None
        assert len(amps_of(await recorded(fake, instrument, 3.0))) == 12_000


async def test_an_unplug_while_acquiring_is_raised_by_every_call(
    fake: SimulatedOtii,
) -> None:
    async with connected(fake) as (instrument, cable):
        acquisition = instrument.acquire()
        began = time.monotonic()

        async def unplugged() -> None:
            await pass_time(fake, acquisition, 0.5)
            cable.unplug()

        with pytest.raises(TransportError):
            await run(acquisition, unplugged)
        with pytest.raises(TransportError):
            await all_of(acquisition)
        with pytest.raises(TransportError):
            await instrument.close()
        assert time.monotonic() - began < 2.0


async def test_other_calls_are_refused_while_it_records(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _), instrument.acquire():
        for refused in (instrument.set_dut_supply(None), instrument.self_check()):
            with pytest.raises(LabdBug):
                await refused
        with pytest.raises(LabdBug):
            instrument.acquire()


async def test_a_device_the_server_lost_is_a_finding(fake: SimulatedOtii) -> None:
    async with connected(fake) as (instrument, _):
        fake._on_arc_is_connected = lambda _: {"connected": False}  # type: ignore[method-assign]
        assert [finding.code for finding in await instrument.self_check()] == ["otii-device-gone"]


async def test_a_missing_server_is_a_transport_error(fake: SimulatedOtii) -> None:
    async with plugged(fake, TcpCable) as cable:
        instrument = made(fake, cable)
    with pytest.raises(TransportError):
        await instrument.open()


async def test_another_service_at_the_port_is_refused(fake: SimulatedOtii) -> None:
    async with plugged(fake, TcpCable) as cable:
        fake.on_connect = lambda: fake.send(b"SSH-2.0-OpenSSH\r\n")  # type: ignore[method-assign]
        cable._on_connect = fake.on_connect
        with pytest.raises(InstrumentError, match=r"SSH-2\.0"):
            await made(fake, cable).open()
        link = Link(cable.path, 0, "again")
        await link.open()  # the port is free again
        await link.close()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"max_current_a": 6}, "less than or equal to 5"),
        ({"timestamp_line": "i3"}, "'i1' or 'i2'"),
        ({"port": 70_000}, "65535"),
        ({"speed": 1}, "Extra inputs"),
    ],
)
def test_a_wrong_table_is_refused(config: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        OtiiConfig.model_validate(config)
