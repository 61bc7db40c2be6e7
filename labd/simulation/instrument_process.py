"""The process of ``labd fake``: one simulated instrument, served until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from labd.aio.wire_log import log_wires_to
from labd.core.errors import ConfigError
from labd.simulation.instrument_cable import Cable, Device, StreamingDevice


@dataclass(frozen=True)
class ServedInstrument:
    """One simulated instrument.

    Args:
        serve: ``module:function``; the function returns the cable of a new instrument that
            follows the wall clock.
        what: its description.
        table: for stations.toml, with ``%s`` for its address.
        dut: it includes a DUT, whose build can be chosen.
    """

    serve: str
    what: str
    table: str
    dut: bool = False


SCPI_METER_TABLE = """[station.power]
driver = "scpi-meter"
resource = "%s"
expect = "acme"
rate_hz = 1000
supply_on = ["SOUR:VOLT {volts:.3f}", "OUTP ON"]
supply_off = ["OUTP OFF"]
start = ["INIT"]
read = "FETC?"
stop = ["ABOR"]"""

INSTRUMENTS = {
    "serial-dut": ServedInstrument(
        "labd.simulation.instruments.reference_dut:serve_reference_dut_on_pty",
        "a kws01 board on its own serial port",
        'dut = { driver = "serial-dut", port = "%s" }',
        dut=True,
    ),
    "mlcommons-interface": ServedInstrument(
        "labd.simulation.instruments.interface_board:serve_interface_board_on_pty",
        "STM32H573I-DK, a kws01 DUT behind",
        'io = { driver = "mlcommons-interface", port = "%s" }',
        dut=True,
    ),
    "eembc-io-manager": ServedInstrument(
        "labd.simulation.instruments.eembc_uno:serve_eembc_uno_on_pty",
        "Arduino UNO, a kws01 DUT behind",
        'io = { driver = "eembc-io-manager", port = "%s", timestamp_wire = true }',
        dut=True,
    ),
    "lpm01a": ServedInstrument(
        "labd.simulation.instruments.lpm01a.device:serve_lpm01a_on_pty",
        "X-NUCLEO-LPM01A, ASCII and binary",
        'power = { driver = "lpm01a", port = "%s" }',
    ),
    "ppk2": ServedInstrument(
        "labd.simulation.instruments.ppk2.device:serve_ppk2_on_pty",
        "Nordic PPK2, 100 kS/s",
        'power = { driver = "ppk2", port = "%s" }',
    ),
    "n6705": ServedInstrument(
        "labd.simulation.instruments.n6705:serve_n6705_on_tcp",
        "Keysight N6705C, SCPI over a socket",
        'power = { driver = "n6705", resource = "%s" }',
    ),
    "otii": ServedInstrument(
        "labd.simulation.instruments.otii:serve_otii_on_tcp",
        "Qoitech Otii server, JSON over a socket",
        'power = { driver = "otii", port = %s }',
    ),
    "scpi-meter": ServedInstrument(
        "labd.simulation.instruments.scpi_meter:serve_scpi_meter_on_tcp",
        "a source-measure unit, SCPI over a socket",
        SCPI_METER_TABLE,
    ),
}
"""By driver name."""

LIVE_JOULESCOPE = "labd.simulation.joulescope_library:LiveDriver"

JOULESCOPE = f"""a Joulescope has no public byte protocol: its simulation replaces the vendor's
library inside labd, and is not served here. In stations.toml:
  power = {{ driver = "joulescope", library = "{LIVE_JOULESCOPE}" }}"""

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
    cable = serve(energy=energy) if instrument.dut else serve()
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
    """Serve one simulated instrument, or list all; :mod:`labd.cli.fake` describes the options."""
    parser = argparse.ArgumentParser(prog="labd fake", add_help=False)
    parser.add_argument("instrument", nargs="?", choices=[*INSTRUMENTS, "joulescope"])
    parser.add_argument("--link", type=Path)
    parser.add_argument("--build")
    parser.add_argument("--wire-log", type=Path)
    given = parser.parse_args(argv)
    if given.instrument is None:
        listed = "\n".join(f"  {name:20} {one.what}" for name, one in INSTRUMENTS.items())
        sys.stdout.write(f"instruments:\n{listed}\n\n{JOULESCOPE}\n")
        return
    if given.instrument == "joulescope":
        parser.error(JOULESCOPE)
    if given.build and not INSTRUMENTS[given.instrument].dut:
        parser.error(f"--build: {given.instrument} has no DUT in it")
    try:
        with log_wires_to(given.wire_log):
            asyncio.run(
                serve_instrument(given.instrument, given.link, energy=given.build == "energy")
            )
    except LinkRefusedError as trouble:
        parser.error(f"--link: {trouble}")
    except ConfigError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
