"""The example of docs/writing-a-driver.md runs through the same suite as every driver."""

from __future__ import annotations

from docs.examples.acme9000 import Acme9000, Acme9000Config
from docs.examples.simulated_acme9000 import SimulatedAcme9000

from tests.contract.case import Case

CASES = [
    Case(
        "acme-9000",
        SimulatedAcme9000,
        lambda port, answer_s: Acme9000(Acme9000Config(port=port, answer_s=answer_s)),
        lambda driver: driver.set_dut_supply(3000),
        b"v 30",
    )
]
