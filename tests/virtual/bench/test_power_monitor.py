"""The virtual LPM01A, spoken to as UM2269 and the firmware's help text say."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

SAMPLE = re.compile(rb"(?m)^\0?(\d{4})([+-]\d\d)\r$")


@pytest.fixture
def station(bench: Any, energy: Any) -> Any:
    process = bench(energy)
    process.hosts["virtual-1"].process = process
    return process.hosts["virtual-1"]


@pytest.fixture(scope="module")
def shared_station(shared_bench: Any, energy: Any) -> Any:
    """For tests that leave it without an acquisition, with the output off."""
    return shared_bench(energy).hosts["virtual-1"]


def _values(stream: bytes) -> list[float]:
    return [
        float(f"{digits.decode()}e{power.decode()}") for digits, power in SAMPLE.findall(stream)
    ]


def test_answers_to_the_byte(station: Any) -> None:
    port = station.power
    for command, reply in (
        (b"powershield\r\n", b"ack powershield 540619864-1110659081-4784204"),
        (b"version\n", b"ack version: 1.0.6-simulated"),
        (b"status\r\n", b"ack status ok"),
        (b"temp degc\r\n", b"ack temp degc 28.0"),
        (b"echo a  b\r\n", b"echo a  b"),
        (b"volt get\r\n", b"ack volt get 3300-03"),
        (b"pwr get\r\n", b"ack pwr get off"),
        (b"htc\r\n", b"ack htc"),
        (b'lcd 1 "MLPerf Tiny"\r\n', b'ack lcd 1 "MLPerf Tiny"'),
    ):
        port.send(command)
        expected = b"\r\nPowerShield > " + reply + b"\r\n\r\n"
        assert port.until(re.escape(expected)) == expected


def test_standalone_it_takes_no_commands(station: Any) -> None:
    answer = station.monitor("volt 3000m")
    assert answer.startswith("error volt 3000m\r\nError detail: ")
    assert "htc" in answer


@pytest.mark.parametrize(
    "command",
    [
        *("volt 1700m", "volt 3400m", "freq 3k", "acqtime 101", "acqtime 1x", "acqmode fast"),
        *("output power", "format bin_dec", "trigsrc d6", "trigdelay 31", "eventsrc d7 ris"),
        *("pwr maybe", "targrst 2", "currthres 60m", 'lcd 1 "seventeen letters"', "stop", "fly"),
    ],
)
def test_refuses_what_it_cannot_do(shared_station: Any, command: str) -> None:
    shared_station.monitor("htc")
    assert shared_station.monitor(command).startswith(f"error {command}\r\nError detail: ")


@pytest.mark.parametrize("number", ["3", "3000m", "3000-3", "3+0", "3.0"])
def test_takes_numbers_in_every_notation(shared_station: Any, number: str) -> None:
    shared_station.monitor("htc")
    shared_station.monitor("volt 3300m")
    assert shared_station.monitor(f"volt {number}") == f"ack volt {number}"
    assert shared_station.monitor("volt get") == "ack volt get 3000-03"


@pytest.mark.parametrize(
    ("frequency", "time_s", "allowed"),
    [
        *(("5k", "inf", True), ("10k", "1", True), ("10k", "2", False), ("10k", "inf", False)),
        *(("20k", "500m", True), ("20k", "1", False), ("50k", "1m", False)),
    ],
)
def test_limits_of_the_line(
    shared_station: Any, frequency: str, time_s: str, *, allowed: bool
) -> None:
    for command in ("htc", f"freq {frequency}", f"acqtime {time_s}", "pwr off"):
        shared_station.monitor(command)
    answer = shared_station.monitor("start")
    assert answer.startswith("ack start" if allowed else "error start")
    if allowed:
        shared_station.power.send(b"stop\r\n")
        shared_station.power.until(rb"Acquisition completed\r\n\r\n")


def test_supplies_the_board_and_cuts_it_off(station: Any) -> None:
    station.monitor("htc")
    station.monitor("pwr on")
    assert station.dut.until(rb"m-ready\r\n").startswith(b"m-timestamp-mode-energy")
    assert station.process.order(query="state")["voltage_mv"] == 3300
    station.monitor("pwr off")
    station.dut.send(b"name%")
    assert station.dut.quiet() == b""
    station.monitor("pwr on")
    assert station.dut.until(rb"m-ready\r\n").startswith(b"m-timestamp-mode-energy")


def test_target_reset(station: Any) -> None:
    station.monitor("htc")
    station.monitor("pwr on")
    station.dut.until(rb"m-ready\r\n")
    assert station.monitor("targrst 100m") == "ack targrst 100m"
    assert station.monitor("pwr get") == "ack pwr get off"
    assert station.dut.until(rb"m-ready\r\n").startswith(b"m-timestamp-mode-energy")


def test_streams_samples_stamps_and_a_summary(station: Any) -> None:
    for command in ("htc", "freq 1k", "acqtime 2500m", "trigdelay 0", "output current", "pwr on"):
        station.monitor(command)
    station.dut.until(rb"m-ready\r\n")
    station.monitor("start")
    stream = station.power.until(rb"Acquisition completed\r\n")
    values = _values(stream)
    assert len(values) == 2500
    stamps = re.findall(rb"\r\nTimeStamp: \d{3}s \d{3}ms, buff \d\d%\r\n\0", stream)
    assert [stamp[13:24] for stamp in stamps] == [b"001s 000ms,", b"002s 000ms,"]
    assert len(SAMPLE.findall(stream[: stream.index(b"TimeStamp")])) == 1000
    end = stream[stream.index(b"\r\nend\r\n") :]
    summary = (
        rb"\r\nend\r\n\r\nsummary beg\r\nmin (\d{4}-\d\d)\r\nmax (\d{4}-\d\d)\r\nsummary end\r\n"
    )
    low, high = re.match(summary, end).groups()
    assert float(low.replace(b"-", b"e-")) == min(values)
    assert float(high.replace(b"-", b"e-")) == max(values)
    assert end.endswith(b"\r\nPowerShield > Acquisition completed\r\n")


def test_while_idle_samples_come_at_the_rate_of_the_wall_clock(station: Any) -> None:
    for command in ("htc", "freq 1k", "acqtime inf", "trigdelay 0", "pwr on"):
        station.monitor(command)
    station.dut.until(rb"m-ready\r\n")
    station.monitor("start")
    began = time.monotonic()
    station.power.until(rb"TimeStamp: 002s")
    assert 1.8 < time.monotonic() - began < 3.0
    station.monitor("stop")


def test_energy_is_current_times_voltage_times_period(station: Any) -> None:
    means: list[float] = []
    for output in ("current", "energy"):
        for command in (
            *("htc", "volt 3000m", "freq 1k", "acqtime 1", "trigdelay 0", f"output {output}"),
            *("pwr on", "start"),
        ):
            station.monitor(command)
        values = _values(station.power.until(rb"Acquisition completed\r\n"))[-500:]
        means.append(sum(values) / len(values))
    assert means[1] == pytest.approx(means[0] * 3.0 * 1e-3, rel=2e-4)


def test_automatic_power_follows_the_acquisition(station: Any) -> None:
    for command in ("htc", "acqtime 100m", "pwr auto status", "pwrend off"):
        station.monitor(command)
    station.monitor("start")
    stream = station.power.until(rb"Acquisition completed\r\n")
    assert stream.startswith(b"\r\npwr on\r\n")
    assert station.monitor("pwr get") == "ack pwr get off"


def test_an_edge_on_d7_may_start_the_acquisition(station: Any) -> None:
    for command in ("htc", "freq 1k", "acqtime 50m", "trigsrc d7", "pwr on"):
        station.monitor(command)
    station.dut.until(rb"m-ready\r\n")
    station.monitor("start")
    assert station.power.quiet() == b""
    station.ask("timestamp")
    assert len(_values(station.power.until(rb"Acquisition completed\r\n"))) == 50


def test_static_mode_refuses_a_current_that_changes(station: Any) -> None:
    for command in ("htc", "acqmode stat", "trigdelay 0", "pwr on"):
        station.monitor(command)
    station.dut.until(rb"m-ready\r\n")
    station.monitor("start")
    assert len(_values(station.power.until(rb"Acquisition completed\r\n"))) == 1
    station.monitor("start")
    station.ask("name")
    stream = station.power.until(rb"Acquisition completed\r\n")
    assert b"error Static acquisition: current not constant" in stream
    assert station.monitor("status").endswith("current not constant")
    assert station.monitor("status") == "ack status ok"


def test_more_than_50_ma_switches_the_target_off(bench: Any, energy: Any) -> None:
    station = bench(energy | {"board_ua": 60_000}).hosts["virtual-1"]
    station.monitor("htc")
    station.monitor("pwr on")
    deadline = time.monotonic() + 10
    while station.monitor("pwr get") != "ack pwr get off":
        assert time.monotonic() < deadline
    assert "Overcurrent" in station.monitor("status")


def test_psrst_restarts_it_with_the_target_off(station: Any) -> None:
    station.monitor("htc")
    station.monitor("pwr on")
    station.monitor("psrst")
    station.power.send(b"status\r\n")
    assert station.power.quiet() == b""
    time.sleep(5)
    assert station.monitor("pwr get") == "ack pwr get off"
    assert station.monitor("freq 1k").startswith("error")


def test_lost_samples_leave_a_hole_but_not_in_time(station: Any) -> None:
    for command in ("htc", "freq 1k", "acqtime 2", "trigdelay 0", "pwr on", "start"):
        station.monitor(command)
    assert station.process.order(fault="lose_samples", count=7) == {"ok": True}
    stream = station.power.until(rb"Acquisition completed\r\n")
    assert len(_values(stream)) == 2000 - 7
    assert stream.count(b"TimeStamp") == 2


def test_a_slow_host_ends_in_an_overrun(station: Any) -> None:
    for command in ("htc", "freq 5k", "acqtime inf", "trigdelay 0", "pwr on", "start"):
        station.monitor(command)
    station.process.order(fault="slow_host")
    stream = station.power.until(rb"Acquisition completed\r\n")
    assert b"\r\nerror Overrun" in stream
    loads = [int(load) for load in re.findall(rb"buff (\d\d+)%", stream)]
    assert loads == sorted(loads)
    assert loads[-1] > 80
    assert "Overrun" in station.monitor("status")
