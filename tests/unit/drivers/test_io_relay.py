"""Relayed replies and the io-manager's timestamps, from text alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.io_manager.eembc_laps import LapLog
from labd.protocol.infer_reply import parse_infer
from labd.protocol.lines import Line
from labd.protocol.relay import RelayedReply, split_relayed

INFER = [
    "m-dut-passthrough(infer 50 1)",
    "m-ready",
    "[dut]: m-warmup-start-1",
    "[dut]: m-warmup-done",
    "[dut]: m-infer-start-50",
    "[dut]: m-infer-done",
    "[dut]: m-results-[0.004,0.996]",
    "[dut]: m-ready",
]


def reply_to(*texts: str, accepted: bool = False) -> RelayedReply:
    reply = RelayedReply(accepted=accepted)
    for t_ns, text in enumerate(texts):
        reply.feed(Line(text, t_ns))
    return reply


def test_text_of_the_dut_before_the_board_accepted_ends_nothing() -> None:
    late = ["[dut]: m-results-[1.0]", "[dut]: m-ready"]
    assert not reply_to(*late).finished
    reply = reply_to(*late, *INFER)
    assert [line.text for line in reply.stray] == ["m-results-[1.0]"]
    assert [line.text for line in reply.lines] == [t.removeprefix("[dut]: ") for t in INFER[2:7]]
    assert reply.finished
    assert reply_to(*late, accepted=True).finished


@pytest.mark.parametrize(
    ("line", "command", "differs"),
    [
        ("m-dut-passthrough(db 0011)", "db 0011", False),
        ("m-dut-passthrough(db 00", "db 0011", False),
        ("m-dut-passthrough(db 0011)m-ready", "db 0011", False),
        ("m-dut-passthrough(db 011)", "db 0011", True),
        ("m-dut-passthrough(db 00111)", "db 0011", True),
        ("m-ready", "db 0011", True),
    ],
)
def test_an_echo_of_another_command_contradicts(line: str, command: str, *, differs: bool) -> None:
    reply = reply_to(line)
    assert reply.echoes_other_than(command) is differs
    assert reply.accepted is line.endswith("m-ready")


@given(st.text(alphabet="[dut]: m-readylapus01)(", max_size=60))
def test_any_text_is_split_without_loss(text: str) -> None:
    board, dut = split_relayed(text)
    joined = board if dut is None else f"{board}[dut]:{dut}"
    assert joined.replace(" ", "") == text.replace(" ", "")


@given(st.lists(st.tuples(st.integers(0, len(INFER)), st.integers(0, 2**32 - 1)), max_size=6))
def test_laps_between_any_two_lines_leave_the_reply_as_it_was(laps: list[tuple[int, int]]) -> None:
    texts = list(INFER)
    for place, lap in sorted(laps, key=lambda at: at[0], reverse=True):
        texts.insert(place, f"m-lap-us-{lap}")
    log, reply = LapLog(), RelayedReply()
    for t_ns, text in enumerate(texts):
        line = log.extract_laps(Line(text, t_ns))
        if line is not None:
            reply.feed(line)
    found = [int(text.removeprefix("m-lap-us-")) for text in texts if "lap" in text]
    assert [edge.ticks for edge in log.edges] == found
    assert [line.text for line in reply.lines] == [t.removeprefix("[dut]: ") for t in INFER[2:7]]
    assert reply.finished
    assert log.damaged == []


@pytest.mark.parametrize(
    ("text", "ticks", "rest", "damaged"),
    [
        ("m-lap-us-123", [123], None, False),
        ("m-lap-us-123m-ready", [123], "m-ready", False),
        ("m-lap-us-1 m-lap-us-2", [1, 2], None, False),
        ("m-lap-us-123[dut]: m-infer-done", [123], "[dut]: m-infer-done", False),
        ("[dut]: m-lap-us-123", [], "[dut]: m-lap-us-123", False),
        ("m-lap-us-1m2", [], "m-lap-us-1m2", True),
        ("m-lap-us-4294967296", [], None, True),
        ("m-lap-us-", [], "m-lap-us-", True),
    ],
)
def test_a_lap_is_taken_out_of_its_line(
    text: str, ticks: list[int], rest: str | None, *, damaged: bool
) -> None:
    log = LapLog()
    line = log.extract_laps(Line(text, 7))
    assert (line.text if line else None) == rest
    assert [edge.ticks for edge in log.edges] == ticks
    assert [edge.t_ns for edge in log.edges] == [7] * len(ticks)
    assert log.damaged == ([text] if damaged else [])


@pytest.mark.parametrize(
    ("session", "model", "iterations"),
    [
        ("v0.5_reference_NUCLEO_L4R5ZI_reference_ad01_energy", "ad01", 10),
        ("v0.7_STMicroelectronics_NUCLEO_L4R5ZI_ic01_energy", "ic01", 50),
        ("v0.7_hls4ml_finn_Arty_A7_100T_ad01_energy", "ad01", 350000),
        ("v1.1_STMicroelectronics_NUCLEO_L4R5ZI_ic01_energy", "ic01", 50),
    ],
)
def test_a_published_session_reads_reply_by_reply(
    session: str, model: str, iterations: int
) -> None:
    shared = os.environ.get("LABD_SHARED")
    if not shared:
        pytest.skip("LABD_SHARED does not name the folder with published session logs")
    text = (Path(shared) / "real-logs" / session / "log.txt").read_text(errors="replace")
    said = re.findall(r"^\S+ io: (.*)$", text, re.MULTILINE)
    starts = [i for i, line in enumerate(said) if line.startswith("m-dut-passthrough(")]
    prologue = reply_to(*said[: starts[0]], accepted=True)
    assert prologue.finished
    assert "m-init-done" in [line.text for line in prologue.lines]
    replies = {}
    for start in starts:
        reply = reply_to(*said[start : said.index("[dut]: m-ready", start) + 1])
        assert reply.finished
        assert reply.stray == []
        replies.setdefault(reply.echo, []).append(reply)
    assert f"m-model-[{model}]" in [line.text for line in replies["profile"][0].lines]
    infers = replies[f"infer {iterations} 1"]
    assert len(infers) == 5
    for infer in infers:
        assert parse_infer(infer.lines, iterations, 1).results
