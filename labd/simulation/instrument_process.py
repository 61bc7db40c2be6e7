"""The process of ``labd fake``: one simulated instrument, served until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from labd.aio.wire_log import log_wires_to
from labd.core.errors import ConfigError
from labd.simulation.instrument_cable import Cable, Device, StreamingDevice
from labd.wire.simulated_instruments import INSTRUMENTS

PTY_FOLDER = "/dev/pts/"


class LinkRefusedError(Exception):
    """The requested link cannot be made, for the reason in the text."""


async def serve_instrument(name: str, link: Path | None = None, *, energy: bool = False) -> None:
    """Announce the path as one JSON line and serve until SIGTERM or Ctrl-C.

    Args:
        name: one of :data:`INSTRUMENTS`.
        link: a symbolic link to make to its pseudo-terminal, removed at the end.
        energy: its DUT runs the energy build.

    Raises:
        LinkRefusedError: the link cannot be made.
        Exception: raised by the simulated instrument; a defect of it.
    """
    instrument = INSTRUMENTS[name]
    module, _, function = instrument.serve.partition(":")
    serve = cast("Callable[..., Cable]", getattr(import_module(module), function))
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    cable = serve(energy=energy) if instrument.has_dut else serve()
    try:
        if link is not None:
            make_link(link, cable.path)
        _print_address(name, cable.path, link)
        await _stream_until(cable.device, ended)
    finally:
        cable.unplug()
        remove_link(link, cable.path)


def make_link(link: Path, target: str) -> None:
    """Make a symbolic link to a pseudo-terminal, replacing an older one.

    Raises:
        LinkRefusedError: something else stands there, or ``target`` is no file.
    """
    if not target.startswith("/"):
        raise LinkRefusedError(f"{target} is a network address, to which no link can lead")
    if os.path.lexists(link) and not _link_starts_with(link, PTY_FOLDER):
        raise LinkRefusedError(f"{link} is there already, and is no link to a pseudo-terminal")
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        fresh.symlink_to(target)
        fresh.replace(link)
    except OSError as error:
        raise LinkRefusedError(f"cannot make {link}: {error.strerror}") from error


def remove_link(link: Path | None, target: str) -> None:
    """Remove the link, unless it leads to another instrument by now."""
    if link is not None and _link_starts_with(link, target):
        link.unlink()


def _link_starts_with(link: Path, target: str) -> bool:
    return link.is_symlink() and str(link.readlink()).startswith(target)


def _print_address(name: str, path: str, link: Path | None) -> None:
    """Print the path for programs, and on standard error the table for stations.toml."""
    address = str(link.absolute()) if link is not None else path
    if name == "otii":
        address = path.rpartition(":")[2]
    sys.stderr.write(f"in stations.toml:\n{INSTRUMENTS[name].table % address}\n")
    sys.stderr.flush()
    sys.stdout.write(json.dumps({name: path}) + "\n")
    sys.stdout.flush()


async def _stream_until(device: Device, ended: asyncio.Event) -> None:
    """Let it stream until the end, or until it fails."""
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(ended.wait())]
    if isinstance(device, StreamingDevice):
        tasks.append(asyncio.create_task(device.stream_by_wall_clock()))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve one simulated instrument; :mod:`labd.cli.fake` describes the options."""
    parser = argparse.ArgumentParser(prog="labd fake", add_help=False)
    parser.add_argument("instrument", choices=INSTRUMENTS)
    parser.add_argument("--link", type=Path)
    parser.add_argument("--energy", action="store_true")
    parser.add_argument("--wire-log", type=Path)
    given = parser.parse_args(argv)
    try:
        with log_wires_to(given.wire_log):
            asyncio.run(serve_instrument(given.instrument, given.link, energy=given.energy))
    except LinkRefusedError as error:
        parser.error(f"--link: {error}")
    except ConfigError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
