"""What DUT text means, with every deviation the published logs show."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.core.errors import DutError, InfraError
from labd.core.model import Build
from labd.protocol.failure_texts import errors_in
from labd.protocol.infer_reply import parse_infer, parse_results
from labd.protocol.lines import MAX_LINE, Line, LineSplitter, text_before_ready
from labd.protocol.replies import REPLY_DAMAGED, build_in, format_db_commands, laps_in
from labd.protocol.words import COUNTER_MODULUS

REPLY = """\
m-warmup-start-10
m-warmup-done
m-infer-start-70
m-lap-us-68977103
m-lap-us-79868334
m-infer-done
m-results-[0.000,0.007,0.992]"""


def lines(text: str) -> list[Line]:
    return [Line(line, t_ns) for t_ns, line in enumerate(text.splitlines())]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_gives_the_same_lines(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert [line for part in parts for line in splitter.feed(part)] == LineSplitter().feed(data)


def test_noise_is_dropped_and_endless_lines_are_cut() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"\x00m-re\xffady\r\n\r\n \n half") == ["m-ready"]
    assert splitter.partial_line == " half"
    flood = LineSplitter().feed(b"x" * (3 * MAX_LINE))
    assert [len(line) for line in flood] == [MAX_LINE] * 3


@pytest.mark.parametrize(
    ("text", "head"),
    [("m-ready", ""), ("  dut: m-ready", "dut:"), ("1, 2, m-ready", "1, 2,"), ("m-read", None)],
)
def test_ready_is_found_anywhere_and_the_text_before_it_kept(text: str, head: str | None) -> None:
    assert text_before_ready(text) == head


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("e-[Unknown command: foo]", ["Unknown command: foo"]),
        ("db 0%e-[Insufficent number of hex digits]", ["Insufficent number of hex digits"]),
        ("fooe-[Unknown command: foo]", ["Unknown command: foo"]),
        ("e-[cut off", ["cut off"]),
        ("m-profile-[ULPMark]", []),
        ("profilem-profile-[ULPMark]", []),
        ("m-name-dut-[x] m-some-vendor-mode-[y]", []),
        ("Supplied buffer size 9 exceeds maximum of 4", None),
        ("Input db has 3 elemented, expected 4", None),
        ("some debug text", []),
    ],
)
def test_errors_are_distinguished_from_messages(text: str, errors: list[str] | None) -> None:
    assert errors_in(lines(text)) == ([text] if errors is None else errors)


def test_an_infer_reply_is_parsed() -> None:
    reply = parse_infer(lines(REPLY), 70, 10)
    assert reply.laps_us == (68977103, 79868334)
    assert reply.runtime_us == 10891231
    assert reply.results == (0.0, 0.007, 0.992)
    assert (reply.start_ns, reply.done_ns) == (2, 5)


def test_the_lap_counter_wraps() -> None:
    text = REPLY.replace("68977103", "4294809060").replace("79868334", "444303")
    assert parse_infer(lines(text), 70, 10).runtime_us == 444303 - 4294809060 + COUNTER_MODULUS


def test_an_energy_build_has_no_laps() -> None:
    text = re.sub(r"m-lap-us-\d+\n", "", REPLY)
    reply = parse_infer(lines(text), 70, 10)
    assert reply.laps_us is None
    assert reply.runtime_us is None


def test_observed_deviations_change_nothing() -> None:
    text = (
        "infer 70 10%m-warmup-start-10\n[vendor] heap\nm-warmup-done\n  m-infer-start-70\n"
        "tick 1 m-lap-us-68977103 m-lap-us-79868334\nm-infer-done\nm-results-[0.0, 0.007,0.992,]"
    )
    odd, plain = parse_infer(lines(text), 70, 10), parse_infer(lines(REPLY), 70, 10)
    assert (odd.laps_us, odd.results) == (plain.laps_us, plain.results)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("m-infer-start-70", "m-infer-start-71", "infer-echo"),
        ("m-warmup-start-10", "m-warmup-start-1", "infer-echo"),
        ("m-warmup-start-10\n", "", "infer-echo"),
        ("m-lap-us-79868334\n", "", "infer-laps"),
        ("m-infer-done", "m-lap-us-5\nm-infer-done", "infer-laps"),
        ("m-lap-us-79868334", "m-lap-us-7986_8334", "lap-damaged"),
        ("m-lap-us-79868334", "m-lap-us-7986.8", "lap-damaged"),
        ("m-lap-us-79868334", "m-lap-us--1", "lap-damaged"),
        ("m-lap-us-79868334", "m-lap-us-" + "9" * 5000, "lap-damaged"),
        ("m-infer-start-", "m-infer-start-" + "9" * 5000, "infer-echo"),
        ("m-infer-done\n", "", "infer-incomplete"),
        ("m-infer-start-70\n", "", "infer-incomplete"),
        ("m-results-[0.000,0.007,0.992]", "", "infer-results"),
        ("0.007", "0.0o7", "infer-results"),
        ("0.000,0.007,0.992", ",", "infer-results"),
        ("m-warmup-done", "Input db has 3 elemented, expected 4", "infer-refused"),
        ("m-warmup-done", "e-[Inference iterations must be >0]", "infer-refused"),
    ],
)
def test_a_wrong_infer_reply_is_refused_and_quoted(old: str, new: str, code: str) -> None:
    with pytest.raises(DutError) as caught:
        parse_infer(lines(REPLY.replace(old, new)), 70, 10)
    assert caught.value.code == code
    assert "reply: " in caught.value.what


@pytest.mark.parametrize(
    ("lines_changed", "why"),
    [
        ("m-infer-done\x02\x10PI[0.999,0.000]", "v1.2 syntiant, 9600 baud: bytes were overrun"),
        ("m-infer-doneb\x05\x02TI[0.000,0.999]", "v1.2 syntiant"),
        ("m-infer-doneI[0.000,0.999]", "the same, its bytes from 0x80 on dropped"),
        ("m-infer-done\nm-resu\x7fts-[0.000,0.999]", "one byte"),
        ("m-infer-done\nm-results-[0.000,0.9", "the end of a line"),
    ],
)
def test_a_damaged_reply_is_the_lines_fault(lines_changed: str, why: str) -> None:
    text = REPLY.replace("m-infer-done\nm-results-[0.000,0.007,0.992]", lines_changed)
    assert text != REPLY
    with pytest.raises(InfraError, match="damaged on the line") as caught:
        parse_infer(lines(text), 70, 10)
    assert caught.value.code == REPLY_DAMAGED


def test_an_error_that_names_another_command_is_the_lines_fault() -> None:
    with pytest.raises(InfraError, match="the command was damaged"):
        parse_infer(lines("e-[Unknown command: ifer]"), 70, 10)
    with pytest.raises(DutError):
        parse_infer(lines("e-[Unknown command: infer]"), 70, 10)


@pytest.mark.parametrize("text", ["m-results-[]", "m-results-[ ]", "Done.\tm-results-[]\t"])
def test_empty_results_are_none(text: str) -> None:
    """Published performance builds print them: v1.2 bosch, with a printf without floats."""
    reply = REPLY.replace("m-results-[0.000,0.007,0.992]", text)
    assert parse_infer(lines(reply), 70, 10).results == ()


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("-0.125,0.977,", (-0.125, 0.977)),
        (" 1.5e-3, .5,2. ", (0.0015, 0.5, 2.0)),
        ("11.772", (11.772,)),
        ("0,1,0", (0.0, 1.0, 0.0)),
        ("+0.500,-0.000", (0.5, -0.0)),
        ("9.920e-01,3.906E-003", (0.992, 0.003906)),
        ("0.10,,0.20,", (0.1, 0.2)),
        ("\t0.1 ,\t0.2 ", (0.1, 0.2)),
    ],
)
def test_results_come_in_many_formats(text: str, results: tuple[float, ...]) -> None:
    assert parse_results(text) == results


@pytest.mark.parametrize("text", ["nan,0.1", "inf", "1_0", "0x1", "0.1;0.2", "\u0661", "9" * 400])
def test_only_finite_numbers_are_results(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        parse_results(text)


@pytest.mark.parametrize("build", list(Build))
def test_the_prologue_names_the_build(build: Build) -> None:
    assert build_in(lines(f"Initialized\nxxm-timestamp-mode-{build}\nm-init-done")) is build
    assert build_in(lines("m-init-done")) is None


@given(st.binary(min_size=1, max_size=300), st.integers(1, 38))
def test_db_lines_carry_every_byte_and_fit_the_command_buffer(data: bytes, db_bytes: int) -> None:
    commands = format_db_commands(data, db_bytes)
    assert bytes.fromhex("".join(command.removeprefix("db ") for command in commands)) == data
    assert max(map(len, commands)) <= 80


def _published_session() -> Path:
    shared = os.environ.get("LABD_SHARED")
    if not shared:
        pytest.skip("LABD_SHARED does not name the folder with published session logs")
    return Path(shared) / "real-logs" / "v0.7_STMicroelectronics_NUCLEO_L4R5ZI_kws01_performance"


def test_a_published_session_gives_its_own_results() -> None:
    folder = _published_session()
    text = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    said = re.findall(r" dut: (.*)", text)
    laps = laps_in([Line(line, 0) for line in said])
    assert len(laps) >= 10
    runs = re.split(r"m-warmup-start-", "\n".join(said))[1:]
    rates = []
    for run in runs:
        body = "m-warmup-start-" + run.partition("m-ready")[0]
        iterations = int(re.search(r"m-infer-start-(\d+)", body)[1])  # type: ignore[index]
        reply = parse_infer(lines(body), iterations, int(body.split("-")[3].split()[0]))
        assert reply.runtime_us is not None
        rates.append(iterations / reply.runtime_us * 1e6)
    published = re.findall(r"(\d+\.\d+) inf", (folder / "results.txt").read_text())
    assert published
    assert f"{sorted(rates)[len(rates) // 2]:.3f}" in published
