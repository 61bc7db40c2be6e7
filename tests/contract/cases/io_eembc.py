from __future__ import annotations

from drivers.io_manager.eembc_uno import EembcIoManager, EembcIoManagerConfig
from labd.simulation.instruments.eembc_uno import SimulatedEembcUno
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.station.dut import Dut
from tests.contract.case import ANSWER_S, Case


async def identify(driver: EembcIoManager) -> object:
    return await Dut(driver.channel).identify(ANSWER_S * 5)


CASES = [
    Case(
        "eembc-io-manager",
        lambda: SimulatedEembcUno(SimulatedDut(energy=True)),
        lambda port: EembcIoManager(
            EembcIoManagerConfig(port=port, answer_s=ANSWER_S, boot_s=2 * ANSWER_S)
        ),
        identify,
        b"dut nam",
    )
]
