"""The process of ``labd bench``: the emulated stations, their command line and signals."""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from labd.aio.logs import set_up_logging
from labd.aio.wire_log import log_wires_to
from labd.core.errors import ConfigError
from labd.simulation.fault_injection import BenchAnswer, submit_command
from labd.simulation.flash_drive import POLL_S
from labd.simulation.mcu.image import FlashContents, ImageError, parse_image
from labd.simulation.station_thread import StationThread
from labd.wire.emulation import EmulatedStation
from labd.wire.validation import to_mistake

log = logging.getLogger("labd.simulation")


def parse_station(text: str) -> EmulatedStation:
    """Read one ``--station``.

    Raises:
        ValueError: not what is expected; the text names every key.
    """
    try:
        return EmulatedStation.model_validate_json(text)
    except ValidationError as error:
        keys = list(EmulatedStation.model_fields)
        mistakes = [str(to_mistake(each, keys)) for each in error.errors(include_url=False)]
        raise ValueError("; ".join(mistakes)) from error


def _parse_json_object(text: str | bytes) -> dict[str, Any]:
    raw: Any = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("a JSON object expected")  # noqa: TRY004 - of the text, not of the caller
    return cast("dict[str, Any]", raw)


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="labd.simulation", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where the links appear")
    parser.add_argument(
        "--station",
        action="append",
        required=True,
        metavar="JSON",
        help="one EmulatedStation (see labd.wire.emulation)",
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="take orders from standard input, one JSON object per line; end with it",
    )
    parser.add_argument("--log-json", action="store_true", help="log as JSON")
    parser.add_argument("--verbose", action="store_true", help="log debug messages too")
    parser.add_argument("--wire-log", type=Path, help="log every byte of every port there")
    return parser.parse_args(argv)


class BenchProcess:
    """The stations of one process, and its main thread."""

    def __init__(
        self, configs: Sequence[EmulatedStation], images: Sequence[FlashContents], directory: Path
    ) -> None:
        self._stations = {
            config.name: StationThread(config, image, directory)
            for config, image in zip(configs, images, strict=True)
        }
        self._end_requested = False
        self._command_text = bytearray()
        self._pending_answers: deque[Future[BenchAnswer]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)

    def run(self, *, control: bool) -> int:
        """Announce the ports, serve until the end, clean up; return the exit status."""
        signal.signal(signal.SIGTERM, self._on_end_signal)
        signal.signal(signal.SIGINT, self._on_end_signal)
        try:
            for station in self._stations.values():
                station.start()
            _print_json_line({name: station.port_paths for name, station in self._stations.items()})
            while not self._end_requested and all(
                station.is_alive for station in self._stations.values()
            ):
                self._serve_once([sys.stdin.fileno()] if control else [])
        finally:
            for station in self._stations.values():
                station.stop()
        return 0 if self._end_requested else 1

    def _on_end_signal(self, _number: int, _frame: object) -> None:
        self._end_requested = True

    def _serve_once(self, inputs: list[int]) -> None:
        ready, _, _ = select.select([*inputs, self._wake_read], [], [], POLL_S)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        for source in set(ready) & set(inputs):
            self._read_commands(source)
        while self._pending_answers and self._pending_answers[0].done():
            _print_json_line({"ok": True} | self._pending_answers.popleft().result())
        for station in self._stations.values():
            station.poll_drive()

    def _read_commands(self, source: int) -> None:
        data = os.read(source, 65_536)
        if not data:
            self._end_requested = True
        self._command_text += data
        *lines, rest = bytes(self._command_text).split(b"\n")
        self._command_text[:] = rest
        for line in lines:
            if line.strip():
                answer = self._submit_line(line)
                self._pending_answers.append(answer)
                answer.add_done_callback(lambda _: os.write(self._wake_write, b"\0"))

    def _submit_line(self, line: bytes) -> Future[BenchAnswer]:
        try:
            return submit_command(self._stations, _parse_json_object(line))
        except ValueError as error:
            refused: Future[BenchAnswer] = Future()
            refused.set_result({"ok": False, "error": str(error)})
            return refused


def _print_json_line(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a bench until SIGTERM, SIGINT or, under ``--control``, the end of standard input."""
    arguments = _parse_arguments(argv)
    set_up_logging(as_json=arguments.log_json, verbose=arguments.verbose)
    try:
        configs = [parse_station(text) for text in arguments.station]
        images = [parse_image(config.image.read_bytes()) for config in configs]
    except (ValueError, OSError, ImageError) as error:
        return _refuse(f"--station: {error}")
    if len({config.name for config in configs}) != len(configs):
        return _refuse("--station: two stations have the same name")
    with ExitStack() as stack:
        try:
            for config in configs:
                stack.enter_context(_lock_station_directory(arguments.directory, config.name))
        except OSError as error:
            return _refuse(f"--directory: {error}; is another bench running there?")
        try:
            stack.enter_context(log_wires_to(arguments.wire_log))
        except ConfigError as error:
            return _refuse(str(error))
        return BenchProcess(configs, images, arguments.directory).run(control=arguments.control)


def _refuse(why: str) -> int:
    """Log why the process cannot start, and return its exit status."""
    log.error("%s", why)
    return 2


@contextmanager
def _lock_station_directory(directory: Path, station: str) -> Generator[None]:
    """Lock this station's directory against other benches; the kernel unlocks it at exit.

    Raises:
        OSError: another one does, or the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".{station}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
