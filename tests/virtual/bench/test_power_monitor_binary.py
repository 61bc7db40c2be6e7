"""The virtual LPM01A in ``bin_hexa``: to the byte, as exact as its noise, and for the driver."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from drivers.lpm01a.driver import Lpm01a, Lpm01aConfig
from drivers.lpm01a.stamp_check import UNCONFIRMED
from labd.core.model import Gap, Samples, StreamItem

SETTINGS = (
    *("htc", "pwr off", "acqtime inf", "trigdelay 0", "trigsrc sw", "output current"),
    *("format bin_hexa", "freq 100k", "volt 3000m", "pwr on nostatus"),
)
LENGTHS = {0xF3: 9, 0xF4: 4, 0xF5: 4, 0xF6: 4, 0xF9: 5}


@dataclass
class Stream:
    """The records of a stream, parsed one byte at a time."""

    values: list[float] = field(default_factory=list)
    stamps: list[tuple[int, int, int]] = field(default_factory=list)  # sample, ms, load
    records: list[bytes] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    rest: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> Stream:
        data = data[data.index(b"\xf0\xf3") :]
        stream, at = cls(), 0
        while at < len(data):
            if data.startswith(b"\xf0\xf4", at):
                stream.rest = data[at:]
                break
            if data[at] == 0xF0:
                kind = data[at + 1]
                end = at + LENGTHS[kind] if kind in LENGTHS else data.index(b"\xff\xff", at) + 2
                stream._record(data[at:end])
            elif reply := re.compile(rb"\r\nPowerShield > .*?\r\n\r\n", re.DOTALL).match(data, at):
                stream.replies.append(reply[0])
                end = reply.end()
            else:
                end = at + 2
                number = int.from_bytes(data[at:end])
                stream.values.append((number & 0xFFF) * 16.0 ** -(number >> 12))
            at = end
        return stream

    def _record(self, record: bytes) -> None:
        assert record.endswith(b"\xff\xff")
        if record[1] == 0xF3:
            self.stamps.append((len(self.values), int.from_bytes(record[2:6]), record[6]))
        else:
            self.records.append(record)


@pytest.fixture
def station(bench: Any, energy: Any) -> Any:
    process = bench(energy)
    process.hosts["virtual-1"].process = process
    return process.hosts["virtual-1"]


def _set(station: Any, *commands: str) -> None:
    for command in commands:
        assert station.monitor(command).startswith("ack"), command


def test_streams_words_stamps_and_a_summary(station: Any) -> None:
    _set(station, *SETTINGS, "acqtime 25m")
    station.dut.until(rb"m-ready\r\n")
    station.power.send(b"start\r\n")
    data = station.power.until(rb"Acquisition completed\r\n\r\n")
    head = b"\r\nPowerShield > ack start\r\n\r\n\xf0\xf3\0\0\0\0\0\xff\xff"
    assert data.startswith(head)
    stream = Stream.of(data)
    assert stream.stamps == [(0, 0, 0), (1000, 10, 0), (2000, 20, 0)]
    assert len(stream.values) == 2500
    assert not stream.records
    summary = (
        rb"\xf0\xf4\xff\xff\r\nsummary beg\r\nmin (\d{4}-\d\d)\r\nmax (\d{4}-\d\d)\r\nsummary end"
    )
    low, high = re.match(summary, stream.rest).groups()
    assert float(low.replace(b"-", b"e-")) == pytest.approx(min(stream.values), rel=4e-3)
    assert float(high.replace(b"-", b"e-")) == pytest.approx(max(stream.values), rel=4e-3)


@pytest.mark.parametrize(
    ("commands", "allowed"),
    [
        (("freq 100k", "output current"), True),
        (("freq 10k", "output energy"), True),
        (("freq 20k", "output energy"), False),
    ],
)
def test_limits_of_the_format(station: Any, commands: tuple[str, ...], *, allowed: bool) -> None:
    _set(station, *SETTINGS, *commands)
    station.power.send(b"start\r\n")
    station.power.until(rb"ack start" if allowed else rb"error start\r\nError detail: ")


def test_replies_stand_between_the_words(station: Any) -> None:
    _set(station, *SETTINGS)
    station.power.send(b"start\r\n")
    station.power.until(rb"\xf0\xf3\0\0\0\x14")
    for command in (b"temp degc", b"targrst 10m", b"stop"):
        station.power.send(command + b"\r\n")
        time.sleep(0.1)
    station.power.until(rb"Acquisition completed\r\n\r\n")
    stream = Stream.of(station.power.transcript)
    texts = [reply.strip().decode() for reply in stream.replies]
    assert texts == [
        "PowerShield > ack temp degc 28.0",
        "PowerShield > ack targrst 10m",
        "PowerShield > ack stop",
    ]
    assert stream.records == [b"\xf0\xf6\xff\xff"]
    assert min(stream.values) == 0.0
    assert [at for at, _, _ in stream.stamps] == list(range(0, len(stream.stamps) * 1000, 1000))


def test_an_overcurrent_is_a_record(bench: Any, energy: Any) -> None:
    station = bench(energy | {"board_ua": 60_000}).hosts["virtual-1"]
    _set(station, *SETTINGS[:-1], "pwr auto status")
    station.power.send(b"start\r\n")
    stream = Stream.of(station.power.until(rb"Acquisition completed\r\n\r\n"))
    assert stream.records == [b"\xf0\xf9\x01\xff\xff", b"\xf0\xf5\xff\xff", b"\xf0\xf9\x00\xff\xff"]


def test_a_slow_host_ends_in_an_overrun(station: Any) -> None:
    _set(station, *SETTINGS)
    station.power.send(b"start\r\n")
    station.power.until(rb"\xf0\xf3\0\0\0\x14")
    station.process.order(fault="slow_host")
    data = station.power.until(rb"Acquisition completed\r\n\r\n")
    assert re.search(rb"\xf0\xf1Overrun.*\r\n\xff\xff\xf0\xf4\xff\xff", data)
    loads = [load for _, _, load in Stream.of(station.power.transcript).stamps]
    assert loads == sorted(loads)
    assert loads[-1] > 80


def test_lost_samples_leave_a_hole_but_not_in_time(station: Any) -> None:
    _set(station, *SETTINGS, "acqtime 1")
    station.power.send(b"start\r\n")
    station.power.until(rb"ack start")
    assert station.process.order(fault="lose_samples", count=1500) == {"ok": True}
    station.power.until(rb"Acquisition completed\r\n\r\n")
    stream = Stream.of(station.power.transcript)
    assert len(stream.values) == 100_000 - 1500
    assert [ms for _, ms, _ in stream.stamps] == list(range(0, 1010, 10))


@contextmanager
def _drained(port: Any) -> Iterator[None]:
    """A host that takes what comes whatever else it does."""
    ended = threading.Event()

    def drain() -> None:
        while not ended.is_set():
            port.read(0.02)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _session(process: Any, host: Any) -> dict[str, Any]:
    """One window in lock-step; the acquisition's start follows from what had come by ``now``."""
    _set(host, *SETTINGS)
    host.dut.until(rb"m-ready\r\n")
    host.resynchronise()
    host.load(bytes(range(64)), host.through)
    host.power.send(b"start\r\n")
    host.power.until(rb"ack start\r\n\r\n")  # else the board's command may be taken first
    with _drained(host.power):
        host.through("infer 100 2")
        window = process.order(query="window_energy")
        now_ps = process.order(query="state")["now_ps"]
    host.power.quiet()
    begun = host.power.transcript
    host.power.send(b"stop\r\n")
    host.power.until(rb"Acquisition completed\r\n\r\n")
    taken = len(Stream.of(begun).values)
    start_s = now_ps / 1e12 - taken * 1e-5
    return {"window": window, "start_s": start_s, "power": host.power.transcript}


