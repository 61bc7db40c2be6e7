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
    "dut": "labd.fakes.dut",
    "mlcommons-interface": "labd.fakes.interface_board",
    "eembc-io-manager": "labd.fakes.io_eembc",
    "lpm01a": "labd.fakes.lpm01a",
    "ppk2": "labd.fakes.ppk2",
    "n6705": "labd.fakes.n6705",
    "otii": "labd.fakes.otii",
    "scpi-meter": "labd.fakes.scpi_meter",
}
"""Every module has ``plug() -> Cable``: the fake, alive, behind the cable it really has."""


async def serve(name: str) -> int:
    """Announce the path as one JSON line and serve until told to end."""
    plug = cast("Callable[[], Cable]", import_module(FAKES[name]).plug)
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
    finally:
        for task in (waiting, living):
            task.cancel()
        cable.unplug()
    faults = await asyncio.gather(living, return_exceptions=True)
    fault = faults[0]
    if isinstance(fault, Exception):
        raise fault
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one fake."""
    parser = argparse.ArgumentParser(prog="labd.fakes", description=__doc__)
    parser.add_argument("name", choices=sorted(FAKES))
    return asyncio.run(serve(parser.parse_args(argv).name))


if __name__ == "__main__":
    sys.exit(main())
