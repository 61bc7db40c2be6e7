from __future__ import annotations

from drivers.serial_dut import SerialDut, SerialDutConfig
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.station.dut import Dut
from tests.contract.case import Case


async def identify(driver: SerialDut) -> object:
    return await Dut(driver.command_channel).identify(deadline_s=3.0)


CASES = [
    Case(
        "serial-dut",
        SimulatedDut,
        lambda port, _: SerialDut(SerialDutConfig(port=port)),
        identify,
        b"db 0011",
    )
]
