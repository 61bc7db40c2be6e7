"""Compressed logs: readable while they grow, after a kill, and by any gzip program."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labd.store.compressed_log import CompressedLog, read_compressed_log


def test_any_program_reads_a_closed_log(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.txt.gz"
    log = CompressedLog(path)
    log.write("first\n")
    log.write("second µ\n" * 1000)
    log.close()
    log.close()
    assert gzip.decompress(path.read_bytes()).decode() == "first\n" + "second µ\n" * 1000
    assert read_compressed_log(path) == "first\n" + "second µ\n" * 1000
    assert path.stat().st_size < 300


def test_a_log_is_readable_while_it_grows(tmp_path: Path) -> None:
    log = CompressedLog(tmp_path / "log.gz")
    for number in range(5):
        log.write(f"line {number}\n")
        text = read_compressed_log(tmp_path / "log.gz")
        assert text.splitlines() == [f"line {each}" for each in range(number + 1)]
    log.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from labd.store.compressed_log import CompressedLog
log = CompressedLog(Path(sys.argv[1]))
log.write("infer 10 1%\\n")
log.write("m-ready\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_log_cut_off_by_a_kill_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_compressed_log(path) == "infer 10 1%\nm-ready\n"


def test_evidence_is_not_overwritten(tmp_path: Path) -> None:
    CompressedLog(tmp_path / "log.gz").close()
    with pytest.raises(FileExistsError):
        CompressedLog(tmp_path / "log.gz")


class FullDisk:
    """A file that takes some bytes of the next write and then refuses."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._refuses = False

    def write(self, data: memoryview) -> int:
        if self._refuses:
            raise OSError(28, "No space left on device")
        self._refuses = True
        return self._file.write(data[:3])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_leaves_what_was_written(tmp_path: Path) -> None:
    log = CompressedLog(tmp_path / "log.gz")
    log.write("before\n")
    good = log._file
    log._file = FullDisk(good)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        log.write("lost\n")
    log._file = good
    with pytest.raises(OSError, match="No space"):
        log.write("after\n")
    log.close()
    assert read_compressed_log(tmp_path / "log.gz").startswith("before\n")
    assert "after" not in read_compressed_log(tmp_path / "log.gz")


def test_what_is_no_gzip_file(tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_text("plain")
    with pytest.raises(ValueError, match="is no gzip file"):
        read_compressed_log(tmp_path / "log.gz")
