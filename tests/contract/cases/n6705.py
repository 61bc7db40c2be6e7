from __future__ import annotations

from drivers.n6705.config import N6705Config
from drivers.n6705.driver import N6705
from labd.simulation.hislip_cable import HislipCable
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments.n6705 import SimulatedN6705
from tests.contract.case import Case

CASES = [
    Case(
        "n6705",
        SimulatedN6705,
        lambda port, answer_s: N6705(N6705Config(resource=port, answer_s=answer_s)),
        lambda driver: driver.set_dut_supply(3000),
        b"VOLT 30",
        cable=cable,
        babble=None,
        serial=False,
    )
    for cable in (TcpCable, HislipCable)
]
