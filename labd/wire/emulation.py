"""An emulated station, as stations.toml describes it and as its bench process receives it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from labd.wire.messages import Name


class Emulation(BaseModel):
    """The table ``emulated`` of a station in stations.toml.

    Args:
        parts: the instruments that the station has.
        mode: ``pace`` follows the wall clock where the board idles or waits, and is as fast as
            the emulator while it computes; ``freeze`` is deterministic.
        seed: of its noise.
        firmware: stem of the image that its board runs until it is flashed.
        monitor: its power monitor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    parts: list[Literal["dut", "io", "power"]] = Field(["dut", "io", "power"], min_length=1)
    mode: Literal["pace", "freeze"] = "pace"
    seed: int = Field(default=1, ge=0, le=2**32 - 1)
    firmware: Name = "digits01-performance"
    monitor: Literal["lpm01a", "ppk2"] = "lpm01a"


class EmulatedStation(Emulation):
    """One station of a bench process; it is passed on the command line as JSON.

    Args:
        name: of the station.
        image: the ELF that its board starts with, in place of ``firmware``.
        board_ua: constant load beside the chip, behind the monitor, µA.
        io_ppm: error of the interface board's timer, ppm; its crystal gives 64.0007 MHz.
    """

    name: Name
    image: Path
    board_ua: int = Field(default=0, ge=0)
    io_ppm: float = 11.0
