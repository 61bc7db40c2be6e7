from __future__ import annotations

from drivers.lpm01a.driver import Lpm01a, Lpm01aConfig
from labd.simulation.instruments.lpm01a.device import SimulatedLpm01a
from tests.contract.case import Case

CASES = [
    Case(
        "lpm01a",
        SimulatedLpm01a,
        lambda port, answer_s: Lpm01a(Lpm01aConfig(port=port, answer_s=answer_s, restart_s=0.2)),
        lambda driver: driver.set_dut_supply(3000),
        b"volt 30",
    )
]
