"""The transcript of serial lines: every byte, in order, each line with the time of its end."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from labd.aio.transcript import (
    MAX_LINE_BYTES,
    PortTranscript,
    Transcript,
    format_entries,
    open_port_transcript,
    recorded_in,
)


def made() -> tuple[Transcript, PortTranscript]:
    transcript = Transcript()
    return transcript, PortTranscript(transcript, "dut")


def shape(transcript: Transcript) -> list[tuple[str, bytes]]:
    return [(direction, data) for _, _, direction, data in transcript.take_entries()]


def test_a_line_has_the_time_at_which_its_end_arrived() -> None:
    transcript, port = made()
    port.add_received(b"m-re", 10)
    port.add_received(b"ady\r\nm-name", 20)
    port.add_received(b"-x\r\n\r\n", 30)
    assert transcript.take_entries() == [
        (20, "dut", "<", b"m-ready\r\n"),
        (30, "dut", "<", b"m-name-x\r\n"),
        (30, "dut", "<", b"\r\n"),
    ]
    assert transcript.take_entries() == []


def test_what_is_sent_interrupts_an_unfinished_line() -> None:
    transcript, port = made()
    port.add_received(b"na", 10)
    port.add_sent(b"name%")
    port.add_received(b"me%m-ready\n", 20)
    port.add_received(b"rest", 30)
    port.add_note("closed")
    assert shape(transcript) == [
        ("<", b"na"),
        (">", b"name%"),
        ("<", b"me%m-ready\n"),
        ("<", b"rest"),
        ("#", b"closed"),
    ]


def test_bytes_are_escaped_and_take_one_line() -> None:
    entries = [(7, "dut", "<", b"\x00\xff'a\"\\ \r\n"), (8, "io", ">", b"infer 10 1%")]
    assert format_entries(entries) == ("7 dut < \\x00\\xff\\'a\"\\\\ \\r\\n\n8 io > infer 10 1%\n")


@given(pieces=st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"\n"))))
def test_however_the_bytes_come_none_is_lost(pieces: list[bytes]) -> None:
    transcript, port = made()
    for number, piece in enumerate(pieces):
        port.add_received(piece, number)
    port.add_note("closed")
    entries = transcript.take_entries()[:-1]
    assert b"".join(data for *_, data in entries) == b"".join(pieces)
    assert all(data.count(b"\n") <= 1 for *_, data in entries)


def test_a_line_without_end_is_cut() -> None:
    transcript, port = made()
    for number in range(3):
        port.add_received(b"x" * MAX_LINE_BYTES, number)
    assert [len(data) for *_, data in transcript.take_entries()] == [MAX_LINE_BYTES] * 3


def test_nothing_is_kept_once_nothing_writes_it() -> None:
    transcript, port = made()
    transcript.close()
    port.add_sent(b"name%")
    assert transcript.take_entries() == []


async def test_two_runs_at_once_have_their_own_transcripts() -> None:
    transcripts = [Transcript(), Transcript()]

    async def run(number: int) -> None:
        with recorded_in(transcripts[number]):
            await asyncio.sleep(0.01)
            child = asyncio.create_task(open_a_port(f"dut{number}"))
            await child

    async def open_a_port(device: str) -> None:
        port = open_port_transcript(device)
        assert port is not None
        port.add_sent(b"%")

    await asyncio.gather(run(0), run(1))
    assert [[entry[1] for entry in each.take_entries()] for each in transcripts] == [
        ["dut0"],
        ["dut1"],
    ]
    assert open_port_transcript("dut") is None
