from __future__ import annotations

from drivers.otii.config import OtiiConfig
from drivers.otii.driver import Otii
from labd.simulation.instrument_cable import TcpCable
from labd.simulation.instruments.otii import SimulatedOtii
from tests.contract.case import Case


def otii(port: str, answer_s: float) -> Otii:
    host, _, number = port.removeprefix("socket://").partition(":")
    return Otii(OtiiConfig(host=host, port=int(number), answer_s=answer_s))


CASES = [
    Case(
        "otii",
        SimulatedOtii,
        otii,
        lambda driver: driver.set_dut_supply(3000),
        b'{"type": "requ',
        cable=TcpCable,
        babble=None,
        serial=False,
    )
]
