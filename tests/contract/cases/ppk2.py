from __future__ import annotations

from drivers.ppk2.driver import Ppk2, Ppk2Config
from labd.simulation.instruments.ppk2.device import SimulatedPpk2
from tests.contract.case import Case

CASES = [
    Case(
        "ppk2",
        SimulatedPpk2,
        lambda port, answer_s: Ppk2(Ppk2Config(port=port, answer_s=answer_s)),
        lambda driver: driver.set_dut_supply(3000),
        b"\x0d\x0c",
    )
]
