from __future__ import annotations

from drivers.io_manager.eembc_uno import EembcIoManager, EembcIoManagerConfig
from labd.simulation.instruments.eembc_uno import SimulatedEembcUno
from labd.simulation.instruments.reference_dut import SimulatedDut
from labd.station.dut import Dut
from tests.contract.case import Case


async def identify(driver: EembcIoManager) -> object:
    return await Dut(driver.command_channel).identify(deadline_s=3.0)


CASES = [
    Case(
        "eembc-io-manager",
        lambda: SimulatedEembcUno(SimulatedDut(energy=True)),
        lambda port, answer_s: EembcIoManager(
            EembcIoManagerConfig(port=port, answer_s=answer_s, boot_s=2 * answer_s)
        ),
        identify,
        b"dut nam",
    )
]
