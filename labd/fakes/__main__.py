"""``python -m labd.fakes NAME``: one fake instrument, alone, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from labd.fakes.host import Cable, LiveDevice

FAKES = {
    "serial-dut": ("labd.fakes.dut", "a kws01 board on its own serial port"),
    "mlcommons-interface": ("labd.fakes.interface_board", "STM32H573I-DK, a kws01 DUT behind"),
    "eembc-io-manager": ("labd.fakes.io_eembc", "Arduino UNO, a kws01 DUT behind"),
    "lpm01a": ("labd.fakes.lpm01a", "X-NUCLEO-LPM01A, ASCII and binary"),
    "ppk2": ("labd.fakes.ppk2", "Nordic PPK2, 100 kS/s"),
    "n6705": ("labd.fakes.n6705", "Keysight N6705C, SCPI over a socket"),
    "otii": ("labd.fakes.otii", "Qoitech Otii server, JSON over a socket"),
    "scpi-meter": ("labd.fakes.scpi_meter", "a source-measure unit, SCPI over a socket"),
}
"""By driver name: a module with ``plug() -> Cable``, the fake behind the cable it really has.

A Joulescope is not among them: it has no byte stream of its own to serve (its fake stands in
for the vendor's library inside one process).
"""


async def serve(name: str) -> None:
    """Announce the path as one JSON line and serve until told to end.

    Raises:
        Exception: what the fake's own producer raised; a defect of the fake.
    """
    plug = cast("Callable[[], Cable]", import_module(FAKES[name][0]).plug)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    cable = plug()
    sys.stdout.write(json.dumps({name: cable.path}) + "\n")
    sys.stdout.flush()
    waiting = asyncio.create_task(ended.wait())
    living = asyncio.create_task(cast("LiveDevice", cable.device).live())
    try:
        await asyncio.wait({waiting, living}, return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            living.result()
    finally:
        for task in (waiting, living):
            task.cancel()
        await asyncio.gather(waiting, living, return_exceptions=True)
        cable.unplug()


def main(argv: Sequence[str] | None = None) -> None:
    """Run one fake."""
    listed = "\n".join(f"  {name:20} {what}" for name, (_, what) in FAKES.items())
    parser = argparse.ArgumentParser(
        prog="labd fake",
        description="Serve one fake instrument until SIGTERM or Ctrl-C.",
        epilog=f"instruments:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instrument", choices=list(FAKES), metavar="instrument")
    asyncio.run(serve(parser.parse_args(argv).instrument))


if __name__ == "__main__":
    main()
