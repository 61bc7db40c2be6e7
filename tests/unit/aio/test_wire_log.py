from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labd.aio.wire_log import (
    FROM_DEVICE,
    HEADER,
    NOTE,
    TO_DEVICE,
    WireEntry,
    WireLog,
    log_wires_to,
    open_port_log,
)
from labd.core.errors import ConfigError

UTC_NS = 1_784_884_442_118_204_000


def test_a_line_has_time_port_direction_hex_and_text() -> None:
    sent = WireEntry(48_211_093_347_120, UTC_NS, "/dev/ttyACM0", TO_DEVICE, b"name%")
    head = "48211093347120 2026-07-24T09:14:02.118204+00:00 /dev/ttyACM0"
    assert sent.format_line().decode() == f"{head} > 6e616d6525 |name%|\n"
    came = WireEntry(48_211_093_347_120, UTC_NS, "/dev/ttyACM0", FROM_DEVICE, b"\x00|\xff\r\n ~")
    assert came.format_line().decode() == f"{head} < 007cff0d0a207e |.|... ~|\n"
    note = WireEntry(48_211_093_347_120, UTC_NS, "my port", NOTE, b"closed")
    assert note.format_line().decode() == f"{head} # closed\n".replace("/dev/ttyACM0", "my_port")


def test_without_a_wire_log_a_port_has_none(tmp_path: Path) -> None:
    assert open_port_log("/dev/x") is None
    with log_wires_to(None):
        assert open_port_log("/dev/x") is None
    with log_wires_to(tmp_path / "log"):
        assert open_port_log("/dev/x") is not None
    assert open_port_log("/dev/x") is None


def test_a_file_is_appended_to_and_holds_every_port(tmp_path: Path) -> None:
    path = tmp_path / "all.wire"
    for port in ("/dev/a", "/dev/b"):
        with log_wires_to(path):
            log = open_port_log(port)
            assert log is not None
            log.log_sent(b"x")
    lines = path.read_bytes().splitlines(keepends=True)
    assert [lines[0], lines[2]] == [HEADER, HEADER]
    assert re.fullmatch(rb"\d+ \S+ /dev/a > 78 \|x\|\n", lines[1])
    assert re.fullmatch(rb"\d+ \S+ /dev/b > 78 \|x\|\n", lines[3])


def test_a_directory_gets_a_file_per_port(tmp_path: Path) -> None:
    with log_wires_to(tmp_path):
        for port in ("/dev/serial/by-id/usb-A_1", "socket://192.0.2.7:5025"):
            log = open_port_log(port)
            assert log is not None
            log.log_received(bytearray(b"x"))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"dev-serial-by-id-usb-A-1.wire", "socket-192.0.2.7-5025.wire"}


def test_a_killed_process_loses_the_last_second_at_most(tmp_path: Path) -> None:
    path = tmp_path / "killed.wire"
    code = (
        "import os, sys, time; from pathlib import Path;"
        "from labd.aio.wire_log import WireLog, PortLog;"
        "port = PortLog(WireLog(Path(sys.argv[1])), 'p');"
        "port.log_sent(b'first'); time.sleep(1); port.log_sent(b'last'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=30)
    assert b"|first|" in path.read_bytes()


def test_a_full_disk_ends_the_log_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log = WireLog(Path("/dev/full"), flush_s=0.01)
        for _ in range(3):
            log.queue_entry(WireEntry(0, 0, "p", TO_DEVICE, b"x" * 100_000))
            time.sleep(0.05)
        log.close()
    assert [record.getMessage() for record in caplog.records] == [
        "wire log /dev/full ended: No space left on device"
    ]


def test_what_a_slow_disk_does_not_take_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "slow.wire"
    log = WireLog(path, flush_s=30, max_waiting_bytes=5)
    for data in (b"123456", b"78", b"9"):
        log.queue_entry(WireEntry(0, 0, "p", TO_DEVICE, data))
    log.close()
    text = path.read_text()
    assert "|123456|" in text
    assert "# 3 bytes are missing here" in text


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "log"
    with pytest.raises(ConfigError, match="cannot write the wire log"), log_wires_to(missing):
        pass
