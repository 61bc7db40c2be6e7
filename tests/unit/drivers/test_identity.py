"""One place decides whether a device is simulated."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from drivers.base.identity import make_identity


@pytest.mark.parametrize(
    "texts",
    [
        {"name": "Otii Simulator"},
        {"serial": "SIMULATED"},
        {"firmware": "1.0/2.0 (Otii 3.5.6-simulated)"},
        {"address": "labd.simulation.joulescope_library:SimulatedDriver"},
        {"address": "instruments.yaml@sim"},
    ],
)
def test_a_text_or_an_address_shows_a_simulation(texts: dict[str, str]) -> None:
    assert make_identity("acme", **{"name": "Acme", **texts}).simulated


@pytest.mark.parametrize(
    "address", ["", "@py", "/dev/ttyACM0", "socket://10.0.0.7:5025", "pyjoulescope_driver:Driver"]
)
def test_a_device_that_reports_nothing_of_it_is_real(address: str) -> None:
    identity = make_identity("acme", "Acme 9000", "0042", "1.3", address=address)
    assert (identity.kind, identity.name, identity.serial) == ("acme", "Acme 9000", "0042")
    assert not identity.simulated


def test_a_link_to_a_pseudo_terminal_shows_a_simulation(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        link = tmp_path / "usb-Acme_9000"
        link.symlink_to(os.ttyname(theirs))
        assert make_identity("acme", "Acme 9000", address=str(link)).simulated
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_name_that_utf8_cannot_carry_is_made_readable() -> None:
    identity = make_identity("otii", "Otii\ud800 Arc", "\udcff")
    assert (identity.name, identity.serial) == ("Otii? Arc", "?")