def test_the_words_integrate_to_the_exact_energy(bench: Any, energy: Any) -> None:
    """To better than 0.01 %, though a word has but twelve bits; and twice the same bytes."""
    sessions = []
    for _ in range(2):
        process = bench(energy, mode="freeze")
        sessions.append(_session(process, process.hosts["virtual-1"]))
    assert sessions[0] == sessions[1]
    window = sessions[0]["window"]
    values = np.array(Stream.of(sessions[0]["power"]).values)
    charge_c = np.concatenate([[0.0], np.cumsum(values) * 1e-5])
    ends_s = np.arange(len(charge_c)) * 1e-5 + sessions[0]["start_s"]
    edges = [window["start_ps"] / 1e12, window["end_ps"] / 1e12]
    assert ends_s[0] < edges[0] < edges[1] < ends_s[-1]
    before, after = np.interp(edges, ends_s, charge_c)
    assert edges[1] - edges[0] > 0.5
    assert after - before == pytest.approx(window["charge_c"], rel=1e-4)
    assert 3.0 * (after - before) == pytest.approx(window["energy_j"], rel=1e-4)


async def test_the_driver_takes_it_at_100_khz(station: Any) -> None:
    """In real time and without a gap, through the driver that labd uses."""
    station.ports["power"].close()
    path = station.process.paths["virtual-1"]["power"]
    monitor = Lpm01a(Lpm01aConfig(port=path, format="binary", rate_hz=100_000, output="current"))
    await monitor.open()
    await monitor.set_dut_supply(3000)
    await asyncio.sleep(0.5)
    began = time.monotonic()
    items: list[StreamItem] = []
    async with monitor.acquire() as acquisition:
        while acquisition.received_samples < 300_000:
            await acquisition.wait_progress(5.0)
        took = time.monotonic() - began
    items = [item async for item in acquisition]
    drawn_na = (await asyncio.to_thread(station.process.order, query="state"))["current_na"]
    assert await monitor.self_check() == []
    await monitor.close()
    assert 2.5 < took < 6.0
    assert [item for item in items[:-1] if isinstance(item, Gap)] == []
    if isinstance(items[-1], Gap):
        assert items[-1].reason == UNCONFIRMED
        assert items[-1].index >= 300_000
    currents = [item.current_a for item in items if isinstance(item, Samples)]
    assert np.concatenate(currents)[-200_000:].mean() == pytest.approx(drawn_na * 1e-9, rel=1e-4)
