"""Identity of an opened device, and the one place that decides whether it is simulated."""

from __future__ import annotations

import os

from labd.core.model import Identity

SIMULATED = "simulat"
"""A simulated instrument has a word with this stem in what it reports about itself."""

PSEUDO_TERMINALS = "/dev/pts/"
VISA_SIMULATION = "@sim"
"""Backend of pyvisa-sim, which has no hardware whatever its instruments report."""


def make_identity(
    kind: str, name: str, serial: str = "", firmware: str = "", *, address: str = ""
) -> Identity:
    """Return the identity of a device; simulated if its texts or its address show it.

    A simulated instrument reports ``simulated`` in its name, serial number or firmware version. One
    whose protocol has no such text is recognised by its address: a pseudo-terminal, a VISA backend
    or a library that is a simulation.

    Args:
        kind: the driver's name.
        name: maker and model.
        serial: serial number.
        firmware: firmware version.
        address: port, VISA backend or library through which it was opened.
    """
    name, serial, firmware = (_without_surrogates(text) for text in (name, serial, firmware))
    simulated = (
        any(SIMULATED in text.lower() for text in (name, serial, firmware, address))
        or address.endswith(VISA_SIMULATION)
        or os.path.realpath(address).startswith(PSEUDO_TERMINALS)
    )
    return Identity(kind, name, serial, firmware, simulated)


def _without_surrogates(text: str) -> str:
    """Replace unpaired surrogates, which JSON may carry but UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
