"""The virtual MLCommons interface board: passthrough, its queue, its logs, its speed."""

from __future__ import annotations

import re
from typing import Any

import pytest


@pytest.fixture
def station(bench: Any, energy: Any) -> Any:
    process = bench(energy)
    host = process.hosts["virtual-1"]
    host.process = process
    return host


@pytest.fixture
def powered(station: Any) -> Any:
    station.power_up()
    return station


def test_its_own_commands(station: Any) -> None:
    assert station.ask_io("name") == ["tinyML Enhanced Interface Board (simulated)"]
    assert station.ask_io("checkbaud") == ["baud is: 9600"]
    assert station.ask_io("ls") == []
    assert station.ask_io("nothing known") == []
    assert station.ask_io("") == []
    station.io.send(b"play x.wav%")
    assert station.io.until(rb"m-ready\r\n") == (
        b"Attempting to play x.wav\r\n"
        b"Error playing file. Check that the file exists and is a 2-channel wav file.\nm-ready\r\n"
    )


@pytest.mark.parametrize("command", [b"named%", b"lsx%", b"dutname%"])
def test_a_known_word_with_a_tail_gets_no_answer(station: Any, command: bytes) -> None:
    station.io.send(command)
    assert station.io.quiet() == b""
    assert station.ask_io("name") == ["tinyML Enhanced Interface Board (simulated)"]


def test_passthrough_to_the_byte(powered: Any) -> None:
    powered.io.send(b"dut name%")
    answer = powered.io.until(rb"\[dut\]: m-ready\r\n")
    pattern = (
        rb"m-dut-passthrough\(name\)\r\nm-ready\r\n"
        rb"\[dut\]: m-name-dut-\[[^\]]+\]\r\n\[dut\]: m-ready\r\n"
    )
    assert re.fullmatch(pattern, answer)


def test_both_ways_reach_the_same_uart(powered: Any) -> None:
    assert powered.ask("name") == ["m-name-dut-[labd-nucleo-l4r5zi]"]
    # the reply went out on the wire, so it waits in the board's queue: the documented off-by-one
    assert powered.through("profile") == ["m-name-dut-[labd-nucleo-l4r5zi]"]
    assert powered.dut.until(rb"m-model-\[digits01\]\r\nm-ready\r\n")
    assert powered.through("name")[-1] == "m-model-[digits01]"


def test_the_prologue_is_the_answer_to_the_first_command(station: Any) -> None:
    station.monitor("htc")
    station.monitor("pwr on")
    station.dut.until(rb"m-ready\r\n")
    assert station.through("name") == ["m-timestamp-mode-energy", "m-init-done"]
    assert station.through("profile") == ["m-name-dut-[labd-nucleo-l4r5zi]"]


def test_more_than_a_hundred_waiting_characters_are_lost(powered: Any) -> None:
    for _ in range(4):
        powered.ask("profile")  # 76 characters each, nobody takes them at the board
    powered.io.send(b"dut name%")
    text = powered.io.until(rb"\[dut\]: m-ready\r\n")
    assert b"m-model-[digits01]" in text
    assert powered.io.quiet().count(b"m-model") == 0


def test_another_speed_garbles_and_survives_the_reset_it_causes(powered: Any) -> None:
    assert powered.ask_io("setbaud 19200") == ["set baud to: 19200"]
    powered.io.send(b"name%")
    assert powered.io.quiet(0.2) == b""  # half a second of restart, what is sent then is lost
    powered.io.until(rb"$")
    while not powered.io.quiet(0.2):
        powered.io.send(b"name%")
    assert powered.ask_io("checkbaud") == ["baud is: 19200"]
    powered.io.send(b"dut name%")
    seen = powered.io.quiet(0.5)
    assert seen.startswith(b"m-dut-passthrough(name)\r\nm-ready\r\n")
    assert b"m-name" not in seen


def test_a_dead_dut_blocks_it_until_it_is_unplugged(powered: Any) -> None:
    powered.process.order(fault="hang")
    powered.io.send(b"dut name%")
    powered.io.until(rb"m-ready\r\n")
    powered.io.send(b"name%")
    assert powered.io.quiet() == b""
    powered.process.order(fault="unplug", part="io")
    path = powered.process.order(fault="plug", part="io")["path"]
    powered.io.close()
    powered.ports["io"] = type(powered.io)(path)
    answer = b""
    while not answer:
        powered.io.send(b"name%")
        answer = powered.io.quiet(0.2)
    assert b"tinyML Enhanced Interface Board" in answer


def test_logs_the_processing_pin_in_ten_microsecond_ticks(powered: Any) -> None:
    powered.load(bytes(64), powered.through)
    assert powered.ask_io("record_detections") == ["Now recording detections"]
    powered.through("infer 100 0")
    window = powered.process.order(query="window_energy")
    powered.io.send(b"print_dutycycle%")
    text = powered.io.until(rb"m-ready\r\n").decode()
    pattern = (
        r"Duty cycle start times \(s\)\r\n(\d+), \r\n"
        r"Duty cycle stop times \(s\)\r\n(\d+), m-ready\r\n"
    )
    start, stop = (int(tick) for tick in re.fullmatch(pattern, text).groups())
    length_ticks = (window["end_ps"] - window["start_ps"]) / 1e7
    assert stop - start == pytest.approx(length_ticks, abs=10 + length_ticks * 50e-6)
    assert powered.ask_io("print_detections") == ["Detection Timestamps (ms)"]


def test_a_lost_edge_is_missing_from_the_log(powered: Any) -> None:
    powered.load(bytes(64), powered.through)
    powered.ask_io("record_detections")
    powered.process.order(fault="lose_edge", wire="processing")
    powered.through("infer 10 0")
    text = "\n".join(powered.ask_io("print_dutycycle"))
    assert len(re.findall(r"\d+,", text)) == 1
