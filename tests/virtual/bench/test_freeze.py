"""``freeze``: the same bytes twice, and energies that agree with the exact integral."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

SAMPLES = re.compile(rb"(?m)^\0?(\d{4})([+-]\d\d)\r$")


def _energy_session(process: Any, host: Any, *, cut: int) -> dict[str, Any]:
    """A lock-step energy run; ``cut`` is how many bytes the host writes at a time."""

    def in_pieces(port: Any) -> None:
        whole = port.send

        def send(data: bytes) -> None:
            for at in range(0, len(data), cut):
                whole(data[at : at + cut])
                time.sleep(0.001)

        port.send = send

    for port in host.ports.values():
        in_pieces(port)
    host.power_up()
    host.load(bytes(range(64)), host.through)
    host.monitor("start")
    host.through("timestamp")
    windows = []
    for _ in range(2):
        host.through("infer 200 2")
        windows.append(process.order(query="window_energy"))
    host.monitor("stop")
    host.power.until(rb"Acquisition completed\r\n")
    cycle = host.ask_io("print_dutycycle")
    return {
        "windows": windows,
        "dutycycle": cycle,
        "state": process.order(query="state"),
        "io": host.io.transcript,
        "power": host.power.transcript,
        "dut": host.dut.quiet() and host.dut.transcript,
    }


def test_two_runs_are_identical_to_the_byte(bench: Any, energy: Any) -> None:
    first, second = (
        _energy_session(process, process.hosts["virtual-1"], cut=cut)
        for process, cut in (
            (bench(energy, mode="freeze"), 1000),
            (bench(energy, mode="freeze"), 3),
        )
    )
    assert first == second


def _windows(stream: bytes) -> list[float]:
    parts = re.split(rb"event \d\d ris\r\n", stream)
    return [
        sum(float(f"{m.decode()}e{e.decode()}") for m, e in SAMPLES.findall(part))
        for part in parts[1:]
    ]


def test_the_stream_integrates_to_the_exact_energy(bench: Any, energy: Any) -> None:
    process = bench(energy, mode="freeze")
    session = _energy_session(process, process.hosts["virtual-1"], cut=1000)
    stream = session["power"]
    assert re.findall(rb"event (\d\d) ris", stream) == [b"00", b"01", b"02", b"03", b"04"]
    sums = _windows(stream)
    for measured, exact in zip((sums[1], sums[3]), session["windows"], strict=True):
        seconds = (exact["end_ps"] - exact["start_ps"]) / 1e12
        one_sample = exact["energy_j"] / seconds * 1e-3
        assert measured == pytest.approx(exact["energy_j"], abs=one_sample)


def test_a_lost_edge_is_missing_from_the_stream(bench: Any, energy: Any) -> None:
    process = bench(energy, mode="freeze")
    host = process.hosts["virtual-1"]
    host.power_up()
    host.monitor("start")
    process.order(fault="lose_edge")
    host.through("timestamp")
    host.through("timestamp")
    host.monitor("stop")
    host.power.until(rb"Acquisition completed\r\n")
    assert re.findall(rb"event (\d\d) ris", host.power.transcript) == [b"00"]


def test_thirty_milliseconds_of_samples_follow_every_command(bench: Any, energy: Any) -> None:
    process = bench(energy, mode="freeze")
    host = process.hosts["virtual-1"]
    host.power_up()
    host.monitor("start")
    host.power.quiet()
    before = process.order(query="state")["now_ps"]
    host.through("timestamp")
    after = process.order(query="state")["now_ps"]
    stream = host.power.quiet()
    tail = stream[stream.index(b"event 00 ris") :]
    assert len(SAMPLES.findall(tail)) >= 30
    time.sleep(0.2)
    assert process.order(query="state")["now_ps"] == after > before


@pytest.mark.parametrize(
    ("settings", "stamp_ends"),
    [
        (("format ascii_dec", "freq 1k"), rb"TimeStamp: \d{3}s \d{3}ms, buff \d\d%\r\n$"),
        (("format ascii_dec", "freq 2k"), rb"TimeStamp: \d{3}s \d{3}ms, buff \d\d%\r\n$"),
        (("output current", "format bin_hexa", "freq 100k"), rb"(?s)\xf0\xf3.{5}\xff\xff$"),
    ],
)
def test_time_stops_at_a_time_stamp(
    bench: Any, energy: Any, settings: tuple[str, ...], stamp_ends: bytes
) -> None:
    process = bench(energy, mode="freeze")
    host = process.hosts["virtual-1"]
    host.power_up()
    for command in settings:
        host.monitor(command)
    host.monitor("start")
    for command in ("timestamp", "name"):
        host.power.quiet()
        before = process.order(query="state")["now_ps"]
        host.through(command)
        stream = host.power.quiet()
        assert re.search(stamp_ends, stream)
        passed_s = (process.order(query="state")["now_ps"] - before) / 1e12
        assert 0.03 < passed_s < 1.3
