"""The PPK2 driver against an instrument whose samples come when the test says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.base import acquisition as machinery
from drivers.base.serial_link import Link
from drivers.ppk2 import converter
from drivers.ppk2 import driver as ppk2
from drivers.ppk2.config import Ppk2Config
from drivers.ppk2.driver import Ppk2
from drivers.ppk2.stream import StreamDecoder
from labd.aio.host_time import host_time_ns
from labd.core.errors import (
    DeadlineExceeded,
    InfraError,
    InstrumentError,
    JobError,
    LabdBug,
    TransportError,
)
from labd.core.model import Edge, Gap, Samples, StreamItem, TimeBase, TimeMark
from labd.simulation.instrument_cable import PtyCable
from labd.simulation.instruments import synthetic_load
from labd.simulation.instruments.ppk2.device import SimulatedPpk2
from labd.simulation.virtual_time import LoopAgenda
from tests.contract.acquisition import all_of, open_monitor, progress_to
from tests.contract.case import plugged

VIRTUAL = TimeBase.VIRTUAL  # the tests produce the samples, not by the host's clock
METADATA, STOP, START, ON, OFF = b"\x19", b"\x07", b"\x06", b"\x0c\x01", b"\x0c\x00"


@pytest.fixture
def fake() -> SimulatedPpk2:
    return SimulatedPpk2()


@asynccontextmanager
async def connected(
    fake: SimulatedPpk2, limits: Mapping[str, float] | None = None, **config: object
) -> AsyncGenerator[tuple[Ppk2, PtyCable]]:
    """Powered at 3 V, with its table in stations.toml and the limits of its waits."""
    table = {"answer_s": 3.0} | config

    def driver(pty: PtyCable) -> Ppk2:
        return Ppk2(Ppk2Config.model_validate({"port": pty.path, **table}), **(limits or {}))

    async with open_monitor(fake, PtyCable, driver) as (monitor, pty):
        await monitor.set_dut_supply(3000)
        yield monitor, pty


def at_start(fake: SimulatedPpk2, *steps: Callable[[], Any]) -> list[Any]:
    """Make it stream when it starts to measure; return what the steps gave, once they ran."""
    given: list[Any] = []
    fake.at_start = lambda: given.extend(step() for step in steps)
    return given


def produce(fake: SimulatedPpk2, count: int) -> None:
    fake.stream_currents(np.full(count, 1e-3))


def lose(fake: SimulatedPpk2, count: int) -> None:
    fake.lose_samples(count)
    produce(fake, count)


def stream_live(fake: SimulatedPpk2) -> asyncio.Task[None]:
    fake.agenda = LoopAgenda(real_time=True)
    return asyncio.create_task(fake.stream_by_wall_clock())


def currents(items: list[StreamItem]) -> np.ndarray:
    parts = [i.current_a for i in items if isinstance(i, Samples) and i.current_a is not None]
    return np.concatenate(parts)


def spans(items: list[StreamItem], kind: type) -> list[tuple[int, int]]:
    return [(i.index, i.end) for i in items if isinstance(i, kind)]


# ---- measuring ---------------------------------------------------------------------------


async def test_currents_edges_and_power_are_what_the_instrument_meant(fake: SimulatedPpk2) -> None:
    times = np.arange(30_000) / 100_000
    wanted = np.where(times < 0.12, 2e-3, np.where(times < 0.2, 30e-3, 7e-6))
    logic = np.where((times >= 0.05) & (times < 0.06), 0, 1).astype(np.uint8)
    async with connected(fake, spike_filter=False) as (monitor, _):
        rounded = at_start(fake, lambda: fake.stream_currents(wanted, logic))
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 30_000, 1)
        items = await all_of(acquisition)
    found = currents(items)
    assert found == pytest.approx(rounded[0], rel=1e-9, abs=1e-15)
    assert np.mean(found[:12_000]) == pytest.approx(2e-3, rel=1e-4)
    assert np.mean(found[20_000:]) == pytest.approx(7e-6, rel=1e-3)
    power = np.concatenate([i.power_w for i in items if isinstance(i, Samples)])
    assert power == pytest.approx(3.0 * found, rel=1e-14)
    edges = [item for item in items if isinstance(item, Edge)]
    assert edges == [Edge(5000.0, "d0", rising=False), Edge(6000.0, "d0", rising=True)]
    assert acquisition.edges_seen == 1
    assert not any(isinstance(item, (Gap, TimeMark)) for item in items)


async def test_a_change_of_range_is_smoothed_unless_the_table_says_not_to(
    fake: SimulatedPpk2,
) -> None:
    wanted = np.where(np.arange(4000) < 3000, 100e-6, 20e-3)
    seen: dict[bool, np.ndarray] = {}
    for spikes in (True, False):
        async with connected(fake, spike_filter=spikes) as (monitor, _):
            rounded = at_start(fake, lambda: fake.stream_currents(wanted))
            async with monitor.acquire(VIRTUAL) as acquisition:
                await progress_to(acquisition, 4000)
            seen[spikes] = currents(await all_of(acquisition)) - rounded[0]
    assert np.flatnonzero(np.abs(seen[False]) > 1e-12).tolist() == []
    assert np.flatnonzero(np.abs(seen[True]) > 1e-12).tolist() == [3000, 3001, 3002]


async def test_only_the_wired_lines_count(fake: SimulatedPpk2) -> None:
    chatter = np.random.default_rng(1).integers(0, 256, 5000).astype(np.uint8)
    wired = np.where(np.arange(5000) // 1000 % 2 == 0, 4, 0).astype(np.uint8)
    async with connected(fake, lines=["d2"], timestamp_line="d2") as (monitor, _):
        assert monitor.stream_format.timestamp_line == "d2"
        at_start(fake, lambda: fake.stream_currents(np.full(5000, 1e-3), (chatter & 0xFB) | wired))
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 5000, 2)
        items = await all_of(acquisition)
    edges = [(i.index, i.line, i.rising) for i in items if isinstance(i, Edge)]
    assert edges == [(1000.0 * n, "d2", n % 2 == 0) for n in (1, 2, 3, 4)]


async def test_the_load_in_real_time_loses_nothing_and_has_marks_of_the_hosts_clock(
    fake: SimulatedPpk2,
) -> None:
    async with connected(fake) as (monitor, _):
        living = stream_live(fake)
        began = host_time_ns()
        async with monitor.acquire() as acquisition:
            await progress_to(acquisition, 200_000, 2)
            assert (host_time_ns() - began) / 1e9 > 1.9
        items = await all_of(acquisition)
        living.cancel()
    assert sum(gap.count for gap in items if isinstance(gap, Gap)) < 20_000  # of the last moment
    first, second, *_ = (i.index for i in items if isinstance(i, Edge) and not i.rising)
    assert (first, second) == (synthetic_load.START_S * 100_000, synthetic_load.STOP_S * 100_000)
    window = currents(items)[int(first) : int(second)]
    assert np.mean(window) == pytest.approx(synthetic_load.RUN_A, rel=1e-3)
    marks = [item for item in items if isinstance(item, TimeMark)]
    assert marks
    for mark in marks:
        assert began < mark.t_ns < host_time_ns()
        assert mark.uncertainty_ns < 50_000_000


# ---- loss --------------------------------------------------------------------------------


async def test_lost_samples_and_lost_bytes_are_gaps_of_their_length(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, pty):
        at_start(fake, lambda: produce(fake, 3000))
        async with monitor.acquire(VIRTUAL) as acquisition:
            lose(fake, 40)
            produce(fake, 3000)
            pty.lose_next_bytes(5)
            produce(fake, 3000)
            await progress_to(acquisition, 9040)
        items = await all_of(acquisition)
    assert spans(items, Gap) == [(2936, 3048), (5976, 6050)]
    assert sum(len(i) for i in items if isinstance(i, (Samples,))) == 9040 - 112 - 74
    assert all("counter broke" in gap.reason for gap in items if isinstance(gap, Gap))


@pytest.mark.slow
async def test_a_loss_that_the_counter_cannot_see_is_found_by_the_hosts_clock(
    fake: SimulatedPpk2,
) -> None:
    async with connected(fake) as (monitor, _):
        living = stream_live(fake)
        async with monitor.acquire() as acquisition:
            await progress_to(acquisition, 300_000)
            at = fake.taken
            fake.lose_samples(6400)
            async with asyncio.timeout(30):  # three seconds, ten where the host is busy
                gap = await anext(i async for i in acquisition if isinstance(i, Gap))
        living.cancel()
    assert gap.index <= at
    assert gap.end >= at + 6400
    assert "by the host's clock" in gap.reason


async def test_a_host_that_stalls_loses_nothing(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, pty):
        living = stream_live(fake)
        async with monitor.acquire() as acquisition:
            await progress_to(acquisition, 50_000)
            pty.blocked = True
            await asyncio.sleep(0.4)
            pty.blocked = False
            await progress_to(acquisition, 120_000)
        items = await all_of(acquisition)
        living.cancel()
    assert all(gap.index > 100_000 for gap in items if isinstance(gap, Gap))
    assert len(currents(items)) > 100_000


@pytest.mark.parametrize(("missing", "serious"), [(192, False), (500, False), (576, True)])
async def test_a_host_that_reads_late_is_a_finding(
    fake: SimulatedPpk2, monkeypatch: pytest.MonkeyPatch, missing: int, *, serious: bool
) -> None:
    async with connected(fake) as (monitor, _):
        at_start(fake, lambda: produce(fake, 3000))
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 3000)
        assert await monitor.self_check() == []
        monkeypatch.setattr(StreamDecoder, "possibly_missing", missing)
        (finding,) = await monitor.self_check()
        assert acquisition.event_counts == {"possibly_missing_samples": missing}
    assert finding.code == "ppk2-late-host"
    assert f"{missing} samples" in finding.text
    assert finding.serious == serious


async def test_samples_of_an_earlier_run_are_no_samples_of_this_one(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, _):
        at_start(
            fake,
            lambda: produce(fake, 700),
            lambda: lose(fake, 29),  # the counter of this run begins anywhere
            lambda: produce(fake, 5000),
        )
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 5700)
        items = await all_of(acquisition)
    ((start, end),) = spans(items, Gap)
    assert start == 0
    assert end >= 708
    assert len(currents(items)) == 5000 - 8


# ---- opening and closing -----------------------------------------------------------------


async def test_what_is_sent_to_the_byte(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, _):
        await monitor.set_dut_supply(1800)
        at_start(fake, lambda: produce(fake, 100))
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 100)
        assert fake.voltage_mv == 1800
        assert fake.is_powered
        await monitor.set_dut_supply(None)
        assert not fake.is_powered
    sent = [command for command in fake.opcodes if command != METADATA]
    opening = [*[STOP] * 6, OFF, b"\x11\x02"]
    powering = [b"\x0d\x0b\xb8", ON, b"\x0d\x07\x08", ON]
    assert sent == [*opening, *powering, START, STOP, OFF, OFF, STOP]


async def test_ampere_mode_is_set_and_named(fake: SimulatedPpk2) -> None:
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, mode="ampere", answer_s=0.5, spike_filter=False))
        identity = await monitor.open()
        assert identity.name == "Nordic PPK2, ampere meter, voltage as stated, no spike filter"
        assert identity.firmware == "HW 9173-simulated, IA 56"
        assert monitor.can_supply_dut
        assert monitor.stream_format.voltage_v is None
        await monitor.set_dut_supply(1900)
        assert fake.mode == 1
        assert fake.is_powered
        assert monitor.stream_format.voltage_v == 1.9
        await monitor.close()


async def test_a_predecessor_that_died_measuring_and_powering_is_survived(
    fake: SimulatedPpk2,
) -> None:
    async with plugged(fake) as pty:
        predecessor = Link(pty.path, ppk2.BAUD, "predecessor")
        await predecessor.open()
        await predecessor.write(b"\x0d\x0c\xe4\x0c\x01\x06\x25\x01\x00")  # and a half user gain
        await asyncio.sleep(0.02)
        produce(fake, 2500)
        await predecessor.close()
        assert fake.is_powered
        streaming = asyncio.create_task(_stream(fake))
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        assert (await monitor.open()).kind == "ppk2"
        await streaming
        assert not fake.is_powered
        await monitor.set_dut_supply(3000)
        at_start(fake, lambda: produce(fake, 3000))
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 3000)
        assert len(currents(await all_of(acquisition))) == 3000
        await monitor.close()


async def _stream(fake: SimulatedPpk2) -> None:
    while fake.is_acquiring:
        produce(fake, 1000)
        await asyncio.sleep(0.01)


async def test_the_second_port_of_newer_firmware_is_explained(fake: SimulatedPpk2) -> None:
    fake.answers_nothing = True
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.2))
        with pytest.raises(DeadlineExceeded, match="received nothing") as caught:
            await monitor.open()
    assert "two ports" in caught.value.remedy
    assert "if01" in caught.value.remedy


async def test_a_damaged_answer_is_asked_for_again(fake: SimulatedPpk2) -> None:
    async with plugged(fake) as pty:
        damaged = [b"\xff\x00R0: END"]
        send = fake.send

        def tell(data: bytes) -> None:
            send(damaged.pop() if damaged else data)

        fake.send = tell
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        await monitor.open()
        assert await monitor.self_check() == []
        await monitor.close()


async def test_an_answer_without_a_calibration_is_not_a_ppk2s(fake: SimulatedPpk2) -> None:
    fake.metadata = {"Shell": "none"}
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.3))
        with pytest.raises(InstrumentError, match="Shell: none") as caught:
            await monitor.open()
        assert caught.value.code == "not-a-ppk2"


async def test_words_in_front_of_the_answer_do_no_harm(fake: SimulatedPpk2) -> None:
    fake.greeting = bytes(range(256)) * 3
    async with connected(fake) as (monitor, _):
        assert await monitor.self_check() == []


def damage(fake: SimulatedPpk2, *lines: tuple[bytes, bytes]) -> None:
    """In the next answers this text becomes that, one pair an answer."""
    waiting, send = list(lines), fake.send

    def tell(data: bytes) -> None:
        send(data.replace(*waiting.pop(0)) if waiting else data)

    fake.send = tell


async def test_a_coefficient_of_no_use_is_a_finding(fake: SimulatedPpk2) -> None:
    fake.metadata |= {"R4": "-nan", "UG0": "-nan"}
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        identity = await monitor.open()
        assert identity.name.endswith("typical calibration values")
        (finding,) = await monitor.self_check()
        assert "R4, UG0" in finding.text
        assert not finding.serious
        await monitor.close()


async def test_a_missing_coefficient_makes_results_invalid(
    fake: SimulatedPpk2,
) -> None:
    del fake.metadata["O2"]
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        await monitor.open()
        assert fake.opcodes.count(METADATA) >= 3
        (finding,) = await monitor.self_check()
        assert "no line for O2" in finding.text
        assert finding.serious
        await monitor.close()


@pytest.mark.parametrize("lost", [(b"R1: 101", b"R1: 11"), (b"UG3: 1.00\n", b""), (b"R2", b"R")])
async def test_a_byte_lost_from_the_first_answer_changes_no_current(
    fake: SimulatedPpk2, lost: tuple[bytes, bytes]
) -> None:
    async with plugged(fake) as pty:
        damage(fake, lost)
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        identity = await monitor.open()
        assert "typical" not in identity.name
        assert await monitor.self_check() == []
        await monitor.set_dut_supply(3000)
        rounded = at_start(fake, lambda: fake.stream_currents(np.full(3000, 300e-6)))
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 3000)
        assert currents(await all_of(acquisition)) == pytest.approx(rounded[0], rel=1e-9)
        await monitor.close()


async def test_answers_that_never_agree_are_refused(fake: SimulatedPpk2) -> None:
    async with plugged(fake) as pty:
        damage(fake, (b"R1: 101", b"R1: 11"), (b"R1: 101", b"R1: 10"), (b"R1: 1", b"R1: "))
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        with pytest.raises(InstrumentError, match=r"R1 11\.5865 and 10\.5865") as caught:
            await monitor.open()
    assert caught.value.code == "metadata-unsteady"


async def test_a_calibration_that_cannot_be_true_is_refused(fake: SimulatedPpk2) -> None:
    fake.metadata["R1"] = "10.5865"
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        with pytest.raises(InstrumentError, match=r"R1 is 10\.5865, typical is 101\.65") as caught:
            await monitor.open()
    assert caught.value.code == "calibration-implausible"


async def test_a_calibration_that_changes_under_way_is_a_serious_finding(
    fake: SimulatedPpk2,
) -> None:
    async with connected(fake) as (monitor, _):
        fake.metadata["UG2"] = "1.05"
        (finding,) = await monitor.self_check()
    assert finding.serious
    assert "UG2 1.0 and 1.05" in finding.text


async def test_closing_during_an_acquisition_switches_off_first_and_ends_it(
    fake: SimulatedPpk2,
) -> None:
    async with connected(fake) as (monitor, _):
        at_start(fake, lambda: produce(fake, 3000))
        acquisition = monitor.acquire(VIRTUAL)
        await acquisition.__aenter__()
        await progress_to(acquisition, 3000)
        await monitor.close()
        assert not fake.is_acquiring
        assert not fake.is_powered
        commands = [command for command in fake.opcodes if command != METADATA]
        assert commands[-2:] == [OFF, STOP]
        items = await all_of(acquisition)
    assert spans(items, Gap) == [(2936, 3000)]
    assert "broken off" in next(i.reason for i in items if isinstance(i, Gap))


async def test_closing_is_bounded_when_nothing_answers(fake: SimulatedPpk2) -> None:
    async with connected(fake, {"close_step_s": 0.3}, answer_s=60) as (monitor, pty):
        pty.mute = True
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="confirming"):
            await monitor.close()
        assert time.monotonic() - began < 1.5
        assert not fake.is_powered


# ---- faults ------------------------------------------------------------------------------


async def test_an_instrument_that_does_not_stop_is_reported(fake: SimulatedPpk2) -> None:
    async with connected(fake, {"stop_s": 0.3}) as (monitor, _):
        fake.ignores_stop = True
        streaming: list[asyncio.Task[None]] = []
        at_start(fake, lambda: streaming.append(asyncio.create_task(_stream(fake))))
        with pytest.raises(InstrumentError, match="still streams"):
            async with monitor.acquire(VIRTUAL):
                pass
        with pytest.raises(InstrumentError, match="may still stream"):
            monitor.acquire(VIRTUAL)
        fake.ignores_stop = False
        await monitor.close()
        assert not fake.is_acquiring
        await asyncio.gather(*streaming)


async def test_words_after_the_stop_are_taken(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, _):
        fake.late_samples = 900
        at_start(fake, lambda: produce(fake, 3000))
        async with monitor.acquire(VIRTUAL) as acquisition:
            await progress_to(acquisition, 3000)
        assert len(currents(await all_of(acquisition))) == 3900


async def test_an_unplug_while_acquiring_is_raised_everywhere_within_a_second(
    fake: SimulatedPpk2,
) -> None:
    async with connected(fake) as (monitor, pty):
        at_start(fake, lambda: produce(fake, 3000))
        acquisition = monitor.acquire(VIRTUAL)
        began = time.monotonic()

        async def unplugged() -> None:
            async with acquisition:
                await progress_to(acquisition, 3000)
                pty.unplug()
                await progress_to(acquisition, 9999)

        with pytest.raises(TransportError):
            await unplugged()
        seen: list[StreamItem] = []
        with pytest.raises(TransportError):
            await all_of(acquisition, seen)
        assert spans(seen, Gap) == [(2936, 3000)]
        with pytest.raises(TransportError):
            await monitor.close()
        assert time.monotonic() - began < 1.0


async def test_an_exception_in_the_body_still_stops_the_instrument(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, _):
        at_start(fake, lambda: produce(fake, 100))
        with pytest.raises(ZeroDivisionError):
            async with monitor.acquire(VIRTUAL):
                raise ZeroDivisionError
        assert not fake.is_acquiring
        await monitor.set_dut_supply(None)


async def test_a_cancelled_body_still_stops_the_instrument(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, _):

        async def acquire() -> None:
            async with monitor.acquire(VIRTUAL) as acquisition:
                await all_of(acquisition)

        at_start(fake, lambda: produce(fake, 100))
        task = asyncio.create_task(acquire())
        await asyncio.sleep(0.05)
        assert fake.is_acquiring
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not fake.is_acquiring


async def test_an_instrument_that_streams_nothing_did_not_start(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, _):
        with pytest.raises(DeadlineExceeded, match="no sample"):
            async with monitor.acquire(VIRTUAL):
                pytest.fail("it did not start")
        await monitor.close()
        assert not fake.is_acquiring


async def test_nobody_else_speaks_while_it_streams(fake: SimulatedPpk2) -> None:
    async with connected(fake) as (monitor, _):
        at_start(fake, lambda: produce(fake, 100))
        async with monitor.acquire(VIRTUAL):
            for action in (monitor.set_dut_supply(None), monitor.self_check()):
                with pytest.raises(LabdBug):
                    await action
            with pytest.raises(LabdBug):
                monitor.acquire(VIRTUAL)


async def test_without_a_voltage_there_is_no_power(fake: SimulatedPpk2) -> None:
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        await monitor.open()
        with pytest.raises(LabdBug, match="before supply"):
            monitor.acquire(VIRTUAL)
        await monitor.close()


async def test_a_consumer_that_sleeps_costs_no_sample_until_the_stated_limit(
    fake: SimulatedPpk2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "MAX_WAITING_SAMPLES", 30_000)
    async with connected(fake) as (monitor, _):

        async def sleep_on() -> None:
            async with monitor.acquire(VIRTUAL) as acquisition:
                produce(fake, 30_000)
                await progress_to(acquisition, 30_000)
                produce(fake, 30_000)
                await progress_to(acquisition, 99_999)

        at_start(fake, lambda: produce(fake, 100))
        with pytest.raises(InfraError, match="wait to be taken"):
            await sleep_on()


async def test_a_defect_while_decoding_is_raised_not_taken_for_the_end(
    fake: SimulatedPpk2, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(fake) as (monitor, _):

        async def decode() -> None:
            async with monitor.acquire(VIRTUAL) as acquisition:
                monkeypatch.setattr(converter, "CODE_MASK", None)
                produce(fake, 20_000)
                await progress_to(acquisition, 99_999)

        at_start(fake, lambda: produce(fake, 100))
        with pytest.raises(LabdBug, match="TypeError"):
            await decode()


@pytest.mark.parametrize("voltage_mv", [799, 5001, 0])
async def test_a_voltage_it_cannot_supply_is_refused(fake: SimulatedPpk2, voltage_mv: int) -> None:
    async with plugged(fake) as pty:
        monitor = Ppk2(Ppk2Config(port=pty.path, answer_s=0.5))
        await monitor.open()
        with pytest.raises(JobError, match="800 to 5000"):
            await monitor.set_dut_supply(voltage_mv)
        assert not fake.is_powered
        await monitor.close()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"mode": "volt"}, "'source' or 'ampere'"),
        ({"lines": ["d8"]}, "d8: the instrument has d0, d1"),
        ({"lines": ["d0", "d0"]}, "named twice"),
        ({"lines": ["d1"]}, "timestamp_line d0 is not one of lines, d1"),
        ({"timestamp_line": "d3"}, "timestamp_line d3 is not one of lines, d0"),
        ({"colour": "red"}, "Extra inputs"),
        ({"port": ""}, "at least 1 character"),
    ],
)
def test_a_wrong_table_in_the_stations_file_is_explained(
    config: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        Ppk2Config.model_validate({"port": "/dev/null", **config})
