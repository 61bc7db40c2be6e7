"""The DUT protocol: every command, every text, every boundary, and bytes nobody meant to send."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.firmware.host import ask, build_dut, load_commands, talk

IMAGE = bytes(range(0, 256, 4))
TIMESTAMP_PULSE = b"\x80\x81"
PROCESSING_ON, PROCESSING_OFF = b"\x83", b"\x82"
RESULTS = re.compile(rb"m-results-\[(\d+\.\d{3}(?:,\d+\.\d{3}){9})\]\r\n")


def last(dut: Path, *commands: str | bytes) -> bytes:
    return ask(dut, *commands)[-1]


# ---- prologue


def test_performance_prologue(performance_dut: Path) -> None:
    assert talk(performance_dut, b"") == (
        b"m-timestamp-mode-performance\r\nm-lap-us-1010\r\nm-init-done\r\nm-ready\r\n"
    )


def test_energy_prologue_pulses_the_timestamp_pin_instead_of_a_lap(energy_dut: Path) -> None:
    assert talk(energy_dut, b"") == (
        b"m-timestamp-mode-energy\r\n" + TIMESTAMP_PULSE + b"m-init-done\r\nm-ready\r\n"
    )


# ---- commands that take no input


def test_name(performance_dut: Path) -> None:
    assert last(performance_dut, "name") == b"m-name-dut-[labd-host]\r\n"


def test_profile(performance_dut: Path) -> None:
    assert last(performance_dut, "profile") == (
        b"m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[digits01]\r\n"
    )


def test_timestamp(performance_dut: Path, energy_dut: Path) -> None:
    assert last(performance_dut, "timestamp") == b"m-lap-us-1020\r\n"
    assert last(energy_dut, "timestamp") == TIMESTAMP_PULSE


def test_laps_wrap_after_32_bits(tmp_path: Path) -> None:
    dut = build_dut(tmp_path, first_microsecond=2**32 - 15)
    assert b"m-lap-us-4294967291\r\n" in talk(dut, b"")
    assert last(dut, "timestamp") == b"m-lap-us-5\r\n"


def test_help_names_every_command(performance_dut: Path) -> None:
    text = last(performance_dut, "help").decode()
    for command in ("help", "name", "profile", "timestamp", "db load", "db print", "infer"):
        assert f"\n{command}" in text
    assert "\nresults" in text


def test_runs_of_spaces_separate_and_extra_arguments_are_ignored(performance_dut: Path) -> None:
    assert last(performance_dut, "  name   now  ") == b"m-name-dut-[labd-host]\r\n"


# ---- errors, by their exact text

ERRORS = {
    "foo": "Unknown command: foo",
    "NAME": "Unknown command: NAME",
    "nam": "Unknown command: nam",
    "names": "Unknown command: names",
    "name\r\n": "Unknown command: name??",
    "\x00name": "Unknown command: ?name",
    "": "Empty command",
    "   ": "Empty command",
    "db": "Command 'db' requires a subcommand",
    "db load": "Command 'db load' requires the # of bytes",
    "db load 0": "Command 'db load' must be >0 bytes",
    "db load -1": "Command 'db load' must be >0 bytes",
    "db load many": "Command 'db load' must be >0 bytes",
    "db load 64x": "Command 'db load' must be >0 bytes",
    "db 0": "Insufficent number of hex digits",
    "db 012": "Insufficent number of hex digits",
    "db 00": "No bytes are expected: send 'db load' first",
    "infer 0": "Inference iterations must be >0",
    "infer -1": "Inference iterations must be >0",
    "infer ten": "Inference iterations must be >0",
    "infer 4294967296": "Inference iterations exceed 32 bits",
    "infer 1 -1": "Inference warmup must be >=0",
    "infer 1 x": "Inference warmup must be >=0",
    "infer 1 99999999999999999999": "Inference warmup exceeds 32 bits",
    "results": "No results: run 'infer' first",
    "x" * 81: "Command exceeds 80 characters",
    "db " + "00" * 39: "Command exceeds 80 characters",
    "y" * 5000: "Command exceeds 80 characters",
}


@pytest.mark.parametrize(("command", "text"), ERRORS.items())
def test_error(performance_dut: Path, command: str, text: str) -> None:
    assert last(performance_dut, command) == f"e-[{text}]\r\n".encode()


@pytest.mark.parametrize("pair", ["0g", "x1", "-1", "0x", "\x00\x00", "\xe9\xe9"])
def test_invalid_hex_digit(performance_dut: Path, pair: str) -> None:
    sent = pair.encode("latin-1")
    shown = re.sub(rb"[^ -~]", b"?", sent)
    assert last(performance_dut, "db load 2", b"db 00" + sent) == (
        b"e-[Invalid hex digit '" + shown + b"']\r\n"
    )


def test_a_line_of_exactly_80_characters_is_a_command(performance_dut: Path) -> None:
    assert last(performance_dut, "x" * 80) == b"e-[Unknown command: " + b"x" * 80 + b"]\r\n"


def test_a_refused_line_leaves_nothing_behind(performance_dut: Path) -> None:
    assert last(performance_dut, "x" * 100, "name") == b"m-name-dut-[labd-host]\r\n"


def test_a_damaged_byte_refuses_its_line_and_no_other(performance_dut: Path) -> None:
    replies = ask(performance_dut, b"na\xffme", "name")
    assert replies == [
        b"e-[Receive error: bytes were lost]\r\n",
        b"m-name-dut-[labd-host]\r\n",
    ]


# ---- loading


@pytest.mark.parametrize("bytes_a_line", [1, 7, 31, 32, 38])
def test_load_answers_only_the_last_line(performance_dut: Path, bytes_a_line: int) -> None:
    replies = ask(performance_dut, *load_commands(IMAGE, bytes_a_line))
    assert replies[0] == b"m-[Expecting 64 bytes]\r\n"
    assert set(replies[1:-1]) <= {b""}
    assert replies[-1] == b"m-load-done\r\n"


def test_print_shows_what_was_loaded_in_lines_of_eight(performance_dut: Path) -> None:
    printed = last(performance_dut, "db load 10", "db 00FFabCD04", "db 0506070809", "db print")
    assert printed == b"m-buffer-00-ff-ab-cd-04-05-06-07\r\nm-buffer-08-09\r\n"


def test_print_before_any_load_shows_nothing(performance_dut: Path) -> None:
    assert last(performance_dut, "db print") == b""


def test_digits_after_the_last_byte_are_ignored(performance_dut: Path) -> None:
    replies = ask(performance_dut, "db load 2", "db 0102zz99", "db print")
    assert replies[1:] == [b"m-load-done\r\n", b"m-buffer-01-02\r\n"]


def test_a_line_after_the_last_byte_is_refused(performance_dut: Path) -> None:
    assert last(performance_dut, "db load 1", "db 01", "db 02") == (
        b"e-[No bytes are expected: send 'db load' first]\r\n"
    )


def test_a_bad_line_stores_nothing_and_can_be_repeated(performance_dut: Path) -> None:
    replies = ask(performance_dut, "db load 3", "db 01020g", "db 010", "db 010203", "db print")
    assert replies[3:] == [b"m-load-done\r\n", b"m-buffer-01-02-03\r\n"]


@pytest.mark.parametrize("size", ["65", "27648", "4294967295", "4294967296", "9" * 60])
def test_a_load_beyond_the_buffer_is_refused(performance_dut: Path, size: str) -> None:
    replies = ask(performance_dut, "db load 64", "db 00", f"db load {size}", "db 00")
    assert replies[2:] == [
        f"Supplied buffer size {size} exceeds maximum of 64\ne-[Load refused]\r\n".encode(),
        b"e-[No bytes are expected: send 'db load' first]\r\n",
    ]


def test_load_rewinds(performance_dut: Path) -> None:
    replies = ask(performance_dut, "db load 2", "db 01", "db load 2", "db 0203", "db print")
    assert replies[3:] == [b"m-load-done\r\n", b"m-buffer-02-03\r\n"]


# ---- inference


def test_infer_in_the_performance_build(performance_dut: Path) -> None:
    reply = last(performance_dut, *load_commands(IMAGE), "infer 3 2")
    head, results = reply.split(b"m-results-")
    assert head == (
        b"m-warmup-start-2\r\nm-warmup-done\r\nm-infer-start-3\r\n"
        + PROCESSING_ON
        + b"m-lap-us-1020\r\nm-lap-us-1030\r\n"
        + PROCESSING_OFF
        + b"m-infer-done\r\n"
    )
    assert RESULTS.fullmatch(b"m-results-" + results)


def test_infer_in_the_energy_build(energy_dut: Path) -> None:
    reply = last(energy_dut, *load_commands(IMAGE), "infer 3 0")
    head, results = reply.split(b"m-results-")
    assert head == (
        b"m-warmup-start-0\r\nm-warmup-done\r\nm-infer-start-3\r\n"
        + PROCESSING_ON
        + TIMESTAMP_PULSE
        + TIMESTAMP_PULSE
        + PROCESSING_OFF
        + b"m-infer-done\r\n"
    )
    assert RESULTS.fullmatch(b"m-results-" + results)


@pytest.mark.parametrize(
    ("command", "iterations", "warmup"),
    [("infer", 1, 10), ("infer 7", 7, 10), ("infer 2 0", 2, 0), ("infer 007 01", 7, 1)],
)
def test_infer_defaults(performance_dut: Path, command: str, iterations: int, warmup: int) -> None:
    reply = last(performance_dut, *load_commands(IMAGE), command)
    assert f"m-warmup-start-{warmup}\r\n".encode() in reply
    assert f"m-infer-start-{iterations}\r\n".encode() in reply


def test_results_repeat_the_last_inference_even_while_the_next_input_loads(
    performance_dut: Path,
) -> None:
    replies = ask(
        performance_dut, *load_commands(IMAGE), "infer 1 0", "db load 64", "db 00", "results"
    )
    assert replies[-1] in replies[3]


def test_every_inference_of_a_batch_sees_the_same_input(performance_dut: Path) -> None:
    once = last(performance_dut, *load_commands(IMAGE), "infer 1 0")
    often = last(performance_dut, *load_commands(IMAGE), "infer 5 5", "infer 3 0")
    assert RESULTS.search(once)[0] == RESULTS.search(often)[0]


@pytest.mark.parametrize(
    ("commands", "held"),
    [
        ((), 0),
        (("db load 64", "db 0102"), 2),
        (("db load 63", *load_commands(IMAGE[:63])[1:]), 63),
        ((*load_commands(IMAGE), "db load 64"), 0),
        ((*load_commands(IMAGE), "db load 65"), 0),
    ],
)
def test_an_incomplete_input_is_refused(
    performance_dut: Path, commands: tuple[str, ...], held: int
) -> None:
    assert (
        last(performance_dut, *commands, "infer 1 0")
        == (
            f"Input db has {held} elemented, expected 64\n"
            "e-[Inference refused: load one complete input first]\r\n"
        ).encode()
    )


# ---- bytes nobody meant to send

WORDS = st.sampled_from(
    [b"db", b"load", b"print", b"infer", b"results", b"name", b"64", b"0", b"-1", b"%", b"%", b"%"]
)
NOISE = st.lists(st.one_of(WORDS, st.just(b" "), st.binary(max_size=100)), max_size=40)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=NOISE)
def test_noise_is_answered_in_printable_lines_one_ready_a_terminator(
    performance_dut: Path, parts: list[bytes]
) -> None:
    sent = b"".join(parts)
    said = talk(performance_dut, sent).replace(PROCESSING_ON, b"").replace(PROCESSING_OFF, b"")
    assert said.endswith(b"m-ready\r\n")
    assert said.count(b"m-ready\r\n") == 1 + sent.count(b"%")
    assert re.fullmatch(rb"[ -~\r\n]*", said)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=64), cuts=st.lists(st.integers(1, 38), min_size=1))
def test_any_split_of_a_load_gives_the_same_bytes(
    performance_dut: Path, data: bytes, cuts: list[int]
) -> None:
    lines, rest = [], data
    while rest:
        size = cuts[len(lines) % len(cuts)]
        lines.append(f"db {rest[:size].hex()}")
        rest = rest[size:]
    *answers, printed = ask(performance_dut, f"db load {len(data)}", *lines, "db print")
    assert answers[-1] == b"m-load-done\r\n"
    assert bytes.fromhex(re.sub(rb"m-buffer|[-\r\n]", b"", printed).decode()) == data
